"""The package's own advantages and loss, in TRL's trainer: TRL's weights, TRL's metrics, and a loss of one's own."""

import collections
import functools
from types import SimpleNamespace

import pytest
import torch
import trl
from test_losses import CASES, TRLS, random_case, trainer_and_inputs

from grpo_nb import advantages, losses, models, profiles, train
from grpo_nb.kernels import package_loss
from grpo_nb.kernels.trainer import SWITCHES, KernelGRPOTrainer
from tests import kernel_trainers as tiny

OFF = dict.fromkeys(SWITCHES, False)
STEPS = 10
NOT_COMPARED = ("time", "runtime", "per_second")


def trained(folder, *, switches=None, model=None, **changes) -> tuple[dict, list[dict], KernelGRPOTrainer]:
    """Trained weights, the log but for its times, and the trainer after `STEPS` steps from one seed."""
    torch.manual_seed(0)
    model = tiny.with_lora(tiny.tiny_model()) if model is None else model
    switches, settings = OFF | (switches or {}), {"max_steps": STEPS} | changes
    trainer = tiny.trainer_of(model, folder, kind=KernelGRPOTrainer, switches=switches, **settings)
    trainer.train()
    log = [{k: v for k, v in row.items() if not k.endswith(NOT_COMPARED)} for row in trainer.state.log_history]
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}, log, trainer


def assert_trains_as_trl(folder, *, switches=None, **changes) -> None:
    """Equal weights to the bit, and an equal log: own_loss beside TRL's loss."""
    before = {n: p.clone() for n, p in tiny.with_lora(tiny.tiny_model()).named_parameters()}
    switches, results = switches or {}, []
    for own in (False, True):
        results.append(trained(folder, switches={**switches, "own_loss": own}, **changes))
    (theirs, their_log, _), (ours, our_log, trainer) = results
    assert "own_loss" not in trainer.left_to_trl()
    assert any((before[name] - weight).abs().max() > 1e-3 for name, weight in ours.items()), "it trained"
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name
    assert [row.keys() for row in our_log] == [row.keys() for row in their_log]
    for mine, other in zip(our_log, their_log, strict=True):
        assert {k for k in mine if mine[k] is None} == {k for k in other if other[k] is None}
        assert {k: mine[k] or 0 for k in mine} == pytest.approx({k: other[k] or 0 for k in other}, rel=1e-6, abs=1e-6)


# --- oracle: TRL's own loss -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", TRLS)
def test_ten_steps_of_each_loss_end_in_trls_weights(loss_type, tmp_path):
    """Off-policy too: each generation trains twice, in three accumulated parts of 6 rows. Then with a KL penalty."""
    thirds = {"per_device_train_batch_size": 6, "num_generations": 3, "gradient_accumulation_steps": 3}
    assert_trains_as_trl(tmp_path, loss_type=loss_type, num_iterations=2, **thirds)
    assert_trains_as_trl(tmp_path, loss_type=loss_type, beta=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"importance_sampling_level": "sequence", "num_iterations": 2, "epsilon": 3e-4, "epsilon_high": 4e-4},
        {"delta": 1.3, "epsilon_high": 0.28, "scale_rewards": "batch", "num_iterations": 3},
        {"scale_rewards": "none", "entropy_coef": 0.01, "gradient_accumulation_steps": 2, "loss_type": "grpo"},
        {"entropy_coef": 0.01, "loss_type": "dapo", "steps_per_generation": 2, "mask_truncated_completions": True},
        {"multi_objective_aggregation": "normalize_then_sum", "top_entropy_quantile": 0.5, "reward_weights": [2.0]},
        {"off_policy_mask_threshold": 1e-6, "num_iterations": 2, "num_generations": 2, "loss_type": "bnpo"},
        {"gradient_accumulation_steps": 3, "steps_per_generation": 4, "loss_type": "grpo"},  # an epoch's last has 1
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_options_that_change_the_loss_change_it_alike(changes, tmp_path):
    assert_trains_as_trl(tmp_path, **changes)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_with_the_head_and_all_that_is_left_out_the_weights_are_the_same(loss_type, tmp_path):
    """As the cpu profile trains: both losses behind the same four switches."""
    switches = dict(profiles.CPU["kernels"])
    assert_trains_as_trl(tmp_path, switches=switches, loss_type=loss_type, num_iterations=2, epsilon=1e-3)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_loss_and_metrics_of_random_micro_batches_are_trls(training):
    """With vLLM's log-probs, masks with holes, empty rows, and all options; 60 of each loss type."""
    metrics_seen = set()
    for seed in range(0, CASES, 5):
        tensors, options = random_case(seed)
        if not training and options["entropy_coef"]:
            options["entropy_coef"] = 0.0  # in an evaluation it is logged once less
        results = []
        for compute in (trl.GRPOTrainer._compute_loss, package_loss.compute_loss):
            logged = collections.defaultdict(list)
            logps = tensors["logps"].clone().requires_grad_()
            trainer, inputs = trainer_and_inputs({**tensors, "logps": logps}, options, logged, training=training)
            loss = compute(trainer, trainer.model, inputs)
            results.append((loss.detach(), torch.autograd.grad(loss, logps)[0], dict(logged)))
        (loss, gradient, logged), (our_loss, our_gradient, our_logged) = results
        torch.testing.assert_close(our_loss, loss, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(our_gradient, gradient, rtol=1e-9, atol=1e-12)
        assert our_logged.keys() == logged.keys(), options
        for name, values in logged.items():
            assert our_logged[name] == pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True), f"{name} {seed}"
        metrics_seen |= logged.keys()
    assert metrics_seen >= {"kl", "entropy", "clip_ratio/low_min", "cispo_clip_ratio", "vespo/phi_seq_mean"}


