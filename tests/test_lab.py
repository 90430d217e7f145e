"""The bench: which arms are equal, what is refused before one trains, what is kept, resumed, and called noise."""

import copy
import dataclasses
import functools
import json
import math
import os
import random
import re
import signal
from pathlib import Path

import pytest
import torch

from benchmarks import laptop, survival
from grpo_nb import lab, models, profiles, rewards, train
from grpo_nb.lab import arms, differences, records, training
from grpo_nb.runs import tracking
from tools import experiments

FLAG = "GRPO_NB_TEST_FLAG"  # names a file: while it is there, a reward interrupts


def small_profile():
    """The ci profile cut down to a few tiny steps of a policy that has learned nothing."""
    profile = profiles.current("ci")
    profile.task.update(num_train=64, num_held_out=16)
    profile.policy.update(num_hidden_layers=1)
    profile.sft.update(max_steps=2, per_device_train_batch_size=4, logging_steps=1)
    profile.grpo.update(
        max_steps=6, per_device_train_batch_size=8, num_generations=4, max_completion_length=8, save_steps=2
    )
    return profile


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """`lab.experiment` of the small profile, in a folder of this module's own, without the record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("lab")))
        patch.setenv("GRPO_NB_RECORDS", str(tmp_path_factory.mktemp("none")))
        patch.setenv("GRPO_NB_TRACK", "off")
        yield lambda *given, **options: lab.experiment(*given, **{"profile": small_profile(), **options})


@pytest.fixture(scope="module")
def result(bench):
    return bench({"rewards": [survival.variety]}, {"rewards": [survival.variety], "learning_rate": 0.01})


def read(given: dict, **everywhere) -> arms.Arm:
    start = small_profile()
    rows = [{"prompt": f"{n}+1?", "answer": str(n + 1)} for n in range(64)]
    return arms.read(given, everywhere, start, rows)


def plain(found: training.Measured) -> dict:
    """What was measured, but for where it comes from and how long it took."""
    rows = [{key: value for key, value in row.items() if key != "step_time"} for row in found.rows]
    return {"rows": rows, "shares": found.shares, "other": found.other, "tokens": found.tokens}


# Golden.
def test_the_interval_by_hand():
    # d = [[1, 0], [1, 0]]: mean ½; seeds' means ½, ½; prompts' means 1, 0, variance ½, SE² = ½ / 2; no rest.
    found = differences.paired([[0, 0], [0, 0]], [[1, 0], [1, 0]])
    assert found.mean == 0.5 and found.high == pytest.approx(0.5 + 1.96 * 0.5) and found.is_noise
    # d = [[1, 1], [0, 0]]: prompts agree; seeds' means 1, 0, variance ½, SE² = ½ / 2; t = 12.706.
    found = differences.paired([[0, 0], [0, 0]], [[1, 1], [0, 0]])
    assert found.low == pytest.approx(0.5 - 12.706 * 0.5)
    # d = [[1, 0], [0, 1]]: all means ½; each rest ±½, variance 4 · ¼ / 1 = 1, of a mean of 2 prompts ½, SE² = ½ / 2.
    found = differences.paired([[0, 0], [0, 0]], [[1, 0], [0, 1]])
    assert found.high == pytest.approx(0.5 + 12.706 * 0.5)


def test_the_quantiles_are_students():
    def below(t: float, df: int, parts: int = 20_000) -> float:
        """P(|T| < t) by Simpson's rule."""
        scale = math.gamma((df + 1) / 2) / math.sqrt(df * math.pi) / math.gamma(df / 2)
        height = [scale * (1 + (t * i / parts) ** 2 / df) ** (-(df + 1) / 2) for i in range(parts + 1)]
        return 2 * t / parts / 3 * (height[0] + height[-1] + 4 * sum(height[1:-1:2]) + 2 * sum(height[2:-1:2]))

    assert [round(below(t, df), 3) for df, t in enumerate(differences.T, 1)] == [0.95] * len(differences.T)


