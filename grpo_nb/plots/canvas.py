"""A figure that is drawn again and again while a control moves: what it costs is kept small, what it shows is not.

Half of the time of a drawing goes into finding room for its texts, and most of the rest into ticks and their numbers.
So the places of the axes are fixed (`frame`), and an axis that says what it said is not drawn again (`Canvas`).
"""

import io

import numpy
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from grpo_nb.plots.pages import DPI
from grpo_nb.plots.palette import WIDE

EDGE, SAMPLE, GAP, LINE = 0.25, 0.42, 0.18, 0.17  # inches: left of a key's rows; a piece of a line; between; a row
LETTER = 0.063  # inches, of a name on average


def frame(rows: int = 1, columns: int = 1, *, sharex=False, sharey=False, points: int = 10, **places: float) -> Figure:
    """A figure of empty axes that stay where they are, whatever is drawn into them.

    Args:
        sharex, sharey: as in `Figure.subplots`.
        points: size of the numbers on the axes.
        places: ends of the axes and gaps between them, in parts of the figure, as `Figure.subplots_adjust` takes them;
            room for titles, labels and a line of legend is left by itself.
    """
    drawing = Figure(figsize=WIDE)
    for axes in drawing.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flat:
        axes.tick_params(labelsize=points)
    drawing.subplots_adjust(**{"left": 0.1, "right": 0.98, "bottom": 0.25, "top": 0.9, **places})
    return drawing


def key(figure: Figure, named: dict[str, Artist]) -> None:
    """Names of lines and bars along the bottom, each behind a piece of its own: a legend in a fifth of the time."""
    width, height = figure.get_size_inches()
    rows, left = [[]], EDGE
    for name in named:
        if rows[-1] and left + SAMPLE + LETTER * len(name) > width:
            rows, left = [*rows, []], EDGE
        rows[-1].append((left / width, name))
        left += SAMPLE + LETTER * len(name) + GAP
    for line, row in enumerate(rows, start=1):
        middle = (0.1 + LINE * (len(rows) - line)) / height
        for place, name in row:
            start, end = place, place + (SAMPLE - GAP / 2) / width
            if isinstance(artist := named[name], Line2D):
                piece = Line2D([start, (start + end) / 2, end], [middle] * 3)
                piece.update_from(artist)
                piece.set_markevery([1])
            else:
                look = {side: numpy.ravel(getattr(artist, f"get_{side}")())[:4] for side in ("facecolor", "edgecolor")}
                place = (start, middle - 0.04 / height)
                piece = Rectangle(place, end - start, 0.08 / height, hatch=artist.get_hatch(), linewidth=0.8, **look)
            piece.set(transform=figure.transFigure, clip_on=False)
            figure.add_artist(piece)
            figure.text(end + GAP / 3 / width, middle, name, fontsize=8, va="center_baseline")


class Canvas:
    """Figures that are wiped and drawn again; it remembers the pixels of their axes' ticks and labels."""

    def __init__(self):
        self._frames: dict[tuple, Figure] = {}
        self._layers: dict[int, tuple] = {}  # number of an axis → what it says and where; its place and pixels

    def frame(self, *shape: int, **places) -> Figure:
        """The `frame` of these arguments, made once; wiped of what was drawn into it, limits of its axes free again."""
        asked = (*shape, *places.items())
        if asked not in self._frames:
            self._frames[asked] = frame(*shape, **places)
        drawing = self._frames[asked]
        for artist in [*drawing.artists, *drawing.texts, *(bars for axes in drawing.axes for bars in axes.containers)]:
            artist.remove()
        for axes in drawing.axes:
            for artist in [*axes.lines, *axes.patches, *axes.collections, *axes.texts]:
                artist.remove()
            axes.relim()
            axes.autoscale()
        return drawing

    def png(self, figure: Figure) -> bytes:
        """The picture of a figure: first the layers of its axes, darkest wins, then all that is drawn over them."""
        if not isinstance(figure.canvas, FigureCanvasAgg):
            FigureCanvasAgg(figure)
            figure.set_dpi(DPI)
            for patch in [figure.patch, *(axes.patch for axes in figure.axes)]:
                patch.set_visible(False)
        every = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
        layers = [self._layer(figure, number, axis) for number, axis in enumerate(every)]
        pixels = _blank(figure)
        for place, layer in layers:
            numpy.minimum(pixels[place], layer, out=pixels[place])
        figure.draw(figure.canvas.get_renderer())
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert("RGB").save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _layer(self, figure: Figure, number: int, axis: Axis) -> tuple:
        """Ticks, numbers and label of an axis, which is invisible for the rest: place on the canvas, and pixels."""
        ticks = axis.get_majorticklocs()
        texts = axis.get_major_formatter().format_ticks(ticks)
        where = (*figure.get_size_inches(), *axis.axes.get_position().bounds, *axis.get_view_interval())
        says = (*where, *ticks, *texts, axis.get_label_text())
        if self._layers.get(number, ("",))[0] != says:
            pixels = _blank(figure)
            axis.set_visible(True)
            axis.draw(figure.canvas.get_renderer())
            ink = pixels.view(numpy.uint32)[:, :, 0] != 0xFFFFFFFF
            inked = [ink.any(axis=other).nonzero()[0] for other in (1, 0)]
            place = tuple(slice(some[0], some[-1] + 1) if len(some) else slice(0) for some in inked)
            self._layers[number] = says, (place, pixels[place].copy())
        axis.set_visible(False)
        return self._layers[number][1]


def _blank(figure: Figure) -> numpy.ndarray:
    """The pixels of a figure's canvas, in white, [height, width, 4]."""
    pixels = numpy.asarray(figure.canvas.get_renderer().buffer_rgba())
    pixels[:] = 255
    return pixels
