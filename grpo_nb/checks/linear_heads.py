"""Exercises about the loss head: sums over parts of a vocabulary, and the direction in which a log-prob grows."""

import math

from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_merged_sums(your_merge):
    """Whether `your_merge` makes of the sums over two parts of a vocabulary those over both.

    Args:
        your_merge: f(first, second) -> (top, total), of pairs (top, total): largest logit, Σ exp(z − top); (−∞, 0)
            for a part without words.
    See: `kernels.rows.fold`.

    >>> check_merged_sums(lambda first, second: (max(first[0], second[0]), first[1] + second[1]))
    check_merged_sums: the larger first: your numbers are those of one who adds up the sums, though each is
    relative to its own top. With first = [2, 1], second = [0, 3] it must give [2, 1.406] (yours: [2, 4]).
    False
    """
    nothing = (-math.inf, 0.0)
    cases = [
        ("equal tops", ((0.0, 1.0), (0.0, 1.5))),
        ("the larger first", ((2.0, 1.0), (0.0, 3.0))),
        ("the larger second", ((-1.0, 2.0), (0.0, 1.0))),
        ("negative both", ((-3.0, 1.0), (-2.0, 2.0))),
        ("a gap that exp cannot take", ((1000.0, 1.0), (0.0, 5.0))),
        ("the same, turned", ((0.0, 5.0), (1000.0, 1.0))),
        ("nothing first", (nothing, (4.0, 2.0))),
        ("nothing second", ((4.0, 2.0), nothing)),
        ("nothing twice", (nothing, nothing)),
    ]

    def merged(factor):
        """The sums, each times a factor of its own top and the larger one."""

        def compute(first, second):
            top = max(first[0], second[0])
            return top, sum(total * factor(peak, top) for peak, total in (first, second) if total)

        return compute

    def one_scaled(first, second):
        return max(first[0], second[0]), first[1] + (second[1] and second[1] * math.exp(second[0] - first[0]))

    usual = {
        "adds up the sums, though each is relative to its own top": merged(lambda peak, top: 1.0),
        "multiplies by e^(new top − own top): the wrong way round": merged(lambda peak, top: math.exp(top - peak)),
        "multiplies by e^(own top), relative to no new top": merged(lambda peak, top: math.exp(peak)),
        "rescales the second only": one_scaled,
        "subtracts the tops, without the exponential": merged(lambda peak, top: peak - top),
        "takes the smaller top": lambda first, second: (
            min(first[0], second[0]),
            sum(total * math.exp(peak - min(first[0], second[0])) for peak, total in (first, second) if total),
        ),
    }
    return judge(your_merge, cases, right=merged(lambda peak, top: math.exp(peak - top)), usual=usual)


@exercise
def check_direction(your_direction):
    """Whether `your_direction` is d log p_target / dh of one row: H numbers.

    Args:
        your_direction: f(weight [V, H], p [V], target) -> tensor [H], p the softmax over all words.
    See: `kernels.passes.direction`.

    >>> check_direction(lambda weight, p, target: weight[target])
    check_direction: two words: your numbers are those of one who leaves out the others' pull, the mean row
    under p. With weight = [[2, 0], [0, 2]], p = [0.5, 0.5], target = 0 it must give [1, -1] (yours: [2, 0]).
    False
    """
    import torch

    two = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    four = torch.tensor([[2.0, 0.0, 4.0], [0.0, 4.0, 0.0], [8.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    cases = [
        ("two words", (two, torch.tensor([0.5, 0.5]), 0)),
        ("the other of them", (two, torch.tensor([0.5, 0.5]), 1)),
        ("a likely target", (two, torch.tensor([0.75, 0.25]), 0)),
        ("certain already", (two, torch.tensor([1.0, 0.0]), 0)),
        ("four words, H = 3", (four, torch.tensor([0.5, 0.25, 0.125, 0.125]), 2)),
        ("four words, a target that never comes", (four, torch.tensor([0.5, 0.25, 0.25, 0.0]), 3)),
    ]
    usual = {
        "turns the sign": lambda weight, p, target: p @ weight - weight[target],
        "leaves out the others' pull, the mean row under p": lambda weight, p, target: weight[target],
        "gives the others' pull alone": lambda weight, p, target: -p @ weight,
        "takes every word for as likely as the next": lambda weight, p, target: weight[target] - weight.mean(0),
        "subtracts the target's own share only": lambda weight, p, target: (1 - p[target]) * weight[target],
        "subtracts one number, the mean over V and H": lambda weight, p, target: weight[target] - (p @ weight).mean(),
        "takes the derivative of p, not of log p": lambda weight, p, target: p[target] * (weight[target] - p @ weight),
        "leaves the target out of the mean": lambda weight, p, target: (1 + p[target]) * weight[target] - p @ weight,
    }
    return judge(your_direction, cases, right=lambda weight, p, target: weight[target] - p @ weight, usual=usual)