def test_a_sum_that_is_written_is_read():
    assert training.true_sums(["7+5=12 3+4+1=8<SOLUTION>82</SOLUTION>", "9+9=19"]) == pytest.approx(2 / 3)
    assert training.true_sums(["1" * 10_000 + "+"]) == 0


# Law.
@pytest.mark.parametrize("seeds", [2, 3])
def test_arms_that_do_not_differ_are_called_different_in_one_of_twenty_at_most(seeds):
    rng, claims, trials = random.Random(0), 0, 200
    for _ in range(trials):
        shares = []
        for _arm in range(2):
            hard = [rng.random() for _ in range(24)] if not shares else hard
            levels = [rng.gauss(0, 0.1) for _ in range(seeds)]  # a seed makes an arm better or worse as a whole
            shares.append([[float(rng.random() < min(1, max(0, p + level))) for p in hard] for level in levels])
        claims += not differences.paired(*shares).is_noise
    assert claims <= 0.05 * trials


def test_a_large_difference_is_seen_with_two_seeds_and_none_with_one():
    worst, best = [[0.0] * 20] * 2, [[1.0] * 20] * 2
    found = differences.paired(worst, best)
    assert (found.mean, found.low, found.high, found.is_noise) == (1, 1, 1, False)
    assert "Two seeds are few" in differences.sentence("a", "b", found)
    lone = differences.paired([[0.0]] * 2, [[1.0]] * 2)
    assert lone.is_noise and "No verdict: one prompt" in differences.sentence("a", "b", lone)
    one = differences.paired(worst[:1], best[:1])
    assert one.is_noise and "No verdict: one seed" in differences.sentence("a", "b", one)


