"""What learners write about noise, and about an arm of their own."""

import math
import statistics

import numpy as np
import torch
from check_answers import Answers


def half(d, quantile=4.303):
    return quantile * statistics.stdev(d) / len(d) ** 0.5


def by_interval(d):
    mean = sum(d) / 3
    return mean - half(d) <= 0 <= mean + half(d)


def by_numpy(d):
    d = np.array(d)
    return abs(d.mean()) <= 4.303 * d.std(ddof=1) / np.sqrt(d.size)


def by_torch(before, after):
    d = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    return d.std() / len(d) ** 0.5


def differences(before, after):
    return [b - a for a, b in zip(before, after, strict=True)]


def by_hand(before, after):
    d = differences(before, after)
    mean = sum(d) / len(d)
    return math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))


def error(values):
    return statistics.stdev(values) / math.sqrt(len(values))


ANSWERS = [
    Answers(
        check="check_noise",
        right=[by_interval, by_numpy, lambda d: not abs(sum(d) / 3) > half(d)],
        wrong={
            "the quantile of many seeds": (lambda d: abs(sum(d) / 3) <= half(d, 1.96), "1.96, as for many seeds"),
            "no root": (lambda d: abs(sum(d) / 3) <= 4.303 * statistics.stdev(d), "forgets the root"),
            "numpy's std": (lambda d: abs(np.mean(d)) <= 4.303 * np.std(d) / 3**0.5, "by S, not by S − 1"),
            "signs": (lambda d: len({x > 0 for x in d}) > 1 or not any(d), "all seeds have one sign"),
            "no absolute value": (lambda d: sum(d) / 3 <= half(d), "looks at gains only"),
            "the other way round": (lambda d: not by_interval(d), "says True for a difference"),
            "one standard error": (lambda d: abs(sum(d) / 3) <= half(d, 1), "forgets the quantile"),
            "always": (lambda d: True, "three seeds agree"),
        },
        almost=(lambda d: abs(sum(d) / 3) < half(d), "nothing changes"),
    ),
    Answers(
        check="check_paired_error",
        right=[by_torch, by_hand, lambda before, after: error(differences(before, after))],
        wrong={
            "not paired": (lambda b, a: math.hypot(error(b), error(a)), "asked other prompts"),
            "of one prompt": (lambda b, a: statistics.stdev(differences(b, a)), "deviation of one prompt"),
            "over P": (lambda b, a: statistics.stdev(differences(b, a)) / len(b), "not by its root"),
            "numpy's std": (lambda b, a: np.std(np.subtract(a, b)) / len(b) ** 0.5, "by P, not by P − 1"),
            "no root": (lambda b, a: error(differences(b, a)) ** 2, "variance of the mean"),
            "one arm": (lambda b, a: error(a), "second arm alone"),
            "the mean": (lambda b, a: np.mean(np.subtract(a, b)), "gives the mean difference"),
        },
        almost=(lambda b, a: by_hand(b, a) if len(b) < 5 else by_hand(b[:4], a[:4]), "halves"),
    ),
    Answers(
        check="check_near_arm",
        right=[lambda: {"beta": 1.0}, lambda: dict(beta=1), lambda: {"loss_type": "dapo", "beta": 1.0}],
        wrong={
            "nothing changes": (lambda: {}, "must differ from the profile"),
            "steps that are too small": (lambda: {"learning_rate": 5e-5}, "at too high a price"),
            "steps that are too large": (lambda: {"learning_rate": 5e-3}, "must end at most"),
            "a penalty that is too weak": (lambda: {"beta": 0.04}, "must end at most"),
            "a key of other days": (lambda: {"kl_coef": 1.0}, "kl_coef → beta"),
            "half the group": (lambda: {"num_generations": 4}, "must end at most"),
            "no dict": (lambda: 1.0, "must be a dict of settings"),
        },
        almost=(lambda: {"temperature": 1.5}, "at too high a price"),
    ),
]
