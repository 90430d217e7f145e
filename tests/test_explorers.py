"""Every explorer, without kernel or browser: its controls, its bounds, and the picture that a saved notebook keeps."""

import asyncio
import base64
import contextlib
import html
import importlib
import io
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from grpo_nb import explorers, plots
from grpo_nb.explorers import panel, sampling

NO_PANEL = ("panel", "experiment")  # what the others share; a button, tests/test_explorers_experiment.py
FILES = sorted(path.stem for path in Path(explorers.__file__).parent.glob("[a-z]*.py") if path.stem not in NO_PANEL)


@pytest.fixture(scope="module", params=FILES)
def shown(request):
    """The panel of one file, as a notebook's cell would make it."""
    module = importlib.import_module(f"grpo_nb.explorers.{request.param}")
    if module is sampling:
        policy, tokenizer, rows = request.getfixturevalue("small_policy")
        return module.explorer(policy, tokenizer, rows[0]["problem"])
    return module.explorer()


@contextlib.contextmanager
def blank(shown):
    """Meanwhile the panel draws nothing: for moves whose picture no test looks at, and it takes most of the time."""
    layers, shown.layers = shown.layers, (dict, lambda values, frame: Figure(figsize=(1, 1)), lambda values: "nothing")
    try:
        yield
    finally:
        shown.layers = layers


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def image_of(page: str) -> dict:
    (image,) = [attributes for tag, attributes in Tags(page).found if tag == "img"]
    return image


def pixels_of(image: dict) -> bytes:
    return base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))


# What every file promises.
def test_every_file_is_told_and_has_the_four_functions():
    assert len(FILES) == 9
    for name in FILES:
        module = importlib.import_module(f"grpo_nb.explorers.{name}")
        assert f"| `{name}`" in explorers.__doc__
        assert all(callable(getattr(module, function)) for function in ("compute", "figure", "caption", "explorer"))


def test_a_notebook_shows_the_controls_and_keeps_the_picture(shown, outputs):
    """Two outputs: a front end shows the controls while their kernel runs, and the picture always."""
    shown._ipython_display_()
    (controls, _), (page, _) = outputs
    assert controls[plots.WIDGET_VIEW]["model_id"] == shown.widget.model_id and not controls["text/html"]
    image, words = image_of(page["text/html"]), shown.caption
    assert image["alt"] == page["text/plain"] == words and plots.WIDGET_VIEW not in page
    assert len(Image.open(io.BytesIO(pixels_of(image))).convert("RGB").getcolors(64)) > 2, "in few colours"
    assert len(str(page)) < 100_000, "a committed output"


def test_the_kept_picture_follows_the_controls(outputs):
    shown, _ = small_panel()
    shown._ipython_display_()
    shown.fields["size"].value = 5
    shown.fields["size"].value = 3
    first, second, refused = outputs[1:]
    assert first[1] == second[1] == refused[1] and first[1]["display_id"], "the same output, changed"
    assert "size 5" in second[0]["text/plain"] and "size 5" in html.unescape(second[0]["text/html"])
    assert 'role="alert"' in refused[0]["text/html"]


def test_the_picture_is_told_in_words_with_numbers(shown):
    words = shown.caption
    assert image_of(shown.view.value)["alt"] == words
    assert any(character.isdigit() for character in words) and len(words) > 60 and words.endswith((".", ")"))
    assert "nan" not in words.lower()


def test_few_controls_each_with_a_name(shown):
    preset, grid, *fold = shown.controls.children
    assert 2 <= len(grid.children) <= 6 and preset is shown.preset
    assert [field.description for field in shown.fields.values()] == list(shown.fields)
    assert {len(box.children) for box in fold[1:]} <= {len(shown.fields) - len(grid.children)}
    room = int(preset.style.description_width.removesuffix("ch"))
    for field in (preset, *shown.fields.values()):  # the names take one width, the fields what is left of theirs
        assert int(field.style.description_width.removesuffix("ch")) == room >= len(field.description)
    columns = grid.layout.grid_template_columns
    assert re.fullmatch(rf"repeat\(auto-fill, minmax\(min\(100%, calc\({room + 12}ch \+ 8em\)\), 1fr\)\)", columns)


def test_rare_controls_are_folded_and_their_values_are_told():
    shown = importlib.import_module("grpo_nb.explorers.batch_flow").explorer()
    *_, button, fold = shown.controls.children
    assert fold.layout.display == "none"
    assert button.description == "more: num_iterations 1, shuffle False, backend trl"
    shown.fields["num_iterations"].value = 2
    assert "num_iterations 2" in button.description
    button.value = True
    assert fold.layout.display != "none"


