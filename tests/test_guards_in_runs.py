"""Thirteen ways in which TRL would go on, each through `train.resume_or_start` with the default policy: stopped within
three steps, the cause named, and what was sealed before is finite, whole, and enough to go on from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import survival
from grpo_nb import train
from grpo_nb.runs import callbacks, checkpoints
from tests import small_runs

FAULT_STEP = 3  # the first bad step
REWARDS = {
    "inf": lambda scores: [float("inf"), *scores[1:]],
    "NaN": lambda scores: [float("nan"), *scores[1:]],
    "None": lambda scores: [None] * len(scores),
    "str": lambda scores: ["1.0"] * len(scores),
    "bool": lambda scores: [True] * len(scores),
    "too short": lambda scores: scores[:-1],
    "too long": lambda scores: [*scores, 0.0],
    "1e38": lambda scores: [1e38, *scores[1:]],
    "raising": lambda scores: [1 / 0],
}
CAUSES = {
    "inf": "the reward variety must be a finite number",
    "NaN": "the reward variety must be a finite number",
    "None": "got None for all 8 completions from variety",
    "str": "got '1.0' for completion 1 of 8",
    "bool": "got True for completion 1 of 8",
    "too short": "got 7 for 8 completions",
    "too long": "got 9 for 8 completions",
    "1e38": "the reward variety must be a finite number",
    "raising": "got ZeroDivisionError",
    "constant": "the reward must differ between completions",
    "NaN gradient": "every gradient must be finite before it is applied .*lora_",
    "NaN weight": "every weight must be finite before the policy samples .*lora_",
    "learning rate 1000": "an update must not make the weights 10 times larger .*learning_rate = 1000",
}


class Spoils(callbacks.Callback):
    """Puts a NaN where a broken loss or a broken disk would: into a gradient, into a weight; or lets the rate jump."""

    def __init__(self, fault: str):
        self.fault = fault

    def on_step_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        if state.global_step != FAULT_STEP - 1:
            return
        parameter = next(p for p in model.parameters() if p.requires_grad)
        if self.fault == "NaN gradient":
            parameter.register_hook(lambda gradient: gradient * float("nan"))
        elif self.fault == "NaN weight":
            parameter.data[0, 0] = float("nan")
        else:
            args.learning_rate = 1e3
            for group in optimizer.param_groups:
                group["lr"] = 1e3


def spoiled_trainer(small_policy, fault: str):
    """A trainer that seals every step; from step `FAULT_STEP` on, the fault."""

    def variety(completions, trainer_state, **columns):
        scores = survival.variety(completions)
        if trainer_state.global_step + 1 < FAULT_STEP or fault not in REWARDS:
            return scores if fault != "constant" else [0.5] * len(scores)
        return REWARDS[fault](scores)

    reward = variety if fault == "constant" or fault in REWARDS else survival.variety
    guard = {"truncation": "skip"}  # a random policy writes to the end of its eight tokens
    trainer, run = small_runs.trainer_of(small_policy, reward=reward, guard=guard, save_steps=1, save_total_limit=None)
    if reward is not variety and fault:
        trainer.add_callback(Spoils(fault))
        trainer.callback_handler.callbacks.insert(0, trainer.callback_handler.callbacks.pop())
    return trainer, run


@pytest.mark.parametrize("fault", CAUSES)
def test_stopped_within_three_steps_and_what_is_sealed_is_finite(fault, small_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, run = spoiled_trainer(small_policy, fault)
    with pytest.raises(ValueError, match=CAUSES[fault]):
        train.resume_or_start(trainer)
    begun = 0 if fault == "constant" else FAULT_STEP - 1  # steps before the first bad one
    assert begun <= trainer.state.global_step <= begun + 3
    assert [row["step"] for row in run.rows()] == list(range(1, trainer.state.global_step + 1))
    newest, _ = checkpoints.newest(Path(trainer.args.output_dir))
    assert newest.name == f"checkpoint-{2 if fault != 'constant' else trainer.state.global_step - 1}"
    assert all(torch.isfinite(tensor).all() for tensor in load_file(newest / "adapter_model.safetensors").values())


def test_once_the_cause_is_mended_the_run_goes_on_as_if_nothing_had_been(
    small_policy, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    with pytest.raises(ValueError, match="every gradient must be finite"):
        train.resume_or_start(spoiled_trainer(small_policy, "NaN gradient")[0])
    trainer, run = spoiled_trainer(small_policy, None)
    train.resume_or_start(trainer)
    assert small_runs.same(small_runs.weights(trainer), uninterrupted[0]) and small_runs.curve(run) == uninterrupted[1]


def test_a_loss_of_nan_that_is_left_out_is_in_no_later_log(small_policy, monkeypatch, tmp_path):
    """`Trainer` alone would log NaN to the end."""
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, run = small_runs.trainer_of(small_policy, guard={"gradients": "skip"})
    healthy = trainer.compute_loss

    def spoiled(*args, **kwargs):
        loss = healthy(*args, **kwargs)
        return loss * float("nan") if trainer.state.global_step == 1 else loss

    monkeypatch.setattr(trainer, "compute_loss", spoiled)
    train.resume_or_start(trainer)
    losses = {row["step"]: row["loss"] for row in run.rows() if "loss" in row}
    assert losses[2] is None and all(losses[step] is not None for step in (1, 3, 4, 5, 6)), losses
