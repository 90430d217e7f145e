"""Compile the Triton kernels for an H200, as their callers launch them, on a machine without one; print what came out.

A process of its own (`python -m tests.triton_builds`), for Triton's interpreter and its compiler exclude each other.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from grpo_nb import kernels
from grpo_nb.kernels import forward_triton, rows_triton
from grpo_nb.kernels.heads import Head
from grpo_nb.kernels.rows import Logit, Running, Scores

NVIDIA = Path(triton.__file__).parent / "backends/nvidia/bin"
H200 = (9, 132)  # generation, processors
CAP = Logit(temperature=0.7, softcap=30.0, logit_scale=2.0)


class NoCard:
    """A driver that says what to compile for; with `warmup` Triton asks it for nothing else."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def resources(cubin: bytes) -> dict[str, int]:
    """Registers of a thread, and the bytes of stack that it spills others to."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([NVIDIA / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True).stdout
    return {name.lower(): int(re.search(rf"{name}:(\d+)", text)[1]) for name in ("REG", "STACK")}


def about(kernel, grid: tuple[int, ...]) -> dict:
    """A launch, and what the compiler made of its kernel."""
    return {
        "kernel": kernel.metadata.name,
        "grid": grid,
        "hash": kernel.hash,
        "shared": kernel.metadata.shared,
        "uses_tensor_cores": "wgmma.mma_async" in kernel.asm["ptx"],
        "wide_loads": len(re.findall(r"ld\.global\.v[24]\.b(?:32|64)|cp\.async\.cg", kernel.asm["ptx"])),
        "row_products": re.findall(r"%(?:tile|x_rows)\S* = arith\.muli .* : (.*?) loc", kernel.asm["ttir"]),
        "scales": re.findall(r"%(?:inner|outer): (f\d+)", kernel.asm["ttir"]),
        **resources(kernel.asm["cubin"]),
    }


def launch_rows(n: int, width: int, dtype: torch.dtype, logit: Logit, *, start: int = 0, full: bool = True) -> None:
    """All three functions, on tensors without memory."""
    tile, targets = torch.empty(n, width, dtype=dtype, device="meta"), torch.empty(n, dtype=torch.long, device="meta")
    running = Running.start(n, tile)
    scored = Scores(running.top, running.total, running.moment)
    rows_triton.fold(tile, targets, start, running, logit, moment=full)
    rows_triton.exponentials(tile, targets, start, running, logit)
    heat = running.moment if full else None
    rows_triton.gradient(tile, targets, start, running, logit, scored, running.total, heat)


def launch_forward(stored: torch.dtype, dtype: torch.dtype, logit: Logit, *, n: int) -> None:
    """Log-probs of n rows with the head of Llama-3 8B."""
    v, h = 128_256, 4096
    hidden, weight, bias = (torch.empty(size, dtype=stored, device="meta") for size in ((2 * n, h), (v, h), (v,)))
    indices = torch.empty(2 * n, dtype=torch.long, device="meta")
    forward_triton.linear_scores(Head(weight, bias, logit, dtype), hidden, indices, indices[:n], moment=True)


def launches() -> Iterator[tuple[str, Callable[[], None]]]:
    """What is launched, with a label."""
    wide, single, double, half = 128_256, torch.float32, torch.float64, torch.bfloat16
    yield "rows", partial(launch_rows, 16, wide, single, Logit(), full=False)
    yield "rows again", partial(launch_rows, 70_001, wide, single, Logit(0.7), start=3, full=False)
    yield "rows in full", partial(launch_rows, 16, wide, single, CAP)
    yield "rows in float64", partial(launch_rows, 16, wide, double, CAP)
    yield "forward", partial(launch_forward, half, half, Logit(), n=4096)
    yield "forward again", partial(launch_forward, half, half, Logit(0.7), n=4098)
    yield "forward with softcap", partial(launch_forward, half, half, CAP, n=4096)
    yield "forward in float32", partial(launch_forward, single, single, CAP, n=4096)
    yield "forward under autocast", partial(launch_forward, single, half, Logit(), n=4096)


def main() -> None:
    """A line of JSON for each launch, then the sentence of a refusal."""
    refusal = ""
    try:
        kernels.linear_logps(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(1).long(), backend="triton")
    except ValueError as error:
        refusal = str(error)
    driver.set_active(NoCard())
    forward_triton._card = lambda device: H200
    compiled, built = JITFunction.run, []

    def run(self, *args, grid, warmup, **flags):
        built.append((compiled(self, *args, grid=grid, warmup=True, **flags), grid))

    JITFunction.run = run
    for label, launch in launches():
        launch()
        while built:
            print(json.dumps({"label": label, **about(*built.pop(0))}))
    print(json.dumps({"refusal": refusal}))


if __name__ == "__main__":
    main()
