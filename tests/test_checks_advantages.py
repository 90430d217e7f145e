"""What learners write about groups and their advantages."""

import math

import torch
from check_answers import Answers


def choice_by_hand(groups):
    sizes = []
    for rewards in groups:
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
        sizes.append(sum(abs(r - mean) for r in rewards) / (std + 1e-4))
    return sizes.index(max(sizes))


def choice_over_g(groups):
    rewards = torch.tensor(groups, dtype=torch.float64)
    return (rewards - rewards.mean()).abs().sum(1).argmax()


def order(advantage, num_generations):
    others = num_generations - 1
    middle = -advantage / others
    spread = max(0.0, (others - advantage**2 - others * middle**2) / 2) ** 0.5
    return [advantage, middle + spread, middle - spread, *[middle] * (others - 2)]


def order_by_search(advantage, num_generations):
    """One reward moves between far below and far above the others, which are spread."""
    others, low, high = [0.0, 1.0, *[0.5] * (num_generations - 3)], -1e4, 1e4
    for _ in range(200):
        first = (low + high) / 2
        group = torch.tensor([first, *others], dtype=torch.float64)
        is_low = (first - group.mean()) / group.std() < advantage
        low, high = (first, high) if is_low else (low, first)
    return [first, *others]


ANSWERS = [
    Answers(
        check="check_choice",
        right=[
            choice_by_hand,
            lambda groups: torch.stack(
                [((g - g.mean()) / (g.std() + 1e-9)).abs().sum() for g in torch.tensor(groups, dtype=torch.float64)]
            ).argmax(),
            lambda groups: [choice_by_hand(groups)],
        ],
        wrong={
            "the mean": (lambda groups: max(range(5), key=lambda i: sum(groups[i])), "takes the highest rewards"),
            "one advantage": (
                lambda groups: max(range(5), key=lambda i: max_advantage(groups[i])),
                "takes the largest single advantage",
            ),
            "no division": (
                lambda groups: max(range(5), key=lambda i: sum(abs(r - sum(groups[i]) / 4) for r in groups[i])),
                "does not divide each group by its own deviation",
            ),
            "the deviation": (
                lambda groups: torch.tensor(groups, dtype=torch.float64).std(1).argmax(),
                "largest standard deviation",
            ),
            "the mean of the batch": (choice_over_g, "must give"),
            "counted from 1": (lambda groups: 1 + choice_by_hand(groups), "must give 1 (yours: 2)"),
        },
        almost=(  # right for hits and misses: nearest to half of them above the mean
            lambda groups: max(range(5), key=lambda i: -abs(2 - sum(4 * r > sum(groups[i]) for r in groups[i]))),
            "graded answers",
        ),
    ),
    Answers(
        check="check_rewards_to_order",
        right=[order, order_by_search, lambda a, n: torch.tensor(order(a, n), dtype=torch.float64) * 7 + 3],
        wrong={
            "over G": (lambda a, n: order(a * ((n - 1) / n) ** 0.5, n), "must give {'advantage of the first': -1}"),
            "population": (
                lambda a, n: [a, *(-a / (n - 1) + s * population(a, n) for s in (1, -1)), *[-a / (n - 1)] * (n - 3)],
                "over G, not over G − 1",
            ),
            "the sign": (lambda a, n: order(-a, n), "turns the sign round"),
            "others alike": (lambda a, n: [a] + [0.0] * (n - 1), "then only the sign is left"),
            "too many": (lambda a, n: [*order(a, n), 0.0], "yours: [-1,"),
            "one number": (lambda a, n: a, "must give {'advantage of the first': -1} (yours: -1"),
        },
        almost=(lambda a, n: order(min(a, 1.7), n), "in a group of 8"),
    ),
]


def max_advantage(rewards):
    mean, std = sum(rewards) / 4, torch.tensor(rewards, dtype=torch.float64).std() + 1e-4
    return round(max(abs(r - mean) for r in rewards) / float(std), 6)


def population(a, n):
    return math.sqrt(max(0.0, n - a**2 - a**2 / (n - 1)) / 2)
