"""What a run must satisfy besides its batch: how many processes, passes, epochs and prompts, which seed and backend."""

import difflib

from grpo_nb.batchflow import arithmetic

BACKENDS = ("trl", "unsloth")
SEEDS = 2**32  # numpy's generator, which TRL seeds with the same number, knows no more


def check_run(settings: dict, run: dict) -> None:
    """Refuse what is no run, with the nearest that is.

    Args:
        settings: the keys of `arithmetic.KEYS`.
        run: num_processes, num_iterations, num_train_epochs, seed, shuffle, backend.
    Raises: ValueError.
    """
    processes = run["num_processes"]
    if not arithmetic.is_count(processes):
        meant = max(1, arithmetic.number_meant(processes, default=1))
        legal = arithmetic.nearest(meant, lambda n: arithmetic.is_legal(settings, num_processes=n))
        raise ValueError(_no_count("num_processes", processes, legal or meant))
    check_whole(num_iterations=run["num_iterations"], num_train_epochs=run["num_train_epochs"])
    seed, largest = run["seed"], SEEDS - processes  # process k is seeded with seed + k
    if not arithmetic.is_whole(seed) or not 0 <= seed <= largest:
        legal = min(max(0, arithmetic.number_meant(seed, default=42)), largest)
        raise ValueError(f"seed must be a whole number from 0 to {largest} (got {_seen(seed)}). Try seed = {legal}.")
    if not isinstance(run["shuffle"], bool):
        raise ValueError(f"shuffle must be True or False (got {_seen(run['shuffle'])}). Try shuffle = True.")
    check_backend(run["backend"])


def check_backend(backend: object) -> None:
    """Refuse what is none of `BACKENDS`, with the nearest that is.

    Raises: ValueError.
    """
    if backend not in BACKENDS:
        (legal,) = difflib.get_close_matches(str(backend).lower(), BACKENDS, n=1) or BACKENDS[:1]
        raise ValueError(f"backend must be {' or '.join(BACKENDS)} (got {backend!r}). Try backend = {legal!r}.")


def check_whole(*, least: int = 1, **given: object) -> None:
    """Refuse an argument that is no whole number of at least `least`, with the nearest that is.

    Raises: ValueError.
    """
    for key, value in given.items():
        if not arithmetic.is_whole(value) or value < least:
            legal = max(least, arithmetic.number_meant(value, default=least))
            raise ValueError(
                f"{key} must be a whole number of at least {least} (got {_seen(value)}). Try {key} = {legal}."
            )


def check_num_prompts(settings: dict, prompts: int, *, num_processes: int) -> None:
    """Refuse a number of prompts that is none, or that fills no generation batch.

    Raises: ValueError.
    """
    if not arithmetic.is_count(prompts):
        least = arithmetic.batch_numbers(settings, num_processes=num_processes)["unique_prompts"]
        meant = arithmetic.number_meant(prompts, default=least)
        raise ValueError(_no_count("num_prompts", prompts, max(least, meant)))
    arithmetic.check_prompts_fill_a_batch(settings, prompts, num_processes=num_processes)


def _no_count(key: str, value: object, legal: int) -> str:
    return f"{key} must be a whole number of at least 1 (got {_seen(value)}). Try {key} = {legal}."


def _seen(value: object) -> str:
    return str(value) if arithmetic.is_whole(value) else f"{value!r}, {type(value).__name__}"
