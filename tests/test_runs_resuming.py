"""Resumed, refused, interrupted, out of time, finished: what `train.resume_or_start` does and says."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import filelock
import pytest
import torch

import grpo_nb
from benchmarks import survival
from grpo_nb import data, train
from grpo_nb.runs import callbacks, checkpoints, files, fingerprints, resuming, stopping, tracking
from tests import small_runs


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def longer(reward):
    def paid(completions, **columns):
        return [float(len(str(completion))) for completion in completions]

    paid.__name__ = reward.__name__
    return paid


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 1e-4}, "setting learning_rate: 0.0005 → 0.0001"),
        ({"max_steps": 7}, "setting max_steps: 6 → 7"),
        ({"seed": 1}, "setting seed: 0 → 1"),
        ({"beta": 0.1}, "setting beta: 0.0 → 0.1"),
    ],
)
def test_a_cut_run_with_other_settings_is_refused_and_the_difference_named(changes, named, small_policy):
    small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
    trainer, _ = small_runs.trainer_of(small_policy, **changes)
    with pytest.raises(ValueError) as error:
        train.resume_or_start(trainer)
    assert named in str(error.value) and "start anew with train.resume_or_start(trainer, fresh=True)" in str(
        error.value
    )
    assert "checkpoint-4" in str(error.value) and trainer.state.global_step == 0


def test_other_rows_or_rewards_or_libraries_are_refused_too(small_policy, monkeypatch):
    small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
    model, tokenizer, rows = small_policy
    with pytest.raises(ValueError, match="data set rows: 64 → 63"):
        train.resume_or_start(small_runs.trainer_of((model, tokenizer, rows[:-1]))[0])
    with pytest.raises(ValueError, match="code of reward 1. variety"):
        train.resume_or_start(small_runs.trainer_of(small_policy, reward=longer(survival.variety))[0])
    with monkeypatch.context() as patch:
        patch.setattr("grpo_nb.runs.fingerprints.version", lambda name: "9.9")
        with pytest.raises(ValueError, match="version torch: .* → 9.9"):
            train.resume_or_start(small_runs.trainer_of(small_policy)[0])


def test_another_loss_of_ones_own_is_refused(small_policy):
    def weighted(by):
        return lambda logps, old_logps, advantages, mask, **settings: -by * logps * advantages

    small_runs.die_at(small_runs.trainer_of(small_policy, loss=weighted(1))[0], 5)
    for other in (weighted(2), None):
        with pytest.raises(ValueError, match=r"steps, changed: code of loss <lambda>.*\. Restore that"):
            train.resume_or_start(small_runs.trainer_of(small_policy, loss=other)[0])
    train.resume_or_start(small_runs.trainer_of(small_policy, loss=weighted(1))[0])


def test_another_machine_is_named_not_refused(small_policy, monkeypatch, capsys):
    small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
    monkeypatch.setattr(
        "grpo_nb.runs.fingerprints.machine", lambda: {"processor": "abacus", "gpu": "none", "threads": 1}
    )
    train.resume_or_start(small_runs.trainer_of(small_policy)[0])
    said = capsys.readouterr().out
    assert "Goes on from checkpoint-4 of 6 steps, on another machine (processor: " in said


def test_it_goes_on_with_the_threads_with_which_it_began(small_policy, capsys):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
    torch.set_num_threads(2)
    try:
        train.resume_or_start(small_runs.trainer_of(small_policy)[0])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert "Goes on from checkpoint-4 of 6 steps.\n" in capsys.readouterr().out


def test_saying_where_it_goes_on_changes_nothing(monkeypatch):
    """The number of threads is set by a function of its own, where this machine has as many."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    machine = {**fingerprints.machine(), "threads": 2 if before == 1 else 1}
    try:
        resuming.goes_on(Path("checkpoint-4"), {"max_steps": 6, "machine": machine})
        assert torch.get_num_threads() == before
        resuming.set_threads(machine)
        assert torch.get_num_threads() == machine["threads"]
        resuming.set_threads({"threads": 3})
        assert torch.get_num_threads() == machine["threads"]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("schema", "version"), [(2, "9.0.0"), (0, "0.0.9")])
