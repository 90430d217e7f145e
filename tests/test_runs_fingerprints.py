"""Equal runs have equal fingerprints, also in another process; every difference is named."""

import decimal
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from grpo_nb.runs import fingerprints

TWO = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def paid(completions, **columns):
    return [float(completion in {"a", "b", "c", "d"}) for completion in completions]


def of(rows=({"prompt": "1+1?"},), rewards=(paid,), model=TWO, template="{{ messages }}", **settings):
    arguments = SimpleNamespace(to_dict=lambda: {"learning_rate": 1e-3, "output_dir": "here", **settings})
    return fingerprints.fingerprint(arguments, rows, rewards, model, SimpleNamespace(chat_template=template))


def test_where_a_run_writes_does_not_count():
    assert fingerprints.differences(of(), of(output_dir="there", save_steps=3, logging_dir="x", run_name="y")) == []


def adapted(alpha: int):
    """A stand-in for a PEFT model: the configuration is what is read."""
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight), torch.nn.init.ones_(model.bias)
    model.peft_config = {
        "default": SimpleNamespace(to_dict=lambda: {"lora_alpha": alpha, "target_modules": {"q", "k"}})
    }
    return model


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
        (of(), of(rewards=[paid_double]), "code of reward 1. paid"),
        (of(), of(rewards=[paid, paid]), "code of reward 2. paid"),
        (of(model=frozen), of(model=other), "starting weights content"),
        (of(), of(template="{{ other }}"), "chat template content"),
        (of(model=adapted(16)), of(model=adapted(32)), "adapter default lora_alpha: 16 → 32"),
    ]:
        assert named in "; ".join(fingerprints.differences(before, after))


def test_the_order_of_rows_counts():
    rows = [{"prompt": "1+1?"}, {"prompt": "2+2?"}]
    assert of(rows=rows) != of(rows=rows[::-1])


WEIGHT = 2.0


def helper(value):
    return value * WEIGHT


class Scorer:
    def __init__(self, bonus):
        self.bonus = bonus

    def __call__(self, completions, **columns):
        return [self.bonus for _ in completions]

    def method(self, completions, **columns):
        return [self.bonus for _ in completions]


def weighted(completions, weight=1.0, **columns):
    return [helper(weight) for _ in completions]


def decorated(factor):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return [factor * score for score in function(*args, **kwargs)]

        return wrapper

    return decorate


def defaulted(completions, h=helper, allowed=frozenset({"a", "b", "c"}), table={"x": [1]}, **columns):  # noqa: B006
    return [h(float(c in allowed)) + len(table) for c in completions]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (functools.partial(weighted, weight=1), functools.partial(weighted, weight=-1)),
        (Scorer(1.0), Scorer(2.0)),
        (Scorer(1.0).method, Scorer(2.0).method),
        (decorated(1)(weighted), decorated(2)(weighted)),
        (decorated(1)(weighted), decorated(1)(paid)),
        ("a/reward-model", "another/reward-model"),
    ],
)
def test_all_that_a_reward_brings_along_counts(one, other):
    assert fingerprints._code(one) != fingerprints._code(other)


class Judge:
    """Holds a model, itself, and its own method: what is followed must end."""

    def __init__(self, bonus):
        self.bonus, self.model = bonus, torch.nn.Sequential(torch.nn.Linear(2, 2))
        self.friends = [self, self.judge]

    def __call__(self, completions, **columns):
        return self.judge(completions)

    def judge(self, completions, **columns):
        return [self.bonus for _ in completions]


class Slotted:
    __slots__ = ()

    def judge(self, completions, **columns):
        return [0.0 for _ in completions]


def countdown(completions, **columns):
    return [0.0, *countdown(completions[1:])] if completions else []


def test_what_a_reward_holds_is_followed_to_an_end():
    one, other = Judge(1.0), Judge(2.0)
    for ours, theirs in [(one, other), (one.judge, other.judge)]:
        assert fingerprints._code(ours) == fingerprints._code(ours) != fingerprints._code(theirs)
    assert "judge" not in fingerprints._code(functools.partial(weighted, weight=one)), "an object counts by its type"
    assert fingerprints._code(Slotted().judge) and fingerprints._code(countdown)


