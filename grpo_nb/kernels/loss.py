"""GRPO's loss straight from hidden states. The loss itself is `losses.grpo_loss`; here it only meets the head."""

import inspect
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from grpo_nb import losses, shapes
from grpo_nb.kernels import heads, passes
from grpo_nb.kernels.logps import check_inputs, linear_logps
from grpo_nb.kernels.rows import Logit, Scores

ENGINES = ("direction", "fused")
OPTIONS = {  # every keyword of `losses.grpo_loss` but the entropies, which are computed here
    name: parameter.default
    for name, parameter in inspect.signature(losses.grpo_loss).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "entropies"
}
WEIGHING = {name: OPTIONS[name] for name in inspect.signature(losses.divisors).parameters if name != "mask"}
PER_TOKEN = ("old_logps", "ref_logps", "sampling_logps")


class LinearLoss(NamedTuple):
    """What `linear_grpo_loss` returns.

    Attributes:
        loss: the scalar to differentiate.
        logps, entropies: of every token of the mask in nats, 0 elsewhere, [N, T]; detached.
        parts: `losses.Loss` of these log-probs, detached: ratio, KL, what was clipped, weights.
        engine: "direction" or "fused".
        skipped: rows that the fused engine left out of the gradient's products, for their coefficient is 0.
    """

    loss: Tensor
    logps: Tensor
    entropies: Tensor
    parts: losses.Loss
    engine: str
    skipped: int


@shapes.shaped
def linear_grpo_loss(
    hidden: Float[Tensor, "N T H"],
    weight: Float[Tensor, "V H"],
    completion_ids: Int[Tensor, "N T"],
    advantages: Float[Tensor, " N"],
    mask: Shaped[Tensor, "N T"],
    *,
    bias: Float[Tensor, " V"] | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    engine: str | None = None,
    backend: str = "auto",
    tile_mib: float | None = None,
    inplace_hidden: bool = False,
    **options,
) -> LinearLoss:
    """`losses.grpo_loss` of log softmax(h·Wᵀ)[completion_ids], value and gradients, without logits [N, T, V].

    The *fused* engine computes log-probs, loss and gradients of a chunk of rows while their logits are at hand: 6NHV
    operations with a trainable head, 4NHV with a frozen one, less for rows whose coefficient is 0 (clipped, A = 0).
    It needs a loss that is a sum over tokens. Where a token's loss depends on other tokens of its completion or batch
    (sequence-level ratios, vespo, masks by sequence or by entropy), the *direction* engine finds all log-probs first:
    4NHV frozen, 8NHV trainable.

    Args:
        hidden: last hidden states; row t predicts completion_ids[:, t].
        completion_ids, advantages, mask: as in `losses.grpo_loss`.
        engine: "direction" or "fused"; None: fused where the head or the entropy trains and the loss allows it.
        tile_mib: of logits at a time; None: for the fused engine 16 on a CPU, 512 on a card, else see `linear_logps`.
        options: keywords of `losses.grpo_loss`, except `entropies`.
        bias, temperature, softcap, logit_scale, backend, inplace_hidden: see `linear_logps`.
    Returns: `LinearLoss`.
    Raises: ValueError, TypeError as `losses.grpo_loss` and `linear_logps` do; ValueError where "fused" is asked for
        with a loss that is not a sum over tokens.
    See: `losses.grpo_loss`; tests/test_kernels.py compares with it in float64.
    """
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise TypeError(f"linear_grpo_loss takes the keywords of losses.grpo_loss (got {', '.join(unknown)}).")
    coupled = coupling(**options)
    if engine is not None and engine not in ENGINES:
        raise ValueError(f"engine must be 'direction', 'fused' or None (got {engine!r}). Try None.")
    if engine == "fused" and coupled:
        raise ValueError(f"the fused engine needs a loss that is a sum over tokens (got {coupled}). Try engine=None.")
    trains = weight.requires_grad or (bias is not None and bias.requires_grad) or bool(options.get("entropy_coef"))
    engine = engine or ("fused" if trains and not coupled else "direction")
    batch = (completion_ids, advantages, mask)
    logit = Logit(temperature, softcap, logit_scale)
    check_inputs(hidden, weight, completion_ids[mask != 0], logit, inplace=inplace_hidden)
    settings = {"tile_mib": tile_mib, "backend": backend, "inplace_hidden": inplace_hidden}
    run = _fused if engine == "fused" else _directed
    with torch.no_grad():  # its owner refuses what is wrong with the options, before the work
        losses.grpo_loss(nothing := hidden.new_zeros(mask.shape), advantages, mask, entropies=nothing, **options)
    loss, logps, entropies, skipped = run(hidden, weight, bias, batch, logit, options, settings)
    with torch.no_grad():
        parts = losses.grpo_loss(logps, advantages, mask, entropies=entropies, **options)
    return LinearLoss(loss, logps, entropies, parts, engine, skipped)


