"""Is a difference between two training runs noise, and can a setting keep what it should?"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from grpo_nb import lab
from grpo_nb.checks.exercises import WORDS, exercise, judge

NEAR = 0.7  # of the profile's KL: as far as the arm of the last exercise may go
T = 4.303  # Student's 97.5 % quantile for three seeds
SEEDS = [  # differences of three seeds, as shares
    ("three seeds agree", ([0.05, 0.06, 0.055],)),
    ("one seed says the opposite", ([0.1, 0.08, -0.02],)),
    ("all seeds are better, but far apart", ([0.02, 0.1, 0.3],)),
    ("all seeds are worse, and agree", ([-0.2, -0.21, -0.19],)),
    ("nothing changes", ([0.0, 0.0, 0.0],)),
    ("2.9 standard errors from 0", ([0.02, 0.05, 0.08],)),
    ("5.8 standard errors from 0", ([0.035, 0.05, 0.065],)),
    ("3.8 standard errors from 0", ([0.0272, 0.05, 0.0728],)),
]
PROMPTS = [  # shares of four prompts, before and after
    ("both fail on the same prompts", ([1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0])),
    ("halves", ([0.5, 0.5, 1.0, 0.0, 0.5], [1.0, 0.5, 1.0, 0.5, 1.0])),
    ("every prompt gains the same", ([0.0, 0.25, 0.5], [0.5, 0.75, 1.0])),
    ("worse", ([1.0, 1.0, 0.5, 1.0], [0.5, 0.0, 0.5, 1.0])),
]


def is_noise(d: Sequence[float]) -> bool:
    """Whether the 95 % interval of the mean of three differences holds 0.

    >>> is_noise([0.05, 0.06, 0.055]), is_noise([0.1, 0.08, -0.02])
    (False, True)
    """
    return abs(statistics.mean(d)) <= T * statistics.stdev(d) / math.sqrt(len(d))


def paired_error(before: Sequence[float], after: Sequence[float]) -> float:
    """The standard error of the mean difference over prompts that both arms were asked.

    >>> paired_error([0.0, 0.25, 0.5], [0.5, 0.75, 1.0])
    0.0
    """
    d = [b - a for a, b in zip(before, after, strict=True)]
    return statistics.stdev(d) / math.sqrt(len(d))


@exercise
def check_noise(your_is_noise: Callable) -> tuple[bool, str]:
    """`your_is_noise(d)` against `is_noise`, for the differences of three seeds."""

    def half(d: Sequence[float], quantile: float = T) -> float:
        return quantile * statistics.stdev(d) / math.sqrt(len(d))

    usual = {
        "takes 1.96, as for many seeds": lambda d: abs(statistics.mean(d)) <= half(d, 1.96),
        "forgets the root of the number of seeds": lambda d: abs(statistics.mean(d)) <= T * statistics.stdev(d),
        "divides the variance by S, not by S − 1": lambda d: abs(statistics.mean(d)) <= half(d) * math.sqrt(2 / 3),
        "asks whether all seeds have one sign": lambda d: not (min(d) > 0 or max(d) < 0),
        "looks at gains only": lambda d: statistics.mean(d) <= half(d),
        "says True for a difference": lambda d: not is_noise(d),
        "forgets the quantile": lambda d: abs(statistics.mean(d)) <= half(d, 1.0),
    }
    return judge(your_is_noise, SEEDS, right=is_noise, usual=usual)


@exercise
def check_paired_error(your_error: Callable) -> tuple[bool, str]:
    """`your_error(before, after)` against `paired_error`."""

    def error(values: Sequence[float]) -> float:
        return statistics.stdev(values) / math.sqrt(len(values))

    def minus(before: Sequence[float], after: Sequence[float]) -> list[float]:
        return [b - a for a, b in zip(before, after, strict=True)]

    usual = {
        "takes the arms as if they had been asked other prompts": lambda before, after: math.hypot(
            error(before), error(after)
        ),
        "gives the deviation of one prompt, not of their mean": lambda before, after: statistics.stdev(
            minus(before, after)
        ),
        "divides by the number of prompts, not by its root": lambda before, after: (
            statistics.stdev(minus(before, after)) / len(before)
        ),
        "divides the variance by P, not by P − 1": lambda before, after: (
            statistics.pstdev(minus(before, after)) / math.sqrt(len(before))
        ),
        "gives the variance of the mean, not its root": lambda before, after: error(minus(before, after)) ** 2,
        "looks at the second arm alone": lambda before, after: error(after),
        "gives the mean difference": lambda before, after: statistics.mean(minus(before, after)),
    }
    return judge(your_error, PROMPTS, right=paired_error, usual=usual)


@exercise
def check_near_arm(your_arm: Callable) -> tuple[bool, str]:
    """`your_arm()`: an arm that ends nearer to its start than the profile does, and loses no accuracy that one can see.

    It is measured with three seeds: taken from the record, or trained here and now.
    """
    if not callable(your_arm):
        return judge(your_arm, [], right=dict)
    try:
        given = your_arm()
    except Exception as error:
        error.add_note("(in the case: the arm itself)")
        raise
    if not isinstance(given, Mapping):
        return False, f"an arm must be a dict of settings (yours: {WORDS.repr(given)})."
    yours = f"(yours: {WORDS.repr(dict(given))})"
    try:
        result = lab.experiment({}, given, seeds=(0, 1, 2))
    except ValueError as error:
        return False, f"an arm must be one that can train {yours}: {error}"
    if len(result.outcomes) < 2:
        return False, f"an arm must differ from the profile {yours}."
    profile, arm = result.outcomes
    far, limit, change = arm.mean("kl"), NEAR * profile.mean("kl"), result.difference()
    points = f"{100 * change.mean:+.1f} points of accuracy ({100 * change.low:+.1f} … {100 * change.high:+.1f})"
    measured = f"yours ends {far:.4f} nats from its start, with {points}"
    if far > limit:
        return False, f"an arm must end at most {limit:.4f} nats from its start ({measured})."
    if not change.is_noise and change.mean < 0:
        return False, f"an arm must not lose accuracy ({measured}): near, at too high a price."
    return True, f"{measured}. That is near, and nothing is lost that one could see."
