"""The three functions of `rows`, for NVIDIA cards: a row of the tile is a program that reads it once or twice.

On a card the arithmetic is free and memory is not: torch's version reads and writes the tile at every step, a kernel
does all steps between one read and one write. `fold` reads twice, for the largest logit must be known before the first
exponential is written; the second read finds the row in the cache.

1. The width of a tile is known to the compiler (`constexpr`: two of them, the last tile is narrower); temperature,
   softcap and scale are not, so another value compiles nothing anew.
2. Programs are counted along axis 0, which ends at 2³¹ − 1; the other axes end at 65,535.
3. Where a row begins is a product beyond 2³¹ (70,000 rows of 128,256 logits): it is taken in 64 bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from grpo_nb.kernels import rows
from grpo_nb.kernels.rows import Logit, Running, Scores

IS_INTERPRETED = not isinstance(tl.sum, triton.JITFunction)  # TRITON_INTERPRET was set when triton was imported
BLOCK = 2048  # columns at a time: 8 for each of the 256 threads of 8 warps
LOWEST = tl.constexpr(rows.LOWEST)
LOG2_E = tl.constexpr(1.4426950408889634)


def fold(tile: Tensor, targets: Tensor, start: int, running: Running, logit: Logit, *, moment: bool) -> Tensor:
    """Add a tile's columns to the sums, as `rows.fold` does."""
    shrink = torch.empty_like(running.top)
    sums = (running.top, running.total, running.moment, running.target, shrink)
    _launch(_fold, tile, sums, [targets], start, logit, MOMENT=moment)
    return shrink


def exponentials(tile: Tensor, targets: Tensor, start: int, running: Running, logit: Logit) -> None:
    """The tile of raw products becomes exp(z − top), as in `rows.exponentials`."""
    _launch(_exponentials, tile, [running.top], [targets], start, logit)


def gradient(
    tile: Tensor,
    targets: Tensor,
    start: int,
    running: Running,
    logit: Logit,
    scored: Scores,
    coefficient: Tensor,
    entropy_coefficient: Tensor | None = None,
) -> None:
    """The tile of exp(z − top) becomes dL/dx, as in `rows.gradient`."""
    sums = (running.top, running.total, running.target)
    given = (targets, *scored, coefficient, entropy_coefficient)
    _launch(_gradient, tile, sums, given, start, logit, HEATED=entropy_coefficient is not None)


def scales(logit: Logit) -> tuple[float, float]:
    """(inner, outer) of z = outer · tanh(inner · x); without a softcap z = outer · x and inner is 1.

    >>> scales(Logit(temperature=0.5)), scales(Logit(temperature=0.5, softcap=30.0, logit_scale=3.0))
    ((1.0, 2.0), (0.1, 60.0))
    """
    if logit.softcap:
        return logit.logit_scale / logit.softcap, logit.softcap / logit.temperature
    return 1.0, logit.slope


def _launch(kernel, tile: Tensor, sums, given, start: int, logit: Logit, **flags) -> None:
    """One program for each row of the tile.

    Args:
        sums: what the kernel may write, [n] each, without gaps (as `Running.start` makes them).
        given: what it only reads, [n] each or None.
    """
    given = [None if values is None else values.contiguous() for values in given]
    flags |= {"WIDTH": tile.shape[1], "BLOCK": BLOCK, "CAPPED": bool(logit.softcap), "num_warps": 8}
    with torch.cuda.device_of(tile):
        kernel[(len(tile),)](tile, *sums, *given, start, *tile.stride(), *scales(logit), **flags)


@triton.jit
def exp(x):
    return tl.exp2(x * LOG2_E)


@triton.jit
def tanh(x):
    e = exp(-2.0 * tl.abs(x))  # never above 1
    size = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -size, size)


@triton.jit
def log(x):
    """Not −inf at 0: what is multiplied by x afterwards stays 0."""
    return tl.log(tl.maximum(x, 1e-37))


@triton.jit
def logits(x, inner, outer, CAPPED: tl.constexpr):
    """From raw products to z; the scales arrive in float64."""
    if CAPPED:
        x = tanh(x * tl.full([], inner, x.dtype))
    return x * tl.full([], outer, x.dtype)


@triton.jit
def _softcap_slope(z, outer):
    """The softcap's slope, 1 − tanh², where the logits are z."""
    t = z / tl.full([], outer, z.dtype)
    return tl.maximum(1.0 - t * t, 0.0)


