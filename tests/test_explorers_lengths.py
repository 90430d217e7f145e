"""The length explorer's numbers by hand and against the loss, what it refuses, and what its words claim."""

import pytest
import torch

from grpo_nb import losses
from grpo_nb.explorers import lengths

# Families of weights, as the explorer draws them. A new loss type joins one of them, or is one more.
GRPO = ("grpo", "sapo")
BNPO = ("bnpo",)
DR_GRPO = ("dr_grpo",)
DAPO = ("dapo", "cispo", "vespo")
LUSPO = ("luspo",)
FAMILIES = [GRPO, BNPO, DR_GRPO, DAPO, LUSPO]


def joined(*families: tuple) -> tuple:
    """Families that weigh alike for once are one, in the order of the loss types."""
    return tuple(sorted(sum(families, ()), key=losses.LOSS_TYPES.index))


# Golden: answers of 1 and 3 tokens, one of 2 micro-batches, 5 tokens in each answer of the other: 4 + 2·5 = 14 in all.
def test_two_answers_by_hand():
    weights = lengths.compute(lengths="3 1", max_completion_length=8, gradient_accumulation_steps=2, other_lengths=5)
    assert (weights.lengths, weights.num_items_in_batch) == ([1, 3], 14)
    token = {name: weight.tolist() for name, weight in weights.token.items()}
    answer = {name: weight.tolist() for name, weight in weights.answer.items()}
    for name in GRPO:  # 1/(2 answers · length · 2 micro-batches)
        assert token[name] == pytest.approx([1 / 4, 1 / 12]) and answer[name] == pytest.approx([1 / 4, 1 / 4])
    for name in DAPO:
        assert token[name] == pytest.approx([1 / 14, 1 / 14]) and answer[name] == pytest.approx([1 / 14, 3 / 14])
    for family, of_token in [(BNPO, 1 / 8), (DR_GRPO, 1 / 32), (LUSPO, 1 / 4)]:
        for name in family:
            assert token[name] == pytest.approx([of_token, of_token])
            assert answer[name] == pytest.approx([of_token, 3 * of_token])
    assert weights.families == FAMILIES


# Oracle: with A = −1 the gradient of `grpo_loss` at each token, on the policy that sampled it, is the token's weight.
@pytest.mark.parametrize("loss_type", losses.LOSS_TYPES)
def test_a_weight_is_the_gradient_of_a_token(loss_type):
    shown = {"max_completion_length": 9, "gradient_accumulation_steps": 3, "other_lengths": 4}
    weights = lengths.compute(lengths="2 5 7", **shown)
    mask = torch.tensor([[1.0] * n + [0.0] * (7 - n) for n in (2, 5, 7)], dtype=torch.float64)
    logps = torch.full_like(mask, -1.0).requires_grad_()
    loss = losses.grpo_loss(
        logps,
        torch.full((3,), -1.0, dtype=torch.float64),
        mask,
        loss_type=loss_type,
        epsilon_high=1.0,  # cispo caps at it, not at 1 + it
        max_completion_length=9,
        num_items_in_batch=14 + 2 * 3 * 4,
        gradient_accumulation_steps=3,
        steps_per_generation=3,
    ).loss
    (gradient,) = torch.autograd.grad(loss, logps)
    torch.testing.assert_close(gradient, mask * weights.token[loss_type].unsqueeze(1))
    torch.testing.assert_close(gradient.sum(1), weights.answer[loss_type])


# Law: what a learner is to see.
def test_a_long_answer_hurts_less_per_token_only_under_grpo_and_sapo():
    weights = lengths.compute(lengths="20 60 200")
    for name in losses.LOSS_TYPES:
        short, _, long = weights.token[name].tolist()
        assert short / long == pytest.approx(10 if name in GRPO else 1), name
        short, _, long = weights.answer[name].tolist()
        assert long / short == pytest.approx(1 if name in GRPO else 10), name


