"""Exercises about chance: tries until a hit, problems for a test, groups that teach, a habit at another temperature."""

import math

from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_tries(your_tries):
    """Whether `your_tries` is the fewest tries of which at least one is right with probability `wanted` or more.

    Args:
        your_tries: f(p, wanted) -> whole number, p in (0, 1].

    >>> check_tries(lambda p, wanted: math.ceil(wanted / p))
    check_tries: a hard problem: your numbers are those of one who adds the chances up. With p = 0.1, wanted = 0.5 it
    must give 7 (yours: 5).
    False
    """
    cases = [
        ("three of four", (0.5, 0.75)),
        ("a hard problem", (0.1, 0.5)),
        ("a hard problem, nearly certain", (0.1, 0.99)),
        ("one is enough", (0.5, 0.5)),
        ("an easy one", (0.9, 0.9995)),  # no tie: log 10⁻⁴ / log 0.1 is above 4 in floats
        ("certain", (1.0, 0.99)),
    ]

    def right(p: float, wanted: float) -> int:
        tries, all_wrong = 1, 1 - p
        while 1 - all_wrong < wanted - 1e-12:
            tries, all_wrong = tries + 1, all_wrong * (1 - p)
        return tries

    usual = {
        "adds the chances up": lambda p, wanted: math.ceil(wanted / p),
        "wants the chance above `wanted`, not at it": lambda p, wanted: right(p, wanted + 1e-9),
        "takes the tries that a hit needs on average": lambda p, wanted: math.ceil(1 / p),
        "counts the failures before the hit": lambda p, wanted: right(p, wanted) - 1,
        "wants all tries right": lambda p, wanted: max(1, math.floor(math.log(wanted) / math.log(p))) if p < 1 else 1,
    }
    return judge(your_tries, cases, right=right, usual=usual)


@exercise
def check_problems(your_problems):
    """Whether `your_problems` is the fewest problems that show a rise as more than two standard deviations.

    The rise is the difference of two shares, each measured on so many problems: rise² · n > 4 · (p(1 − p) + q(1 − q)).

    Args:
        your_problems: f(before, after) -> whole number; shares in [0, 1], before < after.
    """
    cases = [
        ("a clear rise", (0.5, 0.75)),  # 4 · (1/4 + 3/16) / (1/16) = 28 exactly: one more
        ("a small one", (0.5, 0.56)),
        ("near the top", (0.9, 0.96)),
        ("from nothing", (0.0, 0.5)),  # 4 exactly: 5
    ]

    def spread(before: float, after: float) -> float:
        return before * (1 - before) + after * (1 - after)

    def fewest(bound: float) -> int:
        return math.floor(bound) + 1

    usual = {
        "takes a rise of exactly two deviations for more": lambda b, a: math.ceil(
            round(4 * spread(b, a) / (a - b) ** 2, 9)
        ),
        "allows for one deviation, not two": lambda b, a: fewest(spread(b, a) / (a - b) ** 2),
        "doubles the variance instead of the deviation": lambda b, a: fewest(2 * spread(b, a) / (a - b) ** 2),
        "knows the first test without error": lambda b, a: fewest(4 * a * (1 - a) / (a - b) ** 2),
        "knows the second test without error": lambda b, a: fewest(4 * b * (1 - b) / (a - b) ** 2),
        "divides by the rise, not by its square": lambda b, a: fewest(4 * spread(b, a) / (a - b)),
        "adds the deviations, not the variances": lambda b, a: fewest(
            4 * ((b * (1 - b)) ** 0.5 + (a * (1 - a)) ** 0.5) ** 2 / (a - b) ** 2
        ),
    }
    return judge(your_problems, cases, right=lambda b, a: fewest(4 * spread(b, a) / (a - b) ** 2), usual=usual)


@exercise
def check_alive(your_alive):
    """Whether `your_alive` is the mean over problems of the chance that a group holds both a hit and a miss.

    Args:
        your_alive: f(accuracies, G) -> share; one probability of a hit for each problem.

    >>> check_alive(lambda accuracies, G: 1 - 0.5**G - 0.5**G)
    check_alive: one problem, accuracies = [0.25], G = 2: must give 0.375 (yours: 0.5).
    False
    """
    cases = [
        ("one problem", ([0.25], 2)),
        ("one easy, one hard", ([0.9, 0.1], 4)),
        ("one certain, one hopeless", ([1.0, 0.0], 8)),
        ("three problems", ([0.5, 0.2, 1.0], 8)),
    ]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def chance(p: float, G: int) -> float:
        return 1 - p**G - (1 - p) ** G

    usual = {
        "averages the accuracies first": lambda accuracies, G: chance(mean(accuracies), G),
        "counts the dead groups": lambda accuracies, G: 1 - mean([chance(p, G) for p in accuracies]),
        "lets a group without a miss count": lambda accuracies, G: mean([1 - (1 - p) ** G for p in accuracies]),
        "lets a group without a hit count": lambda accuracies, G: mean([1 - p**G for p in accuracies]),
        "adds the chances up without dividing": lambda accuracies, G: sum(chance(p, G) for p in accuracies),
    }
    return judge(your_alive, cases, right=lambda accuracies, G: mean([chance(p, G) for p in accuracies]), usual=usual)


@exercise
def check_slip(your_slip):
    """Whether `your_slip` is the probability of a slip at temperature T, if it is s at 1 and there are two ways on.

    Args:
        your_slip: f(s, T) -> probability, s in (0, 1), T > 0.
    """
    cases = [
        ("colder", (0.6, 0.5)),
        ("hotter", (0.6, 2.0)),
        ("as it is", (0.6, 1.0)),
        ("a coin", (0.5, 0.25)),
        ("a rare slip, cold", (0.1, 0.5)),
    ]

    def right(s: float, T: float) -> float:
        return s ** (1 / T) / (s ** (1 / T) + (1 - s) ** (1 / T))

    usual = {
        "takes the power T, not 1/T": lambda s, T: right(s, 1 / T),
        "forgets to scale back to a sum of 1": lambda s, T: s ** (1 / T),
        "divides the probability by T": lambda s, T: s / T,
        "divides the probability by T and cuts it off at 1": lambda s, T: min(1.0, s / T),
        "divides both probabilities by T, which cancels": lambda s, T: s,
        "gives the chance that it remembers": lambda s, T: 1 - right(s, T),
        "takes the softmax of the probabilities, not of their logarithms": lambda s, T: (
            1 / (1 + math.exp((1 - 2 * s) / T))
        ),
    }
    return judge(your_slip, cases, right=right, usual=usual)
