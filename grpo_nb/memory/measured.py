"""Bytes that work on the CPU really holds, noted by torch's own profiler: what the other files' predictions meet."""

import itertools
import os
from collections.abc import Callable


def held_bytes(work: Callable[[], object]) -> list[int]:
    """Bytes that `work` holds, after each block that torch's CPU allocator hands out or takes back.

    Temporaries inside an operator are among them, scratch of the matrix library and what was there before are not.

    Args:
        work: takes nothing; what it returns is held until the end.
    Returns: running sums, from 0 on: max is the peak, the last one is what `work` still holds when it is done.

    >>> import torch
    >>> held_bytes(lambda: torch.ones(256) + 1)[-1]
    1024
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read at the first use; otherwise it writes two lines for each
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        kept = work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = [0, *itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda event: event.start_ns()))]
    del kept  # alive until here, so that what it holds is counted
    return held


def peak_bytes(work: Callable[[], object]) -> tuple[int, int]:
    """(highest sum of bytes that `work` held at once, what it still holds at its end): see `held_bytes`.

    >>> import torch
    >>> peak_bytes(lambda: torch.ones(256) + torch.ones(256))
    (3072, 1024)
    """
    held = held_bytes(work)
    return max(held), held[-1]
