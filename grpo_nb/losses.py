"""Log-probs → ratio, clip, KL, loss per token, reduction: GRPO's eight losses, as TRL 1.14 trains them.

The letters: N completions, T tokens of the longest. Every function is pure; arguments have the names of `GRPOConfig`,
so that a config dict can be splatted in. Departures of TRL from the papers, which are followed here:

1. The clipped ratio is that of the sampling policy only where `old_logps` are given; else it is 1 and carries the
   gradient alone.
2. `cispo` caps the ratio at `epsilon_high` itself, not at 1 + `epsilon_high`.
3. The KL estimate k3 is multiplied by the ratio (`use_bias_correction_kl`), which has a gradient of its own.
4. `dapo` divides by the tokens of the generation batch, rescaled to one update: equal to the paper's token mean where
   `steps_per_generation` is `gradient_accumulation_steps`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_nb import tokens

LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@dataclass(frozen=True)
class Loss:
    """A loss and what it was made of.

    Attributes:
        loss: the scalar that is differentiated.
        per_token: [N, T] or [N, 1], before the reduction; the KL penalty is in it.
        ratio: importance ratio ρ, [N, T], or [N, 1] at sequence level.
        kl: [N, T], None without a reference.
        clipped: −1 where clipping from below stops the gradient, +1 from above, 0 elsewhere; the shape of `ratio`.
        weights: [N, T]: how much each token's loss counts; `loss` is Σ weights · per_token, minus the entropy bonus.
    """

    loss: Tensor
    per_token: Tensor
    ratio: Tensor
    kl: Tensor | None
    clipped: Tensor
    weights: Tensor


def grpo_loss(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_logps: Tensor | None = None,
    ref_logps: Tensor | None = None,
    sampling_logps: Tensor | None = None,
    entropies: Tensor | None = None,
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
) -> Loss:
    """GRPO's loss of one micro-batch, in all the variants that TRL knows.

    Args:
        logps: [N, T], log πθ of each sampled token in nats; carries the gradient.
        advantages: [N].
        mask: [N, T], 1 on the tokens of the completion.
        old_logps: log-probs when the policy sampled, [N, T]; None: they are those of now.
        ref_logps: of the reference, [N, T]; needed if `beta` is not 0.
        sampling_logps: as vLLM computed them, [N, T]; corrects for its rounding (needs `old_logps`).
        entropies: [N, T], of the policy at each place; needed for `top_entropy_quantile` and `entropy_coef`.
        max_completion_length: the denominator of dr_grpo; None: T.
        num_items_in_batch: tokens of the whole generation batch over all processes; None: those of `mask`.
    Returns: `Loss`.
    Raises: ValueError for an unknown loss type or level, or a missing input.
    See: TRL's `GRPOTrainer._compute_loss`, to which this is equal in value and gradient (tests/test_losses.py).
    """
    _check_inputs(loss_type, beta, ref_logps, sampling_logps, old_logps, entropies, top_entropy_quantile, entropy_coef)
    advantages, old_logps = advantages.unsqueeze(1), logps.detach() if old_logps is None else old_logps
    high = epsilon if epsilon_high is None else epsilon_high
    log_ratio = logps - old_logps  # [N, T]
    ratio = importance_ratio(log_ratio, mask, level=importance_sampling_level)
    correction = None
    if sampling_logps is not None:
        bounds = (vllm_importance_sampling_clip_min, vllm_importance_sampling_clip_max)
        correction = tokens.sampling_ratio(
            old_logps, sampling_logps, mask, mode=vllm_importance_sampling_mode, bounds=bounds
        )
    if loss_type in CLIPPED:
        per_token = clipped_surrogate(ratio, advantages, epsilon=epsilon, epsilon_high=high, delta=delta)
    elif loss_type == "cispo":
        per_token = -ratio.clamp(max=high).detach() * advantages * logps
    elif loss_type == "sapo":
        temperatures = (sapo_temperature_pos, sapo_temperature_neg)
        per_token = -soft_gate(ratio, advantages, temperatures=temperatures) * advantages
    else:
        shape = ((vespo_k_pos, vespo_lambda_pos), (vespo_k_neg, vespo_lambda_neg))
        phi = gamma_weights(log_ratio, advantages, mask, correction=correction, k_and_lambda=shape)
        per_token = -phi * advantages * logps
    kept = None
    if off_policy_mask_threshold is not None:
        sampled = old_logps if sampling_logps is None else sampling_logps
        per_token = per_token * tokens.near_policy(
            logps, sampled, advantages, mask, threshold=off_policy_mask_threshold
        )
    if top_entropy_quantile < 1.0:
        kept = tokens.high_entropy(entropies, mask, share=top_entropy_quantile)
        per_token = per_token * kept
    if correction is not None and loss_type != "vespo":
        per_token = per_token * correction
    kl = None
    if beta != 0.0:
        kl = kl_k3(logps, ref_logps) * (ratio if use_bias_correction_kl else 1.0)
        per_token = per_token + beta * kl
    weights = tokens.token_weights(
        mask,
        loss_type=loss_type,
        max_completion_length=max_completion_length,
        num_items_in_batch=num_items_in_batch,
        gradient_accumulation_steps=gradient_accumulation_steps,
        steps_per_generation=steps_per_generation,
        num_processes=num_processes,
    )
    loss = (per_token * weights).sum()
    if entropy_coef:
        acting = mask if kept is None else mask * kept
        loss = loss - entropy_coef * tokens.masked_mean(entropies, acting) / gradient_accumulation_steps
    clipped = clip_side(ratio, advantages, epsilon=epsilon, epsilon_high=high, loss_type=loss_type)
    return Loss(loss, per_token, ratio, kl, clipped, weights)


def importance_ratio(log_ratio: Tensor, mask: Tensor, *, level: str = "token") -> Tensor:
    """ρ = πθ / π_old: of each token [N, T], or of each sequence [N, 1] as the geometric mean of its tokens' ratios.

    Args:
        log_ratio: logps − old_logps, [N, T].
        level: "token" or "sequence".
    Raises: ValueError for another level.
    See: "sequence" is GSPO, Zheng et al. 2025, arXiv:2507.18071, eq. 7.
    """
    if level == "token":
        return log_ratio.exp()
    if level == "sequence":
        return ((log_ratio * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1.0)).exp()
    raise ValueError(f"importance_sampling_level must be 'token' or 'sequence' (got {level!r}). Try 'token'.")


def clipped_surrogate(
    ratio: Tensor, advantages: Tensor, *, epsilon: float = 0.2, epsilon_high: float = 0.2, delta: float | None = None
) -> Tensor:
    """PPO-clip loss −min(ρA, clip(ρ, 1−ε, 1+ε_high)A), ρ capped at δ in the first term.

    Args:
        ratio: ρ; advantages: A, [N, 1].
        delta: above 1 + ε_high; bounds the loss where A < 0, which clipping leaves unbounded. None: no bound.
    Returns: loss, of the shape of `ratio`, unmasked.
    See: Schulman et al. 2017, arXiv:1707.06347, eq. 7; δ is the dual clip of Ye et al. 2020, arXiv:1912.09729, eq. 4.

    >>> clipped_surrogate(torch.tensor([1.5]), torch.tensor([1.0]))  # 1.5 is paid as 1.2
    tensor([-1.2000])
    """
    capped = ratio if delta is None else ratio.clamp(max=delta)
    return -torch.min(capped * advantages, ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantages)


def clip_side(ratio: Tensor, advantages: Tensor, *, epsilon: float, epsilon_high: float, loss_type: str) -> Tensor:
    """−1 where a bad completion's ratio is below 1−ε, +1 where a good one's is above 1+ε_high: no gradient there.

    For cispo +1 marks ratios above ε_high, which it caps without stopping the gradient; sapo and vespo clip nothing.
    """
    if loss_type not in (*CLIPPED, "cispo"):
        return torch.zeros_like(ratio, dtype=torch.int8)
    top = epsilon_high if loss_type == "cispo" else 1 + epsilon_high
    high = (ratio > top) & (advantages > 0)
    low = (ratio < 1 - epsilon) & (advantages < 0) & (loss_type != "cispo")
    return high.to(torch.int8) - low.to(torch.int8)


def soft_gate(ratio: Tensor, advantages: Tensor, *, temperatures: tuple[float, float] = (1.0, 1.05)) -> Tensor:
    """SAPO's smooth clip σ(τ(ρ − 1)) · 4/τ: slope 1 at ρ = 1, flat far away; τ differs for A > 0 and A ≤ 0.

    See: SAPO, arXiv:2511.20347. TRL: `sapo_temperature_pos`, `sapo_temperature_neg`.
    """
    tau = torch.where(advantages > 0, *temperatures)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau


@torch.no_grad()
def gamma_weights(
    log_ratio: Tensor, advantages: Tensor, mask: Tensor, *, correction: Tensor | None = None, k_and_lambda
) -> Tensor:
    """VESPO's weight φ(w) = e^λ · wᵏ · e^{−λw} of each sequence, w = Πₜ ρₜ; 1 at w = 1, no gradient.

    Args:
        log_ratio: [N, T].
        correction: ratio between training and sampling engine, multiplied into w.
        k_and_lambda: ((k, λ) for A ≥ 0, (k, λ) for A < 0).
    Returns: [N, 1].
    See: VESPO, arXiv:2602.10693. TRL: `get_gamma_weights`.
    """
    least = math.log(1e-8)
    log_w = (log_ratio.clamp(-20.0, 20.0) * mask).sum(1, keepdim=True)
    if correction is not None:
        log_w = log_w + correction.log().clamp(least, 20.0).sum(1, keepdim=True)
    log_w = log_w.clamp(least, 20.0)
    (k_good, lambda_good), (k_bad, lambda_bad) = k_and_lambda
    k, rate = torch.where(advantages >= 0, k_good, k_bad), torch.where(advantages >= 0, lambda_good, lambda_bad)
    rate = rate.clamp(min=1e-4)
    return (rate + k * log_w - rate * log_w.exp()).exp().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def kl_k1(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """k1 = log πθ − log π_ref: unbiased for KL(πθ ‖ π_ref), of either sign. See: Schulman 2020, *Approximating KL*."""
    return logps - ref_logps


def kl_k2(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """k2 = ½ (log πθ − log π_ref)²: never negative, biased, right to second order."""
    return (logps - ref_logps) ** 2 / 2


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """k3 = r − log r − 1 with r = π_ref / πθ: unbiased and never negative; GRPO's.

    >>> kl_k3(torch.tensor([-1.0]), torch.tensor([-1.0]))
    tensor([0.])
    """
    log_r = ref_logps - logps
    return log_r.exp() - log_r - 1


def _check_inputs(loss_type, beta, ref_logps, sampling_logps, old_logps, entropies, top_entropy_quantile, entropy_coef):
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss_type must be one of {', '.join(LOSS_TYPES)} (got {loss_type!r}). Try 'dapo'.")
    for is_missing, needed, why in [
        (beta != 0.0 and ref_logps is None, "ref_logps", f"beta = {beta}"),
        (sampling_logps is not None and old_logps is None, "old_logps", "sampling_logps"),
        (top_entropy_quantile < 1.0 and entropies is None, "entropies", "top_entropy_quantile below 1"),
        (bool(entropy_coef) and entropies is None, "entropies", f"entropy_coef = {entropy_coef}"),
    ]:
        if is_missing:
            raise ValueError(f"{why} must come with {needed} (got None). Pass {needed}=…, or leave the other out.")
