"""The record of a comparison as Markdown tables and a figure. Who wins a column is computed, whoever it is."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from grpo_nb import plots

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Column:
    """One column: what a row's number is called, how it is written, and which is best.

    Attributes:
        value: row → number, or None where there is none.
    """

    title: str
    value: Callable[[dict], float | None]
    written: str = "{:.1e}"
    best: Callable = min


def _of(name: str, scale: float = 1.0) -> Callable[[dict], float | None]:
    return lambda row: None if row.get(name) is None else row[name] * scale


ERRORS = [
    Column("error dX", _of("error_hidden")),
    Column("error dW", _of("error_weight")),
    Column("largest error of log p", _of("error_logps")),
]
CPU = [Column("CPU s", _of("s"), "{:.3f}"), Column("least", _of("s_min"), "{:.3f}")]
CUDA = [
    Column("ms", _of("s", 1e3), "{:.1f}"),
    Column("least", _of("s_min", 1e3), "{:.1f}"),
    Column("TFLOP/s of what is needed", _of("flop_per_s", 1e-12), "{:.0f}", max),
]
MEMORY = {
    "cpu": Column("extra MiB", _of("extra_mib"), "{:,.1f}"),
    "cuda": Column("extra MiB", _of("extra_mib"), "{:,.0f}"),
}


def columns_of(rows: list[dict], device: str) -> list[Column]:
    """The columns for a device; on a CPU also times relative to naive logits. Errors of dW only if the head trains."""
    naive = next((row["s"] for row in rows if row["method"] == "naive logits" and "s" in row), None)
    ratio = Column("× naive", lambda row: row["s"] / naive if naive and "s" in row else None, "{:.2f}")
    times = [*CPU, ratio] if device == "cpu" else CUDA
    errors = [c for c in ERRORS if c.title != "error dW" or any(c.value(row) is not None for row in rows)]
    return [*times, MEMORY[device], *errors]


def table(rows: list[dict], columns: list[Column]) -> str:
    """Markdown; the best of each column in bold, all of them where several are written alike.

    A row without a number says why in the first cell; a number that was not taken reads "not measured".

    >>> rows = [{"method": "theirs", "s": 1.0}, {"method": "ours", "s": 2.0}, {"method": "third", "not run": "a why"}]
    >>> print(table(rows, [Column("s", _of("s"), "{:.1f}")]))
    | | s | entropy |
    |---|--:|:-:|
    | theirs | **1.0** |  |
    | ours | 2.0 |  |
    | third | not run (a why) |  |
    """
    texts = [[_text(row, column) for column in columns] for row in rows]
    for place, column in enumerate(columns):
        values = [column.value(row) for row in rows if column.value(row) is not None]
        best = column.written.format(column.best(values)) if values else None
        for cells in texts:
            cells[place] = f"**{best}**" if cells[place] == best else cells[place]
    lines = ["| | " + " | ".join(column.title for column in columns) + " | entropy |"]
    lines.append("|---|" + "--:|" * len(columns) + ":-:|")
    for row, cells in zip(rows, texts, strict=True):
        why = [f"{key} ({row[key]})" for key in ("not run", "failed") if key in row]
        cells = [*why, *[""] * (len(columns) - len(why))] if why else cells
        lines.append(f"| {row['method']} | " + " | ".join(cells) + f" | {'yes' if row.get('entropy') else ''} |")
    return "\n".join(lines)


def _text(row: dict, column: Column) -> str:
    value = column.value(row)
    if value is not None:
        return column.written.format(value)
    return NOT_MEASURED if column.title in ("CPU s", "ms", "extra MiB") else ""


def tables(record: dict) -> str:
    """All cells of a part of the record, each under its title."""
    parts = []
    for cell in record["cells"]:
        heading = f"**{cell['title']}**"
        parts.append(heading + "\n\n" + table(cell["rows"], columns_of(cell["rows"], record["device"])))
    return "\n\n".join(parts)


def colour_of(method: str) -> str:
    """One colour for a family of methods."""
    families = {
        "grpo_nb": "blue",
        "naive": "black",
        "TRL": "orange",
        "Liger": "green",
        "Unsloth": "purple",
        "torch": "red",
    }
    return plots.OKABE_ITO[next((c for name, c in families.items() if method.startswith(name)), "sky")]


def figure(record: dict) -> Figure:
    """Left: time and memory of every method with a frozen head. Right: ours at every size of a tile."""
    drawn = Figure(figsize=(8.0, 3.6), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=[3, 2], sharey=True)
    rows = [row for row in record["cells"][0]["rows"] if "s" in row]
    for row, height in zip(rows, apart([row["extra_mib"] for row in rows]), strict=True):
        colour = colour_of(row["method"])
        left.plot(row["s"], row["extra_mib"], "o", color=colour, ms=6)
        side, place = ("right", 0.93) if has_neighbour(row, rows) else ("left", 1.08)
        left.text(row["s"] * place, height, row["method"], fontsize=7, color=colour, ha=side, va="center")
    for engine, style in (("direction", "o-"), ("fused", "s--")):
        points = [row for row in record["sweep"] if f", {engine}, " in row["method"] and "s" in row]
        times, sizes = [row["s"] for row in points], [row["extra_mib"] for row in points]
        right.plot(times, sizes, style, ms=4, color=plots.COLOURS["policy"])
        side, place = ("right", 0.93) if engine == "direction" else ("left", 1.1)
        for row in points[::2]:
            words = row["method"].split(", ", 1)[1] if row is points[0] else row["method"].split(", ")[-1]
            right.text(row["s"] * place, row["extra_mib"], words, fontsize=6, ha=side, va="center")
    for axes, room in ((left, (0.5, 2.5)), (right, (0.3, 3.0))):
        times = [time for line in axes.lines for time in line.get_xdata()]
        logarithmic(axes.xaxis, (min(times) * room[0], max(times) * room[1]))
    sizes = [row["extra_mib"] for row in rows]
    logarithmic(left.yaxis, (min(sizes) / 2, max(sizes) * 2))
    plots.plain(left, xlabel="CPU seconds a step", ylabel="extra MiB", title="Loss and gradient, frozen head")
    plots.plain(right, xlabel="CPU seconds a step", title="grpo_nb, by size of a tile")
    return drawn


def has_neighbour(row: dict, rows: list[dict]) -> bool:
    """Whether another point stands where this one's label would be, at its right."""
    return any(
        1.05 < other["s"] / row["s"] < 1.5 and 0.7 < other["extra_mib"] / row["extra_mib"] < 1.4 for other in rows
    )


def apart(heights: list[float], ratio: float = 1.33) -> list[float]:
    """Heights for labels on a logarithmic axis: those of the points, raised until neighbours differ by `ratio`.

    >>> apart([100.0, 1.0, 1.1], ratio=2.0)
    [100.0, 1.0, 2.0]
    """
    out, lowest = list(heights), 0.0
    for i in sorted(range(len(heights)), key=heights.__getitem__):
        out[i] = max(heights[i], lowest)
        lowest = out[i] * ratio
    return out


def logarithmic(axis, bounds: tuple[float, float]) -> None:
    """A logarithmic axis with round numbers, written out."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": bounds})
    steps = (1, 2, 5) if bounds[1] / bounds[0] < 100 else (1,)
    ticks = [step * 10.0**power for power in range(-5, 6) for step in steps]
    inside = [tick for tick in ticks if bounds[0] <= tick <= bounds[1]]
    axis.set_ticks(inside, [f"{tick:,g}" for tick in inside])
    axis.set_ticks([], minor=True)
