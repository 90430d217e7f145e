"""Resumed, refused, interrupted, out of time, finished: what `train.resume_or_start` does and says."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
import torch

from benchmarks import survival
from grpo_nb import data, train
from grpo_nb.runs import callbacks, checkpoints, stopping, tracking
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


def test_another_machine_is_told_not_refused(small_policy, monkeypatch, capsys):
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


def test_a_seal_of_another_schema_is_refused_not_set_aside(small_policy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "SCHEMA", 2)
        trainer, _ = small_runs.trainer_of(small_policy)
        small_runs.die_at(trainer, 5)
    with pytest.raises(ValueError, match="got a seal of schema 2, not 1"):
        train.resume_or_start(small_runs.trainer_of(small_policy)[0])
    assert len(checkpoints.all_checkpoints(Path(trainer.args.output_dir))) == 2


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


def test_a_torn_line_of_the_metrics_is_mended_from_the_checkpoint(small_policy, uninterrupted):
    trainer, run = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)
    run.metrics_path.write_text('{"schema": 1, "st\n' + run.metrics_path.read_text())
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.curve(run) == uninterrupted[1]
    assert (run.folder / "metrics.previous.jsonl").read_text().startswith('{"schema": 1, "st')


def test_sft_goes_on_with_weights_and_token_count(profile, rows, tiny):
    def run_sft(name, stop=None):
        run = tracking.Run(name, profile, mode="off")
        settings = {"max_steps": 6, "save_steps": 2, "num_train_epochs": 2}
        prompts = data.sft_rows(rows[:17], system_prompt="Add.")
        trainer = train.sft_trainer(*tiny, prompts, profile, run=run, **settings)
        small_runs.die_at(trainer, stop) if stop else train.resume_or_start(trainer)
        return trainer, [{k: v for k, v in row.items() if "runtime" not in k} for row in run.rows()]

    whole, lines = run_sft("whole")
    run_sft("cut", stop=5)
    resumed, again = run_sft("cut")
    assert small_runs.same(small_runs.weights(whole), small_runs.weights(resumed)) and lines == again


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
    strange.path.write_text('{"schema": 1, "step": 1, "reward": 99.0}\n')
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


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_no_time_is_refused(minutes, small_policy):
    with pytest.raises(ValueError, match="minutes must be a time above 0"):
        train.resume_or_start(small_runs.trainer_of(small_policy)[0], minutes=minutes)


def test_interrupts_are_left_alone_outside_the_main_thread():
    seen = []

    def elsewhere():
        with stopping.Stopper().catching_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_every_listener_hears_of_an_exception(small_policy):
    heard = []

    class Hears(callbacks.Callback):
        def on_stop(self, error):
            heard.append(type(error))

    trainer, _ = small_runs.trainer_of(small_policy)
    trainer.add_callback(Hears())
    small_runs.die_at(trainer, 3)
    assert heard == [small_runs.Kill]
