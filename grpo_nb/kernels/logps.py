"""Log-probs of sampled tokens, straight from hidden states: differentiable, and [N, V] is never built."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from grpo_nb import shapes
from grpo_nb.kernels import heads, passes
from grpo_nb.kernels.rows import Logit

ENTROPIES = ("none", "metric", "grad")


class LinearLogps(NamedTuple):
    """What `linear_logps` returns.

    Attributes:
        logps: log p of each target in nats, [N]; 0 where it was not asked for.
        entropy: of the distribution at each place in nats, [N]; None if not asked for.
    """

    logps: Tensor
    entropy: Tensor | None


@shapes.shaped
def linear_logps(
    hidden: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    targets: Int[Tensor, " N"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    keep: Bool[Tensor, " N"] | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    entropy: str = "metric",
    backend: str = "auto",
    tile_mib: float | None = None,
    inplace_hidden: bool = False,
) -> LinearLogps:
    """log softmax(z)[target] of each row, z = softcap · tanh(logit_scale · (h·Wᵀ + b) / softcap) / temperature.

    With a frozen head the forward pass keeps the direction dlogp/dh of each row, [N, H], and the backward pass only
    scales it: 4NHV operations where full logits need as many, and 6NHV where logits are computed twice. With a head
    that trains, or an entropy that does, the backward pass computes the logits again, 8NHV (6NHV without dW).

    Args:
        hidden: rows of the last hidden state, in any float dtype; [N, T, H] is flattened by the caller.
        weight: of the head; under autocast both are cast to its dtype.
        targets: the token that each row is asked about.
        keep: rows to score; the others get 0 and no gradient. None: all.
        entropy: "none"; "metric": without a gradient; "grad": with one.
        backend: "auto", "torch" or "triton".
        tile_mib: size of a tile of logits, whatever N and V are. None: 2 on a CPU, 128 on a card.
        inplace_hidden: write the direction over `hidden`, which nothing may read afterwards: no second [N, H]. Without
            effect where the logits are computed again, from `hidden`.
    Returns: `LinearLogps`, float32 (float64 for float64).
    Raises: ValueError for a target outside the vocabulary, an unknown option, a temperature that is not positive.
    See: Wijmans et al. 2024, arXiv:2411.09009, compute the logits twice; unsloth_zoo keeps the direction.
    """
    logit = Logit(temperature, softcap, logit_scale)
    if entropy not in ENTROPIES:
        raise ValueError(f"entropy must be one of {', '.join(ENTROPIES)} (got {entropy!r}). Try 'metric'.")
    check_inputs(hidden, weight, targets, logit, inplace=inplace_hidden)
    head = passes.head_of(hidden, weight, bias, logit)
    rows = torch.arange(len(targets), device=hidden.device) if keep is None else keep.nonzero().flatten()
    plan = {
        "kernel": passes.row_functions(backend, hidden.device),
        "tile": heads.tile_shape(len(rows), len(weight), head.sums, tile_mib=tile_mib, on_cuda=hidden.is_cuda),
    }
    grads = torch.is_grad_enabled()
    trains = grads and (weight.requires_grad or (bias is not None and bias.requires_grad) or entropy == "grad")
    with torch.autocast(hidden.device.type, enabled=False):
        if trains:
            logps, heat = _Recomputed.apply(hidden, weight, bias, targets, rows, head, plan, entropy)
        else:
            keeps_direction = grads and hidden.requires_grad
            logps, heat = _Directed.apply(hidden, targets, rows, head, plan, entropy, keeps_direction, inplace_hidden)
    return LinearLogps(logps, heat if entropy != "none" else None)


class _Directed(torch.autograd.Function):
    """Frozen head: the direction is kept, the gradient is the direction times a number."""

    @staticmethod
    def forward(ctx, hidden, targets, rows, head, plan, entropy, keeps_direction, inplace):
        source = hidden.detach()  # writing over it is seen by autograd, if an earlier layer has saved it
        ctx.direction = (source if inplace else torch.empty_like(source)) if keeps_direction else None
        known = passes.direction(head, source, targets, rows, ctx.direction, moment=entropy != "none", **plan)
        logps, heat = _spread(known[1].logps, rows, targets), _spread(known[1].entropy, rows, targets)
        ctx.mark_non_differentiable(heat)
        return logps, heat

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logps, _):
        if ctx.direction is None:
            raise RuntimeError(
                "linear_logps can be differentiated once (this is the second time: the direction was scaled in place). "
                "Call linear_logps again, or add the losses up before .backward()."
            )
        direction, ctx.direction = ctx.direction, None
        return direction.mul_(grad_logps.unsqueeze(1)), *[None] * 7


class _Recomputed(torch.autograd.Function):
    """A head or an entropy that trains: the logits are computed again, once the coefficients are known."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, rows, head, plan, entropy):
        ctx.set_materialize_grads(False)
        ctx.known = passes.direction(head, hidden, targets, rows, None, moment=entropy != "none", **plan)
        ctx.save_for_backward(hidden, weight, bias, targets, rows)
        ctx.logit, ctx.dtype, ctx.plan = head.logit, head.dtype, plan
        logps = _spread(ctx.known[1].logps, rows, targets)
        heat = _spread(ctx.known[1].entropy, rows, targets)
        if entropy != "grad":
            ctx.mark_non_differentiable(heat)
        return logps, heat

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logps, grad_entropy):
        hidden, weight, bias, targets, rows = ctx.saved_tensors
        head = heads.Head(weight, bias, ctx.logit, ctx.dtype)
        c = ctx.known[1].logps.new_zeros(len(rows)) if grad_logps is None else grad_logps[rows]
        e = None if grad_entropy is None else grad_entropy[rows]
        wants = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2])
        with torch.autocast(hidden.device.type, enabled=False):
            grads = passes.recompute(head, hidden, targets, rows, ctx.known, (c, e), wants, **ctx.plan)
        casts = [None if g is None else g.to(like.dtype) for g, like in zip(grads, (hidden, weight, bias), strict=True)]
        return *casts, *[None] * 5


def _spread(values: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """Values of the rows at their places among all, 0 elsewhere, [N]."""
    return values.new_zeros(len(like)).index_copy_(0, rows, values)


def check_inputs(hidden: Tensor, weight: Tensor, targets: Tensor, logit: Logit, *, inplace: bool) -> None:
    """Raise ValueError for targets, options or a use of `inplace_hidden` that would end in nonsense or a crash."""
    if not 0 < logit.temperature < math.inf or not math.isfinite(logit.logit_scale):
        raise ValueError(
            f"temperature must be above 0 and, like logit_scale, finite (got {logit.temperature} and "
            f"{logit.logit_scale}). Try 1.0."
        )
    if logit.softcap is not None and not logit.softcap > 0:
        raise ValueError(f"softcap must be above 0, or None for no cap (got {logit.softcap}).")
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(weight):
        raise ValueError(
            f"targets must be tokens of the vocabulary, 0 … {len(weight) - 1} (got {int(targets.min())} … "
            f"{int(targets.max())}). Give padding any of them and leave it out with keep or the mask."
        )
    source = hidden if hidden._base is None else hidden._base
    if inplace and source.is_leaf and source.requires_grad:
        raise ValueError(
            "inplace_hidden needs hidden states that a model computed (got a leaf that needs a gradient, or a view of "
            "one: its values would be lost). Leave it out."
        )