def test_every_slider_stands_beside_a_named_field(shown):
    grids = [box for box in shown.controls.children if isinstance(box, ipywidgets.GridBox)]
    boxes = [box for grid in grids for box in grid.children if isinstance(box, ipywidgets.HBox)]
    numbers = [
        f for f in shown.fields.values() if isinstance(f, (ipywidgets.BoundedIntText, ipywidgets.BoundedFloatText))
    ]
    assert [box.children[0] for box in boxes] == numbers
    with blank(shown):
        for field, slider in (box.children for box in boxes):
            start, moved = field.value, field.min + 2 * field.step
            assert (slider.min, slider.max, slider.value) == (field.min, field.max, start)
            slider.value = moved
            assert field.value == moved, "the field follows the slider"
            field.value = start
            assert slider.value == start, "and the slider the field"
            assert slider.continuous_update, "the picture follows a drag"
    shown.render()


def test_numbers_stay_within_their_bounds(shown):
    start = dict(shown.values)
    for name, field in shown.fields.items():
        if not hasattr(field, "max"):
            continue
        for end in (field.min, field.max):
            field.value = end + (1 if end == field.max else -1) * 1000
            assert shown.values[name] == end
            assert image_of(shown.view.value)["alt"] == shown.caption
            assert "role=" not in shown.view.value, f"{name} = {end} must have a picture: {shown.view.value[-300:]}"
        with blank(shown):
            field.value = start[name]
    assert shown.values == start
    shown.render()


def test_every_choice_draws(shown):
    for name, field in shown.fields.items():
        if isinstance(field, ipywidgets.Dropdown):
            start = field.value
            for option in field.options:
                field.value = option
                assert "role=" not in shown.view.value, f"{name} = {option}: {shown.view.value[-300:]}"
            with blank(shown):
                field.value = start


def apart(drawing) -> None:
    """The names along the bottom stand within the figure, none over another."""
    boxes = [text.get_window_extent() for text in drawing.texts]
    for i, box in enumerate(boxes):
        assert box.x1 <= drawing.bbox.x1 and box.y0 >= 0, drawing.texts[i]
        assert not any(box.overlaps(other) for other in boxes[:i]), drawing.texts[i]


def moves(shown, count: int):
    """So many random changes of one control each, to its ends and in between; lines swap halves."""
    chance = random.Random(0)
    for _ in range(count):
        name, field = chance.choice(list(shown.fields.items()))
        if hasattr(field, "options"):
            value = chance.choice(field.options)
        elif hasattr(field, "max"):
            value = chance.choice([field.min, field.max, field.value + chance.randint(-9, 9) * field.step])
        else:
            value = " ".join(field.value.split()[: chance.randint(1, 9)] * chance.randint(1, 2))
        yield name, value


def test_the_picture_is_that_of_a_new_figure(shown):
    """Nothing is left of the last picture, to the last pixel; drawn by matplotlib alone, without what is remembered."""
    assert len(shown.presets) >= 2
    for name, value in [*(("preset", name) for name in shown.presets), *moves(shown, 4)]:
        (shown.preset if name == "preset" else shown.fields[name]).value = value
        if name == "preset":
            assert shown.values == shown.presets[value], "it sets every control, within its bounds"
            assert "role=" not in shown.view.value and shown.preset.value == value
        elif "role=" in shown.view.value:
            continue
        compute, figure, _ = shown.layers
        drawing, new = figure(compute(**shown.values)), io.BytesIO()
        drawing.savefig(new, format="png", dpi=plots.DPI)
        apart(drawing)
        ours, theirs = (
            Image.open(io.BytesIO(data)).convert("RGB")
            for data in (pixels_of(image_of(shown.view.value)), new.getvalue())
        )
        assert ours.size == theirs.size and ImageChops.difference(ours, theirs).getbbox() is None, (name, value)


