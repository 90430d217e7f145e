"""Disk: what a run's checkpoints take, and whether there is room for them."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

MIB = 2**20
MARGIN = 64 * MIB  # metrics, figures, the dashboard's files
SMALL_FILES = MIB  # trainer state, random states, seal, settings
BYTES_PER_WORD = 100  # of a tokenizer.json: Qwen3's takes 75 for each of its 151 669 tokens

# Published dimensions (config.json) of the checkpoints that the GPU profiles load.
PUBLISHED = {
    "Qwen/Qwen3-4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
    "Qwen/Qwen3-8B": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
}
ALL_PUBLISHED = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}


def adapter_parameters(profile: SimpleNamespace) -> int:
    """Trainable numbers of the LoRA adapter: r·(inputs + outputs) for each projection that it adapts.

    Args:
        profile: its `policy` dict has the dimensions, or a `model_name`; a name that `PUBLISHED` lacks counts as the
            largest there, Qwen3-8B.

    >>> from grpo_nb import profiles
    >>> adapter_parameters(profiles.current("t4"))
    33030144
    """
    size = _dimensions(profile.policy)
    hidden, inner = size["hidden_size"], size["intermediate_size"]
    heads, groups = (size[key] * size["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    inputs_and_outputs = {
        "q_proj": hidden + heads,
        "k_proj": hidden + groups,
        "v_proj": hidden + groups,
        "o_proj": heads + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    widest = max(inputs_and_outputs.values())
    layer = sum(inputs_and_outputs.get(name, widest) for name in profile.lora["target_modules"])
    return profile.lora["r"] * layer * size["num_hidden_layers"]


def _dimensions(policy: dict) -> dict:
    if "hidden_size" in policy:
        return policy
    return {**ALL_PUBLISHED, **PUBLISHED.get(policy["model_name"], PUBLISHED["Qwen/Qwen3-8B"])}


def checkpoint_bytes(profile: SimpleNamespace) -> int:
    """What one checkpoint takes: the adapter and two optimizer moments in 32 bits, the tokenizer, small files.

    A bound from above: an 8-bit optimizer keeps a quarter of the moments.
    """
    tokenizer = _dimensions(profile.policy)["vocab_size"] * BYTES_PER_WORD
    return 3 * 4 * adapter_parameters(profile) + tokenizer + SMALL_FILES


def checkpoints_at_once(settings: dict, updates: int) -> int:
    """How many checkpoints lie side by side at most: every save, or save_total_limit and the one being written.

    Args:
        updates: optimizer steps of one epoch.

    >>> checkpoints_at_once({"max_steps": 24, "save_steps": 10, "save_total_limit": 2}, updates=100)
    3
    >>> checkpoints_at_once({"save_strategy": "no"}, updates=100)
    0
    """
    strategy, steps = settings.get("save_strategy", "steps"), settings.get("max_steps", -1)
    if strategy == "no":
        return 0
    if steps < 1:
        steps = math.ceil(settings.get("num_train_epochs", 3) * updates)
    every = settings.get("save_steps", 500)
    every = math.ceil(every * steps) if every < 1 else every
    saves = math.ceil(steps / (max(1, updates) if strategy == "epoch" else every))
    limit = settings.get("save_total_limit")
    return saves if limit is None else min(saves, limit + 1)


def check_disk(settings: dict, profile: SimpleNamespace, *, updates: int, folder: Path) -> dict[str, float]:
    """Refuse a run whose checkpoints will not fit beside what is on the disk already.

    Args:
        updates: optimizer steps of one epoch.
        folder: where runs are written; it need not exist yet.
    Returns: `checkpoints` that lie on the disk at once, and `checkpoint_mib`, the size of one.
    Raises: ValueError with what is free and what is needed, in MiB.
    """
    size, many = checkpoint_bytes(profile), checkpoints_at_once(settings, updates)
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free, needed = shutil.disk_usage(existing).free, many * size + MARGIN
    if many and free < needed:
        fewer = int((free - MARGIN) // size) - 1
        advice = f"Try save_total_limit = {fewer}, or f" if fewer >= 2 else "F"
        raise ValueError(
            f"the disk under {folder} must hold {many} checkpoint{'s' if many > 1 else ''} of {size / MIB:.0f} MiB and "
            f"{MARGIN // MIB} MiB of metrics (got {free // MIB} MiB free, {needed / MIB:.0f} MiB needed). "
            f"{advice}ree some room, or point GRPO_NB_OUTPUTS to another disk."
        )
    return {"checkpoints": many, "checkpoint_mib": round(size / MIB, 1)}