@pytest.mark.parametrize("name", ["WEIGHT", "helper"])
def test_what_a_reward_reads_from_its_module_counts(name, monkeypatch):
    before = fingerprints._code(weighted)
    monkeypatch.setitem(globals(), name, 3.0 if name == "WEIGHT" else lambda value: value)
    assert fingerprints._code(weighted) != before


AROUND = {  # what stands in a notebook around a reward: before an edit → after it
    "P = re.compile('a')": "P = re.compile('b')",
    "P = re.compile('b')": "P = re.compile('b', re.I)",
    "P = {'a': re.compile('a')}": "P = {'a': re.compile('b')}",
    "P = range(3)": "P = range(4)",
    "P = decimal.Decimal('0.1')": "P = decimal.Decimal('0.2')",
    "P = functools.lru_cache(lambda text: 1)": "P = functools.lru_cache(lambda text: 2)",
    "class P:\n weight = 1": "class P:\n weight = 2",
    "class P:\n def score(self): return 1": "class P:\n def score(self): return 2",
    "class P:\n @staticmethod\n def score(): return 1": "class P:\n @staticmethod\n def score(): return 2",
    "class P:\n score = property(lambda self: 1)": "class P:\n score = property(lambda self: 2)",
    "class A:\n n = 1\nclass P(A):\n def me(self): return P": "class A:\n n = 2\nclass P(A):\n def me(self): return P",
}
USES = [
    "def reward(completions, **columns): return P",
    "def reward(completions, by=P, **columns): return by",
    "def inner(): return P\ndef reward(completions, **columns): return inner()",
    "def around(P):\n return lambda completions, **columns: P\nreward = around(P)",
    "class R:\n def other(self): return P\n def __call__(self, completions, **columns): return self.other()\n"
    "reward = R()",
    "class R:\n def other(self): return P\n def score(self, completions, **columns): return self.other()\n"
    "reward = R().score",
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("around", AROUND)
def test_an_edit_in_its_notebook_makes_another_reward(around, use):
    def code_of(cell):
        space = {"__name__": "notebook", "re": re, "decimal": decimal, "functools": functools}
        exec(f"{cell}\n{use}", space)
        return fingerprints.code_of(space["reward"])

    assert code_of(around) != code_of(AROUND[around])
    assert code_of(around) == code_of(f"# in words\n\n{around}")


def test_what_a_reward_closes_over_counts():
    def at_most(limit):
        return lambda completions, **columns: [float(len(c) <= limit) for c in completions]

    assert of(rewards=[at_most(3)]) == of(rewards=[at_most(3)])
    assert of(rewards=[at_most(3)]) != of(rewards=[at_most(4)])


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_code_of_a_reward_has_one_digest_in_every_process(hash_seed):
    """A set among its constants has another order in each process."""
    code = (
        "from tests import test_runs_fingerprints as t; from grpo_nb.runs import fingerprints as f; "
        "print(f._digest(f._code(t.paid)), f._digest(f._code(t.defaulted)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": hash_seed}, check=True
    )
    assert ran.stdout.split() == [fingerprints._digest(fingerprints._code(reward)) for reward in (paid, defaulted)]


def test_the_packages_own_loss_is_part_of_a_run_that_trains_with_it(tmp_path, monkeypatch):
    """Edited between two sessions, it would be another loss under the same name."""
    package = Path(fingerprints.__file__).parent.parent
    shutil.copytree(package / "losses", tmp_path / "losses")
    shutil.copy(package / "advantages.py", tmp_path)
    monkeypatch.setattr(fingerprints, "__file__", str(tmp_path / "runs" / "fingerprints.py"))
    before = fingerprints._code_of_loss(None, {"own_loss": True})
    assert before.keys() == {"grpo_nb"} and fingerprints._code_of_loss(None, {"own_loss": False}) == {}
    total = tmp_path / "losses" / "total.py"
    total.write_text(total.read_text(encoding="utf8").replace("return -phi", "return phi"), encoding="utf8")
    after = fingerprints._code_of_loss(None, {"own_loss": True})
    assert fingerprints.differences({"code of loss": before}, {"code of loss": after}) == ["code of loss grpo_nb"]
