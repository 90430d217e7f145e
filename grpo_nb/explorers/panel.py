"""What every explorer shares: named controls, presets, and a picture that stays when no kernel runs.

A `Panel` is not a widget but holds one. Where a kernel runs, Jupyter shows the controls; a saved notebook, GitHub or a
printed page shows the picture of the first setting, with its numbers in words beneath it and as its alt text.
"""

import asyncio
import base64
import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from grpo_nb import plots

NONE = "—"  # the preset of a setting made by hand
FIELD, SLIDER = 12, "8em"  # characters of a field; width of a slider
WAIT_S = 0.03  # for further changes, before a picture is drawn of all of them


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
        layers: an explorer's three functions: values of the controls as keywords → numbers; numbers, and what makes
            empty axes (`plots.frame`) → Figure; numbers → what it shows, in one or two sentences. A `ValueError` is
            shown in place, and the last good picture stays.
        controls: name → `Number`, `Choice` or `Words`, named as TRL's config names them.
        presets: name → the values that differ from what the controls start with: a preset sets every control.
        rare: names of controls that are folded away, so that at most six are in sight.
    Attributes:
        widget: the ipywidgets box of controls and picture, to be put into another layout.
        fields: name → the control's widget; set `.value` as a reader would.
    """

    def __init__(
        self,
        layers: tuple[Callable, Callable[..., Figure], Callable[..., str]],
        controls: dict[str, Number | Choice | Words],
        presets: dict[str, dict],
        *,
        rare: tuple[str, ...] = (),
    ):
        import ipywidgets

        self.layers, self._canvas, self._due = layers, plots.Canvas(), None
        start = {name: control.value for name, control in controls.items()}
        self.presets = {name: {**start, **values} for name, values in presets.items()}
        width = max(map(len, controls))
        made = {name: _field(name, control, width) for name, control in controls.items()}
        self.fields = {name: field for name, (field, _) in made.items()}
        boxes = {name: box for name, (_, box) in made.items()}
        self.preset = _choice("preset", [NONE, *self.presets], NONE, width)
        folded = [boxes.pop(name) for name in rare]
        shown = [self.preset, _grid([*boxes.values()], width)]
        if rare:
            shown += _fold(_grid(folded, width), {name: self.fields[name] for name in rare})
        self.controls, self.view = ipywidgets.VBox(shown), ipywidgets.HTML()
        self.widget = ipywidgets.VBox([self.controls, self.view])
        self._is_taking = False
        self.preset.observe(self._take_preset, names="value")
        for field in self.fields.values():
            field.observe(self._follow, names="value")
        self.render()

    @property
    def values(self) -> dict:
        """Name → value of every control now."""
        return {name: field.value for name, field in self.fields.items()}

    @property
    def caption(self) -> str:
        """What the figure of these values shows, in words."""
        self.catch_up()
        return self._caption

    def render(self) -> None:
        """Draw the figure of the present values, or say beneath the last one why there is none."""
        if self._due:
            self._due.cancel()
        self._due, (compute, figure, caption) = None, self.layers
        try:
            numbers = compute(**self.values)
            drawing, self._caption = figure(numbers, self._canvas.frame), caption(numbers)
        except ValueError as error:
            self.view.value = f'{self._html()}<p role="alert"><b>{plots.safe_text(error)}</b></p>'
            return
        self._png = self._canvas.png(drawing)
        self.view.value = self._html()

    def catch_up(self) -> None:
        """Draw now what is due, for a reader who does not wait."""
        if self._due:
            self.render()

    def _html(self) -> str:
        words, picture = plots.safe_text(self._caption), base64.b64encode(self._png).decode()
        image = f'<img alt="{words}" src="data:image/png;base64,{picture}" style="max-width:100%">'
        caption = f'<figcaption style="max-width:46em;line-height:1.4">{words}</figcaption>'
        return f'<figure style="margin:0">{image}{caption}</figure>'

    def _follow(self, _change) -> None:
        if self._is_taking:
            return
        self._is_taking, self.preset.value = True, NONE
        self._is_taking = False
        self._draw_soon()

    def _take_preset(self, change) -> None:
        if self._is_taking or change["new"] == NONE:
            return
        self._is_taking = True  # one picture at the end, not one for every control
        try:
            for name, value in self.presets[change["new"]].items():
                self.fields[name].value = value
        finally:
            self._is_taking = False
        self._draw_soon()

    def _draw_soon(self) -> None:
        """One picture for all changes that are there by then: of a drag the last position, never one less."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel
            self.render()
        else:
            self._due = self._due or loop.call_later(WAIT_S, self.render)

    def _ipython_display_(self) -> None:
        """The controls for a kernel's front end; the picture, in few colours, and its words for everybody."""
        self.catch_up()
        self._png = plots.few_colours(self._png)  # a third of the bytes: it may be committed
        self.view.value = self._html()
        # Voila follows no display id, so the picture is in the widget too, and what is saved shows where none lives.
        update = plots.show_live(self.widget, self.view.value, self._caption, instead=True)
        self.view.observe(lambda change: update(change["new"], self._caption), names="value")


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


def _look(name: str, width: int) -> dict:
    """The whole name as description, as wide as the longest of the panel, and a field that fills what is left."""
    import ipywidgets

    layout = ipywidgets.Layout(width="auto", flex="1 1 auto")
    return {"description": name, "style": {"description_width": f"{width}ch"}, "layout": layout}


def _choice(name: str, options: list, value: object, width: int):
    import ipywidgets

    return ipywidgets.Dropdown(options=options, value=value, **_look(name, width))


def _field(name: str, control: Number | Choice | Words, width: int):
    """The widget that holds the value, and the box that is shown. Every one has its name for a screen reader."""
    import ipywidgets

    if isinstance(control, Choice):
        field = _choice(name, list(control.options), control.value, width)
        return field, field
    if isinstance(control, Words):
        field = ipywidgets.Text(control.value, continuous_update=False, **_look(name, width))
        return field, field
    limits = {"value": control.value, "min": control.least, "max": control.most, "step": control.step}
    is_whole = all(isinstance(number, int) for number in limits.values())
    field = (ipywidgets.BoundedIntText if is_whole else ipywidgets.BoundedFloatText)(**limits, **_look(name, width))
    # A slider has no name in a screen reader; the field beside it has, and takes the same keys.
    layout = ipywidgets.Layout(width=SLIDER, flex=f"0 0 {SLIDER}")
    slider = (ipywidgets.IntSlider if is_whole else ipywidgets.FloatSlider)(**limits, readout=False, layout=layout)
    ipywidgets.link((field, "value"), (slider, "value"))
    return field, ipywidgets.HBox([field, slider])


def _grid(boxes: list, width: int):
    """Boxes in columns of one width, as many as there is room for: no row is ragged."""
    import ipywidgets

    columns = f"repeat(auto-fill, minmax(min(100%, calc({width + FIELD}ch + {SLIDER})), 1fr))"
    return ipywidgets.GridBox(boxes, layout=ipywidgets.Layout(grid_template_columns=columns, grid_gap="0 1em"))


def _fold(box, fields: dict) -> list:
    """A button that shows a box or hides it, with the values of its fields on it; a fold of ipywidgets has no key."""
    import ipywidgets

    button = ipywidgets.ToggleButton(layout=ipywidgets.Layout(width="auto"))

    def follow(_=None) -> None:
        button.description = "more: " + ", ".join(f"{name} {field.value}" for name, field in fields.items())
        box.layout.display = "" if button.value else "none"

    for changing in (button, *fields.values()):
        changing.observe(follow, names="value")
    follow()
    return [button, box]
