"""Several curves in one picture, each with its name at its end; runs of several seeds with their mean and range."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grpo_nb.plots.palette import COLOURS, WIDE, plain, readable

LINE, LETTERS = 12, 22  # points that a line of a name takes; letters of it at most
# Colour and dashes of the first line, the second …: told apart without colour too.
LOOKS = [
    (COLOURS["policy"], "-"),
    (COLOURS["before"], "--"),
    (COLOURS["reward"], "-."),
    (COLOURS["reference"], ":"),
    (COLOURS["warning"], (0, (6, 1, 1, 1, 1, 1))),
    (COLOURS["old"], (0, (8, 2))),
    (COLOURS["loss"], (0, (1, 1))),
    (COLOURS["loss"], (0, (4, 1, 1, 1))),
]


def arms(
    runs: dict[str, list[list[dict]]],
    key: str = "reward",
    *,
    smooth: int = 5,
    levels: dict[str, float] | None = None,
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """A metric of several arms of an experiment: each arm's mean over its seeds, and the range of them.

    Args:
        runs: name of an arm → for each seed the rows of its metrics; rows without the key are passed over.
        smooth: logged values in the trailing mean of a seed, taken before the mean over the seeds.
        levels: as in `lines`.
    Raises: ValueError if there is no arm, or an arm has a seed that never logged the key.
    """
    series = {}
    for name, seeds in runs.items():
        found = _logged(name, seeds, key)
        steps = sorted(set.intersection(*map(set, found)))
        series[name] = (steps, [trailing([seed[step] for step in steps], smooth) for seed in found])
    return lines(series, xlabel="optimizer step", ylabel=ylabel or key, title=title, levels=levels)


def lines(
    series: dict[str, tuple[Sequence[float], Sequence]],
    *,
    xlabel: str,
    ylabel: str = "",
    title: str = "",
    log: str = "",
    levels: dict[str, float] | None = None,
    xticks: Sequence[float] | None = None,
    names_at: float | None = None,
) -> Figure:
    """Curves with their names at their ends, in order of colour and dashes.

    Args:
        series: name → (x, y); y is a number for each x, or such a list for each seed: then mean and range are drawn.
        log: the logarithmic axes: "", "x", "y" or "xy".
        levels: name → a height; a thin dashed line.
        xticks: the marks on the x axis.
        names_at: the x at which the names stand on the lines, for such that meet at their ends.
    Raises: ValueError for no curve, or for more than can be told apart.
    """
    if not 1 <= len(series) <= len(LOOKS):
        raise ValueError(f"a picture holds 1 to {len(LOOKS)} lines (got {len(series)}). Draw some of them.")
    figure = Figure(figsize=WIDE, layout="constrained")
    axes, ends = figure.subplots(), []
    for (name, (xs, ys)), (colour, dashes) in zip(series.items(), LOOKS, strict=False):
        xs = [float(x) for x in xs]
        seeds = _seeds(name, xs, ys)
        columns = list(zip(*seeds, strict=True))
        means = [_mean(column) for column in columns]
        if len(seeds) > 1:
            axes.fill_between(xs, [min(c) for c in columns], [max(c) for c in columns], color=colour, alpha=0.18, lw=0)
            for seed in seeds:
                axes.plot(xs, seed, color=colour, linewidth=0.7, alpha=0.6)
        axes.plot(xs, means, color=colour, linestyle=dashes, linewidth=2.2, label=name)
        place = -1 if names_at is None else min(range(len(xs)), key=lambda i: abs(xs[i] - names_at))
        ends.append(((xs[place], means[place]), name, colour))
    finish(axes, ends, log=log, levels=levels, xticks=xticks, on_lines=names_at is not None)
    plain(axes, xlabel=xlabel, ylabel=ylabel, title=title)
    return figure


def points(rows: list[dict], key: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that have one; NaN and infinity are none."""
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None and math.isfinite(row[key])]


def trailing(values: Sequence[float], span: int) -> list[float]:
    """The mean of each value and of those before it, `span` at most.

    >>> trailing([1, 3, 5], 2)
    [1.0, 2.0, 4.0]
    """
    parts = [values[max(0, i + 1 - span) : i + 1] for i in range(len(values))]
    return [_mean(part) for part in parts]


