"""Exercises about chance: a hit, a signal."""

from grpo_nb import advantages
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_chance(your_chance):
    """Whether `your_chance` is the probability that at least one of k independent tries is right, 1 − (1 − p)ᵏ.

    Args:
        your_chance: f(p, k) -> float, p in [0, 1], k ≥ 0.

    >>> check_chance(lambda p, k: p * k)
    check_chance: two tries: your numbers are those of one who adds the chances up, as if no two tries could
    both be right. With p = 0.5, k = 2 it must give 0.75 (yours: 1).
    False
    """
    cases = [
        ("one try", (0.5, 1)),
        ("two tries", (0.5, 2)),
        ("three tries", (0.5, 3)),
        ("four tries at a hard problem", (0.1, 4)),
        ("no chance", (0.0, 8)),
        ("certain", (1.0, 8)),
        ("no try", (0.5, 0)),
    ]
    usual = {
        "adds the chances up, as if no two tries could both be right": lambda p, k: p * k,
        "adds the chances up and stops at 1": lambda p, k: min(1.0, p * k),
        "takes the chance that all k tries are right": lambda p, k: p**k,
        "takes the chance that not all k tries are right": lambda p, k: 1 - p**k,
        "takes the chance that all k tries are wrong": lambda p, k: (1 - p) ** k,
        "takes the chance that exactly one try is right": lambda p, k: k * p * (1 - p) ** (k - 1) if k else 0.0,
    }
    return judge(your_chance, cases, right=lambda p, k: advantages.hit_probability(p, k), usual=usual)


@exercise
def check_signal(your_prob_of_signal):
    """Whether `your_prob_of_signal` is 1 − pᴳ − (1 − p)ᴳ, the chance that a group holds both a hit and a miss.

    Args:
        your_prob_of_signal: f(p, G) -> probability.

    >>> check_signal(lambda p, G: 1 - (1 - p) ** G)
    check_signal: a pair: your numbers are those of one who lets a group of hits only count as a signal. With p
    = 0.5, G = 2 it must give 0.5 (yours: 0.75).
    False
    """
    cases = [
        ("no chance", (0.0, 8)),
        ("a pair", (0.5, 2)),
        ("four even chances", (0.5, 4)),
        ("four hard ones", (0.1, 4)),
        ("three of a quarter", (0.25, 3)),
        ("certain", (1.0, 8)),
    ]
    usual = {
        "lets a group of hits only count as a signal": lambda p, G: 1 - (1 - p) ** G,
        "lets a group of misses only count as a signal": lambda p, G: 1 - p**G,
        "takes the chance that the group has no signal": lambda p, G: p**G + (1 - p) ** G,
        "takes the spread of one try": lambda p, G: p * (1 - p),
        "multiplies the two chances": lambda p, G: (1 - p**G) * (1 - (1 - p) ** G),
        "takes the chance that exactly one is a hit": lambda p, G: G * p * (1 - p) ** (G - 1),
    }
    return judge(your_prob_of_signal, cases, right=lambda p, G: 1 - advantages.dead_probability(p, G), usual=usual)