def coupling(
    *,
    importance_sampling_level: str = "token",
    loss_type: str = "dapo",
    off_policy_mask_threshold: float | None = None,
    top_entropy_quantile: float = 1.0,
    sampling_logps: Tensor | None = None,
    vllm_importance_sampling_mode: str = OPTIONS["vllm_importance_sampling_mode"],
    **_,
) -> str | None:
    """Which option makes a token's loss depend on other tokens, in words; None if it is a sum over tokens.

    >>> coupling(loss_type="dapo", importance_sampling_level="sequence")
    "importance_sampling_level = 'sequence'"
    """
    for is_so, words in [
        (importance_sampling_level != "token", f"importance_sampling_level = {importance_sampling_level!r}"),
        (loss_type == "vespo", "loss_type = 'vespo'"),
        (off_policy_mask_threshold is not None, "off_policy_mask_threshold"),
        (top_entropy_quantile < 1.0, "top_entropy_quantile below 1"),
        (
            sampling_logps is not None and not vllm_importance_sampling_mode.startswith("token"),
            f"vllm_importance_sampling_mode = {vllm_importance_sampling_mode!r}",
        ),
    ]:
        if is_so:
            return words
    return None


def _directed(hidden, weight, bias, batch, logit, options, settings):
    """All log-probs, then the loss, through autograd."""
    completion_ids, advantages, mask = batch
    keep = mask.flatten() != 0
    flat = linear_logps(
        *(hidden.flatten(0, 1), weight, completion_ids.flatten().where(keep, 0)),
        bias=bias,
        keep=keep,
        entropy="grad" if options.get("entropy_coef") else "metric",
        **{**logit._asdict(), **settings},
    )
    logps, entropies = flat.logps.view(mask.shape), flat.entropy.view(mask.shape)
    loss = losses.grpo_loss(logps, advantages, mask, entropies=entropies, **options).loss
    return loss, logps.detach(), entropies.detach(), 0


def _fused(hidden, weight, bias, batch, logit, options, settings):
    """Log-probs, loss and gradients chunk by chunk, before autograd asks for them."""
    completion_ids, advantages, mask = batch
    targets, rows = completion_ids.flatten(), mask.flatten().nonzero().flatten()
    head = passes.head_of(hidden, weight.detach(), None if bias is None else bias.detach(), logit)
    parents = (hidden, weight, bias)
    wants = tuple(torch.is_grad_enabled() and p is not None and p.requires_grad for p in parents)
    size = {"tile_mib": settings["tile_mib"], "on_cuda": hidden.is_cuda}
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        scored, grads, skipped = passes.whole_rows(
            *(head, hidden.detach().flatten(0, 1), targets, rows),
            _row_coefficients(advantages, mask, rows, options),
            wants,
            kernel=passes.row_functions(settings["backend"], hidden.device),
            height=heads.row_count(len(rows), len(weight), head.sums, **size),
            inplace=settings["inplace_hidden"],
        )
        logps, entropies = (
            values.new_zeros(mask.numel()).index_copy_(0, rows, values).view(mask.shape)
            for values in (scored.logps, scored.entropy)
        )
        value = losses.grpo_loss(logps, advantages, mask, entropies=entropies, **options).loss
    grads = [None if g is None else g.view(p.shape) for g, p in zip(grads, parents, strict=True)]
    return _Graded.apply(*parents, value, grads), logps, entropies, skipped


def _row_coefficients(advantages: Tensor, mask: Tensor, rows: Tensor, options: dict):
    """dL/dlogp and dL/dentropy of a chunk of rows, [n] each, as a function of (slice of `rows`, their scores).

    A loss that is a sum over tokens does not know where a completion ends: each row is given to `losses.grpo_loss` as a
    completion of one token, and weighed as it is in its batch.
    """
    flat = {name: options[name].flatten()[rows].unsqueeze(1) for name in PER_TOKEN if options.get(name) is not None}
    weighing = {name: options.get(name, default) for name, default in WEIGHING.items()}
    same = {name: value for name, value in options.items() if name not in (*PER_TOKEN, *WEIGHING, "entropy_coef")}
    own, ones = advantages[rows // mask.shape[1]], mask.flatten()[rows].unsqueeze(1)
    weights = losses.token_weights(mask, **weighing).flatten()[rows]
    bonus = options.get("entropy_coef")
    if bonus:
        bonus = -bonus / mask.sum().clamp(min=1.0) / weighing["gradient_accumulation_steps"]

    def coefficients(chunk: slice, scored: Scores) -> tuple[Tensor, Tensor | None]:
        with torch.enable_grad():
            logps = scored.logps.detach().unsqueeze(1).requires_grad_()
            given = {name: values[chunk] for name, values in flat.items()}
            part = losses.grpo_loss(logps, own[chunk], ones[chunk], loss_type=weighing["loss_type"], **given, **same)
            (slope,) = torch.autograd.grad((part.per_token.squeeze(1) * weights[chunk]).sum(), logps)
        return slope.squeeze(1), (bonus * ones[chunk, 0]).to(slope.dtype) if bonus else None

    return coefficients


class _Graded(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, loss, gradients):
        ctx.gradients, ctx.dtypes = gradients, [None if x is None else x.dtype for x in (hidden, weight, bias)]
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if ctx.gradients is None:
            raise RuntimeError(
                "linear_grpo_loss can be differentiated once (this is the second time: its gradients were scaled in "
                "place). Call it again."
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [None if g is None else g.mul_(grad).to(d) for g, d in zip(gradients, ctx.dtypes, strict=True)]
        return *scaled, None, None