def test_a_seal_of_another_schema_is_refused_not_set_aside(schema, version, small_policy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SCHEMA", schema)
        patch.setattr("grpo_nb.runs.fingerprints.__version__", version)
        trainer, _ = small_runs.trainer_of(small_policy)
        small_runs.die_at(trainer, 5)
    written = rf"\(got schema {schema}, written by grpo_nb {version}; this is grpo_nb {grpo_nb.__version__}\)"
    sentence = rf"{written}\. Install grpo_nb {version} to go on, or start anew with train\.resume_or_start"
    with pytest.raises(ValueError, match=sentence):
        train.resume_or_start(small_runs.trainer_of(small_policy)[0])
    assert len(checkpoints.all_checkpoints(Path(trainer.args.output_dir))) == 2


def seal_as_0_1_0_did(folder: Path, *, max_steps: int) -> None:
    """The seal that grpo_nb 0.1.0 wrote into a checkpoint, by hand: neither code nor rewards are today's."""
    files = sorted(path for path in folder.iterdir() if path.name != "seal.json")
    content = {
        "schema": 1,
        "step": int(folder.name.removeprefix("checkpoint-")),
        "max_steps": max_steps,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in files
        },
        "fingerprint": {
            "setting": {"learning_rate": 0.0005, "max_steps": max_steps},
            "code of reward": {"1. variety": "0123456789abcdef"},
            "version": {"python": "3.11.15", "grpo_nb": "0.1.0", "trl": "1.14.2"},
            "switch": {"linear_head": True},
        },
        "machine": {"processor": "x86_64 AVX512", "gpu": "none", "threads": 1},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / "seal.json").write_text(json.dumps({**content, "sha256": digest}, indent=1), encoding="utf8")


@pytest.fixture
def by_0_1_0(small_policy):
    """The folder of a run's checkpoints 2 and 4, with seals of grpo_nb 0.1.0: folder(max_steps)."""
    trainer, _ = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)

    def folder(max_steps: int) -> Path:
        for checkpoint in checkpoints.all_checkpoints(Path(trainer.args.output_dir)):
            seal_as_0_1_0_did(checkpoint, max_steps=max_steps)
        return Path(trainer.args.output_dir)

    return folder


def test_a_run_that_an_older_version_began_is_refused_in_one_sentence(small_policy, uninterrupted, by_0_1_0):
    folder = by_0_1_0(max_steps=6)
    trainer, run = small_runs.trainer_of(small_policy)
    with pytest.raises(ValueError) as error:
        train.resume_or_start(trainer)
    assert str(error.value) == (
        "a run must be finished by the version of grpo_nb that began it (got checkpoint-4 of 6 steps, written by "
        f"grpo_nb 0.1.0; this is grpo_nb {grpo_nb.__version__}). Install grpo_nb 0.1.0 to go on, or start anew with "
        "train.resume_or_start(trainer, fresh=True)."
    )
    assert [path.name for path in checkpoints.all_checkpoints(folder)] == ["checkpoint-2", "checkpoint-4"]
    train.resume_or_start(trainer, fresh=True)
    assert small_runs.curve(run) == uninterrupted[1]


def test_a_run_that_an_older_version_finished_makes_room_and_is_kept(small_policy, uninterrupted, by_0_1_0, capsys):
    folder = by_0_1_0(max_steps=4)
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert (
        f"Changed since the finished run (version grpo_nb: 0.1.0 → {grpo_nb.__version__}): it is kept as "
        "trainer.previous, a new one starts." in capsys.readouterr().out
    )
    assert (folder.with_name("trainer.previous") / "checkpoint-4" / "seal.json").exists()
    assert small_runs.curve(run) == uninterrupted[1]


