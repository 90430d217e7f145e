"""One view of learning from samples: ∇J = mean of coefficient · ∇ log πθ(token). Only the coefficient differs.

DeepSeekMath calls this the unified paradigm, and SFT, RFT, DPO, PPO and GRPO its paradigms: each says where the samples
come from and how much, with which sign, a token's log-probability is pushed.

| method     | samples from          | coefficient of a token                                     |
|------------|-----------------------|------------------------------------------------------------|
| SFT        | demonstrations        | 1                                                          |
| RFT        | the SFT policy, once  | 1 if the answer is right, else 0                           |
| online RFT | the policy of now     | the same                                                   |
| DPO        | pairs, once           | ±β σ(β (margin of the worse one)): pushed while it is wrong |
| PPO        | the policy of now     | advantage from a value model (GAE)                         |
| GRPO       | the policy of now     | advantage within the group, + β (π_ref/πθ − 1)             |

See: Shao et al. 2024, *DeepSeekMath*, arXiv:2402.03300, §5.2.1 and appendix A.1. One departure: the paper leaves out
DPO's constant factor β; here it is in, so that coefficient · ∇ log π is the gradient of the loss that TRL trains.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from grpo_nb import advantages, shapes


@shapes.shaped
def sft_coefficient(mask: Shaped[Tensor, "N T"]) -> Shaped[Tensor, "N T"]:
    """1 for every token of a demonstration."""
    return mask


@shapes.shaped
def rft_coefficient(is_right: Bool[Tensor, " N"], mask: Shaped[Tensor, "N T"]) -> Shaped[Tensor, "N T"]:
    """1 for the tokens of right completions, 0 for the others: imitation of what happened to be right.

    See: arXiv:2402.03300, appendix A.1.
    """
    return mask * is_right.unsqueeze(1)


@shapes.shaped
def dpo_coefficient(
    chosen_logps: Float[Tensor, " N"],
    rejected_logps: Float[Tensor, " N"],
    ref_chosen_logps: Float[Tensor, " N"],
    ref_rejected_logps: Float[Tensor, " N"],
    *,
    beta: float = 0.1,
) -> Float[Tensor, " N"]:
    """β σ(β (log π/π_ref of the rejected − of the chosen)): + for the tokens of the chosen one, − for the others.

    Args:
        chosen_logps: log-prob of the whole answer; the others alike.
    Returns: positive: large while the rejected answer is preferred, towards 0 as the pair is told apart.
    See: Rafailov et al. 2023, arXiv:2305.18290, §4 (gradient of the loss).
    """
    margin = (rejected_logps - ref_rejected_logps) - (chosen_logps - ref_chosen_logps)
    return beta * torch.sigmoid(beta * margin)


@shapes.shaped
def ppo_coefficient(
    rewards: Float[Tensor, "N T"],
    values: Float[Tensor, "N T"],
    mask: Shaped[Tensor, "N T"],
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Float[Tensor, "N T"]:
    """Generalised advantage estimate Aₜ = Σₗ (γλ)ˡ (rₜ₊ₗ + γ Vₜ₊ₗ₊₁ − Vₜ₊ₗ); V is 0 after the last token.

    Args:
        rewards: per token; usually 0 but for the last one.
        values: of a value model before each token.
        mask: without holes.
    See: Schulman et al. 2015, arXiv:1506.02438, eq. 16.

    >>> ppo_coefficient(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.75]]), torch.ones(1, 2), lam=1.0)
    tensor([[0.5000, 0.2500]])
    """
    found, running, after = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0]), torch.zeros_like(values[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        surprise = rewards[:, t] + gamma * after - values[:, t]
        running = (surprise + gamma * lam * running) * mask[:, t]
        found[:, t], after = running, values[:, t] * mask[:, t]
    return found


@shapes.shaped
def grpo_coefficient(
    group_rewards: Float[Tensor, "P G"],
    logps: Float[Tensor, "P*G T"],
    ref_logps: Float[Tensor, "P*G T"],
    mask: Shaped[Tensor, "P*G T"],
    *,
    beta: float = 0.04,
) -> Float[Tensor, "P*G T"]:
    """Aᵢ + β (π_ref/πθ − 1): outcome supervision, the same advantage for every token of a completion.

    Args:
        logps: log πθ of each token, N = P·G rows, group after group; `ref_logps` of the reference.
    See: arXiv:2402.03300, appendix A.1, GRPO.
    """
    pull = torch.exp(ref_logps - logps) - 1
    return (advantages.group_advantages(group_rewards).reshape(-1, 1) + beta * pull) * mask


def process_advantages(step_rewards: list[list[float]], step_ends: list[list[int]], *, length: int) -> Tensor:
    """Process supervision: a token's advantage is the sum of the normalised rewards of the steps that end from it on.

    Args:
        step_rewards: for each completion of one group, the reward of each of its steps.
        step_ends: index of the last token of each of them.
        length: T.
    Returns: [G, T], 0 after a completion's last step, and everywhere if there is one step only.
    Raises: ValueError for an end outside the completion.
    See: arXiv:2402.03300, §4.1.3.

    >>> process_advantages([[1.0, 0.0], [0.0]], [[0, 2], [1]], length=3).round(decimals=2)
    tensor([[ 0.5800, -0.5800, -0.5800],
            [-0.5800, -0.5800,  0.0000]])
    """
    every = torch.tensor([float(reward) for steps in step_rewards for reward in steps])
    mean, std = every.mean(), advantages.nan_std(every, dim=0)
    if wrong := [end for ends in step_ends for end in ends if not 0 <= end < length]:
        raise ValueError(f"a step must end at a token from 0 to {length - 1} (got {wrong[0]}). Count tokens from 0.")
    found = torch.zeros(len(step_rewards), length)
    for row, (steps, ends) in enumerate(zip(step_rewards, step_ends, strict=True)):
        for reward, end in zip(steps, ends, strict=True):
            found[row, : end + 1] += (reward - mean) / (std + advantages.TINY)
    return found.nan_to_num(nan=0.0)  # of one step in all, which has no deviation
