"""One loss of the pieces: TRL's eight, with every option."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from grpo_nb import shapes
from grpo_nb.losses import masks
from grpo_nb.losses.divergences import kl_k3
from grpo_nb.losses.reduction import aggregate, check_loss_type, token_weights
from grpo_nb.losses.surrogates import CLIPPED, clip_side, clipped_surrogate, gamma_weights, importance_ratio, soft_gate


@dataclass(frozen=True)
class Loss:
    """A loss and what it was made of.

    Attributes:
        loss: the scalar that is differentiated.
        per_token: [N, T] or [N, 1], before the reduction; the KL penalty is in it.
        ratio: importance ratio ρ, [N, T], or [N, 1] at sequence level.
        kl: [N, T], None without a reference.
        clipped: −1 where clipping from below stops the gradient, +1 from above, 0 elsewhere; the shape of `ratio`.
            What `delta` caps is not marked, as in TRL's `clip_ratio` metrics.
        weights: [N, T]: how much each token's loss counts; `loss` is Σ weights · per_token, minus the entropy bonus.
    """

    loss: Tensor
    per_token: Tensor
    ratio: Tensor
    kl: Tensor | None
    clipped: Tensor
    weights: Tensor


@shapes.shaped
def grpo_loss(
    logps: Float[Tensor, "N T"],
    advantages: Float[Tensor, " N"],
    mask: Shaped[Tensor, "N T"],
    *,
    old_logps: Float[Tensor, "N T"] | None = None,
    ref_logps: Float[Tensor, "N T"] | None = None,
    sampling_logps: Float[Tensor, "N T"] | None = None,
    entropies: Float[Tensor, "N T"] | None = None,
    loss_type: str = "dapo",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    delta: float | None = None,
    beta: float = 0.0,
    use_bias_correction_kl: bool = True,
    importance_sampling_level: str = "token",
    sapo_temperature_pos: float = 1.0,
    sapo_temperature_neg: float = 1.05,
    vespo_k_pos: float = 2.0,
    vespo_lambda_pos: float = 3.0,
    vespo_k_neg: float = 3.0,
    vespo_lambda_neg: float = 2.0,
    off_policy_mask_threshold: float | None = None,
    top_entropy_quantile: float = 1.0,
    entropy_coef: float = 0.0,
    vllm_importance_sampling_mode: str = "sequence_mask",
    vllm_importance_sampling_clip_max: float | None = 3.0,
    vllm_importance_sampling_clip_min: float | None = None,
    max_completion_length: int | None = None,
    num_items_in_batch: float | Tensor | None = None,
    gradient_accumulation_steps: int = 1,
    steps_per_generation: int = 1,
    num_processes: int = 1,
    surrogate: Callable[..., Tensor] | None = None,
) -> Loss:
    """GRPO's loss of one micro-batch while training, with the options of TRL's `GRPOConfig` by their names.

    Not in it: the adaptive entropy coefficient and the loss of an MoE's router. TRL takes the quantile of
    `top_entropy_quantile` over all processes; this is one process.

    Args:
        logps: log πθ of each sampled token in nats; carries the gradient.
        advantages: one for each completion.
        mask: 1 on the tokens of the completion.
        old_logps: log-probs when the policy sampled, detached; None: they are those of now.
        ref_logps: of the reference; needed if `beta` is not 0.
        sampling_logps: as vLLM computed them; corrects for its rounding (needs `old_logps`).
        entropies: of the policy at each place, in nats; needed for `top_entropy_quantile` and `entropy_coef`.
        max_completion_length: the denominator of dr_grpo; None: T.
        num_items_in_batch: tokens of the whole generation batch over all processes; None: those of `mask`, which are
            all of them only if `steps_per_generation` and `num_processes` are 1.
        surrogate: a loss per token of your own in place of the loss type's, `f(logps, old_logps, advantages, mask)`
            with advantages [N, 1] → [N, T] or [N, 1]. What follows stays: masks, corrections, KL, the loss type's mean.
    Returns: `Loss`.
    Raises: ValueError for an unknown loss type or level, a missing input, or a surrogate that gives something else.
    See: TRL's `GRPOTrainer._compute_loss`, to which this is equal in value and gradient (tests/test_losses.py).
    """
    _check_inputs(beta, ref_logps, sampling_logps, old_logps, entropies, top_entropy_quantile, entropy_coef)
    check_loss_type(loss_type)
    advantages, old_logps = advantages.unsqueeze(1), logps.detach() if old_logps is None else old_logps
    high = epsilon if epsilon_high is None else epsilon_high
    log_ratio = logps - old_logps  # [N, T]
    ratio = importance_ratio(log_ratio, mask, level=importance_sampling_level)
    correction = None
    if sampling_logps is not None:
        bounds = (vllm_importance_sampling_clip_min, vllm_importance_sampling_clip_max)
        correction = masks.sampling_ratio(
            old_logps, sampling_logps, mask, mode=vllm_importance_sampling_mode, bounds=bounds
        )
    if surrogate is None:
        per_token = _surrogate(
            loss_type,
            (logps, log_ratio, ratio, advantages, mask, correction),
            clip=(epsilon, high, delta),
            temperatures=(sapo_temperature_pos, sapo_temperature_neg),
            k_and_lambda=((vespo_k_pos, vespo_lambda_pos), (vespo_k_neg, vespo_lambda_neg)),
        )
    else:
        per_token = surrogate(logps, old_logps, advantages, mask)
        _check_per_token(per_token, logps)
    kept = None
    if off_policy_mask_threshold is not None:
        sampled = old_logps if sampling_logps is None else sampling_logps
        per_token = per_token * masks.near_policy(logps, sampled, advantages, mask, threshold=off_policy_mask_threshold)
    if top_entropy_quantile < 1.0:
        assert entropies is not None  # `_check_inputs`, here and below
        kept = masks.high_entropy(entropies, mask, share=top_entropy_quantile)
        per_token = per_token * kept
    if correction is not None and loss_type != "vespo":
        per_token = per_token * correction
    kl = None
    if beta != 0.0:
        assert ref_logps is not None
        kl = kl_k3(logps, ref_logps) * (ratio if use_bias_correction_kl else 1.0)
        per_token = per_token + beta * kl
    denominators: dict[str, Any] = {
        "loss_type": loss_type,
        "max_completion_length": max_completion_length,
        "num_items_in_batch": num_items_in_batch,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "steps_per_generation": steps_per_generation,
        "num_processes": num_processes,
    }
    loss = aggregate(per_token, mask, **denominators)
    if entropy_coef:
        assert entropies is not None
        acting = mask if kept is None else mask * kept
        loss = loss - entropy_coef * (masks.masked_mean(entropies, acting) / gradient_accumulation_steps)
    capped = ratio.clamp(max=delta) if delta is not None and loss_type in CLIPPED else ratio
    clipped = clip_side(capped, advantages, epsilon=epsilon, epsilon_high=high, loss_type=loss_type)
    return Loss(loss, per_token, ratio, kl, clipped, token_weights(mask, **denominators))


def _surrogate(
    loss_type: str, tensors: tuple, *, clip: tuple, temperatures: tuple[float, float], k_and_lambda: tuple
) -> Tensor:
    """The loss of each token, [N, T] or [N, 1], before masks, corrections and KL: where the loss types differ."""
    logps, log_ratio, ratio, advantages, mask, correction = tensors
    epsilon, epsilon_high, delta = clip
    if loss_type in CLIPPED:
        return clipped_surrogate(ratio, advantages, epsilon=epsilon, epsilon_high=epsilon_high, delta=delta)
    if loss_type == "cispo":
        return -ratio.clamp(max=epsilon_high).detach() * advantages * logps
    if loss_type == "sapo":
        return -soft_gate(ratio, advantages, temperatures=temperatures) * advantages
    if loss_type == "vespo":
        phi = gamma_weights(log_ratio, advantages, mask, correction=correction, k_and_lambda=k_and_lambda)
        return -phi * advantages * logps
    raise ValueError(f"a loss type must say what a token loses (got {loss_type}). Give it a branch in `_surrogate`.")


def _check_inputs(
    beta: float,
    ref_logps: Tensor | None,
    sampling_logps: Tensor | None,
    old_logps: Tensor | None,
    entropies: Tensor | None,
    top_entropy_quantile: float,
    entropy_coef: float,
) -> None:
    for is_missing, needed, why in [
        (beta != 0.0 and ref_logps is None, "ref_logps", f"beta = {beta}"),
        (sampling_logps is not None and old_logps is None, "old_logps", "sampling_logps"),
        (top_entropy_quantile < 1.0 and entropies is None, "entropies", "top_entropy_quantile below 1"),
        (bool(entropy_coef) and entropies is None, "entropies", f"entropy_coef = {entropy_coef}"),
    ]:
        if is_missing:
            raise ValueError(f"{why} must come with {needed} (got None). Pass {needed}=…, or leave the other out.")


def _check_per_token(per_token: Any, logps: Tensor) -> None:
    """Refuse what a loss of the reader's own returned if it cannot be reduced, or cannot train."""
    rows, longest = logps.shape
    is_tensor = isinstance(per_token, Tensor)
    if not is_tensor or tuple(per_token.shape) not in ((rows, longest), (rows, 1)):
        got = f"shape {list(per_token.shape)}" if is_tensor else f"{type(per_token).__name__}"
        raise ValueError(
            f"a loss must be one number per token, shape [N, T] = [{rows}, {longest}], or per completion, [{rows}, 1] "
            f"(got {got}). Return it before any mean; the mean is the loss type's."
        )
    if logps.requires_grad and not per_token.requires_grad:
        raise ValueError(
            "a loss must depend on logps, or nothing trains (got a tensor without a gradient). "
            "Compute it from logps, and detach only what is compared with."
        )
