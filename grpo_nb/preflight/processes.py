"""Processes: how many fill a batch together."""

import os


def launched() -> int:
    """Processes that torchrun or accelerate started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", 1))