@triton.jit
def _distances(tile, column, target, top, column_stride, inner, outer, WIDTH: tl.constexpr, CAPPED: tl.constexpr):
    """z − top of a block of columns; where z is the target or beyond the tile, its exponential is 0."""
    x = tl.load(tile + column * column_stride, mask=column < WIDTH, other=0.0)
    z = logits(x, inner, outer, CAPPED)
    return tl.where((column < WIDTH) & (column != target), z, LOWEST) - top


@triton.jit(do_not_specialize=["start"])
def _fold(
    tile, tops, totals, moments, own, shrinks, targets, start, row_stride, column_stride,
    inner: tl.float64, outer: tl.float64,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr, MOMENT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    tile += row * row_stride
    target = (tl.load(targets + row) - start).to(tl.int32)  # a column of this tile, or none
    old_top, old_total, old_moment = tl.load(tops + row), tl.load(totals + row), tl.load(moments + row)
    is_here = (target >= 0) & (target < WIDTH)
    x = tl.load(tile + target * column_stride, mask=is_here, other=0.0)
    tl.store(own + row, logits(x, inner, outer, CAPPED), mask=is_here)

    largest = tl.full([BLOCK], LOWEST, old_top.dtype)
    for first in range(0, WIDTH, BLOCK):
        column = first + tl.arange(0, BLOCK)
        z = _distances(tile, column, target, 0.0, column_stride, inner, outer, WIDTH, CAPPED)
        largest = tl.maximum(largest, z)
    top = tl.maximum(old_top, tl.max(largest, 0))  # all threads meet here: whatever is written has been read

    total = tl.zeros([BLOCK], old_top.dtype)
    moment = tl.zeros([BLOCK], old_top.dtype)
    for first in range(0, WIDTH, BLOCK):
        column = first + tl.arange(0, BLOCK)
        distance = _distances(tile, column, target, top, column_stride, inner, outer, WIDTH, CAPPED)
        e = exp(distance)
        tl.store(tile + column * column_stride, e, mask=column < WIDTH)
        total += e
        if MOMENT:
            moment += e * distance

    shrink = exp(old_top - top)
    tl.store(shrinks + row, shrink)
    tl.store(tops + row, top)
    tl.store(totals + row, shrink * old_total + tl.sum(total, 0))
    if MOMENT:  # Σ e^d · d of the earlier columns, shifted to the new top
        tl.store(moments + row, shrink * (old_moment + (old_top - top) * old_total) + tl.sum(moment, 0))


@triton.jit(do_not_specialize=["start"])
def _exponentials(
    tile, tops, targets, start, row_stride, column_stride, inner: tl.float64, outer: tl.float64,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    tile += row * row_stride
    target, top = (tl.load(targets + row) - start).to(tl.int32), tl.load(tops + row)
    for first in range(0, WIDTH, BLOCK):
        column = first + tl.arange(0, BLOCK)
        distance = _distances(tile, column, target, top, column_stride, inner, outer, WIDTH, CAPPED)
        tl.store(tile + column * column_stride, exp(distance), mask=column < WIDTH)


@triton.jit(do_not_specialize=["start"])
def _gradient(
    tile, tops, totals, own, targets, logps, rests, entropies, coefficients, heats, start, row_stride, column_stride,
    inner: tl.float64, outer: tl.float64,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, CAPPED: tl.constexpr, HEATED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    tile += row * row_stride
    target, top = (tl.load(targets + row) - start).to(tl.int32), tl.load(tops + row)
    slope = tl.full([], inner, top.dtype) * tl.full([], outer, top.dtype)  # dz/dx without the softcap
    rest = tl.load(rests + row)
    share = rest / tl.load(totals + row)  # of one unit of exp(z − top): its probability
    c = tl.load(coefficients + row).to(top.dtype)
    at_target = c * rest
    if HEATED:
        heat, entropy, logp = tl.load(heats + row).to(top.dtype), tl.load(entropies + row), tl.load(logps + row)
        at_target -= heat * exp(logp) * (logp + entropy)
    if CAPPED:
        at_target *= _softcap_slope(tl.load(own + row), outer)

    for first in range(0, WIDTH, BLOCK):
        column = first + tl.arange(0, BLOCK)
        e = tl.load(tile + column * column_stride, mask=column < WIDTH, other=0.0)
        if HEATED:
            log_p = log(e) + log(share)
            dx = -(e * share) * (heat * (log_p + entropy) + c)
        else:
            dx = e * (-c * share)
        if CAPPED:
            dx *= _softcap_slope(log(e) + top, outer)
        dx = tl.where(column == target, at_target, dx) * slope
        tl.store(tile + column * column_stride, dx, mask=column < WIDTH)
