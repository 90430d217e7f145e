"""Disk: what a run's checkpoints will take, estimated from its profile, and whether there is room for them."""

from pathlib import Path
from types import SimpleNamespace

from grpo_nb import memory
from grpo_nb.preflight import keys
from grpo_nb.runs import disk_room, resumable

LARGEST = "Qwen3-8B"  # of the checkpoints that the GPU profiles load


def checkpoint_bytes(profile: SimpleNamespace) -> int:
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

    >>> policy_config({"model_name": "Qwen/Qwen3-4B"})["hidden_size"]
    2560
    """
    if "hidden_size" in policy:
        return {"model_type": "qwen3", **policy}
    name = policy["model_name"].rpartition("/")[2]
    return dict(memory.MODELS.get(name, memory.MODELS[LARGEST]))


def check_disk(settings: dict, profile: SimpleNamespace, *, updates: int, folder: Path) -> dict[str, float]:
    """Refuse a run whose checkpoints will not fit beside what is on the disk already.

    Args:
        settings: keys of `GRPOConfig`; missing ones take TRL's defaults.
        updates: optimizer steps of one epoch.
        folder: where runs are written; it need not exist yet.
    Returns: `checkpoints` that lie on the disk at once, and `checkpoint_mib`, the size of one.
    Raises: ValueError with what is free and what is needed, in MiB.
    """
    size, many = checkpoint_bytes(profile), checkpoints_at_once(settings, updates)
    disk_room.check_room(folder, size=size, many=many)
    return {"checkpoints": many, "checkpoint_mib": round(size / disk_room.MIB, 1)}


def checkpoints_at_once(settings: dict, updates: int) -> int:
    """How many checkpoints lie side by side at most in a run with these settings.

    Args:
        updates: optimizer steps of one epoch.

    >>> checkpoints_at_once({"max_steps": 24, "save_steps": 10, "save_total_limit": 2}, updates=100)
    3
    """
    from trl import GRPOConfig

    args = SimpleNamespace(**keys.completed(settings, GRPOConfig))
    steps = resumable.max_steps(args, updates_per_epoch=updates)
    every = resumable.steps_between_saves(args, max_steps=steps, updates_per_epoch=updates)
    return disk_room.checkpoints_at_once(max_steps=steps, every=every, keep=args.save_total_limit)
