"""Exercises about chance: a hit, a signal."""

from grpo_nb.checks.exercises import exercise


@exercise
def check_chance(your_chance):
    """Whether `your_chance` is the probability that at least one of k independent tries is right, 1 − (1 − p)ᵏ.

    Args:
        your_chance: f(p, k) -> float, p in [0, 1], k ≥ 0.
    See: notebook 00, exercise 0.1.

    >>> check_chance(lambda p, k: p * k)
    check_chance: p = 0.5 and k = 2 must give 0.75 (yours: 1.0).
    False
    """
    cases = [(0.5, 1, 0.5), (0.5, 2, 0.75), (0.5, 3, 0.875), (0.1, 4, 0.3439), (0.0, 8, 0.0), (1.0, 8, 1.0)]
    for p, k, chance in cases:
        yours = your_chance(p, k)
        if not isinstance(yours, int | float) or abs(yours - chance) > 1e-9:
            return False, f"p = {p} and k = {k} must give {chance} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."


@exercise
def check_signal(your_prob_of_signal):
    """Whether `your_prob_of_signal` is 1 − pᴳ − (1 − p)ᴳ, the chance that a group holds both a hit and a miss.

    Args:
        your_prob_of_signal: f(p, G) -> probability.
    See: notebook 03, exercise 3.1.

    >>> check_signal(lambda p, G: 1 - (1 - p) ** G)
    check_signal: p = 1.0, G = 8 must give 0.0 (yours: 1.0).
    False
    """
    # 0.9⁴ = 0.6561 and 0.1⁴ = 0.0001; 0.75³ = 27/64 and 0.25³ = 1/64
    cases = [(0.0, 8, 0.0), (1.0, 8, 0.0), (0.5, 2, 0.5), (0.5, 4, 0.875), (0.1, 4, 0.3438), (0.25, 3, 0.5625)]
    for p, size, right in cases:
        yours = your_prob_of_signal(p, size)
        if not isinstance(yours, float | int) or abs(yours - right) > 1e-9:
            return False, f"p = {p}, G = {size} must give {right} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."
