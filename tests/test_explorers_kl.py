"""The KL explorer's numbers against the definition of the divergence, and which estimate has which gradient."""

import math

import pytest
import torch

from grpo_nb import losses
from grpo_nb.explorers import kl

SETTINGS = [(1.5, 0.0), (1.5, 0.5), (-3.0, 0.0), (-3.0, 2.0), (3.0, -1.0), (4.0, 2.0), (0.3, 0.3)]  # shift, drift


def distributions(shift, drift):
    """Logits of the policy, ready for autograd; log-probs of π_ref and π_old."""
    reference, direction = (torch.tensor(numbers, dtype=torch.float64) for numbers in (kl.REFERENCE, kl.DIRECTION))
    logits = (reference + shift * direction).requires_grad_()
    return logits, reference.log_softmax(0), (reference + (shift - drift) * direction).log_softmax(0)


def divergence(logps, other):
    """KL in PyTorch's words, KL(exp(logps) ‖ exp(other))."""
    return torch.nn.functional.kl_div(other, logps, reduction="sum", log_target=True)


def slope_of_mean(estimate, shift, drift=0.0):
    """The mean over tokens of π_old of an estimate's slope by the logits, the ratio left out."""
    logits, ref_logps, old_logps = distributions(shift, drift)
    mean = (old_logps.exp() * estimate(logits.log_softmax(0), ref_logps)).sum()
    return torch.autograd.grad(mean, logits)[0]


# Golden: one token whose policy has e times the reference's probability.
def test_one_token_by_hand():
    shown = kl.compute(use_bias_correction_kl=False)
    at = int((shown.log_ratio - 1).abs().argmin())
    assert shown.log_ratio[at] == pytest.approx(1.0)
    assert [float(shown.value[k][at]) for k in ("k1", "k2", "k3")] == pytest.approx([1, 0.5, math.exp(-1)])
    assert [float(shown.slope[k][at]) for k in ("k1", "k2", "k3")] == pytest.approx([1, 1, 1 - math.exp(-1)])
    corrected = kl.compute(ratio=2.0)
    assert corrected.value["k3"][at] == pytest.approx(2 * math.exp(-1))
    assert corrected.slope["k3"][at] == pytest.approx(2.0), "ρ · log(π/π_ref): ρ(k3 + its slope)"


def test_two_tokens_by_hand(monkeypatch):
    # π_ref = (1/2, 1/2), π = (1/4, 3/4): logits 0, 0 moved by ∓ log 3 / 2
    monkeypatch.setattr(kl, "REFERENCE", (0.0, 0.0))
    monkeypatch.setattr(kl, "DIRECTION", (-1.0, 1.0))
    shown = kl.compute(use_bias_correction_kl=False, shift=math.log(3) / 2)
    assert shown.kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    torch.testing.assert_close(shown.pull, torch.tensor([-0.25, 0.25], dtype=torch.float64))  # π − π_ref
    # πᵢ(log(πᵢ/π_refᵢ) − KL) = 3/16 · log 3, with both signs
    torch.testing.assert_close(shown.kl_pull, torch.tensor([-3.0, 3.0], dtype=torch.float64) / 16 * math.log(3))


# Law: what is unbiased, in value and in slope. Sums over the vocabulary, no sampling.
@pytest.mark.parametrize(("shift", "drift"), SETTINGS)
def test_the_correction_has_the_value_and_the_slope_of_the_divergence(shift, drift):
    shown = kl.compute(shift=shift, drift=drift)
    logits, ref_logps, _ = distributions(shift, drift)
    truth = divergence(logits.log_softmax(0), ref_logps)
    assert shown.kl == pytest.approx(truth.item(), abs=1e-12)
    assert shown.mean["k3"] == pytest.approx(shown.kl, abs=1e-12)
    torch.testing.assert_close(shown.kl_pull, torch.autograd.grad(truth, logits)[0])
    torch.testing.assert_close(shown.pull, shown.kl_pull)


@pytest.mark.parametrize("shift", [-3.0, -1.0, 1.5, 3.0])
def test_on_policy_k1_and_k3_have_the_mean_and_k2_has_not(shift):
    shown = kl.compute(use_bias_correction_kl=False, shift=shift)
    assert shown.mean["k1"] == pytest.approx(shown.kl) and shown.mean["k3"] == pytest.approx(shown.kl)
    assert abs(shown.mean["k2"] - shown.kl) > 0.1 * shown.kl


@pytest.mark.parametrize("shift", [-3.0, -1.0, 1.5, 3.0])
def test_on_policy_plain_k3_follows_the_other_divergence(shift):
    shown = kl.compute(use_bias_correction_kl=False, shift=shift)
    logits, ref_logps, _ = distributions(shift, 0.0)
    other = torch.autograd.grad(divergence(ref_logps, logits.log_softmax(0)), logits)[0]
    torch.testing.assert_close(shown.pull, other)
    torch.testing.assert_close(shown.pull, logits.softmax(0).detach() - ref_logps.exp())
    assert (shown.pull - shown.kl_pull).norm() > 0.2 * shown.kl_pull.norm()