def test_an_evaluation_compares_within_groups_of_its_own_size(tmp_path):
    """Metrics of an evaluation, and the advantages in the table of completions."""
    found = []
    for own in (False, True):
        torch.manual_seed(0)
        model, switches = tiny.with_lora(tiny.tiny_model()), OFF | {"own_loss": own}
        settings = {"num_generations_eval": 2, "per_device_eval_batch_size": 4}
        trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, switches=switches, **settings)
        metrics = trainer.evaluate(eval_dataset=trainer.train_dataset.select(range(8)))
        compared = {k: v for k, v in metrics.items() if not k.endswith(NOT_COMPARED)}
        found.append((compared, list(trainer._logs["advantages"])))
    (theirs, their_advantages), (ours, our_advantages) = found
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9, nan_ok=True)
    assert our_advantages == their_advantages and any(our_advantages)


# --- the answer key trains --------------------------------------------------------------------------------------------


def test_what_advantages_says_is_what_trains(tmp_path, monkeypatch):
    """Advantages of zero: nothing moves but for weight decay, which is off, and the table of completions shows them."""
    combine = advantages.combine_rewards
    monkeypatch.setattr(advantages, "combine_rewards", lambda *args, **options: 0 * combine(*args, **options))
    before = {n: p.clone() for n, p in tiny.with_lora(tiny.tiny_model()).named_parameters() if p.requires_grad}
    weights, _, trainer = trained(tmp_path, switches={"own_loss": True})
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert set(trainer._logs["advantages"]) == {0.0}
    weights, *_ = trained(tmp_path)
    assert not all(torch.equal(weights[name], before[name]) for name in before), "TRL's own loss does not ask"


def test_what_losses_says_is_what_trains(tmp_path, monkeypatch):
    """A loss type that TRL has never heard of, added where CONTRIBUTING says: a name and a branch."""
    monkeypatch.setattr(losses.reduction, "LOSS_TYPES", (*losses.LOSS_TYPES, "reinforce"))
    known = losses.total._surrogate

    def surrogate(loss_type, tensors, **options):
        return -tensors[3] * tensors[0] if loss_type == "reinforce" else known(loss_type, tensors, **options)

    divided = losses.reduction.divisors

    def divisors(mask, *, loss_type, **settings):
        return divided(mask, loss_type="luspo" if loss_type == "reinforce" else loss_type, **settings)

    with pytest.raises(ValueError, match="must say what a token loses .*reinforce"):
        losses.grpo_loss(torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1), loss_type="reinforce")
    monkeypatch.setattr(losses.total, "_surrogate", surrogate)
    with pytest.raises(ValueError, match="must say what it is divided by .*reinforce"):
        losses.grpo_loss(torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1), loss_type="reinforce")
    monkeypatch.setattr(losses.reduction, "divisors", divisors)
    switches = dict(profiles.CPU["kernels"])
    weights, log, trainer = trained(tmp_path, switches=switches, loss_type="reinforce")
    assert trainer.left_to_trl() == {"drop_dead_rows": "how reinforce divides is not known here"}
    on_policy, *_ = trained(tmp_path, switches={**switches, "drop_dead_rows": False}, loss_type="luspo")
    for name, weight in weights.items():  # on-policy the gradient of −A·log p is that of −A·ρ
        torch.testing.assert_close(weight, on_policy[name], rtol=1e-4, atol=1e-6)
    assert "clip_ratio/low_mean" not in log[0] and "entropy" in log[0]


