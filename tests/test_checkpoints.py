"""A seal fits or it does not: 32 ways to damage a checkpoint, and none of them changes a curve."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import survival
from grpo_nb import checkpoints, data, models, tracking, train

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


class Kill(Exception):
    """Ends a run where a SIGKILL would, in this process."""


@pytest.fixture(scope="module")
def policy():
    rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
    return (*models.load_policy(survival.small_profile(), rows), rows)


def trainer_of(policy, **changes):
    model, tokenizer, rows = policy
    profile = survival.small_profile()
    profile.grpo.update(max_steps=6, save_steps=2)
    prompts = data.grpo_rows(rows, system_prompt="Add.")
    run = tracking.Run("run", profile, mode="off")
    settings = {"guard": "skip", **changes}
    return train.grpo_trainer(model, tokenizer, prompts, [survival.variety], profile, run=run, **settings), run


def die_at(trainer, step: int) -> None:
    """Train until the step has been logged and, where it is one of those, saved; then break off."""

    class Dies(train.listeners.Listener):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Kill

    trainer.add_callback(Dies())
    with pytest.raises(Kill):
        train.resume_or_start(trainer)


def curve(run) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "step_time"} for row in run.rows()]


def weights(trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def same(ours: list, theirs: list) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def uninterrupted(policy, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("whole")))
        trainer, run = trainer_of(policy)
        train.resume_or_start(trainer)
        return weights(trainer), curve(run)


@pytest.fixture(scope="module")
def cut(policy, tmp_path_factory):
    """The outputs of a run that died after step 5: checkpoints 2 and 4 are sealed."""
    outputs = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(outputs))
        trainer, run = trainer_of(policy)
        die_at(trainer, 5)
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
    name, damage, policy, cut, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = trainer_of(policy)
    folder = Path(trainer.args.output_dir)
    DAMAGES[damage](folder / "checkpoint-4" / name)
    with pytest.warns(UserWarning, match="Damaged and set aside: checkpoint-4") as caught:
        train.resume_or_start(trainer)
    ours = [str(w.message) for w in caught if "set aside" in str(w.message)]
    assert len(ours) == 1 and name in ours[0] and "goes on from checkpoint-2" in ours[0]
    assert (folder / "damaged-checkpoint-4").is_dir()
    assert curve(run) == uninterrupted[1]
    assert same(weights(trainer), uninterrupted[0])


def test_undamaged_it_goes_on_from_the_newest_without_a_warning(policy, cut, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = trainer_of(policy)
    steps = []
    trainer.add_callback(SimpleSteps(steps))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train.resume_or_start(trainer)
    assert steps == [5, 6], "step 5 had been logged but not sealed: it is taken again"
    assert curve(run) == uninterrupted[1] and same(weights(trainer), uninterrupted[0])


class SimpleSteps(train.listeners.Listener):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)


def test_with_no_sealed_checkpoint_left_it_starts_at_the_beginning(policy, cut, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    shutil.copytree(cut, tmp_path / "outputs")
    trainer, run = trainer_of(policy)
    for folder in checkpoints.all_checkpoints(Path(trainer.args.output_dir)):
        (folder / "optimizer.pt").unlink()
    with pytest.warns(UserWarning, match="no other is left: the run starts at its beginning"):
        train.resume_or_start(trainer)
    assert curve(run) == uninterrupted[1] and same(weights(trainer), uninterrupted[0])


def test_only_whole_steps_count_as_checkpoints(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "damaged-checkpoint-11", "checkpoint-x", "checkpoint-12.old"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints.all_checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


def test_a_newer_seal_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SCHEMA", 2)
    checkpoints.seal(tmp_path, step=1, max_steps=1, fingerprint={})
    assert checkpoints.read_seal(tmp_path)["schema"] == 2
    monkeypatch.undo()
    with pytest.raises(ValueError, match="schema 2, not 1"):
        checkpoints.read_seal(tmp_path)


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
        ({"save_total_limit": 1}, "save_total_limit must be at least 2"),
        ({"sync_ref_model": True}, "sync_ref_model must be False"),
        ({"world_size": 2}, "must be one process"),
    ],
)
def test_what_cannot_resume_equally_is_refused(changes, sentence):
    checkpoints.check_resumable(args())
    with pytest.raises(ValueError, match=sentence):
        checkpoints.check_resumable(args(**changes))
