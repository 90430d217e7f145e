"""Evaluations in mid-run: whether there will be any, on whole batches of held-out rows, and what share they take."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

from grpo_nb.preflight import keys, processes
from grpo_nb.runs import resumable

# Without rows to evaluate on, these must be as here.
NO_EVALUATION = {"eval_strategy": "no", "eval_on_start": False}
HALVES = "in mid-run it does nothing, and a call of evaluate() would halve the weights for good"
# What evaluations must not decide or change: key → (what it must be, why).
QUIET = {
    "load_best_model_at_end": (False, "a finished run is its last checkpoint, and older ones are removed"),
    "metric_for_best_model": (None, "no checkpoint is chosen by it"),
    "fp16_full_eval": (False, HALVES),
    "bf16_full_eval": (False, HALVES),
    "include_for_metrics": ([], "nothing computes metrics of it"),
}
BY_METRIC = ("reduce_lr_on_plateau", "greedy")  # schedules that are stepped by an evaluation's metric


def check_strategy(full: dict, *, has_eval_data: bool) -> None:
    """Refuse settings with which nothing would be evaluated, or an evaluation would change the run.

    Args:
        full: every field of `GRPOConfig` or `SFTConfig`; enumerations as text.
        has_eval_data: whether the trainer will have rows to evaluate on.
    Raises: ValueError for the first of them.
    """
    for key, quiet in NO_EVALUATION.items():
        if full[key] != quiet and not has_eval_data:
            raise ValueError(
                f"evaluation in mid-run must have rows, and the trainer is given none (got {key} = {full[key]!r}). "
                f"Try {key} = {quiet!r}, or pass the trainer held_out."
            )
    for key, (quiet, why) in QUIET.items():
        if full[key] != quiet:
            raise ValueError(f"{key} must be {quiet!r}: {why} (got {full[key]!r}). Try {key} = {quiet!r}.")
    if full["lr_scheduler_type"] in BY_METRIC:
        raise ValueError(
            "lr_scheduler_type must go by the steps, for held-out rows that set the learning rate are trained on "
            f"(got {full['lr_scheduler_type']!r}). Try lr_scheduler_type = 'linear'."
        )
    if full["eval_strategy"] == "epoch":
        raise ValueError(
            "eval_strategy must be 'steps' or 'no': at the end of an epoch the checkpoint comes first, and a run that "
            "is resumed there would lack the evaluation (got 'epoch'). Try eval_strategy = 'steps'."
        )
    group, batch = _group(full), full["per_device_eval_batch_size"] * processes.launched()
    if evaluates(full) and batch % group:
        raise ValueError(
            f"per_device_eval_batch_size × processes must be a multiple of the group to evaluate "
            f"(got {batch}, {group}). Try per_device_eval_batch_size = {group}."
        )


def check_evaluations(
    settings: dict, config_class: type, rows: Sequence[dict] | None, *, updates: int, per_update: float, longest: int
) -> dict:
    """Refuse held-out rows that do not fill whole batches, and evaluations that take more than the training.

    Args:
        settings: keys of `config_class`, as `values` left them.
        rows: held out, or None.
        updates: optimizer steps of one epoch.
        per_update: completions that are made, or for SFT read, for one of them.
        longest: tokens of a completion, or for SFT of a row.
    Returns: `evaluations` in the run, `eval_completions` and at most `eval_tokens` in each, and `eval_share` of all
    completions of the run; empty where nothing is evaluated.
    Raises: ValueError with the nearest values that pass.
    """
    full = keys.completed(settings, config_class)
    if full["eval_strategy"] == "no" and full["eval_steps"] is not None:
        raise ValueError(
            f"eval_steps must come with eval_strategy = 'steps' (got {full['eval_steps']}, and eval_strategy = 'no'). "
            "Try eval_steps = None, or pass the trainer held_out and eval_strategy='steps'."
        )
    if rows is None or not evaluates(full):
        return {}
    _check_whole_batches(full, len(rows))
    steps = resumable.max_steps(SimpleNamespace(**full), updates_per_epoch=updates)
    for key, value in (("eval_steps", _steps_between(full, steps)), ("eval_delay", full["eval_delay"])):
        if full["eval_strategy"] == "steps" and value > steps:
            nearest = steps if key == "eval_steps" else 0
            raise ValueError(
                f"{key} must be at most the {steps} steps of the run (got {value}). Try {key} = {nearest}."
            )
    many, completions, trained = _count(full, steps), len(rows) * _group(full), round(steps * per_update)
    if many * completions > trained:
        room = trained // completions - full["eval_on_start"]
        advice = f"Try eval_steps = {math.ceil(steps / room)}" if room > 0 else "Hold out fewer rows"
        raise ValueError(
            "evaluations in mid-run must take no more completions than the training "
            f"(got {many} × {completions}, and {trained} to train on). {advice}."
        )
    share = many * completions / (many * completions + trained)
    return {
        "evaluations": many,
        "eval_completions": completions,
        "eval_tokens": completions * longest,
        "eval_share": round(share, 3),
    }


def check_given(settings: dict, config_class: type, rows: Sequence[dict] | None) -> None:
    """Refuse held-out rows that a trainer would leave lying."""
    if rows is not None and not evaluates(keys.completed(settings, config_class)):
        raise ValueError(
            "a trainer with held_out must have eval_strategy = 'steps' (got eval_strategy = 'no'). "
            "Try eval_strategy = 'steps' and eval_steps = 10, or leave held_out to evaluate.accuracy."
        )


def evaluates(full: dict) -> bool:
    """Whether a run with these settings evaluates at any time."""
    return full["eval_strategy"] != "no" or full["eval_on_start"]


def _group(full: dict) -> int:
    """Completions of a prompt in an evaluation; SFT has one."""
    return full.get("num_generations_eval") or full.get("num_generations", 1)


def _check_whole_batches(full: dict, rows: int) -> None:
    group, many = _group(full), processes.launched()
    prompts = full["per_device_eval_batch_size"] * many // group
    if rows % prompts == 0:
        return
    if rows > prompts:
        advice = f"Pass held_out[:{rows // prompts * prompts}]"
    else:
        advice = f"Try per_device_eval_batch_size = {rows * group // many}" if rows * group % many == 0 else "Add rows"
    raise ValueError(
        f"held_out must fill whole batches, for TRL averages over batches, not over completions (got {rows} rows × "
        f"{group} = {rows * group} completions, {prompts * group} a batch). {advice}."
    )


def _steps_between(full: dict, steps: int) -> int:
    """Optimizer steps from one evaluation to the next: TRL takes logging_steps where eval_steps is silent."""
    every = full["eval_steps"] or full["logging_steps"]
    return math.ceil(every * steps) if every < 1 else int(every)


def _count(full: dict, steps: int) -> int:
    """Evaluations of a run: every so many steps, at its end, and before it if asked."""
    if full["eval_strategy"] == "no":
        return 1
    every, delay = _steps_between(full, steps), full["eval_delay"]
    due = steps // every - max(0, math.ceil(delay / every) - 1)
    return max(0, due) + (steps % every != 0) + full["eval_on_start"]


def sentence(report: dict) -> str:
    """What the evaluations of a run will take, before it starts.

    Args:
        report: of `check_evaluations`.

    >>> sentence({"evaluations": 3, "eval_completions": 8, "eval_tokens": 256, "eval_share": 0.25})
    'Evaluates 3 times on 8 completions of held-out rows, at most 256 tokens: 25 % of all completions of the run.'
    """
    return (
        f"Evaluates {report['evaluations']} times on {report['eval_completions']} completions of held-out rows, at "
        f"most {report['eval_tokens']} tokens: {100 * report['eval_share']:.0f} % of all completions of the run."
    )