def test_plain_k3_can_pull_the_wrong_way():
    shown = kl.compute(use_bias_correction_kl=False)
    assert shown.kl_pull[1] < -0.09 and shown.pull[1] > 0.005


@pytest.mark.parametrize(("shift", "drift"), [(1.5, 0.5), (-3.0, 2.0), (4.0, 2.0)])
def test_off_policy_nothing_uncorrected_has_the_mean(shift, drift):
    shown = kl.compute(use_bias_correction_kl=False, shift=shift, drift=drift)
    for name in ("k1", "k2", "k3"):
        assert shown.mean[name] != pytest.approx(shown.kl, rel=1e-2), name
    assert (shown.pull - shown.kl_pull).norm() > 0.2 * shown.kl_pull.norm()


def test_on_policy_k1_pulls_nowhere_and_k2_as_the_divergence():
    torch.testing.assert_close(slope_of_mean(losses.kl_k1, 1.5), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(slope_of_mean(losses.kl_k2, 1.5), kl.compute(shift=1.5).kl_pull)


def test_the_ratio_must_be_differentiated():
    def with_a_fixed_ratio(logps, ref_logps):
        return losses.kl_k3(logps, ref_logps) * (logps - distributions(1.5, 0.5)[2]).exp().detach()

    shown = kl.compute(shift=1.5, drift=0.5)
    fixed = slope_of_mean(with_a_fixed_ratio, 1.5, 0.5)
    assert (fixed - shown.kl_pull).norm() > 0.2 * shown.kl_pull.norm()
    torch.testing.assert_close(fixed, kl.compute(use_bias_correction_kl=False, shift=1.5).pull)


@pytest.mark.parametrize("is_corrected", [True, False])
def test_at_the_reference_nothing_pulls(is_corrected):
    shown = kl.compute(use_bias_correction_kl=is_corrected, shift=0.0, drift=0.7)
    assert shown.kl == pytest.approx(0, abs=1e-12) and float(shown.pull.abs().max()) < 1e-12
    at = int(shown.log_ratio.abs().argmin())
    assert all(float(values[at]) == pytest.approx(0, abs=1e-12) for values in shown.value.values())


def test_every_token_has_a_probability():
    least_ratio = kl.explorer().fields["ratio"].min
    assert kl.REF_LOGP + kl.LOG_RATIOS[1] < 0 and kl.REF_LOGP + kl.LOG_RATIOS[1] - math.log(least_ratio) < 0


# Oracle: TRL's default.
def test_the_correction_is_trls_default():
    from trl import GRPOConfig

    default = GRPOConfig.__dataclass_fields__["use_bias_correction_kl"].default
    assert kl.explorer().values["use_bias_correction_kl"] is default is True


# The picture.
@pytest.mark.parametrize("beta", [1.0, 0.25, 0.0])
def test_the_figure_draws_what_was_computed(beta):
    shown = kl.compute(beta=beta, ratio=2.0, shift=-2.0, drift=0.5)
    left, middle, right = kl.figure(shown).axes
    for axes, curves, scale in [(left, shown.value, 1.0), (middle, shown.slope, beta)]:
        drawn = [line.get_ydata() for line in axes.get_lines()[:3]]
        assert all((line == scale * v.numpy()).all() for line, v in zip(drawn, curves.values(), strict=True))
        low, high = axes.get_ylim()
        assert all(low < v.min() and v.max() < high for v in curves.values())
    assert [bar.get_height() for bar in right.patches] == [*(beta * shown.kl_pull), *(beta * shown.pull)]


def test_the_words_follow_the_controls():
    shown = kl.explorer()
    assert "the means are k1 0.416, k2 0.606, k3 · ratio 0.416" in shown.caption
    assert "mean slope of KL(π ‖ π_ref): times β = 1 it is at most 0.000 away" in shown.caption
    shown.fields["use_bias_correction_kl"].value = False
    assert "k3 has the mean slope of KL(π_ref ‖ π) instead: times β = 1 it is at most 0.110 away" in shown.caption
    shown.fields["drift"].value = 0.5
    assert "an older policy the means are k1 0.102, k2 0.422, k3 0.332" in shown.caption
    assert "k3 has the mean slope of neither KL" in shown.caption
    shown.fields["beta"].value = 0.5
    assert "is -1.74 where log π/π_ref is -1.5 and +0.39 where it is +1.5" in shown.caption


def test_the_legend_names_each_line_by_its_own_colour():
    shown = kl.compute()
    drawing = kl.figure(shown)
    named = {
        text.get_text().split(":")[0]: line.get_color()
        for text, line in zip(drawing.texts[:3], drawing.artists[:3], strict=True)
    }
    assert named == {kl.name_of(shown, name): colour for name, (colour, *_) in kl.STYLES.items()}
    drawn = {line.get_color(): line.get_ydata() for line in drawing.axes[0].get_lines()[:3]}
    for name, (colour, *_) in kl.STYLES.items():
        assert (drawn[colour] == shown.value[name].numpy()).all(), name
