"""A right answer passes in whatever form it comes, a wrong one is told in words; solutions are in test_notebooks."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from grpo_nb import checks
from grpo_nb.checks import exercises

FORMS = [list, tuple, np.array, lambda numbers: torch.tensor(numbers, dtype=torch.float64)]


def factors(rounds, accumulation, rescales):
    shares = [n / sum(tokens) / (accumulation / len(tokens) if rescales else 1) for tokens in rounds for n in tokens]
    return [sum(shares[i : i + accumulation]) for i in range(0, len(shares), accumulation)]


def weights(lengths, loss_type, limit):
    rows = len(lengths)
    whole = {"bnpo": sum(lengths), "dr_grpo": rows * limit}
    return [1 / whole.get(loss_type, rows * length) for length in lengths]


@pytest.mark.parametrize("form", FORMS)
def test_right_answers_pass_in_every_form(form):
    assert checks.check_batch(lambda b, A, S, P, G, mu: form([b * S * P / G, b * A * P, mu * S / A]))
    assert checks.check_factors(lambda *given: form(factors(*given)))
    assert checks.check_token_weights(lambda *given: form(weights(*given)))


@pytest.mark.parametrize("form", [float, np.float32, torch.tensor])
def test_one_number_passes_in_every_form(form):
    def surrogate(ratio, advantage, epsilon, epsilon_high):
        return form(-min(ratio * advantage, max(1 - epsilon, min(ratio, 1 + epsilon_high)) * advantage))

    assert checks.check_surrogate(surrogate)


def merged(first, second):
    top = max(first[0], second[0])
    return top, sum(total * math.exp(peak - top) for peak, total in (first, second) if total)


@pytest.mark.parametrize("form", FORMS)
def test_right_answers_about_the_head_pass_in_every_form(form):
    assert checks.check_merged_sums(lambda first, second: form(merged(first, second)))
    assert checks.check_direction(lambda weight, p, target: form((weight[target] - p @ weight).tolist()))


@pytest.mark.parametrize(
    ("check", "yours", "words"),
    [
        (checks.check_merged_sums, lambda a, b: (max(a[0], b[0]), a[1] + b[1]), "the larger first"),
        (
            checks.check_merged_sums,
            lambda a, b: (max(a[0], b[0]), a[1] * math.exp(a[0]) + b[1] * math.exp(b[0])),
            "the larger first",
        ),
        (
            checks.check_merged_sums,
            lambda a, b: (max(a[0], b[0]), math.exp(-max(a[0], b[0])) * sum(s * math.exp(t) for t, s in (a, b))),
            "must not overflow",
        ),
        (
            checks.check_merged_sums,
            lambda a, b: (max(a[0], b[0]), sum(s * torch.tensor(t - max(a[0], b[0])).exp() for t, s in (a, b))),
            "nothing twice",
        ),
        (checks.check_direction, lambda weight, p, target: p @ weight - weight[target], "two words"),
        (checks.check_direction, lambda weight, p, target: (1 - p[target]) * weight[target], "two words"),
        (
            checks.check_direction,  # among the others, but divided by nothing
            lambda weight, p, target: weight[target] - p @ weight / (1 - p[target]) * (1 - p[target]),
            "certain already",
        ),
        (checks.check_direction, lambda weight, p, target: torch.zeros(2), "two words"),
        (checks.check_direction, lambda weight, p, target: (weight[target] - p @ weight)[:2], "H = 3"),
    ],
)
def test_wrong_answers_about_the_head_are_told(check, yours, words, capsys):
    assert check(yours) is False
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("yours", [None, "1.0", [None], {"a": 1}, [[1.0, 2.0]], True, [True]])
def test_no_numbers_are_told_so(yours, capsys):
    numeric = [checks.check_factors, checks.check_token_weights, checks.check_batch, checks.check_surrogate]
    for check in [*numeric, checks.check_merged_sums, checks.check_direction]:
        assert check(lambda *given: yours) is False
        assert "yours: " in capsys.readouterr().out


@pytest.mark.parametrize("yours", [0.5, [Fraction(1, 2)], np.array([0.5])])
def test_numbers_are_read(yours):
    assert exercises.numbers_of(yours) == [0.5]
