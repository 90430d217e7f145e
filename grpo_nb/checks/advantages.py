"""Exercises about advantages: which group teaches most, and rewards that give a wanted advantage."""

import math
import numbers
from collections.abc import Callable

from grpo_nb.checks.exercises import exercise, judge, plain

GROUPS = [
    ("hits and misses", ([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],)),
    (
        "large rewards beside small ones",
        ([[100, 0, 0, 0], [0.1, 0.1, 0, 0], [9, 9, 9, 9], [5, 4, 4, 4], [2, 2, 2, 1]],),
    ),
    ("three wide groups", ([[0, 0, 0, 0], [4, 0, 0, 0], [3, 3, -0.2, -0.1], [0.3, 0.2, 0.2, 0.2], [9, 9, 9, 8]],)),
    ("graded answers", ([[13, 5, -2, -10], [1, 1, 1, 0], [3, 2, 1, 0.5], [2.5, 2.5, -2.5, -2], [0, 0, 0, 5]],)),
]
WANTED = [
    ("in a group of 3", (-1.0, 3)),
    ("in a group of 8", (2.0, 8)),
    ("in a group of 4", (0.0, 4)),
    ("in a group of 5", (-0.3, 5)),
    ("in a group of 4", (1.5, 4)),
]
FIRST = "advantage of the first"


@exercise
def check_choice(your_choice):
    """Whether `your_choice` is the index of the group whose advantages are largest in sum of sizes.

    Args:
        your_choice: f(groups) -> int, of groups of as many rewards each.
    See: notebook 01, exercise 1.1; `advantages.group_advantages`.

    >>> check_choice(lambda groups: max(range(len(groups)), key=lambda i: sum(groups[i])))  # doctest: +ELLIPSIS
    check_choice: hits and misses: ...one who takes the highest rewards. ...it must give 1 (yours: 4).
    False
    """
    return judge(
        your_choice,
        GROUPS,
        right=lambda groups: _largest(groups, lambda found, _: found.abs().sum()),
        usual={
            "takes the highest rewards": lambda groups: _largest(groups, lambda _, rewards: rewards.sum()),
            "takes the largest single advantage": lambda groups: _largest(groups, lambda found, _: found.abs().max()),
            "does not divide each group by its own deviation": lambda groups: _largest(
                groups, lambda _, rewards: (rewards - rewards.mean()).abs().sum()
            ),
            "takes the largest standard deviation": lambda groups: _largest(groups, lambda _, rewards: rewards.std()),
            "takes the group that pushes least": lambda groups: _largest(groups, lambda found, _: -found.abs().sum()),
        },
    )


def _largest(groups: list[list[float]], size: Callable) -> int:
    """The first group of the largest size, a function of advantages [G] and rewards [G]."""
    import torch

    from grpo_nb import advantages

    rewards = torch.tensor(groups, dtype=torch.float64)
    found = advantages.group_advantages(rewards)
    return max(range(len(groups)), key=lambda i: round(float(size(found[i], rewards[i])), 6))


@exercise
def check_rewards_to_order(your_rewards):
    """Whether `your_rewards` are rewards of a group in which the first completion gets the wanted advantage, to 0.01.

    Args:
        your_rewards: f(advantage, num_generations) -> that many rewards.
    See: notebook 01, exercise 1.3; `advantages.group_advantages`.
    """
    return judge(
        _first_of(your_rewards),
        WANTED,
        right=lambda advantage, num_generations: {FIRST: advantage},
        usual={
            mistake: _first_of(rewards)
            for mistake, rewards in {
                "makes the deviation 1 over G, not over G − 1": lambda a, n: _group(a, n, squares=n),
                "turns the sign round": lambda a, n: _group(-a, n, squares=n - 1),
                "gives all others one reward; then only the sign is left": lambda a, n: [a] + [0.0] * (n - 1),
                "lets the others add up to 0, so that the mean is not 0": lambda a, n: (
                    [a, *(side * math.sqrt((n - 1 - a**2) / 2) for side in (1, -1))] + [0.0] * (n - 3)
                ),
                "sums the squares to 1": lambda a, n: _group(a, n, squares=a**2 * n / (n - 1) + 1),
            }.items()
        },
    )


def _first_of(your_rewards: Callable) -> Callable:
    """(advantage, G) → the advantage that the first one gets; what are no G numbers, or is no function, stays."""
    if not callable(your_rewards):
        return your_rewards

    def first(advantage: float, num_generations: int):
        import torch

        from grpo_nb import advantages

        rewards = plain(your_rewards(advantage, num_generations))
        is_group = isinstance(rewards, list) and len(rewards) == num_generations
        if not is_group or any(isinstance(r, bool) or not isinstance(r, numbers.Real) for r in rewards):
            return rewards
        gained = advantages.group_advantages(torch.tensor([rewards], dtype=torch.float64))
        return {FIRST: round(gained[0, 0].item(), 2) + 0.0}

    return first


def _group(advantage: float, size: int, *, squares: float) -> list[float]:
    """Numbers with the sum 0 and this sum of squares, the first of them given; one pair of others spreads."""
    middle = -advantage / (size - 1)
    spread = math.sqrt(max(0.0, squares - advantage**2 - (size - 1) * middle**2) / 2)
    return [advantage, middle + spread, middle - spread, *[middle] * (size - 3)]