EQUAL = [
    ({}, {"num_generations": 4}),  # the profile's own value
    ({}, {"beta": 0}),
    ({}, {"epsilon": 0.2}),  # TRL's default
    ({}, {"save_steps": 3}),  # of no effect on what is learned
    ({"learning_rate": 5e-4}, {"learning_rate": 0.0005}),
    ({"max_steps": 6.0}, {"max_steps": 6}),
    ({}, {"rewards": list(rewards.FOUR)}),
    ({"num_train": 64}, {"dtype": "float32"}),
    ({"lora": {"r": 32}}, {"kernels": {"own_loss": True}}),
]
DIFFERENT = [
    {"num_generations": 2},
    {"learning_rate": 5e-5},
    {"epsilon": 0.1},
    {"beta": 1e-6},
    {"num_train": 63},
    {"lora": {"r": 8}},
    {"kernels": {"cached_sampler": False}},
    {"dtype": "bfloat16"},
    {"rewards": rewards.FOUR[:1]},
    {"rewards": list(rewards.FOUR)[::-1]},
    {"loss": lambda logps, old_logps, advantages, mask, **settings: -logps * advantages},
    {"loss": lambda logps, old_logps, advantages, mask, **settings: -2 * logps * advantages},
    {"mask_truncated_completions": True},
    {"num_iterations": 2},
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_arms_that_ask_for_the_same_are_equal(one, other):
    assert read(one).asked(0) == read(other).asked(0) == read({}, **other).asked(0)


def test_a_label_tells_no_address_and_ends():
    endless: dict = {}
    endless["a"] = endless

    class Scorer:
        def __call__(self, completions, **columns):
            return [0.0] * len(completions)

    given = {"rewards": [Scorer(), functools.partial(always_one, weight=2)], "generation_kwargs": endless}
    label = arms.label(given)
    assert label.startswith("rewards=Scorer+always_one, generation_kwargs=(a={'a': {'a'") and len(label) < 100


def test_whatever_changes_what_is_learned_makes_another_arm():
    asked = [read({}).asked(0), read({}).asked(1), *(read(given).asked(0) for given in DIFFERENT)]
    for section, key, value in [("task", "digits", 3), ("sft", "max_steps", 3), ("evaluate", "batch_size", 8)]:
        start = small_profile()
        vars(start)[section][key] = value
        asked.append(arms.read({}, {}, start, read({}).rows).asked(0))
    asked.append(arms.read({}, {}, small_profile(), read({}).rows[::-1]).asked(0))
    assert len(set(asked)) == len(asked)


def test_what_is_kept_on_the_disk_depends_on_the_code_too(monkeypatch):
    arm, other = read({}), read({})
    assert arm.key(0) == other.key(0)
    monkeypatch.setattr(arms.fingerprints, "sources", lambda *names: "edited")
    assert arm.asked(0) == other.asked(0) and arm.key(0) != copy.copy(arm).key(1)
    edited = arm.key(0)
    monkeypatch.undo()
    assert edited != arm.key(0)


def test_an_arms_own_setting_comes_before_that_of_all():
    arm = read({"beta": 0.1}, beta=0.2, max_steps=3)
    assert (arm.profile.grpo["beta"], arm.profile.grpo["max_steps"], arm.label) == (0.1, 3, "beta=0.1")


def test_a_coarse_dtype_leaves_what_is_held_to_float32_to_trl():
    off = {"linear_head": False, "shared_prefix": False}
    for given in ({"dtype": "bfloat16"}, {"dtype": "float16"}, {"bf16": True}):
        assert read(given).profile.kernels == small_profile().kernels | off
    assert read({"dtype": "float16", "kernels": {"cached_sampler": False}}).profile.kernels["linear_head"]


# What comes out.
def test_both_arms_start_alike_and_are_measured_alike(result):
    slow, fast = result.outcomes
    for one, other in zip(slow.measured, fast.measured, strict=True):
        assert one.rows[0]["reward"] == other.rows[0]["reward"], "the first batch comes from the warm start"
        assert one.rows[-1]["reward"] != other.rows[-1]["reward"]
        assert [len(shares) for shares in one.shares.values()] == [16, 16, 16]
    assert slow.measured[0].rows[0]["reward"] != slow.measured[1].rows[0]["reward"], "another seed, other samples"
    assert 0 < slow.mean("kl") < fast.mean("kl") and slow.mean("tokens") > 0 and slow.mean("seconds") > 0


def test_a_result_is_shown_in_words_and_as_a_page(result):
    page, words = result._repr_html_(), str(result)
    assert '<img alt="Reward of 2 arms' in page and "<th" in page and "16 held-out prompts" in page
    for said in ("learning_rate=0.01 against", "paired over 2 seeds", "noise"):
        assert said in words and said in page
    assert len(result.table()) == 2 and result.figure("entropy").axes
    with pytest.raises(ValueError, match=r"must have measured bleu \(got none of it\)\. It has sampled"):
        result.outcomes[0].mean("bleu")


def test_a_finished_arm_returns_at_once(bench, result, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing is to be loaded or trained")

    monkeypatch.setattr(train, "grpo_trainer", refuse)
    monkeypatch.setattr(train, "warm_start", refuse)
    again = bench({"rewards": [survival.variety]}, {"rewards": [survival.variety], "learning_rate": 0.01})
    assert [plain(f) for o in again.outcomes for f in o.measured] == [
        plain(f) for o in result.outcomes for f in o.measured
    ]
    assert again.notes == ["4 of 4 runs were trained here before. fresh=True trains them again."]
    with pytest.raises(AssertionError):
        bench({"rewards": [survival.variety]}, seeds=(0,), fresh=True)


def test_equal_arms_are_one(bench, result):
    one = bench({"rewards": [survival.variety]}, {"rewards": [survival.variety], "num_generations": 4})
    assert len(one.outcomes) == 1 and "nothing to compare" in one.verdict
    assert "Arms 1 and 2 are one: rewards=variety and rewards=variety, num_generations=4" in one.notes[0]


def interrupting(completions, **columns) -> list[float]:
    """`survival.variety`, and while the flag is there the interrupt that a reader sends."""
    flag = Path(os.environ[FLAG])
    calls = int(flag.read_text(encoding="utf8")) if flag.exists() else None
    if calls == 3:
        flag.unlink()
        signal.raise_signal(signal.SIGINT)
    elif calls is not None:
        flag.write_text(str(calls + 1), encoding="utf8")
    return survival.variety(completions)


def test_an_interrupted_arm_goes_on_and_ends_as_if_nobody_had(bench, tmp_path, monkeypatch, capsys):
    flag = tmp_path / "flag"
    monkeypatch.setenv(FLAG, str(flag))
    given = {"rewards": [interrupting]}
    arm = arms.read(given, {}, small_profile(), bench(given, seeds=(1,), max_steps=2).outcomes[0].arm.rows)
    flag.write_text(
        "0", encoding="utf8"
    )  # the dry run of preflight counts too, so that the interrupt falls into an early step
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step \d of 6, sealed"):
        bench(given, seeds=(0,))
    assert training.finished(arm, 0) is None and not flag.exists()
    cut = bench(given, seeds=(0,))
    assert re.search(r"Goes on from checkpoint-[1-5] of 6 steps", capsys.readouterr().out)
    whole = bench(given, seeds=(0,), fresh=True)
    (one,), (other,) = cut.outcomes[0].measured, whole.outcomes[0].measured
    assert plain(one) == plain(other) and len(one.rows) == 6
    folder = tracking.outputs_dir() / "ci" / f"lab-{arm.key(0)}"
    assert training.finished(arm, 0) is not None and not (folder / "trainer").exists(), "no checkpoint stays"


def always_one(completions, **columns) -> list[float]:
    return [1.0] * len(completions)


def test_an_arm_that_a_guard_ends_is_a_result(bench):
    found = bench({"rewards": [always_one]}, {"rewards": [survival.variety]}, seeds=(0,))
    assert "rewards=always_one, seed 0, was stopped by a guard: step 3: the reward must differ" in found.verdict
    assert len(found.outcomes[0].measured[0].rows) == 3 and "No verdict: one seed" in found.verdict
    assert "was stopped by a guard" in bench({"rewards": [always_one]}, seeds=(0,)).verdict, "from the disk too"


def test_of_broken_weights_nothing_is_right(tiny):
    policy, tokenizer = tiny
    arm = read({})
    broken = models.add_lora(policy, arm.profile)
    next(parameter for parameter in broken.parameters() if parameter.requires_grad).data[0] = math.nan
    found = training.measure(broken, tokenizer, arm, arm.rows[:3])
    assert found["shares"]["sampled"] == [0.0] * 3 and found["other"]["kl"] == math.inf


def test_names_of_the_readers_functions_are_text(bench):
    def odd(completions, **columns):
        return survival.variety(completions)

    odd.__name__ = "<script>alert(1)</script>"
    result = bench({"rewards": [odd]}, seeds=(0,), max_steps=2, num_iterations=2)
    page = result._repr_html_()
    assert result.outcomes[0].mean("tokens") > 0, "TRL logs them in steps that sample, every second one here"
    assert "<script>" not in page and "&lt;script&gt;" in page


# The record.
def test_a_record_gives_back_what_was_measured_and_only_that(bench, result, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_RECORDS", str(tmp_path))
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "nothing trained"))
    for outcome in result.outcomes:
        for seed, found in zip(result.seeds, outcome.measured, strict=True):
            records.add(tmp_path / records.NAME, outcome.label, outcome.arm.asked(seed), found)
    again = bench({"rewards": [survival.variety]}, {"rewards": [survival.variety], "learning_rate": 0.01})
    assert again.verdict == result.verdict and again.table() == result.table()
    assert "4 of 4 runs are recorded: trained on 20" in again.notes[0] and "fresh=True" in again.notes[0]
    arm = again.outcomes[0].arm
    assert records.find(arm.asked(0)).source == "recorded" and records.find(arm.asked(2)) is None
    for other in ({"learning_rate": 0.04}, {"num_train": 63}, {"rewards": [always_one]}, {"lora": {"r": 8}}):
        given = {"rewards": [survival.variety], **other}
        assert records.find(arms.read(given, {}, small_profile(), arm.rows).asked(0)) is None


def test_a_long_curve_is_kept_as_means(tmp_path):
    rows = [{"step": n, "reward": float(n), "kl": None} for n in range(1, 121)]
    found = training.Measured(
        "trained", rows, 2, {"sampled": [0.5, 1.0]}, {"kl": 0.1}, 9, 1.0, "", "2026-01-01", {}, {}
    )
    records.add(tmp_path / "r.json", "x", "key", found)
    back = records.read(tmp_path / "r.json")["key"]
    assert back.rows[:2] == [{"step": 3, "reward": 2.0}, {"step": 6, "reward": 5.0}] and len(back.rows) == 40
    assert back.shares == found.shares


WHOLE = training.Measured(
    "trained", [{"step": 1, "reward": 0.5}], 2, {key: [0.5, 1.0] for key in ("sampled", "greedy", "format")},
    {"training rows": 0.5, "kl": 0.1}, 9, 1.0, "", "2026-01-01", {"torch": "2", "trl": "1"}, {"processor": "x"},
)  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        {"versions": {}},
        {"machine": None},
        {"date": []},
        {"shares": {}},
        {"shares": {**WHOLE.shares, "greedy": [0.5]}},
        {"shares": {**WHOLE.shares, "greedy": ["a", "b"]}},
        {"shares": dict.fromkeys(WHOLE.shares, [2.0, 0.0])},
        {"shares": dict.fromkeys(WHOLE.shares, [])},
        {"other": {"kl": 0.1}},
        {"other": {"kl": None, "training rows": 1.0}},
        {"rows": [{"step": None, "reward": 1.0}]},
        {"rows": [{"step": 1, "reward": [1.0]}]},
        {"tokens": "many"},
        {"rows": []},
    ],
)
def test_a_part_that_is_lost_is_found_where_it_is_read(tmp_path, monkeypatch, part):
    arm, lost = read({}), dataclasses.replace(WHOLE, **part)
    assert WHOLE.is_whole and not lost.is_whole
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    folder = tmp_path / "ci" / f"lab-{arm.key(0)}"
    folder.mkdir(parents=True)
    for found, is_there in ((WHOLE, True), (lost, False)):
        summary = {key: value for key, value in vars(found).items() if key not in ("rows", "source")}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf8")
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found.rows), encoding="utf8")
        assert (training.finished(arm, 0) is not None) == is_there, "it is trained again"
    monkeypatch.setattr(records, "path", lambda: tmp_path / "summary.json")
    (tmp_path / "summary.json").touch()
    monkeypatch.setattr(records, "_read", lambda *given: {"key": lost})
    with pytest.raises(ValueError, match=r"must be a record of arms \(got an arm, key, .*Restore the file"):
        records.find("key")


