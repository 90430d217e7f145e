"""Rewards → advantages: how much better a completion is than the others of its prompt.

The letters: P prompts, G completions of each (`num_generations`), N = P·G, K reward functions. A reward that does not
apply is NaN here (None in a reward function), and counts in no mean.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from grpo_nb import shapes

TINY = 1e-4  # added to the standard deviation by TRL, so that equal rewards do not divide by zero


@shapes.shaped
def group_advantages(rewards: Float[Tensor, "P G"], *, scale_rewards: str = "group") -> Float[Tensor, "P G"]:
    """Aᵢ = (rᵢ − mean of its group) / (std + 10⁻⁴), std over the group or over the batch, or without the division.

    Args:
        rewards: NaN where a completion has none.
        scale_rewards: "group", "batch" (std over all rewards, the mean is the group's all the same), or "none".
    Returns: advantages; 0 where the reward is NaN, and for a completion that is alone in its group.
    Raises: ValueError for another `scale_rewards`.
    See: Shao et al. 2024, arXiv:2402.03300, §4.1.2; "none" is Dr. GRPO, Liu et al. 2025, arXiv:2503.20783. TRL:
        `GRPOTrainer._generate_and_score_completions`.

    >>> group_advantages(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), scale_rewards="none")
    tensor([[-0.2500, -0.2500,  0.7500, -0.2500]])
    """
    if scale_rewards not in ("group", "batch", "none"):
        raise ValueError(f"scale_rewards must be 'group', 'batch' or 'none' (got {scale_rewards!r}). Try 'group'.")
    distance = rewards - rewards.nanmean(dim=1, keepdim=True)
    if scale_rewards == "group":
        distance = distance / (nan_std(rewards, dim=1) + TINY)
    elif scale_rewards == "batch":
        distance = distance / (nan_std(rewards.flatten(), dim=0) + TINY)
    return distance.nan_to_num(nan=0.0)


@shapes.shaped
def combine_rewards(
    per_function: Float[Tensor, "N K"],
    *,
    num_generations: int,
    reward_weights: list[float] | None = None,
    scale_rewards: str = "group",
    multi_objective_aggregation: str = "sum_then_normalize",
) -> Float[Tensor, " N"]:
    """Advantages of completions that several functions scored: add up and compare, or compare and add up.

    Args:
        per_function: group after group; NaN where a function does not apply.
        num_generations: G.
        reward_weights: K factors; None weighs all alike.
        scale_rewards: as in `group_advantages`; "normalize_then_sum" does without it.
        multi_objective_aggregation: "sum_then_normalize", or "normalize_then_sum": each function within its group
            first, then the sum over the batch.
    Returns: advantages; 0 for a completion that no function scored.
    Raises: ValueError if N is no multiple of G, for a wrong number of weights, or an unknown aggregation.
    See: "normalize_then_sum" is GDPO, arXiv:2601.05242. TRL: the same names.

    >>> combine_rewards(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), num_generations=2, scale_rewards="none")
    tensor([ 0.5000, -0.5000])
    """
    count, functions = per_function.shape
    if num_generations < 1 or count % num_generations:
        raise ValueError(
            f"the number of completions must be a multiple of num_generations (got {count}, {num_generations}). "
            "Pass whole groups."
        )
    weights = [1.0] * functions if reward_weights is None else reward_weights
    if len(weights) != functions:
        raise ValueError(
            f"reward_weights must be one for each of {functions} functions (got {len(weights)}). Drop some, or add 1.0."
        )
    weights = torch.as_tensor(weights, dtype=per_function.dtype, device=per_function.device)
    nobody = per_function.isnan().all(dim=1)  # [N]
    if multi_objective_aggregation == "sum_then_normalize":
        rewards = (per_function * weights).nansum(dim=1).masked_fill(nobody, torch.nan)
        return group_advantages(rewards.view(-1, num_generations), scale_rewards=scale_rewards).flatten()
    if multi_objective_aggregation != "normalize_then_sum":
        raise ValueError(
            "multi_objective_aggregation must be 'sum_then_normalize' or 'normalize_then_sum' "
            f"(got {multi_objective_aggregation!r}). Try 'sum_then_normalize'."
        )
    groups = per_function.view(-1, num_generations, functions)  # [P, G, K]
    compared = (groups - groups.nanmean(dim=1, keepdim=True)) / (nan_std(groups, dim=1) + TINY)
    rewards = (compared.view(count, functions) * weights).nansum(dim=1).masked_fill(nobody, torch.nan)
    return ((rewards - rewards.nanmean()) / (nan_std(rewards, dim=0) + TINY)).nan_to_num(nan=0.0)


def nan_std(values: Tensor, *, dim: int) -> Tensor:
    """Standard deviation with n − 1 below the sum, NaN left out; NaN itself where fewer than two values are left.

    >>> nan_std(torch.tensor([1.0, 3.0, torch.nan]), dim=0)
    tensor([1.4142])
    """
    count = (~values.isnan()).sum(dim=dim, keepdim=True).to(values.dtype)
    variance = ((values - values.nanmean(dim=dim, keepdim=True)) ** 2).nanmean(dim=dim, keepdim=True)
    return torch.where(count > 1, variance * (count / (count - 1)), torch.nan).sqrt()  # rounded as TRL rounds


def hit_probability(p: float | Tensor, num_generations: int) -> float | Tensor:
    """1 − (1 − p)ᴳ: at least one of G tries is right, each with probability p. What the luck of RL is made of.

    >>> round(hit_probability(0.1, 8), 3)
    0.57
    """
    return 1 - (1 - p) ** num_generations


def dead_probability(p: float | Tensor, num_generations: int) -> float | Tensor:
    """pᴳ + (1 − p)ᴳ: all G tries are right or all are wrong, so that every advantage is 0 (for a reward of 0 or 1).

    See: TRL logs the share of such groups as `frac_reward_zero_std`.

    >>> dead_probability(0.5, 8) == 2 / 2**8
    True
    """
    return p**num_generations + (1 - p) ** num_generations
