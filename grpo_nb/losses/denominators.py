"""What a token's loss is divided by before all are added up: the whole difference between the means of the eight."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grpo_nb import shapes

LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")


def check_loss_type(loss_type: str) -> None:
    """Raise ValueError unless this is one of TRL's eight."""
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)} (got {loss_type!r}). Try 'dapo'.")


@shapes.shaped
def token_weights(
    mask: Shaped[Tensor, "N T"],
    *,
    loss_type: str,
    max_completion_length: int | None = None,
    num_items_in_batch: float | Tensor | None = None,
    gradient_accumulation_steps: int = 1,
    steps_per_generation: int = 1,
    num_processes: int = 1,
) -> Float[Tensor, "N T"]:
    """What each token's loss is multiplied by before all are added up, [N, T]: the whole difference between the means.

    grpo, sapo: 1/(N·length) · bnpo: 1/tokens of the micro-batch · dr_grpo: 1/(N·max_completion_length) · dapo, cispo,
    vespo: 1/tokens of the update, of all processes, made from the generation batch's · luspo: 1/N.

    See: DAPO arXiv:2503.14476, Dr. GRPO arXiv:2503.20783, CISPO arXiv:2506.13585, LUSPO arXiv:2602.05261.

    >>> mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    >>> token_weights(mask, loss_type="grpo")
    tensor([[0.2500, 0.2500],
            [0.5000, 0.0000]])
    """
    check_loss_type(loss_type)
    longest = mask.shape[1] if max_completion_length is None else max_completion_length
    if longest < 1 and mask.numel():
        raise ValueError(f"max_completion_length must be at least 1 (got {longest}). It divides the loss of dr_grpo.")
    rows, tokens = mask.shape[0], mask.sum().clamp(min=1.0)
    if loss_type in ("grpo", "sapo"):
        divisor = rows * mask.sum(1, keepdim=True).clamp(min=1.0)
    elif loss_type == "bnpo":
        divisor = tokens
    elif loss_type == "dr_grpo":
        divisor = rows * longest
    elif loss_type == "luspo":
        divisor = rows
    else:
        items = mask.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        return mask / (items.clamp(min=1.0) / num_processes * gradient_accumulation_steps / steps_per_generation)
    return mask / divisor / gradient_accumulation_steps
