"""The self-test: log-probs, entropies and gradients of a few real rows, by TRL's own method and by ours.

The gradient of a token of which the policy is nearly sure is the difference of two nearly equal vectors, and all that
is left of it may be rounding. So gradients that differ are compared again, on completions that it would not write.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

LARGEST = 2**25  # elements of the gradients that are compared; the smallest tensors first, so that each layer has some
# The largest differences: root mean square of log-probs and entropies in nats; of gradients, relative to TRL's. In 16
# bits TRL rounds each logit, and so does each layer in another order: that is most of what differs there. TRL 1.16
# computes the head of a float64 model in float32.
ALLOWED, ALLOWED_IN_16_BITS = (1e-4, 1e-3), (0.05, 0.2)


def check(plug, model, input_ids: Tensor, attention_mask: Tensor, width: int) -> bool:
    """Raise ValueError unless our log-probs, entropies and gradients of a few rows are TRL's.

    It leaves no trace: no gradient is accumulated, and the random numbers of dropout are drawn again, for ours and
    for whatever comes next.

    Args:
        plug: a `plug.Plug`.
        model, input_ids, attention_mask, width: what TRL's method got in the first training loss.
    Returns: whether there was anything to compare; False if every token is masked.
    """
    from trl.models.utils import disable_gradient_checkpointing

    rows = few_rows(input_ids, attention_mask, width)
    batch = (input_ids[rows], attention_mask[rows], width)
    scored = batch[1][:, -width:].bool()
    if not scored.any():
        return False
    compared = _compared(model)

    def both(*inputs):
        with disable_gradient_checkpointing(model, plug.trainer.args.gradient_checkpointing_kwargs):
            return [
                _results(method, compared, entropy_trains=plug.trainer._entropy_bonus_enabled)
                for method in (
                    lambda: plug.own(model, *inputs, compute_entropy=True),
                    lambda: plug.part(model, *inputs, True, worth=float("inf")),
                )
            ]

    theirs, ours = both(*batch)
    in_16_bits = plug.trainer.accelerator.mixed_precision != "no" or any(p.element_size() < 4 for p in compared)
    nats, share = ALLOWED_IN_16_BITS if in_16_bits else ALLOWED
    for name, a, b in zip(("log-probs", "entropies"), ours[:2], theirs[:2], strict=True):
        _refuse_beyond(nats, (a - b)[scored].float().square().mean().sqrt().item(), f"nats in the {name}")
    distance = _distance(ours[2], theirs[2])
    if share < distance < math.inf:
        vocabulary = len(model.get_output_embeddings().weight)
        theirs, ours = both(with_other_tokens(batch[0], width, vocabulary), *batch[1:])
        distance = _distance(ours[2], theirs[2])
    _refuse_beyond(share, distance, "(a share of TRL's) in a gradient")
    return True


def few_rows(input_ids: Tensor, attention_mask: Tensor, width: int) -> list[int]:
    """The longest completion, another one of the same prompt, and one of another prompt, as far as there are any."""
    first = int(attention_mask[:, -width:].sum(1).argmax())
    prompts = torch.where(attention_mask.bool(), input_ids, -1)[:, :-width]
    is_same = (prompts == prompts[first]).all(1)
    is_same[first] = False
    others = [kind.nonzero().flatten()[:1].tolist() for kind in (is_same, (prompts != prompts[first]).any(1))]
    return [first, *others[0], *others[1]]


def with_other_tokens(input_ids: Tensor, width: int, vocabulary: int) -> Tensor:
    """The rows with completions that begin alike where theirs do, of tokens from the vocabulary's other end.

    >>> with_other_tokens(torch.tensor([[5, 6, 1, 2], [5, 6, 1, 3]]), 2, 10).tolist()
    [[5, 6, 8, 7], [5, 6, 8, 6]]
    """
    return torch.cat([input_ids[:, :-width], vocabulary - 1 - input_ids[:, -width:]], dim=1)


def _compared(model) -> list[Tensor]:
    """Trainable tensors, the smallest first, up to a total size."""
    trained = sorted((p for p in model.parameters() if p.requires_grad), key=Tensor.numel)
    sizes = torch.tensor([p.numel() for p in trained]).cumsum(0)
    return trained[: max(1, int((sizes <= LARGEST).sum()))]


def _results(
    method: Callable[[], tuple], compared: list[Tensor], *, entropy_trains: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """(log-probs, entropies, gradients of a sum that weighs every value that trains differently)."""
    device = compared[0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        logps, entropies = method()[:2]
    total = sum(
        (values * torch.arange(values.numel(), device=device).cos().view_as(values)).sum()
        for values in ((logps, entropies) if entropy_trains else (logps,))
    )
    gradients = torch.autograd.grad(total, compared, allow_unused=True, materialize_grads=True)
    return logps.detach(), entropies.detach(), gradients


def _distance(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The largest ‖ours − theirs‖ / ‖theirs‖ of a tensor; a tensor of hardly any gradient is measured by the others."""
    norms = torch.stack([g.float().norm() for g in theirs])
    far = torch.stack([(a.double() - b.double()).norm().float() for a, b in zip(ours, theirs, strict=True)])
    return (far / norms.clamp(min=0.01 * norms.max().item() + 1e-30)).max().item()


def _refuse_beyond(allowed: float, difference: float, where: str) -> None:
    if not difference <= allowed:
        raise ValueError(
            f"the linear head must give TRL's own numbers (got a difference of {difference:.2g} {where}; {allowed:g} "
            "would be rounding). Something in this model is not known here: train with TRL's own trainer "
            "(profile.kernels = {})."
        )
