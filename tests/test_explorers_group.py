"""The group explorer's numbers against the formula, what it refuses, and what its words claim."""

import math

import pytest
import torch

from grpo_nb import advantages
from grpo_nb.explorers import group

CENT = 0.005 + 1e-9  # of a number told with two decimals


# Golden: 1 0 0 0 has mean 1/4 and variance (9 + 1 + 1 + 1)/16/3 = 1/4, and the right one's A = (3/4)/(1/2 + 10⁻⁴).
def test_one_right_out_of_four():
    groups = group.compute(rewards="1 0 0 0")
    (values,) = groups.advantages
    assert values.tolist() == pytest.approx([0.75 / 0.5001] + 3 * [-0.25 / 0.5001], rel=1e-12)
    assert (groups.means, groups.stds, groups.reasons) == ([0.25], [0.5], [""])


# 1 1 1 0.9 and 0 0 1 0: by its own std (1/20 and 1/2) 0.9 is punished as much as the right one is paid; by the batch's
# it is not. Σr = 4.9, Σr² = 4.81, so that the batch's variance is (4.81 − 4.9²/8)/7.
def test_the_batch_tells_a_close_group_from_a_wide_one():
    lines = {"rewards": "1 1 1 0.9", "other_rewards": "0 0 1 0"}
    close, wide = group.compute(**lines, scale_rewards="group").advantages
    assert close[3].item() == pytest.approx(-0.075 / 0.0501) and wide[2].item() == pytest.approx(0.75 / 0.5001)
    groups = group.compute(**lines, scale_rewards="batch")
    std = math.sqrt((4.81 - 4.9**2 / 8) / 7)
    assert groups.batch_std == pytest.approx(std)
    assert groups.advantages[0][3].item() == pytest.approx(-0.075 / (std + 1e-4))
    assert groups.advantages[1][2].item() == pytest.approx(0.75 / (std + 1e-4))
    close, wide = group.compute(**lines, scale_rewards="none").advantages
    assert close[3].item() == pytest.approx(-0.075) and wide[2].item() == pytest.approx(0.75)


def test_a_reward_that_does_not_apply_counts_nowhere():
    (values,) = group.compute(rewards="1 - none 0", scale_rewards="none").advantages
    assert values.tolist() == [0.5, 0.0, 0.0, -0.5]


# Law: the numbers are the package's, and a reason is told exactly where every advantage is 0.
@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_the_numbers_are_those_of_the_package(scale_rewards):
    rewards = torch.tensor([[13.0, 5.0, -2.0, -10.0], [1.0, torch.nan, 0.0, 0.0]], dtype=torch.float64)
    groups = group.compute(rewards="13 5 -2 -10", other_rewards="1, -, 0, 0", scale_rewards=scale_rewards)
    torch.testing.assert_close(torch.stack(groups.rewards), rewards, equal_nan=True)
    assert torch.equal(
        torch.stack(groups.advantages), advantages.group_advantages(rewards, scale_rewards=scale_rewards)
    )


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0 0 0", "its rewards are equal"),
        ("0.1 0.1 0.1 -", "its rewards are equal"),
        ("1 - - -", "fewer than two rewards"),
        ("- - - -", "fewer than two rewards"),
        ("1 1 1 0.9", ""),
        ("1 0 - -", ""),
    ],
)
def test_a_group_that_teaches_nothing_says_why(scale_rewards, line, reason):
    groups = group.compute(rewards=line, other_rewards="1 0 0 1", scale_rewards=scale_rewards)
    assert groups.reasons == [reason, ""]
    assert (groups.advantages[0].abs().max().item() < 1e-9) == bool(reason)
    assert (f"the group teaches nothing, {reason}." in group.caption(groups)) == bool(reason)
    (bottom,) = group.figure(group.compute(rewards=line, scale_rewards=scale_rewards)).axes[1:]
    assert (f"all 0: {reason}" in [text.get_text() for text in bottom.texts]) == bool(reason)


def test_the_figure_draws_what_was_computed():
    groups = group.compute(rewards="1 0 - 0.25", other_rewards="2 -3 1 1", scale_rewards="batch")
    drawn = group.figure(groups).axes
    for axes, values in zip(drawn, [*groups.rewards, *groups.advantages], strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx(values.nan_to_num(0.0).tolist(), abs=1e-6)
        numbers = [text.get_text() for text in axes.texts if text.get_text() != "mean"]
        told = [math.nan if number == "none" else float(number) for number in numbers]
        assert told == pytest.approx(values.tolist(), abs=CENT, nan_ok=True)
    for axes, mean in zip(drawn, groups.means, strict=False):
        assert mean in [line.get_ydata()[0] for line in axes.get_lines()]
    assert [axes.patches[0].get_hatch() for axes in drawn] == [None, "//", None, "//"], "not by colour alone"


@pytest.mark.parametrize("count", [4, 8, 16])
def test_every_number_lies_within_its_axes(count):
    drawing = group.figure(group.compute(rewards="1 0.25 -2.5 13 " * (count // 4), other_rewards="0 1 " * (count // 2)))
    drawing.draw_without_rendering()
    for axes in drawing.axes:
        box = axes.get_window_extent()
        for text in axes.texts:
            if text.get_text() != "mean":
                label = text.get_window_extent()
                assert box.y0 - 1 <= label.y0 and label.y1 <= box.y1 + 1, text.get_text()


def test_the_words_follow_the_controls():
    shown = group.explorer()
    assert "rewards 1, 0, 0, 0 (mean 0.25, std 0.5) give advantages +1.50, -0.50, -0.50, -0.50." in shown.caption
    assert shown.caption.endswith("divided by its own std.")
    shown.fields["scale_rewards"].value = "none"
    assert "+0.75, -0.25, -0.25, -0.25." in shown.caption and shown.caption.endswith("are not divided.")
    shown.fields["scale_rewards"].value = "batch"
    assert "the batch's std, 0.5 (this group alone; type other_rewards" in shown.caption
    shown.fields["other_rewards"].value = "1 1 1 1"
    assert "other_rewards 1, 1, 1, 1 (mean 1, std 0) give advantages 0, 0, 0, 0: the group" in shown.caption
    assert shown.caption.endswith("the batch's std, 0.518.") and "nan" not in shown.caption  # √(5·3/8/7) = 0.5175


# Refusal.
@pytest.mark.parametrize("line", ["", "1", "1 two -", "1 nan", "1 inf", "1 " * 17, "1e9 0", "1 1 " + "0" * 600 + "x"])
def test_a_line_must_be_rewards(line):
    with pytest.raises(
        ValueError, match=r"rewards must be 2 to 16 numbers .*, or - where .* \(got .*\)\. Try 1 0 0 1\."
    ):
        group.compute(rewards=line)


def test_what_arrived_is_told_as_it_was_typed():
    with pytest.raises(ValueError, match=r"other_rewards must be .*\(got '1 two -'\)"):
        group.compute(rewards="1 0 0", other_rewards="1 two -")


def test_groups_are_of_one_size():
    with pytest.raises(ValueError, match=r"as many as rewards, .*num_generations.* \(got 2 and 4\)\. Type 4, or none"):
        group.compute(rewards="1 0 0 0", other_rewards="1 0")
