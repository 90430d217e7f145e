"""Numbers of a run as curves and bars."""

from matplotlib.figure import Figure

from grpo_nb.plots import series
from grpo_nb.plots.palette import COLOURS, OKABE_ITO, WIDE, plain


def curve(
    rows: list[dict],
    keys: tuple[str, ...] = ("reward",),
    *,
    smooth: int = 5,
    title: str = "",
    ylabel: str = "",
    log: str = "",
    levels: dict[str, float] | None = None,
) -> Figure:
    """Logged metrics against the training step: every step as a dot, the running mean as a line.

    Evaluations (`eval_…`) are few, and of the same prompts each time: their line goes through the dots.

    Args:
        rows: lines of a run's metrics.jsonl; rows without a key are passed over.
        keys: metric names as TRL logs them, at most four.
        smooth: steps in the trailing mean.
        log, levels: as in `lines`.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axes, ends = figure.subplots(), []
    others = iter([COLOURS["policy"], COLOURS["before"], COLOURS["reference"], COLOURS["warning"]])
    for key, marker in zip(keys, "osD^", strict=False):
        colour = COLOURS.get(key) or next(others)
        points = series.points(rows, key)
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        span, size, alpha = (1, 5, 1.0) if key.startswith("eval_") else (smooth, 3, 0.35)
        means = series.trailing(values, span)
        axes.plot(steps, values, marker, color=colour, markersize=size, alpha=alpha)
        axes.plot(steps, means, color=colour, linewidth=2)
        ends.append(((steps[-1], means[-1]), key, colour))
    series.finish(axes, ends, log=log, levels=levels if ends else None)
    plain(axes, xlabel="optimizer step", ylabel=ylabel or (keys[0] if len(keys) == 1 else ""), title=title)
    return figure


def resumed(
    whole: list[dict], first: list[dict], second: list[dict], *, sealed: int, key: str = "reward", ylabel: str = ""
) -> Figure:
    """The two halves of a run that was killed and resumed, over the same run uninterrupted.

    Args:
        whole: metrics of the uninterrupted run.
        first: what the killed run had logged; `second` what the resumed one logged.
        sealed: step of the checkpoint in between.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.subplots()
    steps, values = zip(*[(row["step"], row[key]) for row in whole if key in row], strict=True)
    axes.plot(steps, values, color=OKABE_ITO["yellow"], linewidth=9, label="never killed")
    for rows, style, size, colour, label in [
        (first, "o-", 4, COLOURS["before"], "until the kill"),
        (second, "s--", 9, COLOURS["policy"], "resumed"),
    ]:
        steps, values = zip(*[(row["step"], row[key]) for row in rows if key in row], strict=True)
        axes.plot(steps, values, style, color=colour, markersize=size, fillstyle="none", linewidth=1.5, label=label)
    top = axes.get_ylim()[1]
    for step, text, side in [(sealed, "sealed", "right"), (first[-1]["step"], "killed", "left")]:
        axes.axvline(step, color=COLOURS["loss"], linewidth=0.8, linestyle=":")
        offset = -3 if side == "right" else 3
        axes.annotate(text, (step, top), xytext=(offset, 2), textcoords="offset points", ha=side, va="bottom")
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    plain(axes, xlabel="optimizer step", ylabel=ylabel or key)
    return figure


def before_after(
    before: dict, after: dict, *, keys: tuple[str, ...] = ("sampled", "greedy", "format"), title: str = ""
) -> Figure:
    """Held-out shares before and after training, side by side, with 95 % intervals and the numbers on the bars.

    Args:
        before, after: results of `evaluate.accuracy`: shares in [0, 1], and `<key>_interval` where there is one.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.subplots()
    for offset, result, colour, hatch, name in [
        (-0.2, before, COLOURS["before"], "//", "before"),
        (0.2, after, COLOURS["policy"], "", "after"),
    ]:
        for i, key in enumerate(keys):
            low, high = result.get(f"{key}_interval", (result[key], result[key]))
            error = [[result[key] - low], [high - result[key]]]
            axes.bar(
                i + offset,
                result[key],
                0.36,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=name if i == 0 else None,
            )
            axes.errorbar(i + offset, result[key], error, color="black", capsize=3, linewidth=1)
            axes.annotate(
                f"{result[key]:.0%}", (i + offset, high), xytext=(0, 3), textcoords="offset points", ha="center"
            )
    axes.set_xticks(range(len(keys)), keys)
    axes.set_ylim(0, 1.3)  # room for the legend above a full bar
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.legend(frameon=False, loc="upper left", ncols=2)
    plain(axes, ylabel="share of held-out completions", title=title)
    return figure


def bars(
    values: dict[str, float],
    *,
    xlabel: str,
    colour: str = COLOURS["policy"],
    colours: dict[str, str] | None = None,
    log: bool = False,
    title: str = "",
) -> Figure:
    """One horizontal bar per name, the value written at its end.

    Args:
        colours: of those names that do not take `colour`.
        log: a logarithmic axis, on which a dot stands for the bar; 0 stands a decade below the smallest value.
    """
    figure = Figure(figsize=(6.4, 0.6 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    least = min((value for value in values.values() if value > 0), default=1.0) / 10
    for i, name in enumerate(names):
        value, shade = values[name], (colours or {}).get(name, colour)
        place, side = (max(value, least), 1) if log else (value, -1 if value < 0 else 1)
        if log:
            axes.plot(place, i, "o", color=shade, markersize=8)
        else:
            axes.barh(i, value, color=shade)
        look = {"va": "center", "ha": "left" if side > 0 else "right"}
        offset = ((8 if log else 4) * side, 0)
        axes.annotate(f"{value:.3g}", (place, i), xytext=offset, textcoords="offset points", **look)
    axes.set_yticks(range(len(names)), names)
    if log:
        axes.set_xscale("log")
    else:
        axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_ylim(-0.6, len(names) - 0.4)
    plain(axes, xlabel=xlabel, title=title)
    return figure
