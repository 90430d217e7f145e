"""The levels explorer's ratios, by hand: mean against product, and what each vLLM mode leaves of an answer."""

import math

import pytest
import torch

from grpo_nb import losses
from grpo_nb.explorers import levels

MODE = "vllm_importance_sampling_mode"
MOST, LEAST = "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"
LN2 = math.log(2)
OUTLIER = f"0 {3 * LN2} {-LN2}"  # ratios 1, 8, 1/2: product 4, geometric mean 4^(1/3)


def exact(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# Golden.
def test_mean_and_product_by_hand():
    ratios = levels.compute(log_ratios=OUTLIER)
    torch.testing.assert_close(ratios.token, exact(1, 8, 0.5))
    assert ratios.product == pytest.approx(4) and ratios.mean == pytest.approx(4 ** (1 / 3))
    assert torch.equal(ratios.importance, ratios.token)
    sequence = levels.compute(log_ratios=OUTLIER, importance_sampling_level="sequence")
    torch.testing.assert_close(sequence.importance, exact(1, 1, 1) * 4 ** (1 / 3))


@pytest.mark.parametrize(
    ("mode", "least", "most", "left"),
    [
        ("token_truncate", 0, 3, (1, 3, 0.5)),
        ("token_truncate", 0.8, 0, (1, 8, 0.8)),
        ("token_mask", 0, 3, (1, 0, 0.5)),
        ("token_mask", 0.8, 0, (1, 8, 0)),
        ("sequence_truncate", 0, 3, (3, 3, 3)),
        ("sequence_mask", 0, 3, (0, 0, 0)),
        ("sequence_mask", 0, 5, (4, 4, 4)),
        ("sequence_mask", 0, 0, (4, 4, 4)),
        ("token_mask", 0, 0, (1, 8, 0.5)),
    ],
)
def test_what_a_mode_leaves(mode, least, most, left):
    ratios = levels.compute(log_ratios=OUTLIER, **{MODE: mode, LEAST: least, MOST: most})
    torch.testing.assert_close(ratios.correction, exact(*left))


def test_a_drift_that_no_token_shows_masks_a_long_answer():
    for count, factor in [(21, math.exp(21 * 0.05)), (22, 0.0)]:  # e^1.05 = 2.86, e^1.10 = 3.004
        ratios = levels.compute(log_ratios="0.05 " * count)
        assert ratios.tokens_within == 21 and ratios.mean == pytest.approx(math.exp(0.05))
        torch.testing.assert_close(ratios.correction, exact(*[factor] * count))


# Law.
def test_the_mean_does_not_know_the_length_and_the_product_does():
    short, long = (levels.compute(log_ratios="0.2 -0.1 " * count) for count in (2, 8))
    assert long.mean == pytest.approx(short.mean) and long.product == pytest.approx(short.product**4)


@pytest.mark.parametrize("mode", levels.MODES)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_on_policy_nothing_changes(mode, level):
    ratios = levels.compute(log_ratios="0 0 0", importance_sampling_level=level, **{MODE: mode, LEAST: 0.5})
    assert ratios.token.tolist() == ratios.importance.tolist() == ratios.correction.tolist() == [1.0, 1.0, 1.0]
    assert ratios.tokens_within is None


@pytest.mark.parametrize("typed", ["0.3 0.1", "-0.4 -0.2 -0.3", "0.01"])
def test_the_longest_answer_within_the_bounds(typed):
    ratios = levels.compute(log_ratios=typed, **{LEAST: 0.2})
    inside, outside = (ratios.mean ** (ratios.tokens_within + more) for more in (0, 1))
    assert 0.2 <= inside <= 3.0 and not 0.2 <= outside <= 3.0


# Oracle: the loss multiplies by it, and TRL's defaults.
@pytest.mark.parametrize("mode", levels.MODES)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_loss_multiplies_by_what_is_shown(mode, level):
    ratios = levels.compute(log_ratios="0.1 -0.2 1.5 0.3", importance_sampling_level=level, **{MODE: mode})
    typed = torch.tensor([[0.1, -0.2, 1.5, 0.3]], dtype=torch.float64)
    old = torch.full_like(typed, -4.0)
    settings = {"importance_sampling_level": level, MODE: mode, "epsilon": 0.9, "epsilon_high": 9.0}
    result = losses.grpo_loss(
        old + typed,
        torch.ones(1, dtype=torch.float64),
        torch.ones_like(typed),
        old_logps=old,
        sampling_logps=old - typed,
        **settings,
    )
    torch.testing.assert_close(result.per_token.expand_as(typed)[0], -ratios.importance * ratios.correction)


def test_the_controls_begin_at_trls_defaults():
    from trl import GRPOConfig

    defaults = {name: field.default for name, field in GRPOConfig.__dataclass_fields__.items()}
    values = levels.explorer().values
    assert {name: values[name] or None for name in values if name != "log_ratios"} == {
        name: defaults[name] for name in values if name != "log_ratios"
    }


# The picture.
@pytest.mark.parametrize("mode", levels.MODES)
def test_the_figure_draws_what_was_computed(mode):
    ratios = levels.compute(log_ratios=OUTLIER, importance_sampling_level="sequence", **{MODE: mode, LEAST: 0.8})
    left, right = levels.figure(ratios).axes
    for axes, used in [(left, ratios.importance), (right, ratios.correction)]:
        assert [bar.get_y() + bar.get_height() for bar in axes.patches] == pytest.approx(ratios.token.tolist())
        (dots,) = [line for line in axes.lines if line.get_label() == "used"]
        (crosses,) = [line for line in axes.lines if line.get_label() == "masked: 0"]
        drawn = {x: y for x, y in zip(dots.get_xdata(), dots.get_ydata(), strict=True) if y == y}
        drawn |= dict.fromkeys(crosses.get_xdata(), 0.0)
        assert drawn == dict(enumerate(used.tolist(), start=1))
    across = [line for axes in (left, right) for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert [line.get_ydata()[0] for line in across] == [ratios.mean, 1, ratios.product, 0.8, 3.0, 1]


@pytest.mark.parametrize("typed", ["5 " * 32, "-5 " * 32, "0"])
@pytest.mark.parametrize("mode", levels.MODES)
def test_every_ratio_lies_on_the_axis(typed, mode):
    ratios = levels.compute(log_ratios=typed, **{MODE: mode, MOST: 0.0})
    left, right = levels.figure(ratios).axes
    low, high = left.get_ylim()
    for value in [*ratios.token, ratios.mean, ratios.product, *ratios.correction]:
        assert low < value < high
    assert left.get_ylim() == right.get_ylim()


def test_the_words_follow_the_controls():
    shown = levels.explorer()
    assert "the geometric mean of their ratios is 1.29, the product 7.77" in shown.caption
    assert "each by its own ratio, 0.905 to 7.39" in shown.caption
    assert "leaves the bounds after 4 tokens: every token's loss is multiplied by 0 and the answer is" in shown.caption
    shown.fields["importance_sampling_level"].value = "sequence"
    assert "At the sequence level advantages are multiplied all by the mean, 1.29." in shown.caption
    shown.fields[MODE].value = "token_mask"
    assert shown.caption.endswith("token_mask (at most 3) masks 1 of 8 tokens; the others keep their own ratio.")
    shown.fields[MODE].value, shown.fields[LEAST].value = "token_truncate", 0.95
    assert "(at least 0.95 and at most 3) cuts 3 of 8 tokens to the bound" in shown.caption
    shown.fields["log_ratios"].value = "9"
    assert "log-ratios must be 1 to 32 numbers from -5 to 5" in shown.view.value


# Refusal.
def test_bad_lines_and_bounds():
    with pytest.raises(ValueError, match=r"log-ratios must be 1 to 32 numbers .* \(got 'much'\)"):
        levels.compute(log_ratios="much")
    with pytest.raises(ValueError, match=r"log-ratios must be 1 to 32 numbers from -5 to 5 .*\. Try 0\.05"):
        levels.compute(log_ratios="0 -6")
    with pytest.raises(ValueError, match=r"clip_min must not be above clip_max \(got 1 and 0\.5\)\. Try 0"):
        levels.compute(**{LEAST: 1.0, MOST: 0.5})
