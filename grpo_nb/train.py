"""Preflight a config in a second, then assemble TRL's trainers.

Nothing here replaces TRL: a profile's dict becomes an `SFTConfig` or a `GRPOConfig`, rows become a
`datasets.Dataset`, and TRL's own trainer trains. What is added is that a mistake is named before a model loads.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import columns, configs, data, files, models, templates, tracking


def preflight(
    config: dict, dataset: Sequence[dict], rewards: Sequence[Callable] = (), profile: SimpleNamespace | None = None
) -> dict:
    """Everything about a GRPO run that can be checked without a model: keys, batch arithmetic, columns, number of
    prompts.

    Args:
        config: settings for `GRPOConfig`.
        dataset: rows with "prompt" and whatever columns the rewards name as parameters.
        rewards: reward functions in TRL's contract.
        profile: for the context length; None skips that check.
    Returns: report: the batch numbers, `prompts`, `columns`, and `optimizer_steps_per_epoch`.
    Raises: ValueError for the first thing that is wrong.
    """
    if profile is not None:
        models.prepare(profile)
    from trl import GRPOConfig

    configs.check_keys(config, GRPOConfig)
    numbers = configs.batch_numbers(config)
    columns.check_columns(dataset, ["prompt"], why="GRPO")
    for reward in rewards:
        parameters = inspect.signature(reward).parameters.values()
        named = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is p.empty
        ]
        columns.check_columns(
            dataset, [n for n in named if n not in columns.GIVEN_BY_TRL], why=f"the reward {_name(reward)}"
        )
    if len(dataset) < numbers["unique_prompts"]:
        raise ValueError(
            f"the data set must fill one generation batch of {numbers['unique_prompts']} prompts (got {len(dataset)}). "
            f"Add rows or lower per_device_train_batch_size."
        )
    completion = config.get("max_completion_length", 512)
    context = profile.policy["max_seq_length"] if profile is not None else None
    if context is not None and completion >= context:
        raise ValueError(
            f"max_completion_length must leave room for the prompt in max_seq_length = {context} "
            f"(got {completion}). Try {context // 2}."
        )
    rounds = len(dataset) // numbers["unique_prompts"]
    micro_steps = rounds * numbers["steps_per_generation"] * config.get("num_iterations", 1)
    updates = -(-micro_steps // config.get("gradient_accumulation_steps", 1))
    return {**numbers, "prompts": len(dataset), "columns": list(dataset[0]), "optimizer_steps_per_epoch": updates}


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def sft_trainer(
    policy, tokenizer, rows: Sequence[dict], profile: SimpleNamespace, *, callbacks=(), seed: int = 0, **changes
):
    """TRL's `SFTTrainer` on prompt/completion rows: the loss falls on completion tokens only.

    A policy built from nothing trains all its weights; a GPU profile's checkpoint trains its LoRA adapter.

    Args:
        rows: from `data.sft_rows`.
        changes: settings of `SFTConfig` that differ from the profile's.
    Returns: `trl.SFTTrainer`; `trainer.train()` trains, `trainer.model` is the result.
    """
    config = {**profile.sft, "seed": seed, **changes}
    columns.check_columns(rows, ["prompt", "completion"], why="SFT")
    models.prepare(profile)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    configs.check_keys(config, SFTConfig)
    if profile.policy["backend"] == "unsloth":
        policy = models.add_lora(policy, profile, seed=seed)
    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(output_dir=_trainer_dir(profile, "sft"), disable_tqdm=True, **config),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
    )
    if not len(trainer.train_dataset):
        raise ValueError(
            f"max_length = {trainer.args.max_length} must leave some of each completion (got 0 of {len(rows)} rows "
            "after truncation). Raise it, or drop long rows with data.keep_short."
        )
    return _with_callbacks(trainer, callbacks)


def grpo_trainer(
    policy,
    tokenizer,
    rows: Sequence[dict],
    rewards: Sequence[Callable],
    profile: SimpleNamespace,
    *,
    callbacks=(),
    seed: int = 0,
    **changes,
):
    """TRL's `GRPOTrainer` on the profile's settings; the policy gets its LoRA adapter if it has none.

    Args:
        rows: from `data.grpo_rows`.
        rewards: functions `f(completions, **columns) -> list[float | None]`.
        changes: settings of `GRPOConfig` that differ from the profile's.
    Returns: `trl.GRPOTrainer`; `trainer.train()` trains, `trainer.model` is the PEFT model.
    Raises: ValueError from `preflight`.
    """
    config = {**profile.grpo, "seed": seed, **changes}
    preflight(config, rows, rewards, profile)
    policy = models.add_lora(policy, profile, seed=seed)
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=list(rewards),
        args=GRPOConfig(output_dir=_trainer_dir(profile, "grpo"), disable_tqdm=True, **config),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
    )
    return _with_callbacks(trainer, callbacks)


def _trainer_dir(profile: SimpleNamespace, stage: str) -> str:
    return str(tracking.outputs_dir() / profile.name / stage / "trainer")


def _with_callbacks(trainer, callbacks):
    from transformers.trainer_callback import PrinterCallback

    # It prints every log as a dict; metrics.jsonl and the live table say it better.
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def warm_start(profile: SimpleNamespace, rows: Sequence[dict] | None = None, *, seed: int = 0, callbacks=None):
    """The policy after SFT, trained now or taken from the disk if the same profile, rows and seed trained it before.

    Args:
        rows: worked rows; None takes `trace_rows`. Rows longer than half the context are left out: GRPO's completions
            need room to grow.
        callbacks: of the trainer; None logs to the run "sft".
    Returns: (policy, tokenizer), reloaded from `warm_start_path(...)`.
    """
    models.prepare(profile)
    from trl import GRPOConfig, SFTConfig

    configs.check_keys(profile.sft, SFTConfig)
    configs.check_keys(profile.grpo, GRPOConfig)  # a slip there should not cost an SFT run
    configs.batch_numbers(profile.grpo)
    rows = trace_rows(profile, seed=seed) if rows is None else rows
    columns.check_columns(rows, ["problem", "answer", "working"], why="a warm start")
    path = warm_start_path(profile, rows, seed=seed)
    if not path.exists():
        policy, tokenizer = models.load_policy(profile, rows, seed=seed)
        prompts = data.sft_rows(rows, system_prompt=profile.task["system_prompt"])
        prompts, _ = data.keep_short(prompts, tokenizer, max_tokens=profile.policy["max_seq_length"] // 2)
        if callbacks is None:
            callbacks = tracking.Run("sft", profile).callbacks()
        trainer = sft_trainer(policy, tokenizer, prompts, profile, seed=seed, callbacks=callbacks)
        trainer.train()
        with files.replacing(path) as draft:
            trainer.model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        if profile.policy["backend"] == "unsloth":
            return trainer.model, tokenizer  # vLLM is already up; loading an 8B model twice would not fit
    return models.load_policy(profile, path=path)


def trace_rows(profile: SimpleNamespace, *, seed: int = 0) -> list[dict]:
    """Rows with working-out to imitate: the task's own, or those of the data set that `task["traces"]` names."""
    rows, held_out = data.load_task(profile.task, seed=seed)
    if "traces" in profile.task:
        rows = data.without_problems(data.load_rows(profile.task["traces"]), held_out)
    return rows


def warm_start_path(profile: SimpleNamespace, rows: Sequence[dict], *, seed: int = 0) -> Path:
    """Where the warm start of exactly these settings, rows, template and library versions lies."""
    layout = [
        templates.chat_template(profile.task["system_prompt"] or templates.SYSTEM_PROMPT),
        *data.sft_rows(rows[:1]),
    ]
    stack = [version(name) for name in ("torch", "transformers", "trl")]
    sections = [profile.task, profile.policy, profile.lora, profile.sft]
    recipe = json.dumps([sections, list(rows), seed, layout, stack], sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    return tracking.outputs_dir() / profile.name / f"warm_start-{digest}"
