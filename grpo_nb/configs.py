"""What a config must satisfy, checked in milliseconds and without a model: keys, values, batch arithmetic."""

import dataclasses
import difflib
import math
import os

# Names from older releases and tutorials → today's name in TRL, or what to do instead.
RENAMED = {
    "kl_coef": "beta",
    "max_new_tokens": "max_completion_length",
    "max_prompt_length": "no key: filter the rows with data.keep_short",
    "max_seq_length": "max_length in SFTConfig; a policy's key in a profile",
    "warmup_ratio": "warmup_steps below 1, which is a share",
    "vllm_sampling_params": "temperature, top_p, top_k, min_p, generation_kwargs",
    "vllm_importance_sampling_cap": "vllm_importance_sampling_clip_max",
    "train_batch_size": "per_device_train_batch_size",
}


def check_keys(settings: dict, config_class: type) -> None:
    """Refuse keys that the config class does not know.

    Plain TRL raises a TypeError for them; under Unsloth they are dropped and training goes on without them.

    Raises: ValueError naming each unknown key and today's name for it.
    """
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = [key for key in settings if key not in known]
    if not unknown:
        return
    hints = []
    for key in unknown:
        near = difflib.get_close_matches(key, known, n=1)
        hints.append(f"{key} → {RENAMED.get(key) or (near[0] if near else 'no such setting')}")
    raise ValueError(
        f"every key must be a field of {config_class.__name__} (got {', '.join(unknown)}). "
        f"Today's names: {'; '.join(hints)}."
    )


def batch_numbers(settings: dict, *, num_processes: int | None = None) -> dict[str, int]:
    """The batch arithmetic of a GRPO config, as TRL resolves it.

    Args:
        settings: keys of `GRPOConfig`; missing ones take TRL's defaults.
        num_processes: world size; None reads WORLD_SIZE, else 1.
    Returns: `generation_batch_size` (completions sampled at once), `unique_prompts` in it, `steps_per_generation`
    (micro-steps that it feeds), `completions_per_update`.
    Raises: ValueError where TRL would refuse, with values that work.
    See: `GRPOConfig.__post_init__`.

    >>> batch_numbers({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_generations": 4})
    {'generation_batch_size': 16, 'unique_prompts': 4, 'steps_per_generation': 2, 'completions_per_update': 16}
    """
    world = num_processes or int(os.environ.get("WORLD_SIZE", 1))
    device = settings.get("per_device_train_batch_size", 8)
    accumulation = settings.get("gradient_accumulation_steps", 1)
    group = settings.get("num_generations", 8)
    steps, size = settings.get("steps_per_generation"), settings.get("generation_batch_size")
    if min(device, accumulation, group) < 1 or group < 2:
        raise ValueError(
            "per_device_train_batch_size and gradient_accumulation_steps must be at least 1, and num_generations "
            "at least 2 since an advantage compares completions of one prompt "
            f"(got {device}, {accumulation} and {group}). Try num_generations=8."
        )
    if steps is not None and size is not None:
        raise ValueError(
            f"only one of steps_per_generation and generation_batch_size may be set (got {steps} and {size}). "
            "Drop generation_batch_size."
        )
    if size is None:
        size = device * world * (steps or accumulation)
        bigger = next(d for d in range(device, device + group + 1) if size // device * d % group == 0)
        advice = f"per_device_train_batch_size = {bigger}"
    else:
        whole = math.lcm(device * world, group)  # the smallest batch of full groups and full devices
        advice = f"generation_batch_size = {max(1, round(size / whole)) * whole}"
    if size % (device * world):
        raise ValueError(
            "generation_batch_size must be a multiple of per_device_train_batch_size × processes "
            f"(got {size}, {device} × {world}). Try {advice}."
        )
    if size % group:
        fits = sorted((g for g in range(2, size + 1) if size % g == 0), key=lambda g: abs(g - group))[:3]
        others = f"num_generations = {' or '.join(map(str, sorted(fits)))}, or " if fits else ""
        raise ValueError(
            "the generation batch must be a multiple of num_generations "
            f"(got {size} completions, num_generations = {group}). Try {others}{advice}."
        )
    return {
        "generation_batch_size": size,
        "unique_prompts": size // group,
        "steps_per_generation": size // (device * world),
        "completions_per_update": device * accumulation * world,
    }
