"""Batch arithmetic: how many completions are sampled together, how many updates they make, which counts are legal."""

import math
import numbers
import reprlib
from collections.abc import Callable
from typing import TypeGuard

# What TRL takes where a config is silent, for those who must know it without loading TRL.
DEFAULTS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_generations": 8,
    "num_iterations": 1,
    "max_completion_length": 512,
}
COUNTS = {
    key: DEFAULTS[key] for key in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")
}
STEPS, SIZE = "steps_per_generation", "generation_batch_size"
KEYS = (*COUNTS, STEPS, SIZE)
LEAST = {**dict.fromkeys(KEYS, 1), "num_generations": 2}
MOST = 2**31 - 1  # beyond it nobody means a count, and floats and loops of ours cannot follow
NEAR = {**LEAST, "num_generations": DEFAULTS["num_generations"]}  # what is proposed in place of less than the least
WHY = {"num_generations": ", since an advantage compares completions of one prompt"}


def batch_numbers(settings: dict, *, num_processes: int = 1) -> dict[str, int]:
    """The batch arithmetic of a GRPO config, as TRL resolves it.

    Args:
        settings: keys of `GRPOConfig`; missing ones take TRL's defaults.
    Returns: `generation_batch_size` (completions sampled at once), `unique_prompts` in it, `steps_per_generation`
    (micro-steps that it feeds), `completions_per_update`.
    Raises: ValueError where TRL would refuse, with values that work.
    See: `GRPOConfig.__post_init__`.

    >>> batch_numbers({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_generations": 4})
    {'generation_batch_size': 16, 'unique_prompts': 4, 'steps_per_generation': 2, 'completions_per_update': 16}
    """
    check_counts(settings, num_processes=num_processes)
    device, accumulation, group = counts_of(settings)
    steps, size = settings.get(STEPS), settings.get(SIZE)
    if steps is not None and size is not None:
        raise ValueError(
            f"only one of steps_per_generation and generation_batch_size may be set (got {steps} and {size}). "
            "Drop generation_batch_size."
        )
    at_once = device * num_processes
    if size is None:
        size = at_once * (steps or accumulation)
        step = _least_factor(size // device, group)
        advice = f"per_device_train_batch_size = {-(-device // step) * step}"
    else:
        whole = math.lcm(at_once, group)  # the smallest batch of full groups and full devices
        advice = f"generation_batch_size = {max(1, round(size / whole)) * whole}"
    if size % at_once:
        raise ValueError(
            "generation_batch_size must be a multiple of per_device_train_batch_size × processes "
            f"(got {size}, {device} × {num_processes}). Try {advice}."
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
        "steps_per_generation": size // at_once,
        "completions_per_update": at_once * accumulation,
    }


def counts_of(settings: dict) -> tuple[int, ...]:
    """(per_device_train_batch_size, gradient_accumulation_steps, num_generations), TRL's defaults filled in."""
    return tuple(settings.get(key, default) for key, default in COUNTS.items())


def updates(settings: dict, prompts: int, *, num_processes: int = 1) -> int:
    """Optimizer steps that one pass over the prompts takes; prompts that fill no generation batch are left out.

    See: `RepeatSampler`; `Trainer` counts an accumulation that the end of an epoch cuts short.

    >>> updates({"per_device_train_batch_size": 8, "num_generations": 4}, prompts=65)
    32
    """
    batch = batch_numbers(settings, num_processes=num_processes)
    rounds = prompts // batch["unique_prompts"]
    filled = {**DEFAULTS, **settings}
    micro_steps = rounds * batch[STEPS] * filled["num_iterations"]
    return -(-micro_steps // filled["gradient_accumulation_steps"])


def check_prompts_fill_a_batch(settings: dict, prompts: int, *, num_processes: int = 1) -> None:
    """Refuse fewer prompts than one generation batch takes: TRL would train no step, and say that it has finished."""
    batch = batch_numbers(settings, num_processes=num_processes)
    if prompts >= batch["unique_prompts"]:
        return
    device, _, group = counts_of(settings)
    at_once, wanted = batch[SIZE] // batch[STEPS], prompts * group
    if settings.get(SIZE) is None:  # smaller micro-batches, or fewer of them
        rounds = STEPS if settings.get(STEPS) else "gradient_accumulation_steps"
        ways = [("per_device_train_batch_size", batch[SIZE] // device), (rounds, at_once)]
        choices = [(key, _least_factor(rest, group), wanted // rest) for key, rest in ways]
    else:
        choices = [(SIZE, math.lcm(at_once, group), wanted)]
    fitting = [f"{key} = {room // step * step}" for key, step, room in choices if room >= step]
    if fitting:
        advice = fitting[0]
    elif prompts > 0:  # however small the batch: the same completions, of fewer prompts
        shared = next(many for many in range(prompts, 0, -1) if batch[SIZE] % many == 0)
        advice = f"num_generations = {batch[SIZE] // shared}"
    else:
        advice = "a smaller batch"
    raise ValueError(
        f"the data set must fill one generation batch of {batch['unique_prompts']} prompts (got {prompts}). "
        f"Try {advice}, or add rows."
    )


def check_counts(settings: dict, *, num_processes: int = 1) -> None:
    """Refuse counts that are no whole numbers or too small, with the nearest that makes the whole batch legal.

    Raises: ValueError.
    """
    given = {key: settings.get(key, COUNTS.get(key)) for key in KEYS}
    given = {key: value for key, value in given.items() if value is not None or key in COUNTS}
    wrong = [key for key, value in given.items() if not is_whole(value) or not LEAST[key] <= value <= MOST]
    if not wrong:
        return
    meant = {key: number_meant(given[key], default=COUNTS.get(key, 1)) for key in wrong}
    meant = {key: number if LEAST[key] <= number <= MOST else NEAR[key] for key, number in meant.items()}
    key, value = wrong[0], given[wrong[0]]
    legal = nearest(meant[key], lambda n: is_legal({**settings, **meant, key: n}, num_processes=num_processes))
    least = f"at least {LEAST[key]}{WHY.get(key, '')}"
    must = "a whole number" if not is_whole(value) else f"at most {MOST}" if value > MOST else least
    seen = reprlib.repr(value) if is_whole(value) else f"{reprlib.repr(value)}, {type(value).__name__}"
    advice = f"{key} = {legal or meant[key]}"
    if legal is None and key == "num_generations":  # no group divides this batch
        device = counts_of(settings)[0]
        even = f"{SIZE} = {math.lcm(device * num_processes, 2)}" if SIZE in given else "per_device_train_batch_size = 2"
        advice = f"{key} = 2 and {even}"
    raise ValueError(f"{key} must be {must} (got {seen}). Try {advice}.")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; True is none, though Python counts with it."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value counts things of which there is one at least."""
    return is_whole(value) and value >= 1


def number_meant(value: object, *, default: int) -> int:
    """The whole number next to what was written, in quotes or with a point; `default` if it was none.

    >>> number_meant("4.2", default=1), number_meant(None, default=1)
    (4, 1)
    """
    try:
        return round(float(str(value)))
    except (ValueError, OverflowError):
        return default


def nearest(meant: int, works: Callable[[int], bool]) -> int | None:
    """The count next to `meant` that works; None if none up to 1024 does.

    >>> nearest(10, lambda n: n % 4 == 0)
    8
    """
    candidates = [meant, *sorted(range(1, 1025), key=lambda n: abs(n - meant))]
    return next((n for n in candidates if n > 0 and works(n)), None)


def is_legal(settings: dict, *, num_processes: int) -> bool:
    """Whether a config's batch is one that TRL accepts."""
    device, accumulation, group = counts_of(settings)
    steps, size = settings.get(STEPS), settings.get(SIZE)
    given = [num_processes, *counts_of(settings), *(value for value in (steps, size) if value is not None)]
    if not all(map(is_count, given)) or group < 2 or (steps and size):
        return False
    size = size or device * num_processes * (steps or accumulation)
    return size % (device * num_processes) == size % group == 0


def _group_sizes(size: int, *, near: int) -> list[int]:
    """Divisors of a generation batch, the nearest first; those far beyond `near` are not looked for."""
    return sorted(
        (g for g in range(2, min(size, 8 * near + 64, 4096) + 1) if size % g == 0), key=lambda g: abs(g - near)
    )


def _least_factor(rest: int, group: int) -> int:
    """The least factor of a generation batch that makes whole groups, `rest` being the other factors."""
    return group // math.gcd(rest, group)
