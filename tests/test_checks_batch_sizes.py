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


ANSWERS = [
    Answers(
        check="check_batch",
        right=[
            lambda b, A, S, P, G, mu: (b * S * P // G, b * A * P, mu * S / A),
            lambda b, A, S, P, G, mu: [Fraction(b * S * P, G), b * A * P, Fraction(mu * S, A)],
            lambda b, A, S, P, G, mu: np.array([b * S * P / G, b * A * P, mu * S / A]),
            lambda b, A, S, P, G, mu: torch.tensor([b * S * P / G, b * A * P, mu * S / A]),
        ],
        wrong={
            "S for A": (lambda b, A, S, P, G, mu: (b * S * P / G, b * S * P, mu * S / A), "takes S for A"),
            "A for S": (lambda b, A, S, P, G, mu: (b * A * P / G, b * A * P, mu * S / A), "takes A for S"),
            "no P": (lambda b, A, S, P, G, mu: (b * S / G, b * A, mu * S / A), "forgets the processes"),
            "no μ": (lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, S / A), "forgets the passes"),
            "no G": (lambda b, A, S, P, G, mu: (b * S * P, b * A * P, mu * S / A), "takes completions for prompts"),
            "A / S": (lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, mu * A / S), "turns S / A upside down"),
            "whole updates": (lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, mu * S // A), "rounds the updates"),
            "two numbers": (
                lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P),
                "of shape [3] (yours: [1, 8], of shape [2])",
            ),
        },
        almost=(
            lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, max(1, mu * S / A)),
            "G = 8, mu = 1: must give [2, 32, 1/2] (yours: [2, 32, 1])",
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
