"""A seal fits or it does not: 32 ways to damage a checkpoint, and none of them changes a curve."""

import os
import shutil
import warnings
from pathlib import Path

import pytest

from grpo_nb import data, train
from grpo_nb.runs import checkpoints
from tests import small_runs

FILES = [
    "trainer_state.json",
    "adapter_model.safetensors",
    "adapter_config.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "tokenizer.json",
    checkpoints.SEAL,
]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "missing": Path.unlink,
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "a bit flipped": flip_a_bit,
}


@pytest.fixture(scope="module")
def cut(small_policy, tmp_path_factory):
    """The outputs of a run that died after step 5: checkpoints 2 and 4 are sealed."""
    outputs = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(outputs))
        trainer, run = small_runs.trainer_of(small_policy)
        small_runs.die_at(trainer, 5)
        assert [row["step"] for row in run.rows()] == [1, 2, 3, 4, 5]
    return outputs


def test_a_seal_tells_size_and_hash_of_every_file(tmp_path):
    """By hand: sha256 of the empty string begins with e3b0c442."""
    (tmp_path / "empty").write_text("", encoding="utf8")
    checkpoints.seal(tmp_path, step=3, max_steps=9, fingerprint={"version": {"torch": "1"}})
    content = checkpoints.read_seal(tmp_path)
    assert (content["step"], content["max_steps"], list(content["files"])) == (3, 9, ["empty"])
    assert content["files"]["empty"]["bytes"] == 0
    assert content["files"]["empty"]["sha256"].startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_set_aside_and_the_curve_stays(
    name, damage, small_policy, cut, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = small_runs.trainer_of(small_policy)
    folder = Path(trainer.args.output_dir)
    DAMAGES[damage](folder / "checkpoint-4" / name)
    with pytest.warns(UserWarning, match="Damaged and set aside: checkpoint-4") as caught:
        train.resume_or_start(trainer)
    ours = [str(w.message) for w in caught if "set aside" in str(w.message)]
    assert len(ours) == 1 and name in ours[0] and "goes on from checkpoint-2" in ours[0]
    assert (folder / "damaged-checkpoint-4").is_dir()
    assert small_runs.curve(run) == uninterrupted[1]
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0])


def test_undamaged_it_goes_on_from_the_newest_without_a_warning(
    small_policy, cut, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = small_runs.trainer_of(small_policy)
    steps = []
    trainer.add_callback(small_runs.Steps(steps))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train.resume_or_start(trainer)
    assert steps == [5, 6], "step 5 had been logged but not sealed: it is taken again"
    assert small_runs.curve(run) == uninterrupted[1] and small_runs.same(small_runs.weights(trainer), uninterrupted[0])


def test_with_no_sealed_checkpoint_left_it_starts_at_the_beginning(
    small_policy, cut, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = small_runs.trainer_of(small_policy)
    for folder in checkpoints.all_checkpoints(Path(trainer.args.output_dir)):
        (folder / "optimizer.pt").unlink()
    with pytest.warns(UserWarning, match="no other is left: the run starts at its beginning"):
        train.resume_or_start(trainer)
    assert small_runs.curve(run) == uninterrupted[1] and small_runs.same(small_runs.weights(trainer), uninterrupted[0])


def test_only_whole_steps_count_as_checkpoints(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "damaged-checkpoint-11", "checkpoint-x", "checkpoint-12.old"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints.all_checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


def test_a_seal_that_the_disk_cannot_give_now_is_no_damage(tmp_path, monkeypatch):
    """A network drive that hiccups must not cost the checkpoints that lie on it."""
    (tmp_path / "checkpoint-2").mkdir()
    checkpoints.seal(tmp_path / "checkpoint-2", step=2, max_steps=6, fingerprint={})

    def hiccup(self, **kwargs):
        raise OSError(5, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", hiccup)
        with pytest.raises(OSError, match="Input/output error"):
            checkpoints.newest(tmp_path)
    assert checkpoints.newest(tmp_path)[0].name == "checkpoint-2"


def test_old_checkpoints_go_by_step_whatever_the_clock_says(small_policy, cut, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, _ = small_runs.trainer_of(small_policy)
    for folder in checkpoints.all_checkpoints(Path(trainer.args.output_dir)):
        os.utime(folder, (2e9, 2e9))  # 2033: the clock was wrong then, or is now
    train.resume_or_start(trainer)
    left = [path.name for path in checkpoints.all_checkpoints(Path(trainer.args.output_dir))]
    assert left == ["checkpoint-4", "checkpoint-6"]


def test_a_trainer_that_was_made_elsewhere_is_refused(profile, rows, tiny):
    trainer = train.sft_trainer(*tiny, data.sft_rows(rows, system_prompt="Add."), profile)
    assert isinstance(checkpoints.sealer_of(trainer), checkpoints.Sealer)
    trainer.remove_callback(checkpoints.Sealer)
    for other, name in [(trainer, "SFTTrainer"), (tiny[0], "Qwen3ForCausalLM"), (None, "NoneType")]:
        with pytest.raises(ValueError, match=rf"needs a trainer from train.grpo_trainer .* \(got {name} without"):
            train.resume_or_start(other)


def test_the_trainer_itself_removes_no_checkpoint(small_policy, tmp_path, monkeypatch):
    """It would, before the new one is sealed."""
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, _ = small_runs.trainer_of(small_policy)
    assert trainer.args.save_total_limit is None and checkpoints.sealer_of(trainer).keep == 2
