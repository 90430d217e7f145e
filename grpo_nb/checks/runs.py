"""Exercises about changed training runs: what the learner says of them, against what the bench measured."""

import functools

from grpo_nb import rewards
from grpo_nb.checks.exercises import exercise, judge

SEEDS = (0, 1, 2)
RUNS = {  # arms of the bench; the first is what the others are compared with
    "clip": [{"num_iterations": 4, "epsilon": epsilon} for epsilon in (0.2, 0.02)],
    "loss": [{"loss_type": loss_type} for loss_type in ("dapo", "grpo", "dr_grpo")],
    "steps": [{"max_steps": steps} for steps in (24, 12, 48)],
    "sampling": [{}, {"top_k": 2}, {"top_p": 0.5}],
    "rewards": [{}, {"rewards": list(rewards.FOUR[:2])}, {"rewards": [rewards.check_answer]}],
}
RECORDED = ("the recorded runs", ())


@exercise
def check_clip_run(your_verdict):
    """Whether `your_verdict` says what was measured of a run with a tighter clip: better, worse or noise.

    Args:
        your_verdict: f() -> str.
    See: `lab.experiment`.
    """
    return judge(
        your_verdict,
        [RECORDED],
        right=lambda: _verdicts("clip")[0],
        usual={"calls noise what is none: the interval does not hold 0": lambda: "noise"},
    )


@exercise
def check_loss_run(your_verdicts):
    """Whether `your_verdicts` say what was measured of grpo and dr_grpo against dapo: better, worse or noise.

    Args:
        your_verdicts: f() -> {"grpo": str, "dr_grpo": str}.
    See: `lab.experiment`.
    """
    return _said(your_verdicts, "loss", ("grpo", "dr_grpo"))


@exercise
def check_steps_run(your_verdicts):
    """Whether `your_verdicts` say what was measured of 12 and 48 steps against 24: better, worse or noise.

    Args:
        your_verdicts: f() -> {12: str, 48: str}.
    See: `lab.experiment`.
    """
    return _said(your_verdicts, "steps", (12, 48))


@exercise
def check_sampling_run(your_verdicts):
    """Whether `your_verdicts` say what was measured of a cut sampling against none: better, worse or noise.

    Args:
        your_verdicts: f() -> {"top_k": str, "top_p": str}.
    See: `lab.experiment`.
    """
    return _said(your_verdicts, "sampling", ("top_k", "top_p"))


@exercise
def check_reward_run(your_verdicts):
    """Whether `your_verdicts` say what was measured of two rewards against all four: better, worse or noise.

    Args:
        your_verdicts: f() -> {"format": str, "answer": str}.
    See: `lab.experiment`.
    """
    return _said(your_verdicts, "rewards", ("format", "answer"))


def _said(your_verdicts, runs: str, names: tuple) -> tuple[bool, str]:
    """A verdict for each run after the first, against what was measured."""
    return judge(
        your_verdicts,
        [RECORDED],
        right=lambda: dict(zip(names, _verdicts(runs), strict=True)),
        usual={
            "looks at the means and not at the interval": lambda: dict(
                zip(names, _verdicts(runs, by_mean=True), strict=True)
            )
        },
    )


def _verdicts(runs: str, *, by_mean: bool = False) -> list[str]:
    """What the bench says of each run against the first one; by the mean alone, nothing is noise."""
    return [
        "noise" if is_noise and not by_mean else "better" if mean > 0 else "worse" for mean, is_noise in _measured(runs)
    ]


@functools.cache
def _measured(runs: str) -> list[tuple[float, bool]]:
    from grpo_nb import lab

    result = lab.experiment(*RUNS[runs], seeds=SEEDS)
    found = [result.difference(number) for number in range(1, len(RUNS[runs]))]
    return [(one.mean, one.is_noise) for one in found]
