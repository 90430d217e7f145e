"""What every explorer shares: named controls, presets, and a picture that stays when no kernel runs.

A `Panel` is not a widget but holds one. Where a kernel runs, Jupyter shows the controls; a saved notebook, GitHub or a
printed page shows the picture of the first setting, with its numbers in words beneath it and as its alt text.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from grpo_nb import plots

NONE = "—"  # the preset of a setting made by hand


@dataclass(frozen=True)
class Number:
    """A number within bounds; whole if all four are. A field to type in (arrow keys step it) and a slider beside it."""

    value: float
    least: float
    most: float
    step: float


@dataclass(frozen=True)
class Choice:
    """One of several options."""

    value: object
    options: tuple


@dataclass(frozen=True)
class Words:
    """A line of text, read when it is finished (enter, or leaving the field)."""

    value: str


class Panel:
    """Controls above a figure that follows them.

    Args:
        draw: the values of the controls as keywords → (Figure, what it shows in one or two sentences with its numbers).
            A `ValueError` is shown in place, and the last good picture stays.
        controls: name → `Number`, `Choice` or `Words`; at most six if possible, named as TRL's config names them.
        presets: name → values of some controls; chosen from a list of their own.
    Attributes:
        widget: the ipywidgets box, to be put into another layout.
        fields: name → the control's widget; set `.value` as a reader would.
        caption: what the figure shows now.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], controls: dict, presets: dict[str, dict] | None = None):
        import ipywidgets

        self.draw, self.presets = draw, presets or {}
        self.fields, boxes = {}, []
        for name, control in controls.items():
            self.fields[name], shown = _field(name, control)
            boxes.append(shown)
        if self.presets:
            self.preset = _choice("preset", [NONE, *self.presets], NONE)
            self.preset.observe(self._take_preset, names="value")
            boxes.insert(0, self.preset)
        self.view = ipywidgets.HTML()
        self._is_taking = False
        for field in self.fields.values():
            field.observe(self._follow, names="value")
        controls_box = ipywidgets.HBox(boxes, layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.widget = ipywidgets.VBox([controls_box, self.view])
        self.render()

    @property
    def values(self) -> dict:
        """Name → value of every control now."""
        return {name: field.value for name, field in self.fields.items()}

    def render(self) -> None:
        """Draw the figure of the present values, or say beneath the last one why there is none."""
        try:
            figure, self.caption = self.draw(**self.values)
        except ValueError as error:
            self.view.value = f'{self._html()}<p role="alert"><b>{plots.safe_text(error)}</b></p>'
            return
        self._png = plots.png(figure)
        self.view.value = self._html()

    def _html(self) -> str:
        words = plots.safe_text(self.caption)
        picture = f'<img alt="{words}" src="data:image/png;base64,{self._png}" style="max-width:100%">'
        caption = f'<figcaption style="max-width:46em;line-height:1.4">{words}</figcaption>'
        return f'<figure style="margin:0">{picture}{caption}</figure>'

    def _follow(self, _change) -> None:
        if self._is_taking:
            return
        if self.presets:
            self._is_taking, self.preset.value = True, NONE
            self._is_taking = False
        self.render()

    def _take_preset(self, change) -> None:
        if self._is_taking or change["new"] == NONE:
            return
        self._is_taking = True  # one picture at the end, not one for every control
        try:
            for name, value in self.presets[change["new"]].items():
                self.fields[name].value = value
        finally:
            self._is_taking = False
        self.render()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """The live widget for a kernel's front end; the picture and its words for everybody else."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/html": self._html(),
            "image/png": self._png,
            "text/plain": self.caption,
        }


def drawn(compute: Callable, figure: Callable, caption: Callable) -> Callable[..., tuple[Figure, str]]:
    """An explorer's three functions as the one that a `Panel` draws with."""

    def draw(**values) -> tuple[Figure, str]:
        numbers = compute(**values)
        return figure(numbers), caption(numbers)

    return draw


def numbers_in(
    text: str,
    *,
    what: str,
    example: str,
    count: tuple[int, int] = (1, 16),
    bounds: tuple[float, float] = (-1e6, 1e6),
    absent: tuple[str, ...] = (),
) -> list[float]:
    """The numbers of a typed line, separated by spaces or commas.

    Args:
        what, example: name and good value of the line, for the refusal.
        count: at least and at most so many.
        bounds: least and largest number; only whole numbers pass if both are whole.
        absent: words for a number that is not there: NaN.
    Raises: ValueError if there are too few, too many, too large ones, or something else is among them.

    >>> numbers_in("1, 0 -", what="rewards", example="1 0", absent=("-",))
    [1.0, 0.0, nan]
    """
    words, is_whole = text.replace(",", " ").lower().split(), all(isinstance(bound, int) for bound in bounds)
    try:
        found = [math.nan if word in absent else (int if is_whole else float)(word) for word in words]
    except ValueError:  # no number, or one with more digits than Python reads
        found = []
    fits = [word in absent or bounds[0] <= number <= bounds[1] for word, number in zip(words, found, strict=False)]
    if not count[0] <= len(found) <= count[1] or not all(fits):
        blank = f", or {absent[0]} where there is none," if absent else ""
        raise ValueError(
            f"{what} must be {count[0]} to {count[1]} {'whole ' * is_whole}numbers from {bounds[0]:g} to {bounds[1]:g}"
            f"{blank} with spaces between (got {text[:60]!r}). Try {example}."
        )
    return found


def _look(name: str, characters: int) -> dict:
    """The whole name as description, and room for so many characters: ipywidgets takes both from one width."""
    import ipywidgets

    layout = ipywidgets.Layout(width=f"{len(name) + characters}ch", margin="2px 12px 2px 0")
    return {"description": name, "style": {"description_width": "initial"}, "layout": layout}


def _choice(name: str, options: list, value: object):
    import ipywidgets

    return ipywidgets.Dropdown(options=options, value=value, **_look(name, 8 + max(len(str(o)) for o in options)))


def _field(name: str, control: Number | Choice | Words):
    """The widget that holds the value, and the box that is shown. Every one has its name for a screen reader."""
    import ipywidgets

    if isinstance(control, Choice):
        field = _choice(name, list(control.options), control.value)
        return field, field
    if isinstance(control, Words):
        room = _look(name, max(20, len(control.value) + 6))
        field = ipywidgets.Text(control.value, continuous_update=False, **room)
        return field, field
    limits = {"value": control.value, "min": control.least, "max": control.most, "step": control.step}
    is_whole = all(isinstance(number, int) for number in limits.values())
    field = (ipywidgets.BoundedIntText if is_whole else ipywidgets.BoundedFloatText)(**limits, **_look(name, 12))
    # A slider has no name in a screen reader; the field beside it has, and takes the same keys.
    slider = (ipywidgets.IntSlider if is_whole else ipywidgets.FloatSlider)(
        **limits, readout=False, continuous_update=False, layout=ipywidgets.Layout(width="9em", margin="2px 12px 2px 0")
    )
    ipywidgets.link((field, "value"), (slider, "value"))
    return field, ipywidgets.HBox([field, slider])
