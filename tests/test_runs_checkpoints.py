"""A seal fits or it does not: 32 ways to damage a checkpoint, and none of them changes a curve."""

import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from grpo_nb import train
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
    (tmp_path / "empty").write_text("")
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


def args(**changes) -> SimpleNamespace:
    usual = {
        "gradient_accumulation_steps": 1, "steps_per_generation": 1, "num_iterations": 1, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": 10, "save_only_model": False, "save_total_limit": 2,
        "sync_ref_model": False, "world_size": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changes})


@pytest.mark.parametrize(
    ("steps_per_generation", "num_iterations", "accumulation", "cycle"),
    [(1, 1, 1, 1), (1, 2, 1, 2), (4, 1, 1, 4), (4, 1, 2, 2), (4, 3, 4, 3), (2, 1, 4, 1), (2, 1, 3, 2)],
)
def test_generation_cycle(steps_per_generation, num_iterations, accumulation, cycle):
    """By hand: a generation feeds S × μ micro-steps, an update takes A; both end together after lcm / A updates."""
    settings = args(
        steps_per_generation=steps_per_generation,
        num_iterations=num_iterations,
        gradient_accumulation_steps=accumulation,
    )
    assert checkpoints.generation_cycle(settings) == cycle


def test_a_run_can_be_cut_where_generation_and_log_line_end():
    settings = args(num_iterations=2, logging_steps=3)
    cuts = [step for step in range(1, 19) if checkpoints.can_cut(settings, step, updates_per_epoch=100)]
    assert cuts == [6, 12, 18]
    short = args(num_iterations=2)  # an epoch of five updates: the cycle starts anew with each
    assert [s for s in range(1, 11) if checkpoints.can_cut(short, s, updates_per_epoch=5)] == [2, 4, 5, 7, 9, 10]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"save_strategy": "no"}, r"save_strategy must be 'steps'.*\(got 'no'\)\. Try save_strategy='steps'"),
        ({"num_iterations": 3}, r"save_steps must be a multiple of 3: .* \(got 10\)\. Try save_steps=9"),
        ({"logging_steps": 4}, r"save_steps must be a multiple of 4: .* \(got 10\)\. Try save_steps="),
        ({"save_only_model": True}, "save_only_model must be False"),
        ({"logging_steps": 0.5}, r"must be whole numbers of steps .*\(got 0.5 and 10\)"),
        ({"sync_ref_model": True}, "sync_ref_model must be False"),
        ({"world_size": 2}, "must be one process"),
    ],
)
def test_what_cannot_resume_equally_is_refused(changes, sentence):
    checkpoints.check_resumable(args())
    with pytest.raises(ValueError, match=sentence):
        checkpoints.check_resumable(args(**changes))