def test_a_number_in_a_presets_name_is_among_its_values(shown):
    """ "p 1 %, G 8" sets p to 0.01 and the group to 8; a typed line counts with all its numbers."""
    for name, values in shown.presets.items():
        words = " ".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values.values())
        held = {float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", words)}
        for number, percent in re.findall(r"(?<![\w.])(?<![<>] )(-?\d+(?:\.\d+)?)( %)?(?!\w)", name):
            assert float(number) / (100 if percent else 1) in held, f"{name}: {number}{percent} is not in {values}"


# The panel itself.
def small_panel():
    def compute(**values):
        drawn.append(values)
        if values["size"] == 3:
            raise ValueError("size must not be 3 (got 3). Try <b>4</b>.")
        return values

    def figure(values, frame):
        return Figure(figsize=(1, 1))

    def caption(values):
        return f"A figure of size {values['size']} & <script>."

    drawn: list[dict] = []
    controls = {"size": panel.Number(1, 0, 9, 1), "kind": panel.Choice("a", ("a", "b")), "line": panel.Words("x")}
    return panel.Panel((compute, figure, caption), controls, {"both": {"size": 2, "kind": "b"}}), drawn


def test_a_line_is_read_when_it_is_finished():
    shown, _ = small_panel()
    assert shown.fields["line"].continuous_update is False


def test_a_moved_control_draws_once():
    shown, drawn = small_panel()
    shown.fields["size"].value = 5
    assert drawn == [{"size": 1, "kind": "a", "line": "x"}, {"size": 5, "kind": "a", "line": "x"}]
    assert "size 5" in html.unescape(shown.view.value)


def test_a_preset_sets_what_it_does_not_name():
    shown, _ = small_panel()
    shown.fields["line"].value = "y"
    shown.preset.value = "both"
    assert shown.values == {"size": 2, "kind": "b", "line": "x"}


# Where a kernel runs, its loop hands over one message of the front end after the other.
def drag(shown, field: str, values, *, pause: float = 0.0) -> None:
    async def messages():
        for value in values:
            shown.fields[field].value = value
            await asyncio.sleep(pause)
        await asyncio.sleep(2 * panel.WAIT_S)

    asyncio.run(messages())


def test_of_a_drag_the_last_position_is_drawn():
    shown, drawn = small_panel()
    drag(shown, "size", [2, 4, 6, 8, 7])
    assert [values["size"] for values in drawn] == [1, 7] and "size 7" in html.unescape(shown.view.value)


def test_a_slow_drag_is_followed():
    """It does not wait until the hand rests."""
    shown, drawn = small_panel()
    drag(shown, "size", [2, 4, 5, 6, 8, 7], pause=1.2 * panel.WAIT_S)
    assert len(drawn) > 3 and drawn[-1]["size"] == 7


def test_a_drag_that_ends_on_a_refusal_shows_it_and_one_that_passes_it_does_not():
    shown, _ = small_panel()
    drag(shown, "size", [2, 3])
    assert "size must not be 3" in shown.view.value and "size 1" in html.unescape(shown.view.value)
    drag(shown, "size", [2, 3, 4])
    assert "role=" not in shown.view.value and "size 4" in html.unescape(shown.view.value)


def test_presets_and_a_hand_between_two_pictures_make_one():
    shown, drawn = small_panel()

    async def messages():
        shown.preset.value = "both"
        shown.fields["size"].value = 5
        await asyncio.sleep(2 * panel.WAIT_S)

    asyncio.run(messages())
    assert drawn[1:] == [{"size": 5, "kind": "b", "line": "x"}] and shown.preset.value == panel.NONE


def test_who_asks_does_not_wait(outputs):
    """A cell that moves a control and reads the caption, or shows the panel, in one go."""
    shown, drawn = small_panel()

    async def cell():
        shown.fields["size"].value = 5
        assert "size 5" in shown.caption
        shown.fields["size"].value = 6
        shown._ipython_display_()
        await asyncio.sleep(2 * panel.WAIT_S)

    asyncio.run(cell())
    assert "size 6" in outputs[1][0]["text/plain"] and len(drawn) == 3, "and nothing is drawn twice"


def test_a_preset_draws_once_and_a_hand_takes_over():
    shown, drawn = small_panel()
    shown.preset.value = "both"
    assert drawn[1:] == [{"size": 2, "kind": "b", "line": "x"}] and shown.preset.value == "both"
    shown.fields["line"].value = "y"
    assert len(drawn) == 3 and shown.preset.value == panel.NONE


def test_bad_input_is_told_and_the_last_picture_stays():
    shown, _ = small_panel()
    before = image_of(shown.view.value)
    shown.fields["size"].value = 3
    assert image_of(shown.view.value) == before
    assert "size must not be 3 (got 3). Try &lt;b&gt;4" in shown.view.value and 'role="alert"' in shown.view.value
    shown.fields["size"].value = 4
    assert 'role="alert"' not in shown.view.value


def test_words_of_a_figure_cannot_become_markup():
    shown, _ = small_panel()
    assert "<script>" not in shown.view.value and image_of(shown.view.value)["alt"].endswith("& <script>.")


def test_whole_numbers_have_whole_fields():
    shown, _ = small_panel()
    assert isinstance(shown.fields["size"], ipywidgets.BoundedIntText)


@pytest.mark.parametrize(
    "line", ["", "1 two 3", "nan 1", "1 inf", "1 " * 17, "1e9", "9" * 5000, "1 " + " " * 600 + "x"]
)
def test_a_typed_line_must_be_numbers(line):
    with pytest.raises(
        ValueError, match=r"rewards must be 1 to 16 numbers from -1e\+06 .* \(got '.*'\)\. Try 1 0 0 1\."
    ):
        panel.numbers_in(line, what="rewards", example="1 0 0 1")


def test_whole_numbers_and_absent_ones():
    assert panel.numbers_in("3,4 5", what="lengths", example="3", bounds=(1, 9)) == [3, 4, 5]
    for line in ("3.5", "0", "10", "-"):
        with pytest.raises(ValueError, match=r"1 to 16 whole numbers from 1 to 9 with"):
            panel.numbers_in(line, what="lengths", example="3", bounds=(1, 9))
    first, second = panel.numbers_in("1 None", what="rewards", example="1", absent=("-", "none"))
    assert first == 1 and second != second
