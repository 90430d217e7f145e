"""The JSONL file is complete whatever the tracker does."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from grpo_nb import export, train
from grpo_nb.runs import tracking
from tests import small_runs

START = SimpleNamespace(global_step=0, is_world_process_zero=True, log_history=[])
STEP = SimpleNamespace(global_step=7, max_steps=10, is_world_process_zero=True)


def test_every_line_is_on_disk_when_its_step_ends(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.on_train_begin(None, START, None)
    writer.on_log(None, STEP, None, logs={"reward": 1.5})
    assert tracking.read_jsonl(writer.path) == [{"step": 7, "reward": 1.5}]
    writer.on_log(None, STEP, None, logs={"reward": float("nan"), "loss": float("inf"), "kl": None})
    assert tracking.read_jsonl(writer.path)[1] == {"step": 7, "reward": None, "loss": None, "kl": None}
    writer.on_log(None, STEP, None, logs={"train_runtime": 3.0})
    assert len(tracking.read_jsonl(writer.path)) == 2


def test_a_second_start_keeps_the_first_run(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    for reward in (1.0, 2.0):
        (tmp_path / "summary.json").write_text("{}")
        writer.on_train_begin(None, START, None)
        writer.on_log(None, STEP, None, logs={"reward": reward})
    assert not (tmp_path / "summary.json").exists()
    assert tracking.read_jsonl(tmp_path / "metrics.previous.jsonl") == [{"step": 7, "reward": 1.0}]
    assert [row["reward"] for row in tracking.read_jsonl(writer.path)] == [2.0]


def test_a_resumed_run_takes_again_what_came_after_its_checkpoint(tmp_path):
    """Steps 1 to 3 were logged, the checkpoint is of step 2: line 3 goes, and comes back with the step."""
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.on_train_begin(None, START, None)
    log = [{"reward": float("nan"), "step": 1}, {"reward": 2.0, "step": 2}, {"reward": 3.0, "step": 3}]
    for entry in log:
        state = SimpleNamespace(global_step=entry["step"], is_world_process_zero=True)
        writer.on_log(None, state, None, logs={"reward": entry["reward"]})
    resumed = SimpleNamespace(global_step=2, is_world_process_zero=True, log_history=log[:2])
    writer.on_train_begin(None, resumed, None)
    assert tracking.read_jsonl(writer.path) == [{"step": 1, "reward": None}, {"step": 2, "reward": 2.0}]
    assert not (tmp_path / "metrics.previous.jsonl").exists()


def test_a_line_carries_its_schema_and_a_newer_one_is_refused(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.on_log(None, STEP, None, logs={"reward": 1.0})
    assert json.loads(writer.path.read_text()) == {"schema": 1, "step": 7, "reward": 1.0}
    writer.path.write_text('{"schema": 2, "step": 1}\n')
    with pytest.raises(ValueError, match=r"must be of schema 1 or older \(got schema 2\)"):
        tracking.read_jsonl(writer.path)


def test_another_process_writes_nothing(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.on_log(None, SimpleNamespace(global_step=7, is_world_process_zero=False), None, logs={"reward": 1.0})
    assert not writer.path.exists()


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "rew')
    assert tracking.read_jsonl(path) == [{"step": 1}]
    assert tracking.read_jsonl(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "a b", "..", "x\n"])
def test_a_name_that_is_no_folder_name_is_refused(profile, name):
    with pytest.raises(ValueError, match="a run's name must be"):
        tracking.Run(name, profile)


def test_an_unknown_mode_is_refused(profile):
    with pytest.raises(ValueError, match=r"one of off, offline, online \(got 'cloud'\)"):
        tracking.Run("grpo", profile, mode="cloud")


def test_importing_tracking_imports_no_tracker():
    code = (
        "import sys; from grpo_nb.runs import tracking; print('swanlab' in sys.modules, 'transformers' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["False", "False"]


def test_summary_is_json_beside_the_metrics(profile):
    run = tracking.Run("grpo", profile)
    assert json.loads(run.save_summary({"before": {"greedy": 0.5}}).read_text()) == {"before": {"greedy": 0.5}}
    assert run.metrics_path.parent == run.folder


def test_no_byte_that_a_run_writes_holds_a_secret(small_policy, tmp_path, monkeypatch):
    """Metrics, checkpoints with their pickled arguments, seals, adapter and summary of one run."""
    secret = "canary-3f9a"
    for name in ("HF_TOKEN", "SWANLAB_API_KEY", "WANDB_API_KEY", "OPENAI_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, f"{name}-{secret}")
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    run.save_summary({"after": {}})
    export.save_adapter(trainer.model, trainer.processing_class, run.folder / "adapter")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"metrics.jsonl", "training_args.bin", "seal.json", "adapter_model.safetensors"} <= {p.name for p in written}
    assert not [path.name for path in written if secret.encode() in path.read_bytes()]
