"""The JSONL file is complete whatever the tracker does."""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
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
        (tmp_path / "summary.json").write_text("{}", encoding="utf8")
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
    assert json.loads(writer.path.read_text(encoding="utf8")) == {"schema": 1, "step": 7, "reward": 1.0}
    writer.path.write_text('{"schema": 2, "step": 1}\n', encoding="utf8")
    with pytest.raises(ValueError, match=r"must be of schema 1 or older \(got schema 2\)"):
        tracking.read_jsonl(writer.path)


def test_another_process_writes_nothing(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.on_log(None, SimpleNamespace(global_step=7, is_world_process_zero=False), None, logs={"reward": 1.0})
    assert not writer.path.exists()


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "rew', encoding="utf8")
    assert tracking.read_jsonl(path) == [{"step": 1}]
    assert tracking.read_jsonl(tmp_path / "absent.jsonl") == []


FOREIGN = (
    "oops",
    "[1]",
    "1",
    '"step"',
    "null",
    '{"reward": 1}',
    '{"step": "1"}',
    '{"step": null}',
    '{"step": 1.5}',
    '{"step": [1]}',
    '{"step": true}',
    '{"step": 1, "schema": "2"}',
    '{"step": 1',
    "[" * 99999,
)


@pytest.mark.parametrize("line", FOREIGN, ids=range(len(FOREIGN)))
def test_a_line_that_no_run_wrote_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n\n{line}\n{{"step": 2}}\n', encoding="utf8")
    with pytest.raises(ValueError, match=r"line 3 of .*metrics.jsonl must be a JSON object .*\. Delete that line, or"):
        tracking.read_jsonl(path)
    path.write_text('{"step": 1}\n\n{"step": 2}\n', encoding="utf-8-sig")  # as it was told, in Windows' editor
    assert tracking.read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_metrics_that_are_no_text_are_named_and_a_new_run_sets_them_aside(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    writer.path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl must be a file of JSON lines \(got UnicodeDecodeError"):
        tracking.read_jsonl(writer.path)
    writer.on_train_begin(None, START, None)
    assert (tmp_path / "metrics.previous.jsonl").read_bytes() == b"\xff\xfe\n" and tracking.read_jsonl(
        writer.path
    ) == []


def test_a_folder_where_the_metrics_go_is_refused_before_a_model_loads(profile):
    tracking.Run("grpo", profile).metrics_path.mkdir()
    with pytest.raises(ValueError, match=r"metrics.jsonl must be a file of JSON lines \(got .*Error: .*Move it away"):
        tracking.Run("grpo", profile)


NO_NAMES = (
    *("../escape", "a/b", "a\\b", "", "a b", "..", ".", "x\n", "a:b", "a?", "a<b", "a*", "a[1]", "~", "$HOME", "a\0"),
    *("CON", "nul", "aux.txt", "Com1", "COM¹", "lpt9.a.b", "run.", "\udcff", "x" * 101, "用" * 34, 5, None, b"run"),
)


@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
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
    assert json.loads(run.save_summary({"before": {"greedy": 0.5}}).read_text(encoding="utf8")) == {
        "before": {"greedy": 0.5}
    }
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


@pytest.mark.parametrize("name", ["grpo-seed0", "用户", "Müller_2", "v1.2", "console", "com", "nullable", "x" * 100])
def test_a_name_that_is_a_folders_everywhere_is_taken(name, profile):
    assert tracking.Run(name, profile).folder.is_dir()


def test_two_names_of_one_folder_are_refused(profile, monkeypatch):
    """As on macOS and Windows, where GRPO and grpo are the same folder."""
    tracking.Run("GRPO", profile)
    make = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda self, **given: make(self.with_name(self.name.upper()), **given))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: io.BytesIO())
    with pytest.raises(ValueError, match=r"more than upper case \(got 'grpo' beside 'GRPO'\). Try 'grpo-2'"):
        tracking.Run("grpo", profile)


def test_a_run_stays_where_it_was_named(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", "outputs")
    monkeypatch.chdir(tmp_path)
    run = tracking.Run("grpo", profile)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    run.save_summary({})
    assert (tmp_path / "outputs" / "ci" / "grpo" / "summary.json").exists()


def test_a_run_trains_resumes_and_exports_below_any_folder(small_policy, uninterrupted, tmp_path, monkeypatch):
    odd = "用户 Müller's 100% #1 [a]{b}~"
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / odd))
    trainer, _ = small_runs.trainer_of(small_policy)
    small_runs.die_at(trainer, 5)
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]
    export.verify_adapter(export.save_adapter(trainer.model, trainer.processing_class, run.folder / "adapter"))
