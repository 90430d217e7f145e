"""Checkpoints: whether a run could go on from each, what they will take by its profile, and whether there is room."""

from pathlib import Path
from types import SimpleNamespace

from grpo_nb import memory
from grpo_nb.batchflow import arithmetic
from grpo_nb.memory import decoders
from grpo_nb.preflight import keys, processes
from grpo_nb.runs import disk_room, resumable

LARGEST = "Qwen3-8B"  # of the checkpoints that the GPU profiles load


def largest_checkpoint(profile: SimpleNamespace) -> int:
    """What one checkpoint takes at most: `disk_room.checkpoint_bytes` of the profile's adapter, in 32 bits."""
    config, lora = policy_config(profile.policy), profile.lora
    if not set(lora["target_modules"]) <= memory.linears(config).keys():
        lora = {**lora, "target_modules": "all-linear"}  # a bound for names that only PEFT knows
    adapter = memory.adapter_parameters(config, lora)
    return disk_room.checkpoint_bytes(4 * adapter, vocabulary=config["vocab_size"])


def policy_config(policy: dict) -> dict:
    """The config of a profile's model, as `memory` reads it.

    Args:
        policy: with the dimensions of a tiny Qwen3, or a `model_name`; a name that `memory.MODELS` lacks counts as
            `LARGEST`.

    >>> policy_config({"model_name": "Qwen/Qwen3-4B-Base"})["hidden_size"]
    2560
    """
    if "hidden_size" in policy:
        return {"model_type": "qwen3", **policy}
    return dict(decoders.named(policy["model_name"]) or memory.MODELS[LARGEST])


def check_disk(settings: dict, profile: SimpleNamespace, *, updates: int, folder: Path) -> dict[str, float]:
    """Refuse a run whose checkpoints will not fit beside what is on the disk already.

    Args:
        settings: keys of `GRPOConfig`; missing ones take TRL's defaults.
        updates: optimizer steps of one epoch.
        folder: where runs are written; it need not exist yet.
    Returns: `checkpoints` that lie on the disk at once, and `checkpoint_mib`, the size of one.
    Raises: ValueError with what is free and what is needed, in MiB.
    """
    from trl import GRPOConfig

    args = SimpleNamespace(**keys.completed(settings, GRPOConfig))
    steps = resumable.max_steps(args, updates_per_epoch=updates)
    every = resumable.steps_between_saves(args, max_steps=steps, updates_per_epoch=updates)
    size = largest_checkpoint(profile)
    many = disk_room.checkpoints_at_once(max_steps=steps, every=every, keep=args.save_total_limit)
    disk_room.check_room(folder, size=size, many=many)
    return {"checkpoints": many, "checkpoint_mib": round(size / disk_room.MIB, 1)}


def check_cuts(settings: dict, config_class: type, *, updates: int | None = None) -> None:
    """Refuse checkpoints from which no run could go on; with several processes, none is to.

    Args:
        settings: keys of `config_class` (`trl.GRPOConfig` or `SFTConfig`), as `values` left them.
        updates: optimizer steps of one epoch; None: nobody has counted the rows yet, or they are not ours to count.
    Raises: ValueError with the nearest values from which one could.
    """
    args = SimpleNamespace(**keys.completed(settings, config_class), world_size=processes.launched())
    if hasattr(args, "num_generations"):
        args.steps_per_generation = arithmetic.batch_numbers(settings, num_processes=args.world_size)[arithmetic.STEPS]
    if args.world_size > 1:
        return
    resumable.check_resumable(args)
    if updates is not None:
        steps = resumable.max_steps(args, updates_per_epoch=updates)
        resumable.check_saves(args, max_steps=steps, updates_per_epoch=updates)
