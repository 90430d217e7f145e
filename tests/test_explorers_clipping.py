"""The clipping explorer's numbers against the formulas, and what its words claim."""

import pytest
import torch
from trl import GRPOConfig

from grpo_nb import losses
from grpo_nb.explorers import clipping


# Golden: one token, by hand. The surrogate's slope by log π is ρA while min takes its first branch, 0 after that.
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_clipped_objective_and_gradient(advantage):
    curves = clipping.compute(
        advantage=advantage, epsilon=0.205, epsilon_high=0.305
    )  # no ratio drawn is an end of the interval
    rho = curves.ratio
    torch.testing.assert_close(
        curves.objective["grpo"], torch.minimum(rho * advantage, rho.clamp(0.795, 1.305) * advantage)
    )
    teaches = rho < 1.305 if advantage > 0 else rho > 0.795
    torch.testing.assert_close(curves.gradient["grpo"], rho * advantage * teaches)


def test_other_gradients():
    curves = clipping.compute(advantage=1.0, epsilon_high=1.5)
    rho, gate = curves.ratio, torch.sigmoid(curves.ratio - 1)
    torch.testing.assert_close(curves.gradient["cispo"], rho.clamp(max=1.5))
    torch.testing.assert_close(curves.gradient["sapo"], 4 * gate * (1 - gate) * rho)
    torch.testing.assert_close(curves.gradient["vespo"], rho**2 * (3 - 3 * rho).exp())


def test_delta_bounds_a_bad_token():
    capped, free = (clipping.compute(advantage=-1.0, delta=delta) for delta in (1.5, 0.0))
    assert capped.objective["grpo"].min() == pytest.approx(-1.5) and free.objective["grpo"].min() == pytest.approx(-2.5)
    assert clipping.without_gradient(free) == [pytest.approx((0.05, 0.79))]
    assert clipping.without_gradient(capped) == [pytest.approx((0.05, 0.79)), pytest.approx((1.51, 2.5))]


# Law: one line stands for the five, and at ratio 1 nothing is clipped.
def test_one_line_stands_for_the_five_that_clip():
    curves = clipping.compute()
    logps = (clipping.OLD_LOGP + curves.ratio.log()).unsqueeze(1)
    for loss_type in losses.CLIPPED:
        result = losses.grpo_loss(
            logps,
            torch.ones(len(logps), dtype=torch.float64),
            torch.ones_like(logps),
            old_logps=torch.full_like(logps, clipping.OLD_LOGP),
            loss_type=loss_type,
        )
        assert torch.equal(-result.per_token.squeeze(1), curves.objective["grpo"])


def test_every_ratio_is_of_a_probability():
    assert clipping.OLD_LOGP + clipping.compute().ratio.log().max() < 0


def test_the_words_follow_the_controls():
    shown = clipping.explorer()
    assert "no gradient for ratios 1.21 to 2.50" in shown.caption and "cispo +1.00" in shown.caption
    shown.fields["advantage"].value = -1.0
    assert "no gradient for ratios 0.05 to 0.79. At ratio 1 the gradient is grpo -1.00" in shown.caption


def test_cispo_is_drawn_with_a_cap_that_lets_a_ratio_of_1_pass():
    """5, as TRL's docs recommend, where epsilon_high is a bound of the clip; the key itself from 1 on."""
    recommended = GRPOConfig.__dataclass_fields__["epsilon_high"].metadata["help"]
    assert f"the recommended value is {clipping.CISPO_CAP:.1f}" in recommended.replace("`", "")
    for given, cap in [(0.2, 5.0), (0.28, 5.0), (0.99, 5.0), (1.0, 1.0), (2.0, 2.0)]:
        curves = clipping.compute(epsilon_high=given)
        torch.testing.assert_close(curves.gradient["cispo"], curves.ratio.clamp(max=cap))
        words = clipping.caption(curves)
        assert f"cispo caps its ratio at {cap:g}" in words
        assert (f", as TRL recommends, not at epsilon_high = {given:g}, which a run takes" in words) == (cap != given)


def test_the_figure_draws_what_was_computed():
    curves = clipping.compute(epsilon_high=0.4)
    left, right = clipping.figure(curves).axes
    for axes, values in [(left, curves.objective), (right, curves.gradient)]:
        drawn = [line.get_ydata() for line in axes.get_lines()[1:]]
        assert all((line == value.numpy()).all() for line, value in zip(drawn, values.values(), strict=True))
        assert axes.patches[0].get_x() == pytest.approx(0.8) and axes.patches[0].get_width() == pytest.approx(0.6)


def test_the_legend_names_each_line_by_its_own_colour():
    drawing = clipping.figure(clipping.compute())
    named = {text.get_text(): line.get_color() for text, line in zip(drawing.texts, drawing.artists, strict=True)}
    colours = {name: colour for name, (colour, _) in clipping.STYLES.items()}
    assert named == {", ".join(losses.CLIPPED): colours.pop("grpo"), **colours}
    drawn = {line.get_color(): line.get_ydata() for line in drawing.axes[1].get_lines()[1:]}
    for name, values in clipping.compute().gradient.items():
        assert (drawn[clipping.STYLES[name][0]] == values.numpy()).all(), name