def finish(
    axes: Axes,
    ends: list[tuple[tuple[float, float], str, str]],
    *,
    log: str = "",
    levels: dict[str, float] | None = None,
    xticks: Sequence[float] | None = None,
    on_lines: bool = False,
) -> None:
    """Scales and levels of a picture of lines, and a name beside each end, (x, y), in its line's colour.

    Args:
        on_lines: whether the names stand on these places, not beside them.
    """
    for letter in log:
        getattr(axes, f"set_{letter}scale")("log")
    if xticks is not None:
        axes.minorticks_off()
        axes.set_xticks(xticks, [f"{x:g}" for x in xticks])
    axes.margins(x=0.02)
    right = axes.get_xlim()[1]
    named = [(end, name, readable(colour), on_lines) for end, name, colour in ends]
    for name, height in (levels or {}).items():
        axes.axhline(height, color=COLOURS["loss"], linestyle=(0, (5, 4)), linewidth=0.9)
        named.append(((right, height), name, COLOURS["loss"], False))
    _label(axes, sorted(named, key=lambda end: end[0][1]))


def _label(axes: Axes, named: list[tuple[tuple[float, float], str, str, bool]]) -> None:
    """Where ends meet, one name stands above the other, as near to their ends as that allows."""
    place, room = (
        axes.yaxis.get_transform().transform,
        72 * WIDE[1] * 0.75,
    )  # points from the lowest value to the highest
    low, high = place(axes.get_ylim())
    names = [textwrap.fill(name, LETTERS) for _, name, *_ in named]
    at = [(place(y) - low) / (high - low) * room for (_, y), *_ in named]
    heights = _apart(at, [LINE * (1 + name.count("\n")) for name in names])
    for (end, _, colour, is_on), name, height, value in zip(named, names, heights, at, strict=True):
        look = {"ha": "center", "bbox": {"color": "white", "pad": 1}} if is_on else {"ha": "left"}
        shift = (0 if is_on else 4, height - value)
        look |= {"xytext": shift, "textcoords": "offset points", "va": "center", "linespacing": 1.0}
        axes.annotate(name, end, color=colour, **look)


def _apart(at: list[float], tall: list[float]) -> list[float]:
    """Heights nearest to those given, in ascending order, at which names that are so tall do not overlap.

    >>> _apart([0, 0, 50], [12, 12, 12])
    [-6.0, 6.0, 50.0]
    """
    below = [sum(tall[:i]) + tall[i] / 2 for i in range(len(tall))]  # where each stood if all stood on each other
    blocks: list[list[float]] = []  # of names that touch: their free heights
    for height, stack in zip(at, below, strict=True):
        blocks.append([height - stack])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    free = [_mean(block) for block in blocks for _ in block]
    return [height + stack for height, stack in zip(free, below, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _seeds(name: str, xs: Sequence[float], ys: Sequence) -> list[list[float]]:
    """One list of numbers a seed, of numbers or of such a list for each seed."""
    rows = [y.tolist() if hasattr(y, "tolist") else y for y in ys]
    rows = rows if rows and isinstance(rows[0], Sequence) else [rows]
    if not len(xs) or {len(row) for row in rows} != {len(xs)}:
        counts = ", ".join(str(len(row)) for row in rows)
        raise ValueError(f"a line must have a value for each x, at least one (got {name!r}: {len(xs)} x, {counts} y).")
    return rows


def _logged(name: str, seeds: list[list[dict]], key: str) -> list[dict[int, float]]:
    """Step → value for each seed of an arm."""
    if not all(isinstance(rows, list) for rows in seeds):
        raise ValueError(f"an arm must be a list of rows for each seed (got {name!r}). Try [run.rows()].")
    found = [dict(points(rows, key)) for rows in seeds]
    if not found or not all(found):
        logged = sorted({k for rows in seeds for row in rows for k in row} - {"step"})
        there = f"only {', '.join(logged)}" if logged else "nothing"
        raise ValueError(f"every seed of an arm must have logged {key!r} (got {name!r}, with {there}).")
    if not set.intersection(*map(set, found)):
        raise ValueError(
            f"the seeds of an arm must have logged {key!r} at the same steps (got {name!r}, with no step in common)."
        )
    return found
