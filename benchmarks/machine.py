"""What the numbers of a benchmark were taken on."""

import os
import platform
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent


def described() -> dict:
    """Python, processor, card, and the commit that was checked out."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "python": platform.python_version(),
        "processor": names[0] if names else platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit,
    }
