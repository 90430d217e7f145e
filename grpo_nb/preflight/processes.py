"""Batch arithmetic of a config on this machine: `batchflow` counts, the launcher's WORLD_SIZE says for how many."""

import os

from grpo_nb.batchflow import arithmetic

COUNTS, KEYS = arithmetic.COUNTS, arithmetic.KEYS


def batch_numbers(settings: dict, *, num_processes: int | None = None) -> dict[str, int]:
    """`arithmetic.batch_numbers` with as many processes as were launched.

    Args:
        settings: keys of `GRPOConfig`; missing ones take TRL's defaults.
        num_processes: world size; None reads WORLD_SIZE, else 1.
    Returns: `generation_batch_size`, `unique_prompts` in it, `steps_per_generation`, `completions_per_update`.
    Raises: ValueError where TRL would refuse, with values that work.

    >>> batch_numbers({"per_device_train_batch_size": 2, "num_generations": 4}, num_processes=4)["unique_prompts"]
    2
    """
    return arithmetic.batch_numbers(settings, num_processes=num_processes or launched())


def updates(settings: dict, prompts: int) -> int:
    """Optimizer steps that one pass over the prompts takes here."""
    return arithmetic.updates(settings, prompts, num_processes=launched())


def check_prompts_fill_a_batch(settings: dict, prompts: int) -> None:
    """Refuse fewer prompts than one generation batch takes here.

    Raises: ValueError.
    """
    arithmetic.check_prompts_fill_a_batch(settings, prompts, num_processes=launched())


def launched() -> int:
    """Processes that torchrun or accelerate started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", 1))