def test_metrics_of_an_older_version_are_read(tmp_path):
    """Lines of a run of grpo_nb 0.1.0, cut short."""
    lines = (
        '{"schema": 1, "step": 1, "loss": 0.5, "kl": null}\n{"schema": 1, "step": 2, "loss": 0.25}\n{"schema": 1, "st'
    )
    (tmp_path / "metrics.jsonl").write_text(lines, encoding="utf8")
    assert tracking.read_jsonl(tmp_path / "metrics.jsonl") == [
        {"step": 1, "loss": 0.5, "kl": None},
        {"step": 2, "loss": 0.25},
    ]


HOLDER = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]): print(1, flush=True); time.sleep(60)"


def test_a_run_that_is_training_elsewhere_is_left_alone_until_that_is_killed(small_policy):
    trainer, run = small_runs.trainer_of(small_policy)
    lock = trainer.args.output_dir + ".lock"
    refused = "must have one trainer at a time .* give this run another name.$"
    with filelock.FileLock(lock), pytest.raises(ValueError, match=refused):
        train.resume_or_start(trainer)
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=refused):
            train.resume_or_start(trainer)
        assert run.rows() == []
        other.kill()
    train.resume_or_start(trainer)
    assert len(run.rows()) == 6


def test_logged_completions_survive_a_fresh_start(small_policy):
    """TRL makes their folder when the trainer is made, inside the folder of the checkpoints."""
    small_runs.die_at(small_runs.trainer_of(small_policy, log_completions=True)[0], 5)
    trainer, run = small_runs.trainer_of(small_policy, log_completions=True)
    train.resume_or_start(trainer, fresh=True)
    assert len(run.rows()) == 6 and list(Path(trainer.args.output_dir).glob("completions/*.parquet"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_iterations": 4}, "save_steps must be a multiple of 4"),
        ({"save_only_model": True}, "save_only_model must be False"),
    ],
)
def test_what_could_not_be_resumed_is_refused_before_a_model_is_touched(changes, sentence, small_policy, monkeypatch):
    monkeypatch.setattr("grpo_nb.models.add_lora", lambda *args, **kwargs: pytest.fail("a model was touched"))
    with pytest.raises(ValueError, match=sentence):
        small_runs.trainer_of(small_policy, **changes)


def test_a_changed_setting_after_the_trainer_was_made_is_seen(small_policy):
    small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
    trainer, _ = small_runs.trainer_of(small_policy)
    trainer.args.learning_rate = 1e-4
    with pytest.raises(ValueError, match="setting learning_rate: 0.0005 → 0.0001"):
        train.resume_or_start(trainer)


def test_a_changed_save_steps_is_judged_by_the_trainers_own_epoch(small_policy):
    """16 rounds of 4 micro-steps, 5 an update: 13 updates an epoch, a generation of 4; preflight counts the same."""
    changes = {"gradient_accumulation_steps": 5, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 20}
    sentence = (
        r"\(got save_steps = 4, and step 16 is none: an epoch has 13 steps, a generation 4\)\. Try save_steps = 12"
    )
    with pytest.raises(ValueError, match=sentence):
        small_runs.trainer_of(small_policy, **changes, save_steps=4)
    trainer, _ = small_runs.trainer_of(small_policy, **changes, save_steps=20)
    trainer.args.save_steps = 4
    with pytest.raises(ValueError, match=sentence):
        train.resume_or_start(trainer)
    assert trainer.state.global_step == 0


def test_a_torn_line_of_the_metrics_is_mended_from_the_checkpoint(small_policy, uninterrupted):
    trainer, run = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)
    run.metrics_path.write_text('{"schema": 1, "st\n' + run.metrics_path.read_text(encoding="utf8"), encoding="utf8")
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.curve(run) == uninterrupted[1]
    assert (run.folder / "metrics.previous.jsonl").read_text(encoding="utf8").startswith('{"schema": 1, "st')