ZERO = json.dumps({"schema": 1, "batches": [{"date": "", "versions": {}, "machine": {}, "arms": {"a": {"samples": 0,
    "shares": {"sampled": "1"}, "steps": [], "curves": {}}}}]})  # fmt: skip


@pytest.mark.parametrize(
    "text", [ZERO, "[" * 100_000, "", "[]", "{}", '{"schema": 9, "batches": []}', '{"schema": 1, "batches": [{}]}']
)
def test_a_damaged_record_is_refused_in_words(tmp_path, monkeypatch, text):
    (tmp_path / records.NAME).write_text(text, encoding="utf8")
    monkeypatch.setenv("GRPO_NB_RECORDS", str(tmp_path))
    with pytest.raises(ValueError, match=r"experiments\.json must be a record of arms .*Restore the file"):
        records.find("key")


def test_whole_runs_are_read_where_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_RECORDS", str(tmp_path))
    assert lab.recorded("laptop") == []
    (tmp_path / "laptop.json").write_text('{"runs": [{"seed": 3}]}', encoding="utf8")
    assert lab.recorded("laptop") == [{"seed": 3}]


@pytest.mark.parametrize("text", ["[" * 100_000, "", "[]", "{}", '{"runs": 7}'])
def test_damaged_runs_are_refused_in_words(tmp_path, monkeypatch, text):
    (tmp_path / "laptop.json").write_text(text, encoding="utf8")
    monkeypatch.setenv("GRPO_NB_RECORDS", str(tmp_path))
    with pytest.raises(ValueError, match=r"laptop\.json must be a record of runs .*Restore the file"):
        lab.recorded("laptop")


