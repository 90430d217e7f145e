"""From the loss of each token to one number: the mean that gives a loss type its name."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from grpo_nb import shapes

LOSS_TYPES = (
    "grpo",
    "bnpo",
    "dr_grpo",
    "dapo",
    "cispo",
    "sapo",
    "luspo",
    "vespo",
)
BY_UPDATE = ("dapo", "cispo", "vespo")  # divided by the tokens of the whole update, not of a micro-batch


def check_loss_type(loss_type: str) -> None:
    """Raise ValueError unless this is one of `LOSS_TYPES`."""
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)} (got {loss_type!r}). Try 'dapo'.")


@shapes.shaped
def divisors(
    mask: Shaped[Tensor, "N T"],
    *,
    loss_type: str,
    max_completion_length: int | None = None,
    num_items_in_batch: float | Tensor | None = None,
    gradient_accumulation_steps: int = 1,
    steps_per_generation: int = 1,
    num_processes: int = 1,
) -> tuple[Float[Tensor, "N 1"] | None, float | Tensor]:
    """What the tokens of a completion are divided by (None: nothing), and then the sum over all of them.

    grpo, sapo: length, N · bnpo: tokens of the micro-batch · dr_grpo: N·max_completion_length · dapo, cispo, vespo:
    tokens of the update, of all processes, made from the generation batch's · luspo: N.

    Args:
        max_completion_length: None: T.
        num_items_in_batch: tokens of the whole generation batch over all processes; None: those of `mask`.
    Raises: ValueError for an unknown loss type, or a length below 1.
    See: DAPO arXiv:2503.14476, Dr. GRPO arXiv:2503.20783, CISPO arXiv:2506.13585, LUSPO arXiv:2602.05261.
    """
    check_loss_type(loss_type)
    longest = mask.shape[1] if max_completion_length is None else max_completion_length
    if longest < 1 and mask.numel():
        raise ValueError(f"max_completion_length must be at least 1 (got {longest}). It divides the loss of dr_grpo.")
    rows, steps = mask.shape[0], gradient_accumulation_steps
    if loss_type in BY_UPDATE:
        items = mask.sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        return None, items.clamp(min=1.0) / num_processes * steps / steps_per_generation
    if loss_type in ("grpo", "sapo"):
        return mask.sum(1, keepdim=True).clamp(min=1.0), rows * steps
    if loss_type == "bnpo":
        return None, mask.sum().clamp(min=1.0) * steps
    if loss_type == "dr_grpo":
        return None, rows * longest * steps
    if loss_type == "luspo":
        return None, rows * steps
    raise ValueError(f"a loss type must say what it is divided by (got {loss_type}). Give it a branch in `divisors`.")


@shapes.shaped
def token_weights(mask: Shaped[Tensor, "N T"], **denominators: Any) -> Float[Tensor, "N T"]:
    """What each token's loss is multiplied by before all are added up: 1 over its `divisors`, 0 outside of the mask.

    Args:
        denominators: `loss_type` and the other keywords of `divisors`.

    >>> token_weights(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), loss_type="grpo")
    tensor([[0.2500, 0.2500],
            [0.5000, 0.0000]])
    """
    of_row, of_all = divisors(mask, **denominators)
    return mask / (of_all if of_row is None else of_row * of_all)


@shapes.shaped
def aggregate(per_token: Float[Tensor, "N #T"], mask: Shaped[Tensor, "N T"], **denominators: Any) -> Float[Tensor, ""]:
    """The loss of all tokens as one number, Σ `token_weights` · loss: the mean that gives a loss type its name.

    Args:
        per_token: one for each token, or at sequence level one for each completion, which then counts for its tokens.
        denominators: `loss_type` and the other keywords of `divisors`.

    >>> from torch import tensor
    >>> aggregate(tensor([[1.0, 1.0], [4.0, 9.0]]), tensor([[1, 1], [1, 0]]), loss_type="bnpo")
    tensor(2.)
    """
    of_row, of_all = divisors(mask, **denominators)
    counted = per_token * mask
    if of_row is None:
        return counted.sum() / of_all
    return (counted.sum(1, keepdim=True) / of_row).sum() / of_all
