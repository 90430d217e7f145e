"""Each coefficient times ∇ log π is the gradient of the method's own loss, taken by autograd."""

import pytest
import torch

from grpo_nb import losses, paradigms

GENERATOR = torch.Generator().manual_seed(0)
LOGPS = -torch.rand(4, 3, generator=GENERATOR, dtype=torch.float64)
REF = LOGPS + 0.2 * torch.randn(4, 3, generator=GENERATOR, dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.float64)


def ascent(loss_of, logps=LOGPS) -> torch.Tensor:
    """−∂loss/∂logps: what each token's log-probability is multiplied by."""
    logps = logps.clone().requires_grad_()
    return -torch.autograd.grad(loss_of(logps), logps)[0]


def test_sft_and_rft():
    torch.testing.assert_close(ascent(lambda logps: -(logps * MASK).sum()), paradigms.sft_coefficient(MASK))
    is_right = torch.tensor([True, False, False, True])
    kept = ascent(lambda logps: -(logps * MASK)[is_right].sum())
    torch.testing.assert_close(kept, paradigms.rft_coefficient(is_right, MASK))


def test_dpo():
    """The loss that TRL trains: −log σ(β (Δ chosen − Δ rejected))."""
    beta, chosen, rejected = 0.3, LOGPS[:2].sum(1), LOGPS[2:].sum(1)
    ref_chosen, ref_rejected = REF[:2].sum(1), REF[2:].sum(1)

    def loss(both):
        margin = (both[:2] - ref_chosen) - (both[2:] - ref_rejected)
        return -torch.nn.functional.logsigmoid(beta * margin).sum()

    found = ascent(loss, torch.cat([chosen, rejected]))
    expected = paradigms.dpo_coefficient(chosen, rejected, ref_chosen, ref_rejected, beta=beta)
    torch.testing.assert_close(found, torch.cat([expected, -expected]))


def test_grpo_is_our_loss_without_clipping():
    """Token sums instead of means: `luspo` times the number of rows; bias correction adds a gradient of its own."""
    rewards = torch.tensor([[1.0, 0.0], [2.0, 5.0]], dtype=torch.float64)
    advantages = paradigms.advantages.group_advantages(rewards).flatten()
    options = {"loss_type": "luspo", "beta": 0.04, "ref_logps": REF, "use_bias_correction_kl": False}
    found = ascent(lambda logps: 4 * losses.grpo_loss(logps, advantages, MASK, **options).loss)
    torch.testing.assert_close(found, paradigms.grpo_coefficient(rewards, LOGPS, REF, MASK, beta=0.04))


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.5), (1.0, 0.0)])
def test_ppos_advantage_is_the_sum_it_is_defined_by(gamma, lam):
    rewards, values = torch.randn(2, 4, generator=GENERATOR), torch.randn(2, 4, generator=GENERATOR)
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    found = paradigms.ppo_coefficient(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in [(0, 4), (1, 2)]:
        after = [*values[row, 1:length].tolist(), 0.0]
        surprises = [rewards[row, t].item() + gamma * after[t] - values[row, t].item() for t in range(length)]
        expected = [sum((gamma * lam) ** (j - t) * surprises[j] for j in range(t, length)) for t in range(length)]
        assert found[row].tolist() == pytest.approx(expected + [0.0] * (4 - length), abs=1e-5)


def test_with_lambda_1_and_no_discount_ppo_compares_the_return_with_the_value():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.5, 0.9]])
    found = paradigms.ppo_coefficient(rewards, values, torch.ones(1, 3), lam=1.0)
    torch.testing.assert_close(found, 1 - values)


def test_one_step_at_the_end_is_outcome_supervision():
    process = paradigms.process_advantages([[1.0], [0.0], [0.0], [1.0]], [[2], [1], [0], [2]], length=3)
    outcome = paradigms.advantages.group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]])).reshape(-1, 1) * MASK.float()
    torch.testing.assert_close(process, outcome)


def test_an_early_good_step_is_credited_though_the_end_is_bad():
    found = paradigms.process_advantages([[1.0, -1.0], [0.0, 0.0]], [[0, 3], [1, 3]], length=4)
    assert found[0, 0] == pytest.approx(0, abs=1e-6) and found[0, 1] < 0, "the first token caused both steps"
    assert torch.equal(paradigms.process_advantages([[1, -1], [0, 0]], [[0, 3], [1, 3]], length=4), found)


def test_one_step_in_all_teaches_nothing():
    assert not paradigms.process_advantages([[1.0]], [[1]], length=2).any()


@pytest.mark.parametrize("end", [2, -1])
def test_a_step_ends_inside_its_completion(end):
    with pytest.raises(ValueError, match=rf"must end at a token from 0 to 1 \(got {end}\)"):
        paradigms.process_advantages([[1.0, 0.0]], [[0, end]], length=2)
