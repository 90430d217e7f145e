"""Data in, Figure out: curves, score tables, coloured tokens, one palette for the series.

Figures are `matplotlib.figure.Figure` objects made without pyplot: no global state, no double display. `show` adds
the alt text.
"""

import base64
import html
import io
import unicodedata

from matplotlib.figure import Figure

# Okabe–Ito: told apart with every common colour-vision deficiency. One colour per concept in the whole series.
OKABE_ITO = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "red": "#D55E00",
    "yellow": "#F0E442",
    "black": "#000000",
}
COLOURS = {
    "policy": OKABE_ITO["blue"],
    "old": OKABE_ITO["sky"],
    "reference": OKABE_ITO["purple"],
    "reward": OKABE_ITO["green"],
    "before": OKABE_ITO["orange"],
    "loss": OKABE_ITO["black"],
    "warning": OKABE_ITO["red"],
}
WIDE = (6.4, 3.2)  # inches


def curve(
    rows: list[dict], keys: tuple[str, ...] = ("reward",), *, smooth: int = 5, title: str = "", ylabel: str = ""
) -> Figure:
    """Logged metrics against the training step: every step as a dot, the running mean as a line.

    Args:
        rows: lines of a run's metrics.jsonl; rows without a key are passed over.
        keys: metric names as TRL logs them, at most four.
        smooth: steps in the trailing mean.
    """
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = figure.subplots()
    others = iter([COLOURS["policy"], COLOURS["before"], COLOURS["reference"], COLOURS["warning"]])
    for key, marker in zip(keys, "osD^", strict=False):
        colour = COLOURS.get(key) or next(others)
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        means = [
            sum(values[max(0, i + 1 - smooth) : i + 1]) / len(values[max(0, i + 1 - smooth) : i + 1])
            for i in range(len(values))
        ]
        axes.plot(steps, values, marker, color=colour, markersize=3, alpha=0.35)
        axes.plot(steps, means, color=colour, linewidth=2)
        axes.annotate(key, (steps[-1], means[-1]), xytext=(4, 0), textcoords="offset points", color=colour, va="center")
    plain(axes, xlabel="optimizer step", ylabel=ylabel or (keys[0] if len(keys) == 1 else ""), title=title)
    axes.margins(x=0.02)
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
    steps, values = zip(*[(row["step"], row[key]) for row in whole], strict=True)
    axes.plot(steps, values, color=OKABE_ITO["yellow"], linewidth=9, label="never killed")
    for rows, style, size, colour, label in [
        (first, "o-", 4, COLOURS["before"], "until the kill"),
        (second, "s--", 9, COLOURS["policy"], "resumed"),
    ]:
        steps, values = zip(*[(row["step"], row[key]) for row in rows], strict=True)
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


def bars(values: dict[str, float], *, xlabel: str, colour: str = COLOURS["policy"], title: str = "") -> Figure:
    """One horizontal bar per name, the value written at its end."""
    figure = Figure(figsize=(6.4, 0.6 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    axes.barh(names, [values[name] for name in names], color=colour)
    for i, name in enumerate(names):
        side = -1 if values[name] < 0 else 1
        axes.annotate(
            f"{values[name]:.3g}",
            (values[name], i),
            xytext=(4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.15)
    plain(axes, xlabel=xlabel, title=title)
    return figure


def plain(axes, *, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Label axes, and take away the two lines that carry no scale."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure, dpi: int = 110) -> str:
    """The figure as a PNG of at most 64 colours, in base64: a third of the bytes, and a notebook keeps many of them."""
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    drawn = Image.open(buffer).convert("RGB")
    drawn.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def png_data_uri(figure: Figure) -> str:
    """The figure as a data URI, to stand in an <img> of a page that has to be one file."""
    return "data:image/png;base64," + png(figure)


def show(figure: Figure, alt: str) -> None:
    """Display a figure with its alt text, for screens and for screen readers.

    Args:
        alt: what the figure shows, in one sentence.
    """
    from IPython.display import HTML, display

    display(HTML(f'<img alt="{html.escape(alt)}" src="{png_data_uri(figure)}">'))


def safe_text(text: object, limit: int = 2000) -> str:
    """Untrusted text as HTML text: escaped, control and direction-changing characters made visible, cut at `limit`.

    >>> safe_text("<b>1</b>\\u202e")
    '&lt;b&gt;1&lt;/b&gt;⟨U+202E⟩'
    """
    text = str(text)
    shown = "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c not in "\n\t" else c
        for c in text[:limit]
    )
    return html.escape(shown) + (f" … ({len(text) - limit} more characters)" if len(text) > limit else "")


def table(rows: list[dict], *, caption: str = "") -> str:
    """Rows as an HTML table, every cell through `safe_text`; floats with three decimals."""
    if not rows:
        return f"<p>{safe_text(caption)}: nothing to show.</p>"
    heads = "".join(f'<th scope="col" style="text-align:left">{safe_text(key)}</th>' for key in rows[0])
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows)
    return f"<table><caption>{safe_text(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f'<td style="text-align:left;white-space:pre-wrap;font-family:monospace">{safe_text(_short(value))}</td>'


def _short(value: object) -> object:
    """A float with three decimals, an interval as its two ends, anything else as it is."""
    if isinstance(value, (list, tuple)):
        return " … ".join(str(_short(end)) for end in value)
    return f"{value:.3f}" if isinstance(value, float) else value


def tokens(pieces: list[tuple[str, str, bool]]) -> str:
    """Tokens as HTML: the colour tells the role, an underline (never colour alone) that the loss trains on it.

    Args:
        pieces: (text, role, is_trained) for each token; roles are system, user, assistant, padding.
    """
    tint = {"system": "#e6e0f0", "user": "#fdebc8", "assistant": "#d3e8f5", "padding": "#eeeeee"}
    spans = "".join(_token(text, role, tint[role], is_trained) for text, role, is_trained in pieces)
    legend = " ".join(
        f'<span style="background:{c};color:#000;padding:2px 6px">{role}</span>' for role, c in tint.items()
    )
    return f'<div style="font-family:monospace;line-height:2.2">{spans}</div><p>{legend} · underlined: trained on</p>'


TOKEN_STYLE = "padding:2px 3px;margin:1px;display:inline-block;white-space:pre"


def _token(text: str, role: str, tint: str, is_trained: bool) -> str:
    line = OKABE_ITO["blue"] if is_trained else "transparent"
    style = f"background:{tint};color:#000;border-bottom:3px solid {line};{TOKEN_STYLE}"
    return f'<span title="{html.escape(role)}" style="{style}">{safe_text(text).replace(chr(10), "⏎")}</span>'