@pytest.mark.parametrize("record", [experiments.RECORD, laptop.RECORD], ids=lambda path: path.stem)
def test_a_record_of_the_series_is_small_and_tells_no_place(record):
    text = record.read_text(encoding="utf8")
    assert len(text) < 250_000
    assert not re.search(r"[/\\](home|root|work|Users|tmp)[/\\]|[A-Z]:\\", text)


def test_the_records_say_what_they_were_made_of():
    assert {one["name"] for one in lab.recorded("laptop")} <= laptop.RUNS.keys()
    text = experiments.RECORD.read_text(encoding="utf8")
    assert {key for batch in json.loads(text)["batches"] for key in batch["machine"]} == {"processor", "gpu", "threads"}


@pytest.mark.parametrize("name", experiments.GUIDED)
def test_every_guided_experiment_is_recorded(name):
    result = experiments.recorded(*experiments.GUIDED[name])
    assert all(found.source == "recorded" for outcome in result.outcomes for found in outcome.measured)
    assert not result.difference(0, 0).mean and str(len(result.outcomes[0].shares()[0])) in result.verdict


def test_the_record_is_what_the_code_gives(bench):
    (outcome,) = experiments.small(fresh=True).outcomes
    (found,), recorded = outcome.measured, records.read(experiments.RECORD)[outcome.arm.asked(0)]
    assert [row["step"] for row in found.rows] == [row["step"] for row in recorded.rows]
    same = (found.machine, found.versions) == (recorded.machine, recorded.versions)
    near = {"rel": 1e-3 if same else 0.05}  # another processor rounds otherwise, and a sample may fall otherwise
    for row, wanted in zip(found.rows, recorded.rows, strict=True):
        assert row["reward"] == pytest.approx(wanted["reward"], **near)
        assert row["entropy"] == pytest.approx(wanted["entropy"], **near)
    assert found.other["kl"] == pytest.approx(recorded.other["kl"], **near)


