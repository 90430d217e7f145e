"""A plan of `batchflow` as a timetable: micro-steps to the right, processes downward, a cell for every completion.

There may be three hundred cells: their squares are one artist and their numbers another, for as many would take a
second.
"""

import functools
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from grpo_nb import batchflow
from grpo_nb.plots.palette import COLOURS, OKABE_ITO, WIDE, ink
from grpo_nb.plots.windows import (
    BAND,
    EDGE,
    LEFT,
    LETTER,
    MOST,
    RIGHT,
    SIZE,
    WIDEST,
    Window,
    around,
    size,
    tallest,
    window_of,
)

GREYS = ("#E4E4E4", "#CCCCCC")  # of a band; of a replay
STALE = ("#FFFFFF", "#D9D9D9", "#A6A6A6")  # of staleness 0, 1, and more


@dataclass(frozen=True)
class Cell:
    """A completion as drawn: a square of its prompt's colour with its number, from `place` to the right and down."""

    step: batchflow.MicroStep
    process: int
    prompt: int
    colour: str
    place: tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """The figure of a window, and what of it changes with time: its cells, and the line of each optimizer step."""

    figure: Figure
    axes: Axes
    cells: list[Cell]
    squares: PolyCollection
    numbers: PathCollection
    rules: dict[int, Line2D]

    def colour(self, grounds: list[str]) -> None:
        """A colour for every cell, and on it a number that can be read."""
        self.squares.set_facecolor(grounds)
        self.numbers.set_facecolor([ink(ground) for ground in grounds])


def plot_batch_flow(plan: batchflow.Plan, *, generations: int = 2) -> Figure:
    """Which completion trains when, and on which process: the first generation rounds of a run.

    Time goes to the right, one column for each micro-step; a cell is a completion with its prompt's number, and colours
    go round for neighbours to differ. A line after a micro-step is an optimizer step. Where completions were sampled by
    a policy that has taken optimizer steps since, the number of these is the staleness, the darker the more.

    Args:
        generations: rounds to draw, fewer if the numbers would get too small; the axis says what is left out.
    Raises: ValueError for less than one.
    """
    return draw(window_of(plan, generations=generations)).figure


def draw(window: Window, *, head: float = 0.0) -> Drawing:
    """The figure of a window.

    Args:
        head: inches to leave free above it.
    """
    row = min(MOST, (tallest(window) - around(window)) / window.lines)  # inches
    column = min(WIDEST, (WIDE[0] - LEFT - RIGHT) / window.columns)
    width, tall = max(LEFT + column * window.columns + RIGHT, 4.2), head + around(window) + row * window.lines
    band = BAND / row  # rows
    low, high = -len(window.bands) * band, window.lines + len(window.feet) * band
    figure = Figure(figsize=(width, tall))
    size = (column * window.columns / width, (high - low) * row / tall)
    axes = figure.add_axes((LEFT / width, 1 - (head + EDGE) / tall - size[1], *size))
    axes.set_xlim(0, window.columns)
    axes.set_ylim(high, low)
    axes.spines[:].set_visible(False)
    rules = _bands(axes, window, column=column, band=band)
    cells = _cells(window)
    places, colours = [cell.place for cell in cells], [cell.colour for cell in cells]
    middles = [(left + 0.5, top + 0.5) for left, top in places]
    squares = _squares(axes, places, colours)
    numbers = _numbers(axes, middles, [cell.prompt for cell in cells], colours)
    _feet(axes, window, column=column, band=band)
    names = [(band * (i - len(window.bands) + 0.5), name) for i, name in enumerate(window.bands)]
    names += [(window.top(process) + window.rows / 2, f"process {process}") for process in range(window.processes)]
    names += [(window.lines + band * (i + 0.5), name) for i, name in enumerate(window.feet)]
    axes.set_yticks(*zip(*names, strict=True), fontsize=SIZE)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=4)
    edge = (0.1 - LEFT) / (column * window.columns)  # of the figure, in widths of the cells
    axes.set_xlabel(window.left_out, fontsize=SIZE - 1, ha="left", x=edge)
    return Drawing(figure, axes, cells, squares, numbers, rules)


