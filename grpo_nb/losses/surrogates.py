"""The ratio to the policy that sampled, and what each loss makes of it: a hard clip, a soft one, a weight."""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from grpo_nb import shapes

CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@shapes.shaped
def importance_ratio(
    log_ratio: Float[Tensor, "N T"], mask: Shaped[Tensor, "N T"], *, level: str = "token"
) -> Float[Tensor, "N #T"]:
    """ρ = πθ / π_old: of each token [N, T], or of each sequence [N, 1] as the geometric mean of its tokens' ratios.

    Args:
        log_ratio: logps − old_logps.
        level: "token" or "sequence".
    Raises: ValueError for another level.
    See: "sequence" is GSPO, Zheng et al. 2025, arXiv:2507.18071, eq. 7.
    """
    if level == "token":
        return log_ratio.exp()
    if level == "sequence":
        return ((log_ratio * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1.0)).exp()
    raise ValueError(f"importance_sampling_level must be 'token' or 'sequence' (got {level!r}). Try 'token'.")


@shapes.shaped
def clipped_surrogate(
    ratio: Float[Tensor, "N T"],
    advantages: Float[Tensor, "N 1"],
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    delta: float | None = None,
) -> Float[Tensor, "N T"]:
    """PPO-clip loss −min(ρA, clip(ρ, 1−ε, 1+ε_high)A), ρ capped at δ in the first term.

    Args:
        ratio: ρ, one for each token; at sequence level T is 1.
        advantages: A.
        epsilon_high: None: the same as `epsilon`.
        delta: above 1 + ε_high; bounds the loss where A < 0, which clipping leaves unbounded. None: no bound.
    Returns: loss per token, unmasked; reduce it with `aggregate`.
    See: Schulman et al. 2017, arXiv:1707.06347, eq. 7; δ is the dual clip of Ye et al. 2020, arXiv:1912.09729, eq. 4.

    >>> clipped_surrogate(torch.tensor([[1.5]]), torch.tensor([[1.0]]))  # 1.5 is paid as 1.2
    tensor([[-1.2000]])
    """
    epsilon_high = epsilon if epsilon_high is None else epsilon_high
    capped = ratio if delta is None else ratio.clamp(max=delta)
    return -torch.min(capped * advantages, ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantages)


@shapes.shaped
def clip_side(
    ratio: Float[Tensor, "N T"],
    advantages: Float[Tensor, "N 1"],
    *,
    epsilon: float,
    epsilon_high: float,
    loss_type: str,
) -> Int[Tensor, "N T"]:
    """−1 where a bad completion's ratio is below 1−ε, +1 where a good one's is above 1+ε_high: no gradient there.

    For cispo +1 marks ratios above ε_high, which it caps without stopping the gradient; sapo and vespo clip nothing.
    """
    if loss_type not in (*CLIPPED, "cispo"):
        return torch.zeros_like(ratio, dtype=torch.int8)
    top = epsilon_high if loss_type == "cispo" else 1 + epsilon_high
    high = (ratio > top) & (advantages > 0)
    low = (ratio < 1 - epsilon) & (advantages < 0) & (loss_type != "cispo")
    return high.to(torch.int8) - low.to(torch.int8)


@shapes.shaped
def soft_gate(
    ratio: Float[Tensor, "N T"], advantages: Float[Tensor, "N 1"], *, temperatures: tuple[float, float] = (1.0, 1.05)
) -> Float[Tensor, "N T"]:
    """SAPO's smooth clip σ(τ(ρ − 1)) · 4/τ: slope 1 at ρ = 1, flat far away; τ differs for A > 0 and A ≤ 0.

    See: SAPO, arXiv:2511.20347. TRL: `sapo_temperature_pos`, `sapo_temperature_neg`.
    """
    tau = torch.where(advantages > 0, *temperatures)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau


@shapes.shaped
@torch.no_grad()
def gamma_weights(
    log_ratio: Float[Tensor, "N T"],
    advantages: Float[Tensor, "N 1"],
    mask: Shaped[Tensor, "N T"],
    *,
    correction: Float[Tensor, "N #T"] | None = None,
    k_and_lambda: tuple[tuple[float, float], tuple[float, float]] = ((2.0, 3.0), (3.0, 2.0)),
) -> Float[Tensor, "N 1"]:
    """VESPO's weight φ(w) = e^λ · wᵏ · e^{−λw} of each sequence, w = Πₜ ρₜ; 1 at w = 1, no gradient.

    Args:
        correction: ratio between training and sampling engine, multiplied into w.
        k_and_lambda: ((k, λ) for A ≥ 0, (k, λ) for A < 0).
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
