"""Batch arithmetic: which completions are sampled together, and how many updates they make."""

import math
import numbers
import os

COUNTS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_generations": 8}  # TRL's defaults
STEPS, SIZE = "steps_per_generation", "generation_batch_size"
KEYS = (*COUNTS, STEPS, SIZE)


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
    _check_whole(settings)
    world = num_processes or int(os.environ.get("WORLD_SIZE", 1))
    device, accumulation, group = (settings.get(key, default) for key, default in COUNTS.items())
    steps, size = settings.get("steps_per_generation"), settings.get("generation_batch_size")
    _check_least(settings, world)
    if steps is not None and size is not None:
        raise ValueError(
            f"only one of steps_per_generation and generation_batch_size may be set (got {steps} and {size}). "
            "Drop generation_batch_size."
        )
    if steps is not None and steps < 1:
        raise ValueError(
            f"steps_per_generation must be at least 1 (got {steps}). Drop it, and gradient_accumulation_steps decides."
        )
    if size is None:
        size = device * world * (steps or accumulation)
        step = _least_factor(size // device, group)
        advice = f"per_device_train_batch_size = {math.ceil(device / step) * step}"
    else:
        whole = math.lcm(device * world, group)  # the smallest batch of full groups and full devices
        advice = f"generation_batch_size = {max(1, round(size / whole)) * whole}"
    if size < 1 or size % (device * world):
        raise ValueError(
            "generation_batch_size must be a multiple of per_device_train_batch_size × processes "
            f"(got {size}, {device} × {world}). Try {advice}."
        )
    if size % group:
        fits = _group_sizes(size, near=group)[:3]
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


def _group_sizes(size: int, *, near: int) -> list[int]:
    """Divisors of a generation batch, the nearest first; those far beyond `near` are not looked for."""
    return sorted((g for g in range(2, min(size, 8 * near + 64) + 1) if size % g == 0), key=lambda g: abs(g - near))


def _least_factor(rest: int, group: int) -> int:
    """The least factor of a generation batch that makes whole groups, `rest` being the other factors."""
    return group // math.gcd(rest, group)


def _check_whole(settings: dict) -> None:
    """Refuse counts that are no whole numbers, with the nearest that makes the whole batch legal."""
    for key in KEYS:
        value = settings.get(key, COUNTS.get(key))
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if is_whole or (value is None and key not in COUNTS):
            continue
        try:
            meant = round(float(str(value)))
        except (ValueError, OverflowError):
            meant = COUNTS.get(key, 1)
        candidates = [meant, *sorted(range(1, 1025), key=lambda n: abs(n - meant))]
        legal = next((n for n in candidates if n > 0 and _is_legal({**settings, key: n})), None)
        advice = "Write it without quotes or a point" if legal is None else f"Try {key} = {legal}"
        raise ValueError(f"{key} must be a whole number (got {value!r}, {type(value).__name__}). {advice}.")


def _check_least(settings: dict, world: int) -> None:
    """Refuse counts that are too small to be divided, with one that makes the whole batch legal."""
    device, accumulation, group = (settings.get(key, default) for key, default in COUNTS.items())
    size = settings.get("generation_batch_size")
    if device < 1:
        raise ValueError(
            f"per_device_train_batch_size must be at least 1 (got {device}). "
            f"Try per_device_train_batch_size = {1 if size else max(group, 2)}."
        )
    if accumulation < 1:
        enough = 1 if size else _least_factor(device * world, max(group, 2))
        raise ValueError(
            f"gradient_accumulation_steps must be at least 1 (got {accumulation}). "
            f"Try gradient_accumulation_steps = {enough}."
        )
    if group < 2:
        fits = _group_sizes(size or device * world * (settings.get("steps_per_generation") or accumulation), near=8)
        advice = f"num_generations = {fits[0]}" if fits else "num_generations = 8 and per_device_train_batch_size = 8"
        raise ValueError(
            "num_generations must be at least 2, since an advantage compares completions of one prompt "
            f"(got {group}). Try {advice}."
        )


def updates(settings: dict, prompts: int) -> int:
    """Optimizer steps that one pass over the prompts takes; prompts that fill no generation batch are left out.

    See: `RepeatSampler`; `Trainer` counts an accumulation that the end of an epoch cuts short.

    >>> updates({"per_device_train_batch_size": 8, "num_generations": 4}, prompts=65)
    32
    """
    batch = batch_numbers(settings)
    rounds = prompts // batch["unique_prompts"]
    micro_steps = rounds * batch[STEPS] * settings.get("num_iterations", 1)
    return -(-micro_steps // settings.get("gradient_accumulation_steps", 1))


def check_prompts_fill_a_batch(settings: dict, prompts: int) -> None:
    """Refuse fewer prompts than one generation batch takes: TRL would train no step, and say that it has finished."""
    batch = batch_numbers(settings)
    if prompts >= batch["unique_prompts"]:
        return
    device, _, group = (settings.get(key, default) for key, default in COUNTS.items())
    if settings.get(SIZE) is None:
        rest = batch[SIZE] // device
        key, step = "per_device_train_batch_size", _least_factor(rest, group)
        room = prompts * group // rest
    else:
        key, step = SIZE, math.lcm(batch[SIZE] // batch[STEPS], group)
        room = prompts * group
    advice = f"{key} = {room // step * step}" if room >= step else "a smaller batch"
    raise ValueError(
        f"the data set must fill one generation batch of {batch['unique_prompts']} prompts (got {prompts}). "
        f"Try {advice}, or add rows."
    )


def _is_legal(settings: dict) -> bool:
    try:
        return bool(batch_numbers(settings))
    except ValueError:
        return False
