"""One case, all methods by turns: seconds, extra bytes, errors against float64. What cannot be run says why.

Times on a CPU are those of the process (and of the clock on the wall), on a CUDA card those between two of its events.
Memory is what a step (forward, loss, backward) holds at its highest above what was there before it, gradients included:
on a CPU by torch's profiler, on a card by `max_memory_allocated`.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks import peers
from benchmarks.head.cases import Batch, Case, batch_of, subset, with_exact
from benchmarks.head.methods import OURS, Method
from grpo_nb import memory

MIB = 2**20
SLOW_S = 5.0  # a step that takes longer is not repeated
LIMITS = {torch.bfloat16: 5e-3, torch.float32: 1e-5, torch.float64: 1e-12}  # of our own relative errors


def step(method: Method, batch: Batch) -> dict[str, torch.Tensor]:
    """Forward, loss and backward: the loss, the log-probs if the method has them, the gradients of the leaves."""
    loss, logps = method.run(batch)
    leaves = {"hidden": batch.hidden}
    if batch.weight.requires_grad:
        leaves["weight"] = batch.weight
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return {"loss": loss.detach(), **({} if logps is None else {"logps": logps.detach()}), **found}


def errors(method: Method, batch: Batch) -> dict[str, float]:
    """Distance from float64: ‖g − g64‖ / ‖g64‖ for gradients, the largest difference for log-probs and loss.

    Args:
        batch: from `with_exact`; a copy of its hidden states may be written over.
    """
    leaf = batch.hidden.detach().clone().requires_grad_()
    found, out = step(method, replace(batch, hidden=leaf)), {}
    for name in ("hidden", "weight"):
        if name in found:
            exact = batch.exact[name]
            out[f"error_{name}"] = ((found[name].double() - exact).norm() / exact.norm()).item()
    for name in ("logps", "loss"):
        if name in found:
            out[f"error_{name}"] = (found[name].double() - batch.exact[name]).abs().max().item()
    return out


def seconds(work: Callable[[], object], device: str) -> dict[str, float]:
    """{"s": …, "wall_s": …} of one call: process seconds on a CPU, the card's own seconds on a card."""
    if device == "cpu":
        wall, start = time.perf_counter(), time.process_time()
        work()
        return {"s": time.process_time() - start, "wall_s": time.perf_counter() - wall}
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    wall = time.perf_counter()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return {"s": start.elapsed_time(end) / 1e3, "wall_s": time.perf_counter() - wall}


def extra_mib(work: Callable[[], object], device: str) -> float:
    """MiB that one call holds at its highest above what was there before."""
    if device == "cpu":
        return memory.peak_bytes(work)[0] / MIB
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def attempt(method: Method, batch: Batch, work: Callable[[], dict]) -> dict:
    """What `work` finds, or why it finds nothing: {"not run": …} if it cannot, {"failed": …} if it breaks.

    A peer that breaks stops nobody else; one of ours that breaks is told by `wrong`.
    """
    why = method.why_not(batch)
    if why:
        return {"not run": why}
    try:
        return work()
    except peers.Missing as error:
        return {"not run": str(error)}
    except torch.OutOfMemoryError:
        return {"not run": f"out of memory{_need(method, batch.case)}"}
    except Exception as error:  # a peer may raise anything, on a machine that it was not made for
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:160]}


def _need(method: Method, case: Case) -> str:
    """What the logits alone would take, for a method that holds all of them.

    >>> from benchmarks.head import cases, methods
    >>> _need(methods.METHODS[0], cases.HEADLINE)
    ': needs 235 GiB'
    """
    if not method.full_logits:
        return ""
    return f": needs {method.full_logits * case.live * case.vocabulary / 2**30:.0f} GiB"


def measured(case: Case, methods: list[Method], device: str, *, repeats: int, warm_ups: int) -> list[dict]:
    """A row for each method: medians and least of `repeats` steps, taken by turns, and the step's memory and errors.

    Args:
        repeats: 0 measures errors only; times and memory are then "not measured".
    """
    small = with_exact(batch_of(case if device == "cpu" else subset(case), device))
    rows = [
        {"method": method.name, "entropy": method.entropy}
        | attempt(method, small, lambda method=method: errors(method, small))
        for method in methods
    ]
    entropy = small.exact["entropy"].item()
    del small
    if repeats:
        batch = batch_of(case, device)
        clean = batch.hidden.detach().clone()
        pairs = [(m, row) for m, row in zip(methods, rows, strict=True) if is_able(row)]
        _time_by_turns(pairs, batch, clean, repeats, warm_ups)
    for row in rows:
        row["mean_entropy"] = entropy
    return rows


def _time_by_turns(pairs: list[tuple[Method, dict]], batch: Batch, clean: torch.Tensor, repeats: int, warm_ups: int):
    """Add times and memory to the rows: warm-ups and memory first, then every method once, then once again, …"""
    device = batch.hidden.device.type

    def restored(method: Method) -> Callable[[], object]:
        batch.hidden.data.copy_(clean)  # one of ours writes over it
        return lambda: step(method, batch)

    def prepared(method: Method) -> dict:
        for _ in range(warm_ups):
            if seconds(restored(method), device)["wall_s"] > SLOW_S:
                break
        return {"extra_mib": extra_mib(restored(method), device)}

    for method, row in pairs:
        row.update(attempt(method, batch, lambda method=method: prepared(method)))
    times = {method.name: [] for method, row in pairs if is_able(row)}
    for _ in range(repeats):
        for method, _row in pairs:
            taken = times.get(method.name)
            if taken is not None and not (taken and taken[-1]["wall_s"] > SLOW_S):
                taken.append(seconds(restored(method), device))
    for method, row in pairs:
        if method.name in times:
            row.update(_summary(times[method.name], batch.case))


def _summary(times: list[dict], case: Case) -> dict:
    """Median, least and number of the times, and the operations a second that were needed, not those done."""
    median = statistics.median(taken["s"] for taken in times)
    return {
        "s": median,
        "s_min": min(taken["s"] for taken in times),
        "wall_s": statistics.median(taken["wall_s"] for taken in times),
        "repeats": len(times),
        "flop_per_s": case.floor_flop / median,
    }


def is_able(row: dict) -> bool:
    """Whether a row holds numbers."""
    return "not run" not in row and "failed" not in row


def wrong(rows: list[dict], case: Case) -> list[str]:
    """Our own rows that broke, or are further from float64 than the dtype allows, a sentence each."""
    limit, out = LIMITS[case.dtype], []
    for row in rows:
        worst = max(row.get("error_hidden", 0.0), row.get("error_weight", 0.0))
        if row["method"].startswith(OURS) and ("failed" in row or not worst <= limit):
            found = row.get("failed", f"{worst:.2g}")
            out.append(f"{row['method']}: its relative error must be at most {limit:g} (got {found}). {case.title}")
    return out
