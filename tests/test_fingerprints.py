"""Equal runs have equal fingerprints, also in another process; every difference is named."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from grpo_nb import fingerprints

TWO = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def paid(completions, **columns):
    return [float(completion in {"a", "b", "c", "d"}) for completion in completions]


def of(rows=({"prompt": "1+1?"},), rewards=(paid,), model=TWO, **settings):
    arguments = SimpleNamespace(to_dict=lambda: {"learning_rate": 1e-3, "output_dir": "here", **settings})
    return fingerprints.fingerprint(arguments, rows, rewards, model)


def test_where_a_run_writes_does_not_count():
    assert fingerprints.differences(of(), of(output_dir="there", save_steps=3, logging_dir="x", run_name="y")) == []


def test_each_difference_is_named():
    def paid_double(completions, **columns):
        return [2 * float(completion in {"a", "b", "c", "d"}) for completion in completions]

    paid_double.__name__ = "paid"
    frozen = torch.nn.Linear(3, 4).requires_grad_(False)
    other = torch.nn.Linear(3, 4).requires_grad_(False)
    for before, after, named in [
        (of(), of(learning_rate=1e-4), "setting learning_rate: 0.001 → 0.0001"),
        (of(), of(beta=0.1), "setting beta: absent → 0.1"),
        (of(), of(rows=[{"prompt": "1+1?"}, {"prompt": "2+2?"}]), "data set rows: 1 → 2"),
        (of(), of(rows=[{"prompt": "1+2?"}]), "data set content"),
        (of(), of(rewards=[paid_double]), "reward 1. paid"),
        (of(), of(rewards=[paid, paid]), "reward 2. paid: absent"),
        (of(model=frozen), of(model=other), "base weights content"),
    ]:
        assert named in "; ".join(fingerprints.differences(before, after))


def test_the_order_of_rows_counts_and_trained_weights_do_not():
    rows = [{"prompt": "1+1?"}, {"prompt": "2+2?"}]
    assert of(rows=rows) != of(rows=rows[::-1])
    assert of() == of(model=torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)))


def test_what_a_reward_closes_over_counts():
    def at_most(limit):
        return lambda completions, **columns: [float(len(c) <= limit) for c in completions]

    assert of(rewards=[at_most(3)]) == of(rewards=[at_most(3)])
    assert of(rewards=[at_most(3)]) != of(rewards=[at_most(4)])


def test_a_reward_that_is_no_function_counts_by_its_call():
    class Scorer:
        def __call__(self, completions, **columns):
            return [0.0 for _ in completions]

    assert of(rewards=[Scorer()]) == of(rewards=[Scorer()])
    assert of(rewards=["a/reward-model"]) != of(rewards=["another/reward-model"])


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_code_of_a_reward_has_one_digest_in_every_process(hash_seed):
    """A set among its constants has another order in each process."""
    code = (
        "from tests import test_fingerprints as t; from grpo_nb import fingerprints as f; "
        "print(f._digest(f._code(t.paid)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": hash_seed}, check=True
    )
    assert ran.stdout.strip() == fingerprints._digest(fingerprints._code(paid))