# --- a loss of one's own ----------------------------------------------------------------------------------------------


def ppo_clip(logps, old_logps, advantages, mask, *, epsilon, **settings):
    ratio = (logps - old_logps).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages)


def test_a_loss_of_ones_own_trains(tmp_path):
    """PPO's clip, written out, ends in dapo's weights; without the minus the policy runs the other way."""
    settings = {"num_iterations": 2, "epsilon": 1e-3}
    dapo, _, _ = trained(tmp_path, switches={"own_loss": True}, **settings)
    ours, log, _ = trained(tmp_path, switches={"own_loss": True, "loss": ppo_clip}, **settings)
    assert all(torch.equal(ours[name], weight) for name, weight in dapo.items())
    assert "clip_ratio/low_mean" not in log[0], "what such a loss clips is not known"

    def backwards(*args, **settings):
        return -ppo_clip(*args, **settings)

    wrong, _, _ = trained(tmp_path, switches={"own_loss": True, "loss": backwards}, max_steps=1)
    right, _, _ = trained(tmp_path, switches={"own_loss": True, "loss": ppo_clip}, max_steps=1)
    start = {n: p.detach() for n, p in tiny.with_lora(tiny.tiny_model()).named_parameters() if p.requires_grad}
    pairs = [((wrong[n] - start[n]).flatten(), (right[n] - start[n]).flatten()) for n in start]
    cosine = torch.cosine_similarity(*(torch.cat(side) for side in zip(*pairs, strict=True)), dim=0)
    assert cosine == pytest.approx(-1, abs=1e-3)


def test_a_loss_of_ones_own_gets_copies(tmp_path):
    """What it writes into its arguments changes no later step, and not what follows it."""

    def untidy(logps, old_logps, advantages, mask, **settings):
        copies = [tensor.clone() for tensor in (old_logps, advantages, mask)]
        for tensor in (old_logps, advantages, mask):
            tensor.mul_(0)
        return ppo_clip(logps, *copies, **settings)

    settings = {"num_iterations": 2, "beta": 0.1, "max_steps": 4}
    tidy, *_ = trained(tmp_path, switches={"own_loss": True, "loss": ppo_clip}, **settings)
    ours, *_ = trained(tmp_path, switches={"own_loss": True, "loss": untidy}, **settings)
    assert all(torch.equal(ours[name], weight) for name, weight in tidy.items())


