"""A right answer passes in whatever form it comes, a wrong one is told in words; solutions are in test_notebooks."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from grpo_nb import checks
from grpo_nb.checks import contract

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


@pytest.mark.parametrize("yours", [None, "1.0", [None], {"a": 1}, [[1.0, 2.0]], True, [True]])
def test_no_numbers_are_told_so(yours, capsys):
    for check in (checks.check_factors, checks.check_token_weights, checks.check_batch, checks.check_surrogate):
        assert check(lambda *given: yours) is False
        assert "yours: " in capsys.readouterr().out


@pytest.mark.parametrize("yours", [0.5, [Fraction(1, 2)], np.array([0.5])])
def test_numbers_are_read(yours):
    assert contract.numbers_of(yours) == [0.5]