def test_sft_goes_on_with_weights_and_token_count(profile, rows, tiny):
    """The run that is cut evaluates too, after every second step: nothing but that is different."""
    held_out = data.sft_rows(rows[20:22], system_prompt="Add.")
    evaluating = {"held_out": held_out, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}

    def run_sft(name, stop=None, **more):
        run = tracking.Run(name, profile, mode="off")
        settings = {"max_steps": 6, "save_steps": 2}
        prompts = data.sft_rows(rows[:17], system_prompt="Add.")
        trainer = train.sft_trainer(*tiny, prompts, profile, run=run, **settings, **more)
        small_runs.die_at(trainer, stop) if stop else train.resume_or_start(trainer)
        return trainer, [{k: v for k, v in row.items() if "runtime" not in k} for row in run.rows()]

    whole, lines = run_sft("whole")
    run_sft("cut", stop=5, **evaluating)
    resumed, again = run_sft("cut", **evaluating)
    assert small_runs.same(small_runs.weights(whole), small_runs.weights(resumed))
    assert [row for row in again if "loss" in row] == lines
    assert [row["step"] for row in again if "eval_loss" in row] == [2, 4, 6]


class Dies(callbacks.Callback):
    """Breaks off in the middle of the evaluation after step 4, once it has been logged."""

    def on_evaluate(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise small_runs.Kill


def evaluated(small_policy, **changes):
    """A trainer that evaluates before its first step and after every second, on two held-out rows."""
    settings = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "per_device_eval_batch_size": 4}
    held_out = data.grpo_rows(data.addition(num_train=2, num_held_out=0, digits=3)[0], system_prompt="Add.")
    return small_runs.trainer_of(small_policy, held_out=held_out, **settings | changes)


def test_an_evaluation_changes_no_bit_of_the_training_and_none_is_lost_or_doubled(small_policy, uninterrupted, capsys):
    """A checkpoint after step 2 holds two evaluations; the one after step 4 is cut, and held again."""
    trainer, run = evaluated(small_policy)
    assert "Evaluates 4 times on 8 completions of held-out rows, at most 64 tokens: 40 % of" in capsys.readouterr().out
    train.resume_or_start(trainer)
    whole = small_runs.curve(run)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0])
    assert [row for row in whole if "loss" in row] == uninterrupted[1]
    evaluations, names = [row for row in whole if "loss" not in row], {"eval_loss", "eval_rewards/variety/mean"}
    assert [row["step"] for row in evaluations] == [0, 2, 4, 6]
    assert all({"eval_reward", "eval_entropy", *names} <= row.keys() for row in evaluations)
    trainer, _ = evaluated(small_policy)
    trainer.add_callback(Dies())
    with pytest.raises(small_runs.Kill):
        train.resume_or_start(trainer, fresh=True)
    for _ in ("goes on from checkpoint-2", "is finished: loaded"):
        trainer, run = evaluated(small_policy)
        train.resume_or_start(trainer)
        assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == whole
        assert trainer.args.eval_on_start


@pytest.mark.parametrize("changes", [{"is_trls_own": True}, {"num_iterations": 2, "gradient_accumulation_steps": 2}])
def test_evaluations_and_what_is_shown_disturb_no_other_trainer_either(changes, small_policy, outputs, capsys):
    """TRL's own; and evaluations in the middle of a generation, in none of TRL's tables of completions."""
    ends = []
    for make, more in (
        (small_runs.trainer_of, {}),
        (evaluated, {"show_every": 2, "log_completions": True, "eval_on_start": False, "eval_steps": 1}),
    ):
        trainer, run = make(small_policy, max_steps=4, **changes, **more)
        train.resume_or_start(trainer, fresh=True)
        curve = [row for row in small_runs.curve(run) if "loss" in row]
        ends.append((small_runs.weights(trainer), curve))
    assert small_runs.same(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]
    said = capsys.readouterr().out
    assert re.findall(r"^step (\d) · question 'What is \d\d\+\d\d\?' · answer '\d+'$", said, re.MULTILINE) == ["2", "4"]
    assert len(re.findall(r"^  rewards \d+ · extracted .* · response .*$", said, re.MULTILINE)) == 4
    tables = map(str, Path(trainer.args.output_dir).glob("completions/*.parquet"))
    logged = datasets.Dataset.from_parquet([*tables], cache_dir=str(outputs))
    assert {*logged["step"]} == {1, 2, 3, 4} and all(re.search(r"What is \d\d\+\d\d\?", p) for p in logged["prompt"])


