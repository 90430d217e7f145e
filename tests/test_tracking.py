"""The JSONL file is complete whatever the tracker does."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from grpo_nb import credentials, dashboards, data, rewards, tracking, train

START = SimpleNamespace(global_step=0, is_world_process_zero=True)
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


def test_a_second_start_keeps_the_first_run_and_a_resumed_one_goes_on(tmp_path):
    writer = tracking.JsonlWriter(tmp_path / "metrics.jsonl")
    for reward in (1.0, 2.0):
        (tmp_path / "summary.json").write_text("{}")
        writer.on_train_begin(None, START, None)
        writer.on_log(None, STEP, None, logs={"reward": reward})
    assert not (tmp_path / "summary.json").exists()
    assert tracking.read_jsonl(tmp_path / "metrics.previous.jsonl") == [{"step": 7, "reward": 1.0}]
    writer.on_train_begin(None, STEP, None)  # resumed after step 7
    writer.on_log(None, STEP, None, logs={"reward": 3.0})
    assert [row["reward"] for row in tracking.read_jsonl(writer.path)] == [2.0, 3.0]


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


def test_a_guest_that_raises_is_shown_the_door_once(capsys):
    calls = []

    class Rude:
        def on_log(self, *args, **kwargs):
            calls.append("log")
            raise ConnectionError("the tracker's server is gone")

        def on_train_end(self, *args, **kwargs):
            calls.append("end")

    guest = dashboards.Guest(Rude())
    for _ in range(3):
        guest.on_log(None, STEP, None, logs={})
    guest.on_step_end(None, STEP, None)  # an event that the guest does not know
    guest.on_train_end(None, STEP, None)
    assert calls == ["log"]
    assert capsys.readouterr().out.count("SwanLab stopped (ConnectionError)") == 1


def test_secrets_come_from_the_environment_first(monkeypatch):
    monkeypatch.setenv("GRPO_NB_TEST_SECRET", "s3cret")
    assert credentials.secret("GRPO_NB_TEST_SECRET") == "s3cret"
    assert credentials.secret("GRPO_NB_NO_SUCH_SECRET") is None


def test_colabs_store_is_asked_and_its_refusal_survived(monkeypatch):
    def get(name):
        if name == "THERE":
            return "from colab"
        raise PermissionError(name)  # stands for NotebookAccessError, SecretNotFoundError, TimeoutException

    colab = SimpleNamespace(userdata=SimpleNamespace(get=get))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google", SimpleNamespace(colab=colab))
    assert credentials.secret("THERE") == "from colab"
    assert credentials.secret("NOT_THERE") is None


def run_grpo(profile, rows, tiny, mode):
    run = tracking.Run(f"grpo-{mode}", profile, mode=mode)
    prompts = data.grpo_rows(rows, system_prompt="Show your work.")
    trainer = train.grpo_trainer(*tiny, prompts, [rewards.check_answer], profile, callbacks=run.callbacks())
    trainer.train()
    return [{k: v for k, v in row.items() if k != "step_time"} for row in run.rows()], run


def fresh(profile, rows):
    from grpo_nb import models

    return models.load_policy(profile, rows)


def test_same_jsonl_with_and_without_swanlab(profile, rows, monkeypatch, capsys):
    """Off, offline, online without a key, and without the package: two steps each, one curve, no question asked."""
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("the run asked a question"))
    off, _ = run_grpo(profile, rows, fresh(profile, rows), "off")
    assert [row["step"] for row in off] == [1, 2]
    offline, run = run_grpo(profile, rows, fresh(profile, rows), "offline")
    assert list(run.folder.glob("swanlog/run-*/*.swanlab")), "SwanLab's own file of the offline run"
    online, _ = run_grpo(profile, rows, fresh(profile, rows), "online")
    assert "no SWANLAB_API_KEY" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "swanlab", None)
    missing, _ = run_grpo(profile, rows, fresh(profile, rows), "offline")
    assert "SwanLab is not used" in capsys.readouterr().out
    assert off == offline == online == missing


def test_importing_tracking_imports_no_tracker():
    code = "import sys; from grpo_nb import tracking; print('swanlab' in sys.modules, 'transformers' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["False", "False"]


def test_summary_is_json_beside_the_metrics(profile):
    run = tracking.Run("grpo", profile)
    assert json.loads(run.save_summary({"before": {"greedy": 0.5}}).read_text()) == {"before": {"greedy": 0.5}}
    assert run.metrics_path.parent == run.folder
