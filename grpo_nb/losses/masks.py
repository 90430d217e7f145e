"""Which tokens count, and how much: uncertain and stale ones, and those that vLLM scored otherwise.

The letters: N completions, T tokens of the longest; a mask [N, T] is 1 on the tokens of a completion.
"""

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from grpo_nb import shapes


@shapes.shaped
@torch.no_grad()
def sampling_ratio(
    old_logps: Float[Tensor, "N T"],
    sampling_logps: Float[Tensor, "N T"],
    mask: Shaped[Tensor, "N T"],
    *,
    mode: str = "sequence_mask",
    bounds: tuple[float | None, float | None] = (None, 3.0),
) -> Float[Tensor, "N #T"]:
    """π_old as the trainer computes it over π as vLLM sampled it, kept within bounds.

    Args:
        mode: "token_truncate" (clamp; truncated importance sampling), "token_mask" (0 outside), and both for the
            product over a sequence: "sequence_truncate", "sequence_mask".
        bounds: (least, most), None for none.
    Returns: [N, T] for tokens, [N, 1] for sequences; 1 where a log-prob is NaN.
    """
    level, _, action = mode.partition("_")
    if level not in ("token", "sequence") or action not in ("truncate", "mask"):
        raise ValueError(
            "vllm_importance_sampling_mode must be token_truncate, token_mask, sequence_truncate or sequence_mask "
            f"(got {mode!r}). Try 'sequence_mask'."
        )
    difference = ((old_logps - sampling_logps) * mask).nan_to_num(nan=0.0)
    ratio = (difference.sum(1, keepdim=True) if level == "sequence" else difference).exp()
    least, most = (-math.inf if bounds[0] is None else bounds[0]), (math.inf if bounds[1] is None else bounds[1])
    if action == "truncate":
        return ratio.clamp(least, most)
    return ratio.masked_fill((ratio < least) | (ratio > most), 0.0)


@shapes.shaped
@torch.no_grad()
def near_policy(
    logps: Float[Tensor, "N T"],
    sampled: Float[Tensor, "N T"],
    advantages: Float[Tensor, "N 1"],
    mask: Shaped[Tensor, "N T"],
    *,
    threshold: float,
) -> Shaped[Tensor, "N 1"]:
    """1 for each sequence [N, 1] that may train: a good one, or one whose mean log-ratio to the sampler is small.

    See: DeepSeek-V3.2, arXiv:2512.02556, eq. 9. TRL: `off_policy_mask_threshold`.
    """
    drift = masked_mean((sampled - logps).nan_to_num(nan=0.0), mask, dim=1)
    return ((advantages >= 0) | (drift <= threshold)).to(mask.dtype)


@shapes.shaped
@torch.no_grad()
def high_entropy(entropies: Float[Tensor, "N T"], mask: Shaped[Tensor, "N T"], *, share: float) -> Bool[Tensor, "N T"]:
    """True on the `share` of tokens at which the policy is least decided, [N, T].

    See: *Beyond the 80/20 Rule*, arXiv:2506.01939. TRL: `top_entropy_quantile`.
    """
    alive = mask.bool()
    if not alive.any():
        return torch.zeros_like(alive)
    return (entropies * mask >= torch.quantile(entropies[alive].float(), 1 - share)) & alive


@shapes.shaped
def masked_mean(
    values: Float[Tensor, "N T"], mask: Shaped[Tensor, "N T"], *, dim: int | None = None
) -> Float[Tensor, "..."]:
    """Mean over the tokens of the mask; 0 where there are none. `dim` keeps its place."""
    if dim is None:
        return (values * mask).sum() / mask.sum().clamp(min=1.0)
    return (values * mask).sum(dim, keepdim=True) / mask.sum(dim, keepdim=True).clamp(min=1.0)
