"""What learners write about batches."""

from fractions import Fraction

import numpy as np
import torch
from check_answers import Answers


def factors(rounds, accumulation, rescales, *, shares=None):
    def scale(tokens):
        return sum(tokens) * (accumulation / len(tokens) if rescales else 1)

    shares = shares or [n / scale(tokens) for tokens in rounds for n in tokens]
    return [sum(shares[i : i + accumulation]) for i in range(0, len(shares), accumulation)]


def exactly(rounds, gradient_accumulation_steps, rescales):
    sums, steps = [], 0
    for tokens in rounds:
        divisor = Fraction(sum(tokens)) * (Fraction(gradient_accumulation_steps, len(tokens)) if rescales else 1)
        for count in tokens:
            sums += [0] if steps % gradient_accumulation_steps == 0 else []
            sums[-1] += count / divisor
            steps += 1
    return sums


def own(rounds, accumulation, rescales):
    return [1.0] * len(factors(rounds, accumulation, rescales))


def ordered(prompts, updates, G, most):
    update = prompts * G // updates
    b = max(n for n in range(1, most + 1) if update % n == 0)
    return b, update // b, update // b * updates


def counting_down(prompts, updates, G, most):
    b, round_ = most, prompts * G
    while round_ % (updates * b):
        b -= 1
    return [b, round_ / updates / b, round_ / b]


ANSWERS = [
    Answers(
        check="check_dropped",
        right=[
            lambda rows, b, A, S, G: rows % (b * S // G),
            lambda rows, b, A, S, G: torch.tensor(rows - rows * G // (b * S) * (b * S // G)),
            lambda rows, b, A, S, G: len(list(range(rows))[rows - rows % (b * S // G) :]),
        ],
        wrong={
            "A for S": (lambda rows, b, A, S, G: rows % max(1, b * A // G), "takes A for S"),
            "no G": (lambda rows, b, A, S, G: rows % (b * S), "takes completions for prompts"),
            "no S": (lambda rows, b, A, S, G: rows % max(1, b // G), "the prompts of one micro-step"),
            "completions": (lambda rows, b, A, S, G: rows * G % (b * S), "counts the completions left out"),
            "used rows": (lambda rows, b, A, S, G: rows // (b * S // G) * (b * S // G), "rows that are used"),
            "rounds": (lambda rows, b, A, S, G: rows // (b * S // G), "counts the rounds"),
            "a share": (lambda rows, b, A, S, G: rows % (b * S / G) / rows, "must give 2 (yours: 0.2)"),
        },
        almost=(lambda rows, b, A, S, G: rows % (b * max(A, S) // G), "S below A"),
    ),
    Answers(
        check="check_batch_to_order",
        right=[ordered, counting_down, lambda *given: np.array(ordered(*given))],
        wrong={
            "S for A": (lambda *given: [ordered(*given)[i] for i in (0, 2, 1)], "puts S where A belongs"),
            "no G": (lambda prompts, updates, G, most: ordered(prompts, updates, 1, most), "takes prompts for compl"),
            "the round": (
                lambda prompts, updates, G, most: (*(x := ordered(prompts, 1, G, most))[:2], x[1] * updates),
                "lets an update be the whole round",
            ),
            "small": (lambda prompts, updates, G, most: ordered(prompts, updates, G, 1), "takes the smallest b"),
            "the most": (
                lambda prompts, updates, G, most: (
                    most,
                    prompts * G // updates // most,
                    prompts * G // updates // most * updates,
                ),
                "takes b = most",
            ),
            "one update": (lambda prompts, updates, G, most: ordered(prompts, updates, G, most)[:2], "of shape [2]"),
        },
        almost=(
            lambda prompts, updates, G, most: ordered(prompts, updates, G, min(most, G)),
            "must give [8, 1, 1] (yours: [4, 2, 2])",
        ),
    ),
    Answers(
        check="check_factors",
        right=[factors, exactly, lambda *given: torch.tensor(factors(*given)), lambda *given: iter(factors(*given))],
        wrong={
            "by own tokens": (own, "divides each update by its own tokens"),
            "rescales always": (
                lambda rounds, A, rescales: factors(rounds, A, True),
                "rescales also where TRL forgot to",
            ),
            "rescales never": (lambda rounds, A, rescales: factors(rounds, A, False), "never rescales"),
            "turned round": (lambda rounds, A, rescales: factors(rounds, A, not rescales), "and only there"),
            "one a micro-step": (
                lambda rounds, A, rescales: [n / sum(t) * (len(t) / A if rescales else 1) for t in rounds for n in t],
                "does not add up the micro-steps",
            ),
            "rounds apart": (
                lambda rounds, A, rescales: [x for tokens in rounds for x in factors([tokens], A, rescales)],
                "starts a new update with every round",
            ),
            "the mean": (lambda rounds, A, rescales: [x / A for x in factors(rounds, A, rescales)], "takes the mean"),
            "one a round": (lambda rounds, A, rescales: [1.0] * len(rounds), "of shape [2] (yours: [1], of shape [1])"),
        },
        almost=(lambda *given: [round(x, 2) for x in factors(*given)], "one long window"),
    ),
]
