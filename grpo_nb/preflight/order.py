"""Everything about a run that can be checked before a model loads, the cheapest first."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from grpo_nb import data, models
from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import (
    columns,
    context_lengths,
    difficulty,
    disk,
    dry_runs,
    evaluations,
    generations,
    keys,
    processes,
    prompts,
    rules,
    signatures,
    values,
)
from grpo_nb.runs import tracking


def check(
    config: dict,
    dataset: Sequence[dict],
    rewards: Sequence[Callable] | None = None,
    profile: SimpleNamespace | None = None,
    *,
    tokenizer=None,
    policy=None,
    held_out: Sequence[dict] | None = None,
    is_tied: bool | None = None,
) -> dict:
    """Everything about a GRPO run that can be checked in milliseconds and without a model; more, the more is given.

    Args:
        config: settings for `GRPOConfig`.
        dataset: rows with "prompt" and whatever columns the rewards name as parameters: dicts or a `Dataset`.
        rewards: reward functions in TRL's contract; None leaves them out of the check.
        profile: for the context length and the disk; None skips those checks.
        tokenizer: counts the prompts' tokens exactly.
        policy: with a tokenizer and rewards, samples: are there prompts that it sometimes solves? This takes seconds.
        held_out: rows to evaluate on, in mid-run where `eval_strategy` says so; none may be among the training rows.
        is_tied: whether the policy's head is its embedding; None: as in the policy that the profile names.
    Returns: report: the batch numbers, `prompts`, `columns`, `optimizer_steps_per_epoch`, `repeated_prompts`,
    `crlf_prompts`; with evaluations in mid-run what `evaluations.check_evaluations` says of them; with rewards
    `rewards_differ` (whether any of them distinguished the dry run's completions) and `text_answers` (truths that are
    no number); with a profile `checkpoints` and `checkpoint_mib`; with a policy `alive_share` and `advice`.
    Raises: ValueError for the first thing that is wrong, with the nearest valid values.
    """
    rows = data.read_rows(dataset)
    report = check_settings(config, profile, has_eval_data=held_out is not None, is_tied=is_tied)
    from trl import GRPOConfig

    settings = keys.completed(config, GRPOConfig)
    oddities = _check_rows(settings, rows, rewards, held_out)
    if tokenizer is not None:
        generations.check_generation(settings, tokenizer=tokenizer)
    generations.check_template(settings, is_text=isinstance(rows[0]["prompt"], str), tokenizer=tokenizer)
    room = None
    if profile is not None:
        room = {"context": profile.policy["max_seq_length"], "completion": settings["max_completion_length"]}
        context_lengths.check_lengths(rows, **room, tokenizer=tokenizer)
    if held_out is not None and evaluations.evaluates(settings):
        _check_evaluated(data.read_rows(held_out), rewards, room, tokenizer)
    updates = arithmetic.updates(config, len(rows), num_processes=processes.launched())
    report |= {"prompts": len(rows), "columns": list(rows[0]), "optimizer_steps_per_epoch": updates, **oddities}
    per_update = report["completions_per_update"] / settings["num_iterations"]
    sizes = {"updates": updates, "per_update": per_update, "longest": settings["max_completion_length"]}
    report |= evaluations.check_evaluations(config, GRPOConfig, held_out, **sizes)
    disk.check_cuts(config, GRPOConfig, updates=updates)
    if profile is not None:
        report |= disk.check_disk(config, profile, updates=updates, folder=tracking.outputs_dir())
    if rewards:
        report["rewards_differ"] = dry_runs.dry_run(rewards, rows, num_generations=settings["num_generations"])
    if policy is not None and tokenizer is not None and rewards:
        report |= difficulty.check_alive(policy, tokenizer, rows, rewards, settings)
    return report


def check_sft(
    config: dict, rows: Sequence[dict], profile: SimpleNamespace, *, held_out: Sequence[dict] | None = None
) -> dict:
    """Everything about an SFT run that can be checked without a model.

    Args:
        config: settings for `SFTConfig`.
        rows: with "prompt" and "completion".
        held_out: rows to evaluate on, as for `check`.
    Returns: report: of `evaluations.check_evaluations`, where there are any.
    Raises: ValueError for the first thing that is wrong, with the nearest valid values.
    """
    rows = data.read_rows(rows)
    columns.check_columns(rows, ["prompt", "completion"], why="SFT")
    check_settings(config, profile, stage="sft", has_eval_data=held_out is not None)
    if held_out is not None:
        held_out = data.read_rows(held_out)
        columns.check_columns(held_out, ["prompt", "completion"], why="held_out")
        prompts.check_prompts(rows)
        prompts.check_held_out(rows, held_out)
    from trl import SFTConfig

    settings = keys.completed(config, SFTConfig)
    per_update = (
        settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] * processes.launched()
    )
    longest = settings["max_length"] or profile.policy["max_seq_length"]
    sizes = {"updates": -(-len(rows) // per_update), "per_update": per_update, "longest": longest}
    return evaluations.check_evaluations(config, SFTConfig, held_out, **sizes)


def check_settings(
    config: dict,
    profile: SimpleNamespace | None = None,
    *,
    stage: str = "grpo",
    has_eval_data: bool = False,
    is_tied: bool | None = None,
) -> dict[str, int]:
    """The settings of a run alone, before there are rows.

    Args:
        profile: for the context length; None skips that.
        stage: "sft" or "grpo": whose settings.
        has_eval_data: whether the trainer will have rows to evaluate on.
        is_tied: as in `check`.
    Returns: GRPO's batch numbers.
    Raises: ValueError for the first thing that is wrong, with the nearest valid values.
    """
    if profile is not None:
        models.prepare(profile)
    import trl

    config_class = {"sft": trl.SFTConfig, "grpo": trl.GRPOConfig}[stage]
    context = None if profile is None else profile.policy["max_seq_length"]
    keys.check_keys(config, config_class)
    many = processes.launched()
    numbers = arithmetic.batch_numbers(config, num_processes=many) if stage == "grpo" else {}
    values.check_values(config, config_class, context=context, has_eval_data=has_eval_data)
    if stage == "grpo":
        generations.check_generation(keys.completed(config, config_class))
    disk.check_cuts(config, config_class)
    if profile is not None and stage == "grpo":
        values.check_lora(profile.lora, is_unsloths=profile.policy["backend"] == "unsloth")
        rules.check_engine(profile)
        rules.check_adapter(profile, is_tied=is_tied)
    return numbers


def _check_rows(settings: dict, rows: Sequence[dict], rewards: Sequence[Callable] | None, held_out) -> dict[str, int]:
    """Refuse rows that cannot be asked, scored or told from held-out ones, or fill no batch; report what is odd."""
    columns.check_columns(rows, ["prompt"], why="GRPO")
    columns.check_media(rows)
    truths = {}
    if rewards is not None:
        signatures.check_rewards(rewards, rows)
        truths = columns.check_truths(rows, rewards)
        values.check_weights(settings["reward_weights"], len(rewards))
    oddities = prompts.check_prompts(rows) | truths
    if held_out is not None:
        prompts.check_held_out(rows, data.read_rows(held_out))
    arithmetic.check_prompts_fill_a_batch(settings, len(rows), num_processes=processes.launched())
    return oddities


def _check_evaluated(
    held_out: Sequence[dict], rewards: Sequence[Callable] | None, room: dict | None, tokenizer
) -> None:
    """Refuse rows that cannot be scored or answered in mid-run, where the training would stop."""
    try:
        columns.check_media(held_out)
        if rewards is not None:
            signatures.check_rewards(rewards, held_out)
            columns.check_truths(held_out, rewards)
        if room is not None:
            context_lengths.check_lengths(held_out, **room, tokenizer=tokenizer)
    except ValueError as error:
        raise ValueError(f"held-out rows: {error}") from None