def test_bnpo_is_dapo_where_the_micro_batch_is_like_the_rest():
    for gradient_accumulation_steps, other_lengths in [(1, 7), (4, 60)]:  # no rest; a rest of the same mean
        split = {"gradient_accumulation_steps": gradient_accumulation_steps, "other_lengths": other_lengths}
        assert joined(BNPO, DAPO) in lengths.compute(lengths="20 60 100", **split).families
    for other_lengths, is_lighter in [(10, True), (200, False)]:
        split = {"gradient_accumulation_steps": 4, "other_lengths": other_lengths}
        token = lengths.compute(lengths="20 60 100", **split).token
        assert bool(token["bnpo"][0] < token["dapo"][0]) is is_lighter


def test_families_are_equal_and_different_ones_are_not():
    for values in [{}, {"lengths": "60 60"}, {"lengths": "1"}, {"lengths": "512", "gradient_accumulation_steps": 1}]:
        weights = lengths.compute(**values)
        assert sorted(sum(weights.families, ())) == sorted(losses.LOSS_TYPES)
        for family in weights.families:
            for other in weights.families:
                for name in other:
                    same = torch.allclose(weights.token[family[0]], weights.token[name], rtol=1e-9, atol=0)
                    assert same == (family == other)
    assert len(weights.families) == 2, "512 tokens of 512, alone: all but the family of luspo are 1/512"


def test_only_max_completion_length_moves_dr_grpo():
    small, large = (lengths.compute(max_completion_length=most) for most in (256, 4096))
    for name in losses.LOSS_TYPES:
        ratio = (small.token[name] / large.token[name]).tolist()
        assert ratio == pytest.approx([16 if name in DR_GRPO else 1] * 3)


def test_the_figure_draws_what_was_computed():
    weights = lengths.compute(lengths="20 60 200")
    drawing = lengths.figure(weights)
    for axes, values in zip(drawing.axes, (weights.token, weights.answer), strict=True):
        lines = axes.get_lines()
        for line, family in zip(lines, weights.families, strict=True):
            assert (line.get_ydata() == values[family[0]].numpy()).all()
        assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(FAMILIES), (
            "not by colour alone"
        )
        assert axes.get_yscale() == "log"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["20", "60", "200"]
    names = [text.get_text() for text in drawing.texts]
    assert names == [", ".join(family) for family in FAMILIES]


def test_the_words_follow_the_controls():
    shown = lengths.explorer()
    shown.preset.value = "the micro-batch is the whole batch"
    assert (
        f"in answers of 20 and of 200 tokens: {', '.join(GRPO)} 0.0167 and 0.00167 (0.333 and 0.333); " in shown.caption
    )
    assert f"{', '.join(joined(BNPO, DAPO))} 0.00357 and 0.00357" in shown.caption  # 1/280
    assert "a token of the longer one weighs 10 times less" in shown.caption
    shown.fields["gradient_accumulation_steps"].value = 2  # 280 + 3·30 tokens
    assert "dapo divides by the 370 tokens of the generation batch, bnpo by the 280" in shown.caption
    shown.fields["lengths"].value = "60, 60"
    assert f"in answers of 60 tokens: {', '.join(joined(GRPO, BNPO))} 0.00417 (0.25);" in shown.caption
    assert "times less" not in shown.caption
    shown.fields["lengths"].value = "600"
    assert "max_completion_length must be at least the longest answer" in shown.view.value


# Refusal.
@pytest.mark.parametrize("line", ["", "0", "20 x", "2.5", "-3", "nan", "1e2", "4097", "9" * 5000, "1 " * 7, "²"])
def test_a_line_must_be_lengths(line):
    with pytest.raises(ValueError, match=r"lengths must be 1 to 6 whole numbers from 1 to 4096 .*Try 20 60 200"):
        lengths.compute(lengths=line)


def test_no_answer_is_longer_than_the_limit():
    assert lengths.compute(lengths="300", max_completion_length=300).lengths == [300]
    with pytest.raises(ValueError, match=r"max_completion_length must be at least .* \(got 300, 301 tokens\)\. Raise"):
        lengths.compute(lengths="20 301", max_completion_length=300)
