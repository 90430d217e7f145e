"""What this computer offers: its card, its threads, its free memory."""

import contextlib
import os
import time
from pathlib import Path

from grpo_nb import profiles


def use_fastest_threads(repeats: int = 3) -> int:
    """Probe a small training step with one thread and with all of them, set the faster number, return it.

    On a machine that others load too, one thread often wins: two threads wait for each
    other at every matrix product. Probe again before each long stage.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    layer = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.SiLU(), torch.nn.Linear(512, 256))
    x = torch.randn(2048, 256)
    fastest = {}
    for threads in {1, cores}:
        torch.set_num_threads(threads)
        layer(x).sum().backward()  # warm-up
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            layer(x).sum().backward()
            times.append(time.perf_counter() - start)
        fastest[threads] = min(times)
    best = min(fastest, key=fastest.get)
    torch.set_num_threads(best)
    return best


def machine() -> dict[str, str]:
    """What this computer offers, in words: processor, memory, accelerator, and the profile that suits it.

    a100 needs bf16 (compute capability 8 and later), t4 a card that the gpu extra's torch has kernels for.
    """
    import platform

    import torch

    facts = {"python": platform.python_version(), "torch": torch.__version__, "cores": str(os.cpu_count())}
    if not torch.cuda.is_available():
        return {**facts, "gpu": "none", "profile": "cpu"}
    card = torch.cuda.get_device_properties(0)
    gib = card.total_memory / 2**30
    is_new = (card.major, card.minor) >= profiles.LEAST_CAPABILITY
    profile = "a100" if gib > 38 and card.major >= 8 else "t4" if gib > 14 and is_new else "cpu"
    return {**facts, "gpu": f"{card.name}, {gib:.0f} GiB", "profile": profile}


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has, and what a container leaves to it."""
    import psutil

    free, held = psutil.virtual_memory().available, psutil.Process().memory_info().rss
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups, version 2 and 1
        with contextlib.suppress(OSError, ValueError):  # no such file; "max" is none
            free = min(free, int((Path("/sys/fs/cgroup") / limit).read_text(encoding="utf8")) - held)
    return free
