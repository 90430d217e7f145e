"""Runs of a few tiny steps, whole, cut and compared: for the tests of checkpoints, resuming and the disk."""

import pytest
import torch

from benchmarks import survival
from grpo_nb import data, train
from grpo_nb.runs import callbacks, tracking

TIMES = ("step_time", "_runtime", "_per_second")


class Kill(Exception):
    """Ends a run where a SIGKILL would, in this process."""


class Steps(callbacks.Callback):
    """Notes the number of every step that is taken."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)


def trainer_of(small_policy, *, reward=survival.variety, is_trls_own: bool = False, **changes):
    """A trainer of six tiny steps, saved after every second one, and its run below GRPO_NB_OUTPUTS.

    `is_trls_own`: TRL's class itself, for statements about TRL.
    """
    model, tokenizer, rows = small_policy
    profile = survival.small_profile()
    if is_trls_own:
        profile.kernels = {}
    profile.grpo.update(max_steps=6, save_steps=2)
    prompts = data.grpo_rows(rows, system_prompt="Add.")
    run = tracking.Run("run", profile, mode="off")
    settings = {"guard": "skip", **changes}
    return train.grpo_trainer(model, tokenizer, prompts, [reward], profile, run=run, **settings), run


def die_at(trainer, step: int) -> None:
    """Train until the step has been logged and, where it is one of those, saved; then break off."""

    class Dies(callbacks.Callback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise Kill

    trainer.add_callback(Dies())
    with pytest.raises(Kill):
        train.resume_or_start(trainer)


def curve(run) -> list[dict]:
    """Every logged step and evaluation, but for how long it took."""
    return [{key: value for key, value in row.items() if not key.endswith(TIMES)} for row in run.rows()]


def weights(trainer) -> list[torch.Tensor]:
    """A copy of all parameters."""
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def same(ours: list, theirs: list) -> bool:
    """Whether two lists of tensors are equal to the bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
