"""A drawing measured in points: boxes, arrows and words; one stage of it is lit, the others are pale."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from grpo_nb.plots.palette import WIDE, ink, pale, readable

WIDTH = 72 * WIDE[0]  # points
SMALL, LARGE = 11, 12.5  # points, of letters: read at half the size too
GREY, PALEST = "#6A6A6A", "#F4F4F4"  # of letters and of boxes that are not lit: a contrast of 5


class Sketch:
    """An empty drawing; its origin is the lower left corner.

    Args:
        height: points.
        stages: their names, in order.
        lit: the stage that stands out by colour, by thick lines and by bold letters; None: all are alike.
    Raises: ValueError for a stage that is not there.
    """

    def __init__(self, height: float, stages: Sequence[str] = (), lit: str | None = None):
        if lit is not None and lit not in stages:
            raise ValueError(f"lit must be None or one of {', '.join(stages)} (got {lit!r}). Try {stages[0]!r}.")
        self.lit, self.height = lit, height
        self.figure = Figure(figsize=(WIDE[0], height / 72))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(0, height))
        self.axes.set_axis_off()

    def is_pale(self, stage: str | None) -> bool:
        """Whether another stage is lit."""
        return self.lit is not None and stage != self.lit

    def thick(self, stage: str | None) -> float:
        """Width of a stage's lines, in points."""
        return 3.0 if stage == self.lit and stage else 0.8 if self.is_pale(stage) else 1.5

    def write(self, stage: str | None, x: float, y: float, text: str, *, colour: str = "#000000", **look) -> None:
        """Words, centred at a place, in a colour that is read on white; large ones are bold unless pale."""
        is_bold = look.setdefault("fontsize", SMALL) > SMALL and not self.is_pale(stage)
        va = "center" if "\n" in text else "center_baseline"
        look = {"ha": "center", "va": va, "linespacing": 1.15} | look
        look |= {"color": GREY if self.is_pale(stage) else readable(colour), "clip_on": False}
        self.axes.text(x, y, text, weight="bold" if is_bold else "normal", **look)

    def box(self, stage: str | None, place: tuple[float, float, float, float], colour: str, text: str = "", **look):
        """A rounded box, (left, bottom, width, height), pale within and of its colour at the edge, with words in it."""
        left, bottom, width, height = place
        fill, edge = (PALEST, pale(colour)) if self.is_pale(stage) else (pale(colour), colour)
        style = {"boxstyle": "round,pad=0,rounding_size=5", "clip_on": False}
        line = {"facecolor": fill, "edgecolor": edge, "linewidth": self.thick(stage)}
        self.axes.add_patch(FancyBboxPatch((left, bottom), width, height, **style, **line))
        if text:
            self.write(stage, left + width / 2, bottom + height / 2, text, **{"colour": ink(pale(colour)), **look})

    def bar(self, stage: str | None, place: tuple[float, float, float, float], colour: str) -> None:
        """A filled rectangle, (left, bottom, width, height)."""
        left, bottom, width, height = place
        fill = pale(colour) if self.is_pale(stage) else colour
        self.axes.bar(left, height, width, bottom, align="edge", color=fill, clip_on=False)

    def arrow(
        self, stage: str | None, start: tuple[float, float], end: tuple[float, float], colour: str = "#000000", **look
    ) -> None:
        """An arrow; `width` says how much thicker than the stage's lines, `arc` how far it bends."""
        width, arc = look.pop("width", 1.0), look.pop("arc", 0)
        shade = pale(colour) if self.is_pale(stage) else colour
        style = f"-|>,head_width={2 + 1.2 * width},head_length={3.5 + 1.5 * width}"
        look |= {"linewidth": width * self.thick(stage), "color": shade, "shrinkA": 0, "shrinkB": 0, "clip_on": False}
        bend = {"arrowstyle": style, "connectionstyle": f"arc3,rad={arc}"}
        self.axes.add_patch(FancyArrowPatch(start, end, **bend, **look))

    def line(self, stage: str | None, xs: Sequence[float], ys: Sequence[float], colour: str, **look) -> None:
        """A line through points."""
        look = {"linewidth": self.thick(stage), "clip_on": False} | look
        self.axes.plot(xs, ys, color=pale(colour) if self.is_pale(stage) else colour, **look)