def test_without_checkpoints_a_run_begins_anew_and_an_interrupt_is_sealed_all_the_same(small_policy, uninterrupted):
    trainer, run = small_runs.trainer_of(small_policy, save_strategy="no")
    train.resume_or_start(trainer, minutes=1e-9)
    assert trainer.state.global_step == 1
    trainer, run = small_runs.trainer_of(small_policy, save_strategy="no")
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]
    assert [path.name for path in checkpoints.all_checkpoints(Path(trainer.args.output_dir))] == ["checkpoint-1"]


def test_fresh_keeps_what_was_there(small_policy, uninterrupted, outputs):
    small_runs.die_at(small_runs.trainer_of(small_policy, learning_rate=1e-4)[0], 5)
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer, fresh=True)
    assert small_runs.curve(run) == uninterrupted[1]
    assert (Path(trainer.args.output_dir + ".previous") / "checkpoint-4").is_dir()
    assert [row["step"] for row in tracking.read_jsonl(run.folder / "metrics.previous.jsonl")] == [1, 2, 3, 4, 5]


def test_a_finished_run_is_loaded_not_trained_again(small_policy, uninterrupted, capsys):
    first, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(first)
    run.save_summary({"after": 1})
    trainer, run = small_runs.trainer_of(small_policy)
    trainer.add_callback(small_runs.Steps(steps := []))
    result = train.resume_or_start(trainer)
    assert steps == [] and result.global_step == trainer.state.global_step == 6
    assert "Nothing was trained: " in (said := capsys.readouterr().out) and "Step 6 of 6 is loaded" in said
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]
    assert (run.folder / "summary.json").exists()


def test_a_finished_run_with_other_settings_makes_room(small_policy, capsys):
    train.resume_or_start(small_runs.trainer_of(small_policy)[0])
    trainer, run = small_runs.trainer_of(small_policy, learning_rate=1e-4)
    trainer.add_callback(small_runs.Steps(steps := []))
    train.resume_or_start(trainer)
    assert steps == [1, 2, 3, 4, 5, 6] and len(run.rows()) == 6
    assert "Changed since the finished run (setting learning_rate: 0.0005 → 0.0001)" in capsys.readouterr().out


def test_a_finished_run_with_a_reference_adapter_is_loaded_whole(small_policy):
    """transformers alone would load the reference adapter only, and leave the trained one at zero."""
    first, _ = small_runs.trainer_of(small_policy, beta=0.1)
    train.resume_or_start(first)
    second, _ = small_runs.trainer_of(small_policy, beta=0.1)
    assert not small_runs.same(small_runs.weights(first), small_runs.weights(second))
    train.resume_or_start(second)
    assert small_runs.same(small_runs.weights(first), small_runs.weights(second))


def test_another_runs_metrics_are_not_mixed_in(small_policy, uninterrupted):
    trainer, run = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)
    strange = tracking.JsonlWriter(run.metrics_path)
    strange.path.write_text('{"schema": 1, "step": 1, "reward": 99.0}\n', encoding="utf8")
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.curve(run) == uninterrupted[1]
    assert tracking.read_jsonl(run.folder / "metrics.previous.jsonl") == [{"step": 1, "reward": 99.0}]


def test_a_trainer_that_broke_off_or_is_through_is_not_used_again(small_policy):
    trainer, _ = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)
    with pytest.raises(ValueError, match="got one that broke off within a step.*Make a new one"):
        train.resume_or_start(trainer)
    trainer, _ = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    with pytest.raises(ValueError, match="got one that has trained already"):
        train.resume_or_start(trainer, fresh=True)


