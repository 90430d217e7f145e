"""Several runs in one picture: the mean and the range of their seeds, and names that can be read."""

import itertools

import pytest
import torch
from matplotlib.colors import to_hex

from grpo_nb import plots
from grpo_nb.plots import palette, series

RUNS = {
    "two": [[{"step": 1, "reward": 1.0}, {"step": 2, "reward": 3.0}], [{"step": 1, "reward": 5.0}, {"step": 2}]],
    "four": [[{"step": 1, "reward": 0.0}, {"step": 2, "reward": 8.0}, {"step": 2, "loss": 0.1}]],
}


def of(figure) -> dict[str, tuple[list, list]]:
    """The named lines: where they go."""
    axes = figure.axes[0]
    named = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in named}


def test_an_arm_by_hand():
    """Seeds of 1, 3, 5 and 3, 3, 9; trailing means over two: 1, 2, 4 and 3, 3, 6; their mean: 2, 2.5, 5."""
    seeds = [[{"step": 10 * i, "kl": value} for i, value in enumerate(row)] for row in ((1, 3, 5), (3, 3, 9))]
    figure = plots.arms({"one": seeds}, "kl", smooth=2)
    assert of(figure) == {"one": ([0, 10, 20], [2.0, 2.5, 5.0])}
    assert [list(line.get_ydata()) for line in figure.axes[0].lines[:2]] == [[1, 2, 4], [3, 3, 6]]
    (band,) = figure.axes[0].collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert {(0, 1), (10, 2), (20, 4), (0, 3), (10, 3), (20, 6)} <= corners
    assert figure.axes[0].get_ylabel() == "kl"


def test_an_arm_is_drawn_where_all_its_seeds_have_logged():
    assert of(plots.arms(RUNS, smooth=1)) == {"two": ([1], [3.0]), "four": ([1, 2], [0.0, 8.0])}


def test_nan_is_no_value():
    """A run that broke ends where its last number was; the name stands there."""
    rows = [{"step": 1, "kl": 1.0}, {"step": 2, "kl": float("nan")}, {"step": 3, "kl": float("inf")}]
    for figure in (plots.arms({"broken": [rows]}, "kl"), plots.curve(rows, ("kl",))):
        assert list(figure.axes[0].lines[-1].get_xdata()) == [1]
        assert [text.xy for text in figure.axes[0].texts] == [(1, 1.0)]
    with pytest.raises(ValueError, match="must have logged 'kl'"):
        plots.arms({"broken": [rows[1:]]}, "kl")


def test_a_tensor_of_seeds_is_a_series():
    curves = torch.tensor([[0.0, 1.0], [1.0, 3.0]])
    assert of(plots.lines({"a": (range(2), curves), "b": (range(2), curves[0])}, xlabel="x")) == {
        "a": ([0, 1], [0.5, 2.0]),
        "b": ([0, 1], [0.0, 1.0]),
    }


@pytest.mark.parametrize("ends", [(0,) * 8, range(8), (0, 0, 0, 7, 7, 7, 7, 7), (1, 1, 100, 100)], ids=str)
@pytest.mark.parametrize("log", ["", "y"])
def test_names_stand_apart_and_within_the_picture(ends, log):
    """Wherever lines end, each name is read, near its end, in the order of the ends."""
    names = {f"arm {i} of a long name {i}": ([1, 2], [1, 1 + end]) for i, end in enumerate(ends)}
    figure = plots.lines(names, xlabel="x", log=log, levels={"a level": 1.0} if len(ends) < 8 else None)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not [
        pair for pair in itertools.combinations(boxes, 2) if pair[0].padded(-1.5).overlaps(pair[1].padded(-1.5))
    ]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
        assert -1 <= box.y0 and box.y1 <= figure.bbox.y1 + 1
    for text in figure.axes[0].texts:
        assert plots.contrast(to_hex(text.get_color()), "#FFFFFF") >= 4.5


def test_lines_differ_without_colour_too():
    assert len({str(dashes) for _, dashes in series.LOOKS}) == len(series.LOOKS)


def test_a_colour_for_letters_is_no_darker_than_it_must_be():
    for colour in plots.OKABE_ITO.values():
        dark = palette.readable(colour)
        assert plots.contrast(dark, "#FFFFFF") >= 4.5
        assert dark == colour or plots.contrast(dark, "#FFFFFF") < 4.7


def test_levels_and_names_on_the_lines():
    figure = plots.lines({"G = 4": ([1, 10, 100], [0, 5, 9])}, xlabel="p", log="x", names_at=11, levels={"luck": 2.0})
    level, name = figure.axes[0].texts
    assert (name.get_text(), name.xy) == ("G = 4", (10.0, 5.0))
    assert level.get_text() == "luck" and level.xy[1] == 2.0
    assert figure.axes[0].get_xscale() == "log" and figure.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("runs", "key", "sentence"),
    [
        ({}, "reward", r"1 to 8 lines \(got 0\)"),
        ({str(i): RUNS["four"] for i in range(9)}, "reward", r"1 to 8 lines \(got 9\)"),
        (RUNS, "kl", r"logged 'kl' \(got 'two', with only reward\)"),
        ({"none": []}, "reward", r"logged 'reward' \(got 'none', with nothing\)"),
        ({"one is empty": [*RUNS["four"], []]}, "reward", r"got 'one is empty', with only loss, reward"),
        ({"apart": [[{"step": 1, "reward": 1}], [{"step": 2, "reward": 1}]]}, "reward", "no step in common"),
        ({"rows": RUNS["four"][0]}, "reward", "a list of rows for each seed"),
    ],
)
def test_what_cannot_be_drawn_is_named(runs, key, sentence):
    with pytest.raises(ValueError, match=sentence):
        plots.arms(runs, key)


@pytest.mark.parametrize("series", [{"a": ([1, 2], [1])}, {"a": ([], [])}, {"a": ([1, 2], [[1, 2], [1]])}])
def test_a_curve_has_a_value_for_every_x(series):
    with pytest.raises(ValueError, match=r"a value for each x, at least one \(got 'a'"):
        plots.lines(series, xlabel="x")