def test_a_loss_of_ones_own_trains_every_row(tmp_path):
    """It may pay rows without an advantage, so none is left out; KL and the loss type's mean follow it."""

    def surer(logps, old_logps, advantages, mask, **settings):
        return -logps  # whatever was sampled, more of it

    switches = dict(profiles.CPU["kernels"]) | {"loss": surer}
    ours, log, trainer = trained(tmp_path, switches=switches, loss_type="bnpo", max_steps=3)
    assert trainer.left_to_trl() == {"drop_dead_rows": "a loss of your own may train any row"}
    assert any(row.get("frac_reward_zero_std") for row in log), "there were groups without a difference"
    whole, *_ = trained(tmp_path, switches=switches | {"drop_dead_rows": False}, loss_type="bnpo", max_steps=3)
    assert all(torch.equal(ours[name], weight) for name, weight in whole.items())


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda logps, old, advantages, mask, **s: (logps * mask).sum(), r"per token.*\[2, 3\].*got shape \[\]\). Ret"),
        (lambda logps, old, advantages, mask, **s: logps.sum(1), r"per completion, \[2, 1\] \(got shape \[2\]\)"),
        (lambda logps, old, advantages, mask, **s: 0.0, r"\(got float\)"),
        (lambda logps, old, advantages, mask, **s: old * advantages, r"must depend on logps.*without a gradient"),
        (lambda logps, old, advantages, mask, **s: logps / mask, r"a loss must be finite, outside of the mask too"),
        (
            lambda logps, old, advantages, mask, **s: s["eps"],
            r"must compute on any batch \(got KeyError: 'eps'.*epsilon_h",
        ),
        (lambda logps, old, advantages, mask, **s: logps * advantages.squeeze(), r"got RuntimeError.*size of tensor"),
        (max, r"must take"),
        (lambda logps, old, advantages: logps, r"must take \(logps, old_logps, advantages, mask, \*\*settings\)"),
        (ppo_clip(*(torch.zeros(1, 1),) * 4, epsilon=0.2), r"loss must be a function .*Write def"),
    ],
    ids="scalar row float detached nan key broadcast builtin signature called".split(),
)
def test_what_cannot_be_a_loss_is_refused_before_a_model_loads(loss, sentence, profile, rows, monkeypatch):
    monkeypatch.setattr(models, "add_lora", lambda *args, **options: pytest.fail("the model was touched"))
    with pytest.raises(ValueError, match=sentence):
        train.grpo_trainer(None, None, prompts(rows), [tiny.variety], profile, loss=loss)


def prompts(rows):
    from grpo_nb import data

    return data.grpo_rows(rows, system_prompt="Add.")


def test_a_loss_needs_a_trainer_that_has_one(profile, rows, tmp_path):
    gpu = profiles.current("t4")
    with pytest.raises(ValueError, match="needs a trainer of this package .*got the profile t4"):
        train._grpo_class(gpu, ppo_clip)
    with pytest.raises(ValueError, match=r"needs own_loss \(got own_loss=False\)"):
        tiny.trainer_of(tiny.tiny_model(), tmp_path, kind=KernelGRPOTrainer, switches=OFF | {"loss": ppo_clip})
    profile.kernels = {}
    chosen = train._grpo_class(profile, ppo_clip)
    assert isinstance(chosen, functools.partial) and chosen.keywords == OFF | {"own_loss": True, "loss": ppo_clip}


def test_what_only_trl_has_is_left_to_it(tmp_path):
    changes = {"use_adaptive_entropy": True, "entropy_coef": 0.01, "entropy_target": 1.0}
    _, log, trainer = trained(tmp_path, switches={"own_loss": True}, max_steps=2, **changes)
    assert trainer.left_to_trl() == {"own_loss": "the coefficient of the entropy bonus adapts"}
    assert log[0]["entropy_coef"] != 0.01
    with pytest.raises(ValueError, match="must be the whole loss .*the coefficient of the entropy bonus adapts"):
        trained(tmp_path, switches={"own_loss": True, "loss": ppo_clip}, max_steps=2, **changes)
    trainer.use_adaptive_entropy = False
    assert package_loss.why_not(trainer, {}) is None
    trainer.use_vllm, trainer.vllm_importance_sampling_correction, trainer.off_policy_mask_threshold = True, False, 0.0
    assert "nothing corrects for" in package_loss.why_not(trainer, {})
    trainer.off_policy_mask_threshold, trainer.top_entropy_quantile = None, 0.5
    assert package_loss.why_not(trainer, {}) is None
    trainer.accelerator = SimpleNamespace(num_processes=2)
    assert "of all processes" in package_loss.why_not(trainer, {})
    trainer.accelerator.num_processes = 1
    assert "images" in package_loss.why_not(trainer, {"pixel_values": 0})


def test_a_loss_is_tried_without_drawing_a_random_number(tmp_path):
    calls = []

    def noisy(logps, old_logps, advantages, mask, **settings):
        calls.append(torch.rand(1))
        return ppo_clip(logps, old_logps, advantages, mask, **settings)

    args, state = tiny.trainer_of(tiny.tiny_model(), tmp_path).args, torch.get_rng_state()
    package_loss.check_loss(noisy, args)
    assert calls and torch.equal(torch.get_rng_state(), state)
