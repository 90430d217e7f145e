"""The figures of a linear head draw and tell the numbers that they were given."""

import itertools

import pytest
import torch
from matplotlib.quiver import Quiver

from grpo_nb import plots

WEIGHT = torch.tensor([[2, 0.3], [1.2, 1.6], [-0.6, 1.7], [-1.8, 0.2], [1, -1.3]])
HIDDEN, TARGET = torch.tensor([0.6, 0.2]), 2
PEAKS = {"full logits": [6.0, 12.0, 24.0], "computed twice": [2.0, 4.0, 8.0], "ours": [1.0, 1.0, 1.1]}
COSTS = {"full logits": (24.0, 31.0), 0.25: (1.2, 90.0), 1: (2.1, 44.0), 4: (7.0, 28.0), 8: (13.0, 30.0)}


def test_the_arrow_is_the_gradient():
    """By autograd: what raises the log-probability of the target most."""
    shares = (WEIGHT @ HIDDEN).softmax(-1)
    figure, alt = plots.direction_of(WEIGHT, shares, HIDDEN, target=TARGET)
    leaf = HIDDEN.clone().requires_grad_()
    (slope,) = torch.autograd.grad((WEIGHT @ leaf).log_softmax(-1)[TARGET], leaf)
    (arrow,) = figure.axes[0].findobj(Quiver)
    assert torch.tensor([arrow.U[0], arrow.V[0]]) == pytest.approx(slope, abs=1e-6)
    assert arrow.XY[0] == pytest.approx(HIDDEN.numpy())
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[TARGET] == f"target, p = {shares[TARGET]:.2f}" and f"p = {shares[TARGET]:.2f}" in alt


def test_the_arrow_is_the_gradient_of_a_target_that_is_sure():
    """With p → 1 nothing is pushed any more."""
    hidden = torch.tensor([-8.0, 12.0])
    figure, alt = plots.direction_of(WEIGHT, (WEIGHT @ hidden).softmax(-1), hidden, target=TARGET)
    (arrow,) = figure.axes[0].findobj(Quiver)
    assert abs(float(arrow.U[0])) < 0.01 and "0.00 of that way" in alt


def test_tensors_held_are_a_staircase():
    figure, alt = plots.tensors_held([0.0, 1.0, 2.0, 1.0, 3.06, 0.02])
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.0, 1.0, 2.0, 1.0, 3.06, 0.02]
    assert [text.get_position()[0] for text in figure.axes[0].texts] == [2, 4]
    assert alt == "Tensors [N, V] that are held: 2 going forward, 3 at most going back, 0.0 at the end."


def test_costs_are_drawn_and_told():
    figure, alt = plots.head_costs((64, 128, 256), PEAKS, COSTS)
    left, right = figure.axes
    assert {line.get_label(): list(line.get_ydata()) for line in left.lines} == PEAKS
    assert list(zip(*right.lines[0].get_data(), strict=True)) == [
        cost for way, cost in COSTS.items() if way != "full logits"
    ]
    assert {text.get_text() for text in right.texts} == {"full logits", "0.25", "1", "4", "8"}
    assert "full logits 6.0 to 24.0" in alt and "a tile of 4 MiB 7.0 MiB and 28 ms" in alt


@pytest.mark.parametrize(
    "pair",
    [
        plots.tensors_held([0.0, 1.0, 2.0, 1.0, 3.06, 0.02]),
        plots.direction_of(WEIGHT, (WEIGHT @ HIDDEN).softmax(-1), HIDDEN, target=TARGET),
        plots.head_costs((64, 128, 256), PEAKS, COSTS),
    ],
    ids=["staircase", "direction", "costs"],
)
def test_names_do_not_lie_on_each_other(pair):
    figure, _ = pair
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1))
        for box in boxes:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