def _bands(axes: Axes, window: Window, *, column: float, band: float) -> dict[int, Line2D]:
    """Generation rounds, passes over them and optimizer steps, above the cells; the lines of the latter."""
    tops = {name: (i - len(window.bands)) * band for i, name in enumerate(window.bands)}
    steps = window.steps
    in_round = window.plan.steps_per_generation * window.plan.num_iterations
    for generation in sorted({step.generation for step in steps}):
        held = [step for step in steps if step.generation == generation]
        name = f"round {generation}" + f", epoch {held[0].epoch}" * (held[0].epoch > 0)
        whole = f"{name}: {size(window.plan)}"
        texts = [whole, whole.removesuffix(" completions"), name, str(generation)]
        if len(held) < in_round:
            texts = [f"{texts[0]}, {len(held)} of {in_round} micro-steps", *texts]
        _band(axes, window, held, texts, tops["generation"], band=band, column=column)
        for replay in sorted({step.replay for step in held}) if "replay" in tops else ():
            passed = [step for step in held if step.replay == replay]
            texts = [f"replay {replay}" if replay else "first pass", str(replay)]
            _band(axes, window, passed, texts, tops["replay"], band=band, column=column)
    rules, start = {}, 0.0
    for step in steps:
        if step.optimizer_update is None:
            continue
        end = window.left(step) + 1
        look = {"color": COLOURS["loss"], "linewidth": 2.2, "zorder": 4, "clip_on": False}
        (rules[step.optimizer_update],) = axes.plot([end, end], [-band, window.lines], **look)
        text = _fitting([f"step {step.optimizer_update}", str(step.optimizer_update)], (end - start) * column)
        axes.text(end - 0.04 / column, -band / 2, text, ha="right", va="center_baseline", fontsize=SIZE)
        start = end
    return rules


def _band(axes: Axes, window: Window, steps: list, texts: list[str], top: float, *, band: float, column: float) -> None:
    """A grey strip over some micro-steps, with the longest of the texts that has room."""
    start, end = window.left(steps[0]), window.left(steps[-1]) + 1
    grey = GREYS[min(s.replay for s in steps) > 0]
    axes.add_patch(Rectangle((start, top), end - start, band, facecolor=grey, edgecolor="white", linewidth=1.5))
    look = {"ha": "center", "va": "center_baseline", "fontsize": SIZE, "color": ink(grey)}
    axes.text((start + end) / 2, top + band / 2, _fitting(texts, (end - start) * column), **look)


def _fitting(texts: list[str], room: float) -> str:
    """The first text that takes no more than this room in inches; else the last."""
    return next((text for text in texts if len(text) * LETTER <= room), texts[-1])


def _cells(window: Window) -> list[Cell]:
    """A cell for every completion: colour and number say which prompt."""
    colours = _colours(window)
    return [
        Cell(step, process, prompt, colours[prompt], (window.left(step), window.top(process) + row))
        for step in window.steps
        for process, part in enumerate(step.slices[: window.processes])
        for row, prompt in enumerate(part[: window.rows])
    ]


def _colours(window: Window) -> dict[int, str]:
    """A colour for each prompt, in turn as rounds hand them to the processes: neighbours differ."""
    held = [
        (step.generation, process, prompt)
        for step in window.steps
        for process, part in enumerate(step.slices)
        for prompt in part
    ]
    palette = list(OKABE_ITO.values())
    prompts = dict.fromkeys(prompt for *_, prompt in sorted(held, key=lambda place: place[:2]))
    return {prompt: palette[i % len(palette)] for i, prompt in enumerate(prompts)}


def _feet(axes: Axes, window: Window, *, column: float, band: float) -> None:
    """Staleness and number of each micro-step, below its cells."""
    for i, (name, values) in enumerate(window.feet.items()):
        every = 1 + (column < max(len(str(value)) for value in values) * LETTER + 0.03)
        top, lefts = window.lines + band * i, [window.left(step) for step in window.steps]
        greys = [STALE[min(value, len(STALE) - 1)] if name == "staleness" else STALE[0] for value in values]
        _squares(axes, [(left, top) for left in lefts], greys, height=band, gap=1.5)
        middles = [(left + 0.5, top + band / 2) for left in lefts]
        _numbers(axes, middles[::every], values[::every], greys[::every])


def _squares(axes: Axes, places: list, colours: list[str], *, height: float = 1, gap: float = 0.8) -> PolyCollection:
    """Rectangles a column wide, with a white line between them, `gap` points wide."""
    corners = [[(x, y), (x + 1, y), (x + 1, y + height), (x, y + height)] for x, y in places]
    return axes.add_collection(PolyCollection(corners, facecolors=colours, edgecolors="white", linewidths=gap))


def _numbers(axes: Axes, middles: list, values: list[int], grounds: list[str]) -> PathCollection:
    """Numbers centred at these places, each in the ink for its ground."""
    look = {"facecolors": [ink(ground) for ground in grounds], "linewidths": 0, "zorder": 3}
    outlines = [outline(str(value)) for value in values]
    numbers = PathCollection(outlines, offsets=middles, offset_transform=axes.transData, **look)
    numbers.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    return axes.add_collection(numbers)


@functools.lru_cache(1024)
def outline(digits: str) -> Path:
    """Digits as a path in points, their middle at 0. They are all as wide as each other."""
    letters = [_letter(digit) for digit in digits]
    box = letters[0].get_extents()
    wide = _letter("00").get_extents().width - _letter("0").get_extents().width
    middle = ((box.x0 + box.x1 + wide * (len(digits) - 1)) / 2, (box.y0 + box.y1) / 2)
    places = [letter.vertices + (wide * i, 0) - middle for i, letter in enumerate(letters)]
    return Path.make_compound_path(*map(Path, places, [letter.codes for letter in letters]))


@functools.cache
def _letter(text: str) -> TextPath:
    return TextPath((0, 0), text, size=SIZE)
