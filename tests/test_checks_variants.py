"""What learners write who change one part of the loop."""

import torch
from check_answers import Answers
from test_checks_loop import length, rows

from grpo_nb.checks import loop


def others(rewards, num_generations):
    groups = rewards.view(-1, num_generations)
    return num_generations / (num_generations - 1) * (groups - groups.mean(1, keepdim=True)).flatten()


def others_one_by_one(rewards, num_generations):
    found = []
    for start in range(0, len(rewards), num_generations):
        group = rewards[start : start + num_generations].tolist()
        found += [r - (sum(group) - r) / (len(group) - 1) for r in group]
    return found


def by_looking_at_each(arms):
    best = arms[0]
    for arm in arms[1:]:
        if arm[3] >= 0 and arm[1] < best[1]:
            best = arm
    return best[0]


ANSWERS = [
    Answers(
        check="check_strict_mask",
        right=[
            lambda ids, eos: loop.mask(ids, eos) * (ids == eos).any(1, keepdim=True),
            rows(lambda row, eos: [int(eos in row and t < length(row, eos)) for t in range(len(row))]),
            lambda ids, eos: (
                ((ids == eos).flip(1).cummax(1).values.flip(1) | ((ids == eos).cumsum(1) == 1))
                & ((ids == eos).cumsum(1) - (ids == eos).int() == 0)
            ),
        ],
        wrong={
            "the mask": (loop.mask, "keeps what was cut off"),
            "the others": (
                lambda ids, eos: loop.mask(ids, eos) * ~(ids == eos).any(1, keepdim=True),
                "keeps only what was cut off",
            ),
            "last place": (
                lambda ids, eos: loop.mask(ids, eos) * (ids[:, -1] == eos)[:, None],
                "does not end at the last place",
            ),
            "whole rows": (
                lambda ids, eos: (ids == eos).any(1, keepdim=True).repeat(1, ids.shape[1]),
                "counts the padding of completions that end",
            ),
            "before eos": (
                rows(lambda row, eos: [int(eos in row and t < length(row, eos) - 1) for t in range(len(row))]),
                "stops before the end token",
            ),
            "one verdict a row": (lambda ids, eos: (ids == eos).any(1), "of shape [2, 4]"),
        },
        almost=(
            lambda ids, eos: loop.mask(ids, eos) * ((ids == eos).any(1, keepdim=True) & (ids[:, :1] != eos)),
            "at the first",
        ),
    ),
    Answers(
        check="check_leave_one_out",
        right=[
            others,
            others_one_by_one,
            lambda r, G: (r.view(-1, G) @ ((1 + 1 / (G - 1)) * torch.eye(G) - torch.ones(G, G) / (G - 1))).flatten(),
        ],
        wrong={
            "the mean of all": (lambda r, G: others(r, G) * (G - 1) / G, "counts the completion itself"),
            "GRPO's": (loop.advantages, "GRPO's advantage"),
            "over std": (
                lambda r, G: (others(r, G).view(-1, G) / (r.view(-1, G).std(1, keepdim=True) + 1e-4)).flatten(),
                "divides by the deviation as well",
            ),
            "over the batch": (lambda r, G: others(r, len(r)), "all others of the batch"),
            "columns": (lambda r, G: others(r.view(G, -1).T.flatten(), G).view(-1, G).T.flatten(), "into the columns"),
            "(G − 1) / G": (lambda r, G: others(r, G) * ((G - 1) / G) ** 2, "shrinks by"),
            "groups as rows": (lambda r, G: others(r, G).view(-1, G), "of shape [4]"),
        },
        almost=(lambda r, G: others(r, G) if G > 2 else others(r, G) / 2, "two groups on different levels"),
    ),
    Answers(
        check="check_cheapest",
        right=[
            lambda arms: min((arm for arm in arms if arm[3] >= 0), key=lambda arm: arm[1])[0],
            lambda arms: sorted([tokens, label] for label, tokens, _, high in arms if not high < 0)[0][1],
            by_looking_at_each,
        ],
        wrong={
            "the cheapest": (lambda arms: min(arms, key=lambda arm: arm[1])[0], "however much worse"),
            "the best": (lambda arms: max(arms, key=lambda arm: arm[2] + arm[3])[0], "whatever it costs"),
            "no noise": (
                lambda arms: min((arm for arm in arms if arm[2] >= 0), key=lambda arm: arm[1])[0],
                "takes noise for a loss",
            ),
            "the middle": (
                lambda arms: min((arm for arm in arms if arm[2] + arm[3] >= 0), key=lambda arm: arm[1])[0],
                "the middle of the interval",
            ),
            "the first": (lambda arms: arms[0][0], "stays with the first"),
            "the whole arm": (
                lambda arms: min((arm for arm in arms if arm[3] >= 0), key=lambda arm: arm[1]),
                "must give 'B' (yours: ['B', 50",
            ),
        },
        almost=(
            lambda arms: min((arm for arm in arms if arm[3] > 0.02 or arm is arms[0]), key=lambda arm: arm[1])[0],
            "noise with a mean below 0",
        ),
    ),
]
