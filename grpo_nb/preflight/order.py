"""Everything about a run that can be checked before a model loads, the cheapest first."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from grpo_nb import models
from grpo_nb.preflight import (
    columns,
    context_lengths,
    difficulty,
    disk,
    dry_runs,
    keys,
    processes,
    prompts,
    signatures,
    values,
)
from grpo_nb.runs import tracking


def check(
    config: dict,
    dataset: Sequence[dict],
    rewards: Sequence[Callable] = (),
    profile: SimpleNamespace | None = None,
    *,
    tokenizer=None,
    policy=None,
    held_out: Sequence[dict] | None = None,
) -> dict:
    """Everything about a GRPO run that can be checked in milliseconds and without a model; more, the more is given.

    Args:
        config: settings for `GRPOConfig`.
        dataset: rows with "prompt" and whatever columns the rewards name as parameters: dicts or a `Dataset`.
        rewards: reward functions in TRL's contract; the empty tuple leaves them out of the check.
        profile: for the context length and the disk; None skips those checks.
        tokenizer: counts the prompts' tokens exactly.
        policy: with a tokenizer and rewards, samples: are there prompts that it sometimes solves? This takes seconds.
        held_out: rows to evaluate on; none of them may be among the training rows.
    Returns: report: the batch numbers, `prompts`, `columns`, `optimizer_steps_per_epoch`, `repeated_prompts`,
    `crlf_prompts`; with rewards `rewards_differ` (whether any of them told the dry run's completions apart); with a
    profile `checkpoints` and `checkpoint_mib`; with a policy `alive_share` and `advice`.
    Raises: ValueError for the first thing that is wrong, with the nearest valid values.
    """
    if profile is not None:
        models.prepare(profile)
    from trl import GRPOConfig

    context = profile.policy["max_seq_length"] if profile is not None else None
    rows = columns.read_rows(dataset)
    keys.check_keys(config, GRPOConfig)
    report = processes.batch_numbers(config)
    values.check_values(config, GRPOConfig, context=context, has_eval_data=held_out is not None)
    columns.check_columns(rows, ["prompt"], why="GRPO")
    if rewards != ():
        signatures.check_rewards(rewards, rows)
        values.check_weights(config.get("reward_weights"), len(rewards))
    oddities = prompts.check_prompts(rows)
    if held_out is not None:
        prompts.check_held_out(rows, columns.read_rows(held_out))
    processes.check_prompts_fill_a_batch(config, len(rows))
    if context is not None:
        length = config.get("max_completion_length", 512)
        context_lengths.check_lengths(rows, context=context, completion=length, tokenizer=tokenizer)
    updates = processes.updates(config, len(rows))
    report |= {"prompts": len(rows), "columns": list(rows[0]), "optimizer_steps_per_epoch": updates, **oddities}
    if profile is not None:
        report |= disk.check_disk(config, profile, updates=updates, folder=tracking.outputs_dir())
    if rewards:
        report["rewards_differ"] = dry_runs.dry_run(rewards, rows, num_generations=config.get("num_generations", 8))
    if policy is not None and tokenizer is not None and rewards:
        report |= difficulty.check_alive(policy, tokenizer, rows, rewards, config)
    return report
