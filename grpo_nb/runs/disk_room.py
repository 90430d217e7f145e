"""Room on the disk: what the checkpoints of a run take, and the refusal where they do not fit."""

import contextlib
import shutil
import sys
from pathlib import Path

MIB = 2**20
MARGIN = 64 * MIB  # metrics, figures, the dashboard's files
SMALL_FILES = MIB  # trainer state, random states, seal, settings
BYTES_PER_WORD = 100  # of a tokenizer.json: Qwen3's takes 75 for each of its 151 669 tokens


def checkpoint_bytes(trained: int, *, vocabulary: int) -> int:
    """What one checkpoint takes: the trained weights and two optimizer moments of each, the tokenizer, small files.

    A bound from above: an 8-bit optimizer keeps a quarter of the moments.

    Args:
        trained: bytes of the weights that are trained.
        vocabulary: words of the tokenizer.

    >>> checkpoint_bytes(0, vocabulary=0) == MIB
    True
    """
    return 3 * trained + vocabulary * BYTES_PER_WORD + SMALL_FILES


def checkpoints_at_once(*, max_steps: int, every: int | None, keep: int | None) -> int:
    """How many checkpoints lie side by side at most: every one, or those that are kept and the one being written.

    Args:
        every: optimizer steps between two of them, from `resumable.steps_between_saves`; None: none is written.
        keep: save_total_limit; None keeps all.

    >>> checkpoints_at_once(max_steps=24, every=10, keep=None), checkpoints_at_once(max_steps=24, every=1, keep=2)
    (3, 3)
    """
    if every is None:
        return 0
    saves = -(-max_steps // every)
    return saves if keep is None else min(saves, keep + 1)


def check_room(folder: Path, *, size: int, many: int) -> None:
    """Refuse a run whose checkpoints will not fit beside what is on the disk already.

    Args:
        folder: where they are written; it need not exist yet.
        size: bytes of one checkpoint, and `many` of them at once; with none there is nothing to refuse.
    Raises: ValueError with what is free and what is needed, in MiB.
    """
    free, needed = free_bytes(folder), many * size + MARGIN
    if many and free < needed:
        fewer = int((free - MARGIN) // size) - 1
        advice = f"Try save_total_limit = {fewer}, or f" if fewer >= 2 else "F"
        raise ValueError(
            f"the disk under {folder} must hold {many} checkpoint{'s' if many > 1 else ''} of {size / MIB:.0f} MiB and "
            f"{MARGIN // MIB} MiB of metrics (got {free // MIB} MiB free, {needed / MIB:.0f} MiB needed). "
            f"{advice}ree some room, or point GRPO_NB_OUTPUTS to another disk."
        )


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, which need not exist yet; no limit where a network drive does not say."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(folder)
        if usage.total:
            return usage.free
    return sys.maxsize
