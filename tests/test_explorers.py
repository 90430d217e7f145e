"""Every explorer, without kernel or browser: its controls, its bounds, and the picture that a saved notebook keeps."""

import base64
import contextlib
import html
import importlib
import re
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets
import pytest
from matplotlib.figure import Figure

from grpo_nb import explorers
from grpo_nb.explorers import panel, sampling

NO_PANEL = ("panel", "experiment")  # what the others share; a button, tests/test_explorers_experiment.py
FILES = sorted(path.stem for path in Path(explorers.__file__).parent.glob("[a-z]*.py") if path.stem not in NO_PANEL)
PNG = b"\x89PNG\r\n\x1a\n"


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
    draw, shown.draw = shown.draw, lambda **values: (Figure(figsize=(1, 1)), "nothing")
    try:
        yield
    finally:
        shown.draw = draw


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


# What every file promises.
def test_every_file_is_told_and_has_the_four_functions():
    assert len(FILES) == 9
    for name in FILES:
        module = importlib.import_module(f"grpo_nb.explorers.{name}")
        assert f"| `{name}`" in explorers.__doc__
        assert all(callable(getattr(module, function)) for function in ("compute", "figure", "caption", "explorer"))


def test_a_saved_notebook_shows_the_picture(shown):
    bundle = shown._repr_mimebundle_()
    image = image_of(bundle["text/html"])
    assert base64.b64decode(bundle["image/png"]).startswith(PNG)
    assert image["src"] == "data:image/png;base64," + bundle["image/png"], "the page shows the same picture"
    assert image["alt"] == bundle["text/plain"] == shown.caption
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == shown.widget.model_id
    assert len(str(bundle)) < 300_000, "a committed output"


def test_the_picture_is_told_in_words_with_numbers(shown):
    words = shown._repr_mimebundle_()["text/plain"]
    assert image_of(shown.view.value)["alt"] == words == shown.caption
    assert any(character.isdigit() for character in words) and len(words) > 60 and words.endswith((".", ")"))
    assert "nan" not in words.lower()


def test_few_controls_each_with_a_name(shown, request):
    # The one exception: a schedule follows from six integers, and nobody could see what else moves it.
    most = {"batch_flow": 9}.get(request.node.callspec.params["shown"], 6)
    assert 2 <= len(shown.fields) <= most
    assert [field.description for field in shown.fields.values()] == list(shown.fields)
    for name, field in shown.fields.items():  # a name that is too long would leave nothing to type in
        assert int(field.layout.width.removesuffix("ch")) >= len(name) + len(str(field.value)) + 4


def test_every_slider_stands_beside_a_named_field(shown):
    boxes = [box for box in shown.widget.children[0].children if isinstance(box, ipywidgets.HBox)]
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
            assert slider.continuous_update is False, "no picture for every pixel that it passes"
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


def test_every_choice_and_every_preset_draws(shown):
    for name, field in shown.fields.items():
        if isinstance(field, ipywidgets.Dropdown):
            start = field.value
            for option in field.options:
                field.value = option
                assert "role=" not in shown.view.value, f"{name} = {option}: {shown.view.value[-300:]}"
            with blank(shown):
                field.value = start
    assert len(shown.presets) >= 2
    for name, values in shown.presets.items():
        shown.preset.value = name
        assert values.items() <= shown.values.items(), "a preset lies within the bounds"
        assert shown.preset.value == name and "role=" not in shown.view.value, name


def test_a_number_in_a_presets_name_is_among_its_values(shown):
    """ "p 1 %, G 8" sets p to 0.01 and the group to 8; a typed line counts with all its numbers."""
    for name, values in shown.presets.items():
        words = " ".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values.values())
        held = {float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", words)}
        for number, percent in re.findall(r"(?<![\w.])(?<![<>] )(-?\d+(?:\.\d+)?)( %)?(?!\w)", name):
            assert float(number) / (100 if percent else 1) in held, f"{name}: {number}{percent} is not in {values}"


# The panel itself.
def small_panel(draw=None):
    def count(**values):
        drawn.append(values)
        if values["size"] == 3:
            raise ValueError("size must not be 3 (got 3). Try <b>4</b>.")
        return Figure(figsize=(1, 1)), f"A figure of size {values['size']} & <script>."

    drawn: list[dict] = []
    controls = {"size": panel.Number(1, 0, 9, 1), "kind": panel.Choice("a", ("a", "b")), "line": panel.Words("x")}
    return panel.Panel(count, controls, {"both": {"size": 2, "kind": "b"}}), drawn


def test_a_line_is_read_when_it_is_finished():
    shown, _ = small_panel()
    assert shown.fields["line"].continuous_update is False


def test_a_moved_control_draws_once():
    shown, drawn = small_panel()
    shown.fields["size"].value = 5
    assert drawn == [{"size": 1, "kind": "a", "line": "x"}, {"size": 5, "kind": "a", "line": "x"}]
    assert "size 5" in html.unescape(shown.view.value)


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
