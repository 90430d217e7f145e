"""What learners write about chance."""

import math

import numpy as np
import torch
from check_answers import Answers


def counted(p, wanted):
    tries = 1
    while 1 - (1 - p) ** tries < wanted:
        tries += 1
    return tries


def by_logarithm(p, wanted):
    return 1 if p == 1 else math.ceil(math.log(1 - wanted) / math.log(1 - p))


def until_few_miss(p, wanted):
    tries, all_wrong = 0, 1.0
    while all_wrong > 1 - wanted:
        tries, all_wrong = tries + 1, all_wrong * (1 - p)
    return tries


def spread(before, after):
    return before * (1 - before) + after * (1 - after)


def tried(before, after):
    n = 1
    while not (after - before) > 2 * (spread(before, after) / n) ** 0.5 + 1e-12:
        n += 1
    return n


def signal(p, G):
    return 1 - p**G - (1 - p) ** G


ANSWERS = [
    Answers(
        check="check_tries",
        right=[counted, by_logarithm, until_few_miss, lambda p, wanted: float(counted(p, wanted))],
        wrong={
            "wanted / p": (lambda p, wanted: math.ceil(wanted / p), "adds the chances up"),
            "1 / p": (lambda p, wanted: math.ceil(1 / p), "on average"),
            "one too few": (lambda p, wanted: counted(p, wanted) - 1, "before the hit"),
            "strictly above": (lambda p, wanted: counted(p, wanted + 1e-9), "not at it"),
            "not rounded up": (
                lambda p, wanted: math.log(1 - wanted) / math.log(1 - p) if p < 1 else 1,
                "p = 0.1, wanted = 0.5: must give 7 (yours: 6.579)",
            ),
            "nothing": (lambda p, wanted: None, "is there a `return`?"),
        },
        almost=(lambda p, wanted: min(counted(p, wanted), 40), "must give 44 (yours: 40)"),
    ),
    Answers(
        check="check_problems",
        right=[
            lambda b, a: math.floor(4 * spread(b, a) / (a - b) ** 2) + 1,
            tried,
            lambda b, a: torch.tensor(tried(b, a)),
        ],
        wrong={
            "ceil": (lambda b, a: math.ceil(4 * spread(b, a) / (a - b) ** 2), "exactly two deviations"),
            "one deviation": (lambda b, a: math.floor(spread(b, a) / (a - b) ** 2) + 1, "one deviation"),
            "2 ·": (lambda b, a: math.floor(2 * spread(b, a) / (a - b) ** 2) + 1, "doubles the variance"),
            "no square": (lambda b, a: math.floor(4 * spread(b, a) / (a - b)) + 1, "not by its square"),
            "first test only": (
                lambda b, a: math.floor(4 * b * (1 - b) / (a - b) ** 2) + 1,
                "second test without error",
            ),
            "not whole": (lambda b, a: 4 * spread(b, a) / (a - b) ** 2, "must give 29 (yours: 28)"),
        },
        almost=(lambda b, a: max(8, tried(b, a)), "from nothing"),
    ),
    Answers(
        check="check_alive",
        right=[
            lambda accuracies, G: sum(signal(p, G) for p in accuracies) / len(accuracies),
            lambda accuracies, G: float(np.mean([signal(p, G) for p in accuracies])),
            lambda accuracies, G: signal(torch.tensor(accuracies), G).mean(),
        ],
        wrong={
            "mean first": (lambda acc, G: signal(sum(acc) / len(acc), G), "averages the accuracies first"),
            "dead ones": (lambda acc, G: 1 - sum(signal(p, G) for p in acc) / len(acc), "counts the dead"),
            "a hit is enough": (lambda acc, G: sum(1 - (1 - p) ** G for p in acc) / len(acc), "without a miss"),
            "a sum": (lambda acc, G: sum(signal(p, G) for p in acc), "without dividing"),
            "one for each": (lambda acc, G: [signal(p, G) for p in acc], "one easy, one hard"),
            "a product": (lambda acc, G: math.prod(signal(p, G) for p in acc), "one easy, one hard"),
        },
        almost=(
            lambda acc, G: round(sum(signal(p, G) for p in acc) / len(acc), 3),
            "one easy, one hard",
        ),
    ),
    Answers(
        check="check_slip",
        right=[
            lambda s, T: s ** (1 / T) / (s ** (1 / T) + (1 - s) ** (1 / T)),
            lambda s, T: 1 / (1 + ((1 - s) / s) ** (1 / T)),
            lambda s, T: (torch.tensor([s, 1 - s], dtype=torch.float64).log() / T).softmax(0)[0],
        ],
        wrong={
            "power T": (lambda s, T: s**T / (s**T + (1 - s) ** T), "the power T"),
            "not scaled": (lambda s, T: s ** (1 / T), "a sum of 1"),
            "s / T": (lambda s, T: s / T, "divides the probability"),
            "unchanged": (lambda s, T: (s / T) / (s / T + (1 - s) / T), "cancels"),
            "remembers": (lambda s, T: 1 / (1 + (s / (1 - s)) ** (1 / T)), "remembers"),
            "softmax of s": (
                lambda s, T: math.exp(s / T) / (math.exp(s / T) + math.exp((1 - s) / T)),
                "softmax of the probabilities",
            ),
        },
        almost=(lambda s, T: round(1 / (1 + ((1 - s) / s) ** (1 / T)), 2), "colder"),
    ),
]
