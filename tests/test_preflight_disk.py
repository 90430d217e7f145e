"""A full disk and a folder that cannot be written: one clear sentence, and the earlier checkpoint stays whole."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from grpo_nb import data, train
from grpo_nb.runs import callbacks, checkpoints, files, tracking
from tests import small_runs


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: mount(MiB) and remount options, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a tmpfs")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


class Fills(callbacks.Callback):
    """Leaves `room` bytes on the disk when the run has come to `step`."""

    def __init__(self, disk: Path, step: int, room: int):
        self.disk, self.step, self.room = disk, step, room

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            with (self.disk / "ballast").open("wb") as file:
                file.write(bytes(shutil.disk_usage(self.disk).free - self.room))


@pytest.mark.parametrize("room", [0, 2**12, 2**16, 2**19, 2**21])
def test_a_disk_that_is_full_at_the_second_save(room, small_policy, uninterrupted, small_disk, monkeypatch):
    disk = small_disk("size=160m")
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(disk))
    trainer, run = small_runs.trainer_of(small_policy)
    trainer.add_callback(Fills(disk, 4, room))
    with pytest.raises(
        OSError, match=r"(?s)the disk must take .*\(got .*MiB are free\).*checkpoint-2 is whole"
    ) as error:
        train.resume_or_start(trainer)
    assert error.value.__cause__ is not None
    folder = Path(trainer.args.output_dir)
    assert [path.name for path in checkpoints.all_checkpoints(folder)] == ["checkpoint-2"]
    assert checkpoints.read_seal(folder / "checkpoint-2")["step"] == 2
    (disk / "ballast").unlink()
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


def test_too_small_a_disk_is_refused_before_a_model_is_touched(small_policy, small_disk, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(small_disk("size=4m")))
    with pytest.raises(ValueError, match=r"must hold 3 checkpoints of 4 MiB .*\(got 4 MiB free"):
        small_runs.trainer_of(small_policy)


def test_too_small_a_disk_for_what_sft_trains_is_refused_before_the_first_step(profile, rows, tiny, small_disk):
    """SFT trains every weight here: 1.2 M of them and two moments each, in 32 bits, are more than LoRA's few."""
    trainer = train.sft_trainer(
        *tiny, data.sft_rows(rows, system_prompt="Add."), profile, output_dir=str(small_disk("size=20m") / "sft")
    )
    with pytest.raises(ValueError, match=r"must hold 1 checkpoint of 1\d MiB .*\(got \d+ MiB free, \d+ MiB needed"):
        train.resume_or_start(trainer)
    assert trainer.state.global_step == 0


def test_a_folder_that_turns_read_only_during_the_run(small_policy, uninterrupted, small_disk, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(small_disk("size=160m")))
    trainer, run = small_runs.trainer_of(small_policy)
    folder = str(run.folder)

    class TurnsReadOnly(callbacks.Callback):
        """Lays the folder over itself, read-only: the disk cannot be, while the trainer holds its lock file open."""

        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                subprocess.run(["mount", "--bind", folder, folder], check=True)
                subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)

    trainer.add_callback(TurnsReadOnly())
    with pytest.raises(OSError, match="Read-only file system.*checkpoint-2 is whole"):
        train.resume_or_start(trainer)
    subprocess.run(["umount", folder], check=True)
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


def test_a_read_only_folder_is_refused_when_the_run_is_named(profile, small_disk, monkeypatch):
    disk = small_disk("size=4m,ro")
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(disk))
    with pytest.raises(OSError, match=r"must be writable \(got Read-only file system for .*Set GRPO_NB_OUTPUTS"):
        tracking.Run("grpo", profile)


def test_a_file_where_the_folder_should_be_is_refused(profile, tmp_path, monkeypatch):
    (tmp_path / "outputs").write_text("", encoding="utf8")
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(OSError, match=r"must be writable \(got Not a directory"):
        tracking.Run("grpo", profile)


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs /dev/full, a file on which every write finds no room"
)
def test_metrics_on_a_full_disk_stop_the_run_with_the_sentence(small_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, run = small_runs.trainer_of(small_policy)

    class Full(callbacks.Callback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                run.metrics_path.unlink()
                run.metrics_path.symlink_to("/dev/full")

    trainer.add_callback(Full())
    with pytest.raises(OSError, match="No space left on device.*checkpoint-2 is whole"):
        train.resume_or_start(trainer)


def test_a_text_that_does_not_fit_leaves_the_older_one(small_disk):
    disk = small_disk("size=1m")
    files.write_text(disk / "summary.json", "old")
    with pytest.raises(OSError, match="No space left"):
        files.write_text(disk / "summary.json", "new" * 2**20)
    assert [(path.name, path.read_text(encoding="utf8")) for path in disk.iterdir()] == [("summary.json", "old")]


def test_a_failure_inside_a_save_that_is_not_the_disks_keeps_its_own_words(small_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, _ = small_runs.trainer_of(small_policy)

    class Fails(callbacks.Callback):
        def on_save(self, args, state, control, **kwargs):
            if state.global_step == 4:
                raise RuntimeError("my upload failed")

    trainer.callback_handler.callbacks.insert(0, Fails())
    with pytest.raises(RuntimeError, match="my upload failed"):
        train.resume_or_start(trainer)
    assert [path.name for path in checkpoints.all_checkpoints(Path(trainer.args.output_dir))] == ["checkpoint-2"]


@pytest.mark.parametrize(
    ("part", "reason"),
    [("x" * 256, "File name too long"), ("用" * 90, "File name too long"), ("a/" * 3000, "too long")],
)
def test_a_folder_that_cannot_be_made_is_refused(part, reason, profile, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / part))
    with pytest.raises(OSError, match=rf"must be writable \(got .*{reason} .*Set GRPO_NB_OUTPUTS to a short path"):
        tracking.Run("grpo", profile)


def test_a_system_whose_names_are_ascii_says_so(profile, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda self, **given: str(self).encode("ascii"))
    with pytest.raises(OSError, match=r"must be writable \(got 'ascii' codec can't encode"):
        tracking.Run("用户", profile)
