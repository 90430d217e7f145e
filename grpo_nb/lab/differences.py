"""Are two arms different, or is it noise? One rule, fixed before any arm was trained.

Both arms answer the same held-out prompts, and are trained with the same seeds, so the difference d[s, i] of seed s and
prompt i is taken first, then its mean. Two things make that mean uncertain, the prompts that were drawn and the seeds
that were drawn, and each counts:

    half-width² = (1.96 · SE of the prompts)² + (t · SE of the seeds)²

t is Student's 97.5 % quantile with S − 1 degrees of freedom: 12.7 for two seeds, 4.3 for three. An interval that holds
0 is called noise. One seed gives no verdict.

See: Owen 2007, *The pigeonhole bootstrap*, arXiv:0712.1111: the sum of both errors is on the safe side.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.96
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # for 1, 2, … degrees of freedom


class Difference(NamedTuple):
    """A mean difference and its 95 % interval; NaN ends for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int
    prompts: int

    @property
    def is_noise(self) -> bool:
        return not (self.low > 0 or self.high < 0)


def paired(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Difference:
    """The difference of two arms, and its interval.

    Args:
        before, after: a share for each seed and held-out prompt: the same seeds, the same prompts.

    >>> paired([[0, 0, 1], [0, 1, 0]], [[1, 1, 1], [1, 1, 1]]).is_noise
    True
    """
    d = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(before, after, strict=True)]
    of_seeds, of_prompts = (
        [statistics.mean(row) for row in d],
        [statistics.mean(column) for column in zip(*d, strict=True)],
    )
    S, P, mean = len(d), len(of_prompts), statistics.mean(of_seeds)
    if S < 2 or P < 2:
        return Difference(mean, math.nan, math.nan, S, P)
    rest = [d[s][i] - of_seeds[s] - of_prompts[i] + mean for s in range(S) for i in range(P)]
    rest_variance = sum(r * r for r in rest) / ((S - 1) * (P - 1))
    # Two seeds may agree by chance: their means differ at least by what the draws of single completions make.
    seeds_variance = max(statistics.variance(of_seeds), rest_variance / P)
    t = T[min(S - 1, len(T)) - 1]
    half = math.sqrt(Z * Z * statistics.variance(of_prompts) / P + t * t * seeds_variance / S)
    return Difference(mean, mean - half, mean + half, S, P)


def sentence(name: str, other: str, difference: Difference) -> str:
    """What the rule says of an arm against another, in words."""
    points = f"{100 * difference.mean:+.1f} points"
    start = f"{name} against {other}: {points} of sampled accuracy on the same {difference.prompts} held-out prompts"
    if difference.seeds < 2:
        return f"{start}, with one seed. No verdict: one seed says nothing about others. Try seeds=(0, 1, 2)."
    if difference.prompts < 2:
        return f"{start}. No verdict: one prompt says nothing about others. Raise num_held_out."
    low, high, seeds = 100 * difference.low, 100 * difference.high, difference.seeds
    interval = f"95 % interval {low:+.1f} … {high:+.1f}, paired over {seeds} seeds"
    if not difference.is_noise:
        caution = " Two seeds are few: repeat it before you rely on it." if seeds == 2 else ""
        return f"{start} ({interval}). A difference: more than prompts and seeds explain.{caution}"
    return f"{start} ({interval}). The interval holds 0: with {seeds} seeds this cannot be told from noise."