# Refusals.
REFUSED = [
    ([], {}, "an experiment must have arms"),
    ([3], {}, r"an arm must be a dict of settings \(got 3\)"),
    ([{1: 2}], {}, "an arm must be a dict of settings"),
    ([{}, {"num_generation": 4}], {}, "arm num_generation=4: .*num_generation → num_generations"),
    ([{}, {"num_generations": 5}], {}, "arm num_generations=5: .*must be a multiple of num_generations"),
    ([{}, {"learning_rate": -1.0}], {}, "arm learning_rate=-1: .*learning_rate"),
    ([{}, {"fp16": True}], {}, "fp16 must be off on a CPU"),
    ([{}, {"max_completion_length": 200}], {}, "arm max_completion_length=200"),
    ([{}, {"seed": 1}], {}, r"an arm must leave out seed .*seeds=\(0, 1\)"),
    ([{}, {"eval_strategy": "steps"}], {}, "an arm must leave out eval_strategy"),
    ([{}, {"output_dir": "x"}], {}, "an arm must leave out output_dir"),
    (
        [{}, {"report_to": "wandb"}],
        {},
        r"an arm must leave out report_to \(got wandb\).*changes nothing that is learned",
    ),
    ([{}, {"push_to_hub": True}], {}, "an arm must leave out push_to_hub"),
    ([{}, {"logging_strategy": "no"}], {}, "an arm must leave out logging_strategy .*the bench shows every step"),
    ([{}, {"learning_rate": torch.tensor([1.0, 2.0])}], {}, "learning_rate must be a number"),
    ([{}, {"generation_kwargs": {1: 2, "a": 3}}], {}, "generation_kwargs must be a dict with text as keys"),
    ([{}, {"lora": {1: 2, "r": 3}}], {}, "must be a field of LoraConfig"),
    ([{}, {"lora": {"target_modules": ["nothing"]}}], {}, r"arm lora=.*: .*not found in the base model"),
    ([{}, {"torch_compile": True}], {}, "arm torch_compile=True: .*uncompiled"),
    ([{}, {"kernels": {"own_loss": "no"}}], {}, r"must hold True or False for each switch \(got {'own_loss': 'no'}\)"),
    ([{}, {"kernels": {1: True, "own_loss": True}}], {}, r"must have switches of KernelGRPOTrainer \(got 1\)"),
    ([{}, {"dtype": torch.zeros(2)}], {}, "dtype must be one of"),
    ([{}, {"dtype": "fp16"}], {}, r"dtype must be one of float32, bfloat16, float16 \(got 'fp16'\)"),
    ([{}, {"num_train": 0}], {}, "num_train must be a whole number of at least 1"),
    ([{}, {"num_train": 65}], {}, r"num_train must be at most the 64 rows of the task \(got 65\)"),
    ([{}, {"rewards": survival.variety}], {}, r"rewards must be a list of functions .*Write \[f\]"),
    ([{}, {"rewards": []}], {}, "arm rewards=: .*reward"),
    ([{}, {"rewards": [lambda completions: [1.0]]}], {}, "arm rewards=<lambda>: "),
    ([{}, {"loss": lambda logps: logps}], {}, r"arm loss=<lambda>: the loss <lambda> must take \(logps, old_logps"),
    ([{}, {"kernels": {"fast": True}}], {}, r"must have switches of KernelGRPOTrainer \(got fast\)"),
    ([{}, {"kernels": True}], {}, "kernels must be a dict of settings"),
    ([{}, {"lora": {"r": 0}}], {}, r"arm lora=\(r=0\): "),
    ([{}], {"seeds": ()}, "seeds must be a list of whole numbers"),
    ([{}], {"seeds": 3}, "seeds must be a list of whole numbers"),
    ([{}], {"seeds": (0, 0)}, r"seeds must differ \(got \[0, 0\]\)\. Try seeds=\(0, 1\)"),
    ([{}], {"seeds": (0, -1)}, "seed must be a whole number of at least 0"),
    ([{}], {"seeds": (0, 2**32)}, r"seed must be below 2\*\*32"),
    ([{}], {"fresh": "no"}, r"fresh must be True or False, .* \(got 'no' and None\)"),
    ([{}], {"say": 3}, "say a function or None"),
    ([{}], {"profile": ["ci"]}, r"profile must be a profile, or its name \(got \['ci'\]\)"),
    ([{}], {"profile": "t4"}, r"must train a small policy.*Try profile='ci'"),
    ([{}], {"profile": "gpu"}, "must be one of ci, cpu, laptop, t4, a100"),
]


@pytest.mark.parametrize(("given", "options", "sentence"), REFUSED)
def test_a_broken_arm_is_refused_before_any_trains(bench, tmp_path, monkeypatch, given, options, sentence):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    with pytest.raises(ValueError, match=sentence):
        bench(*given, **options)
    assert not [*tmp_path.rglob("*.jsonl"), *tmp_path.rglob("*.safetensors")], "not even the warm start"