class InterruptsAt(callbacks.Callback):
    """Sends this process the interrupt that Jupyter's stop button sends, in the middle of a step."""

    def __init__(self, step: int, times: int = 1):
        self.step, self.times = step, times

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_an_interrupt_seals_the_step_and_the_next_call_goes_on(step, small_policy, uninterrupted):
    trainer, run = small_runs.trainer_of(small_policy)
    trainer.add_callback(InterruptsAt(step))
    with pytest.raises(KeyboardInterrupt, match=f"after step {step} of 6, sealed: run the cell again"):
        train.resume_or_start(trainer)
    newest, seal = checkpoints.newest(Path(trainer.args.output_dir))
    assert seal["step"] == step and [row["step"] for row in run.rows()] == list(range(1, step + 1))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train.resume_or_start(trainer)  # the same trainer, as in a cell that is run again
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


def test_with_two_passes_it_is_sealed_at_the_end_of_the_generation(small_policy):
    trainer, run = small_runs.trainer_of(small_policy, num_iterations=2)
    trainer.add_callback(InterruptsAt(3))
    with pytest.raises(KeyboardInterrupt, match="after step 4 of 6"):
        train.resume_or_start(trainer)


def test_a_second_interrupt_ends_at_once_and_the_last_seal_stands(small_policy, uninterrupted):
    trainer, _ = small_runs.trainer_of(small_policy)
    trainer.add_callback(InterruptsAt(4, times=2))
    with pytest.raises(KeyboardInterrupt):
        train.resume_or_start(trainer)
    assert [path.name for path in checkpoints.all_checkpoints(Path(trainer.args.output_dir))] == ["checkpoint-2"]
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


def test_out_of_time_it_stops_at_a_seal_and_goes_on_later(small_policy, uninterrupted, capsys):
    """A millionth of a minute is over after one step: six calls for six steps, the last one finishes."""
    for step in range(1, 7):
        trainer, run = small_runs.trainer_of(small_policy)
        train.resume_or_start(trainer, minutes=1e-6)
        assert trainer.state.global_step == step
    said = capsys.readouterr().out
    assert said.count("Time is up") == 5 and "stopped after step 5 of 6, sealed" in said
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "5", "", True, [5], 5j])
def test_no_time_is_refused(minutes):
    with pytest.raises(ValueError, match="minutes must be a time above 0"):
        stopping.Stopper(minutes)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"minutes": "5"}, r"minutes must be a time above 0, or None for no limit \(got '5'\). Try minutes=30"),
        ({"fresh": "no"}, r"fresh must be True or False \(got 'no'\)"),  # what is there would be set aside
    ],
)
def test_text_for_a_number_or_a_switch_is_refused_before_a_step(given, sentence, small_policy):
    trainer, _ = small_runs.trainer_of(small_policy)
    with pytest.raises(ValueError, match=sentence):
        train.resume_or_start(trainer, **given)
    assert trainer.state.global_step == 0


def test_interrupts_are_left_alone_outside_the_main_thread():
    seen = []

    def elsewhere():
        with stopping.Stopper().catching_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_every_callback_learns_of_an_exception(small_policy):
    noted = []

    class Notes(callbacks.Callback):
        def on_stop(self, error):
            noted.append(type(error))

    trainer, _ = small_runs.trainer_of(small_policy)
    trainer.add_callback(Notes())
    small_runs.die_at(trainer, 3)
    assert noted == [small_runs.Kill]


def test_on_a_drive_without_locks_that_does_not_sync_a_run_survives(
    small_policy, uninterrupted, disk_without_locks, monkeypatch
):
    disk_without_locks(errno.EOPNOTSUPP)

    def not_offered(handle):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", not_offered)
    files._warn_of.cache_clear()
    with pytest.warns(UserWarning) as said:
        small_runs.die_at(small_runs.trainer_of(small_policy)[0], 5)
        trainer, run = small_runs.trainer_of(small_policy)
        train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]
    texts = [str(warning.message) for warning in said]
    assert (
        sum("does not say when" in text for text in texts) == 1 and sum("has no locks" in text for text in texts) == 2
    )
