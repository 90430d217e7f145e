"""What a linear head holds, costs and pushes: the figures of the notebook on kernels, each with its words."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from grpo_nb.plots.palette import COLOURS, WIDE, plain, readable

NEAR = {"textcoords": "offset points"}


def tensors_held(held: Sequence[float]) -> tuple[Figure, str]:
    """What a forward and a backward pass hold, block by block, in tensors [N, V].

    Args:
        held: `memory.held_bytes` over the bytes of one tensor, a number for each block given out or taken back.
    Returns: the figure, and what it shows in words.
    """
    figure = Figure(figsize=(WIDE[0], 2.4), layout="constrained")
    axes, largest = figure.subplots(), max(held)
    axes.step(range(len(held)), held, where="post", color=COLOURS["policy"])
    axes.set(yticks=range(int(largest) + 1), xticks=[], ylim=(0, largest + 0.6))
    axes.grid(axis="y", alpha=0.4)
    forward = next((i for i, size in enumerate(held) if size >= 2), 0)
    axes.text(forward, held[forward] + 0.1, "forward: logits, log-softmax")
    axes.text(list(held).index(largest), largest + 0.1, "backward")
    plain(axes, xlabel="blocks given out and taken back →", ylabel="tensors [N, V]")
    told = f"{held[forward]:.0f} going forward, {largest:.0f} at most going back, {held[-1]:.1f} at the end"
    return figure, f"Tensors [N, V] that are held: {told}."


def direction_of(weight, shares, hidden, *, target: int) -> tuple[Figure, str]:
    """Rows of W in a plane, and where the gradient of a target's log-probability pushes h.

    Args:
        weight: [V, 2]; shares: [V], their probabilities; hidden: [2], h; all tensors.
        target: the row that is trained.
    Returns: the figure, and what it shows in words.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axes, of_target, others = figure.subplots(), weight[target], 1 - shares[target]
    mean = (shares @ weight - shares[target] * of_target) / others
    for i, ((x, y), share) in enumerate(zip(weight.tolist(), shares.tolist(), strict=True)):
        colour = COLOURS["policy" if i == target else "before"]
        axes.scatter(x, y, s=1500 * share, color=colour, alpha=0.7)
        axes.annotate(f"{'target, ' * (i == target)}p = {share:.2f}", (x, y), (11, 9), **NEAR)
    axes.plot(*zip(mean.tolist(), of_target.tolist(), strict=True), "--", color=COLOURS["loss"])
    axes.plot(*mean.tolist(), "X", color=COLOURS["warning"], markersize=9)
    axes.annotate("mean of the others", mean.tolist(), (4, 15), color=readable(COLOURS["warning"]), **NEAR)
    arrow = {"width": 0.008, "scale": 1, "scale_units": "xy", "angles": "xy"}
    axes.quiver(*hidden.tolist(), *(others * (of_target - mean)).tolist(), color=COLOURS["policy"], **arrow)
    axes.annotate("h, pushed this way", hidden.tolist(), (-48, -16), color=COLOURS["policy"], **NEAR)
    axes.margins(0.2)
    plain(axes, xlabel="first number of a row of W", ylabel="second")
    alt = (
        f"{len(weight)} rows of W; h is pushed the way from the mean of the others to the target, "
        f"{others:.2f} of that way, for the target has p = {shares[target]:.2f}."
    )
    return figure, alt


def head_costs(
    sizes: Sequence[int], peaks: dict[str, Sequence[float]], costs: dict[str | float, tuple[float, float]]
) -> tuple[Figure, str]:
    """Left: peak memory against tokens, a line for each method. Right: time against peak, a mark for each tile.

    Args:
        sizes: tokens.
        peaks: method → MiB at each of the sizes.
        costs: method, or MiB of a tile → its (MiB, milliseconds) at one size.
    Returns: the figure, and what it shows in words.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    left, right = figure.subplots(1, 2)
    _peaks(left, sizes, peaks)
    _times(right, costs)
    told = "; ".join(
        f"{name if isinstance(name, str) else f'a tile of {name:g} MiB'} {peak:.1f} MiB and {time:.0f} ms"
        for name, (peak, time) in costs.items()
    )
    grown = ", ".join(f"{name} {curve[0]:.1f} to {curve[-1]:.1f}" for name, curve in peaks.items())
    return figure, f"Peak MiB from {sizes[0]} to {sizes[-1]} tokens: {grown}. At one size: {told}."


def _peaks(axes: Axes, sizes: Sequence[int], peaks: dict[str, Sequence[float]]) -> None:
    looks = zip(("before", "old", "reference", "policy"), "os+^", strict=True)
    for (name, curve), (colour, mark) in zip(peaks.items(), looks, strict=False):
        axes.loglog(sizes, curve, mark + "-", color=COLOURS[colour], markersize=5, label=name)
    axes.legend(frameon=False, fontsize=9, loc="upper left", borderpad=0, labelspacing=0.2)
    values = [value for curve in peaks.values() for value in curve]
    axes.set_ylim(top=10 * max(values))  # room for the names
    _mark(axes.yaxis, max(values) / min(values))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    plain(axes, xlabel="tokens N", ylabel="peak, MiB")


def _times(axes: Axes, costs: dict[str | float, tuple[float, float]]) -> None:
    tiles = {tile: cost for tile, cost in costs.items() if not isinstance(tile, str)}
    axes.loglog(*zip(*tiles.values(), strict=True), "^-", color=COLOURS["policy"])
    fastest = min(tiles.values(), key=lambda cost: cost[1])
    for tile, cost in tiles.items():  # beside the curve that falls, below its foot, beside the curve that rises
        x, side = (-6, "right") if cost[0] < fastest[0] else (0, "center") if cost == fastest else (6, "left")
        axes.annotate(f"{tile:g}", cost, (x, -8 if x else -16), ha=side, **NEAR)
    for name, cost in costs.items():
        if isinstance(name, str):
            axes.loglog(*cost, "o", color=COLOURS["before"])
            axes.annotate(name, cost, (-6, 6), ha="right", **NEAR)
    axes.margins(0.25, 0.15)
    for axis, values in zip((axes.xaxis, axes.yaxis), zip(*costs.values(), strict=True), strict=True):
        _mark(axis, max(values) / min(values))
    plain(axes, xlabel="peak, MiB; marks: tile, MiB", ylabel="milliseconds, here")


def _mark(axis: Axis, span: float) -> None:
    """Plain numbers on a logarithmic axis, fewer in a decade the more decades there are."""
    in_decade = (1,) if span > 300 else (1, 3) if span > 30 else (1, 2, 5) if span > 8 else (1, 2, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=in_decade, numticks=6))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
