"""Exercises about the loss head: sums over parts of a vocabulary, and the direction in which a log-prob grows."""

import math

from grpo_nb.checks.exercises import exercise, numbers_of


@exercise
def check_merged_sums(your_merge):
    """Whether `your_merge` makes of the sums over two parts of a vocabulary those over both.

    Args:
        your_merge: f(first, second) -> (top, total), of pairs (top, total): largest logit, Σ exp(z − top); (−∞, 0)
            for a part without words.
    See: notebook 12, exercise 12.1; `kernels.rows.fold`.

    >>> check_merged_sums(lambda first, second: (max(first[0], second[0]), first[1] + second[1]))
    check_merged_sums: the larger first, (2, 1) and (0, 3): must give (2, 1.4060) (yours: (2.0, 4.0)).
    False
    """
    nothing, e = (-math.inf, 0.0), math.e
    cases = [
        ("equal tops", (0.0, 1.0), (0.0, 1.5), (0.0, 2.5)),
        ("the larger first", (2.0, 1.0), (0.0, 3.0), (2.0, 1 + 3 / e**2)),
        ("the larger second", (-1.0, 2.0), (0.0, 1.0), (0.0, 1 + 2 / e)),
        ("negative both", (-3.0, 1.0), (-2.0, 2.0), (-2.0, 2 + 1 / e)),
        ("a gap that exp cannot take", (1000.0, 1.0), (0.0, 5.0), (1000.0, 1.0)),
        ("the same, turned", (0.0, 5.0), (1000.0, 1.0), (1000.0, 1.0)),
        ("nothing first", nothing, (4.0, 2.0), (4.0, 2.0)),
        ("nothing second", (4.0, 2.0), nothing, (4.0, 2.0)),
        ("nothing twice", nothing, nothing, nothing),
    ]
    for name, first, second, right in cases:
        given = f"{name}, ({first[0]:g}, {first[1]:g}) and ({second[0]:g}, {second[1]:g}):"
        try:
            yours = your_merge(first, second)
        except OverflowError as error:
            return False, f"{given} must not overflow (yours: {error}). Subtract the larger top first."
        found = numbers_of(yours)
        if found is None or len(found) != 2:
            return False, f"{given} two numbers must come back (yours: {yours!r:.80})."
        if not all(mine == theirs or abs(mine - theirs) < 1e-6 for mine, theirs in zip(right, found, strict=True)):
            return False, f"{given} must give ({right[0]:g}, {right[1]:.4f}) (yours: {yours!r:.80})."
    return True, f"all {len(cases)} cases fit."


@exercise
def check_direction(your_direction):
    """Whether `your_direction` is d log p_target / dh of one row: H numbers.

    Args:
        your_direction: f(weight [V, H], p [V], target) -> tensor [H], p the softmax over all words.
    See: notebook 12, exercise 12.2; `kernels.passes.direction`.

    >>> check_direction(lambda weight, p, target: weight[target])
    check_direction: two words, p = [0.5, 0.5], target 0: must give [1.0, -1.0] (yours: [2.0, 0.0]).
    False
    """
    import torch

    two, four = [[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0, 4.0], [0.0, 4.0, 0.0], [8.0, 0.0, 0.0], [0.0, 0.0, 4.0]]
    cases = [
        ("two words", two, [0.5, 0.5], 0, [1.0, -1.0]),
        ("the other of them", two, [0.5, 0.5], 1, [-1.0, 1.0]),
        ("a likely target", two, [0.75, 0.25], 0, [0.5, -0.5]),
        ("certain already", two, [1.0, 0.0], 0, [0.0, 0.0]),
        ("four words, H = 3", four, [0.5, 0.25, 0.125, 0.125], 2, [6.0, -1.0, -2.5]),
        ("four words, a target that never comes", four, [0.5, 0.25, 0.25, 0.0], 3, [-3.0, -1.0, 2.0]),
    ]
    for name, weight, p, target, right in cases:
        given, rows = f"{name}, p = {p}, target {target}:", torch.tensor(weight)
        yours = your_direction(rows.clone(), torch.tensor(p), target)
        found = numbers_of(yours)
        if found is None or len(found) != len(right):
            return False, f"{given} {len(right)} numbers must come back (yours: {yours!r:.80})."
        if not all(abs(mine - theirs) < 1e-5 for mine, theirs in zip(right, found, strict=True)):
            return False, f"{given} must give {right} (yours: {[round(x, 4) for x in found]})."
    return True, f"all {len(cases)} cases fit."
