"""The losses equal those that TRL trains with, in value and gradient; and the laws that make them what they are."""

import collections
import math
import random
from types import SimpleNamespace

import pytest
import torch

from grpo_nb import losses

N, T = 6, 7
CASES = 2400
TRLS = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo")  # types that TRL has: it judges these
BY_MICRO_BATCH = ("bnpo",)  # types whose sum is divided by the tokens of one micro-batch
MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


def random_case(seed: int) -> tuple[dict, dict]:
    """Tensors of one micro-batch (ragged, some rows empty), and options of which every combination is legal."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def noise(scale):
        return scale * torch.randn(N, T, generator=generator, dtype=torch.float64)

    lengths = torch.randint(0 if rng.random() < 0.3 else 1, T + 1, (N, 1), generator=generator)
    mask = torch.arange(T) < lengths
    if rng.random() < 0.2:
        mask &= torch.rand(N, T, generator=generator) < 0.8  # holes, as tools' results leave
    logps = -noise(1.0).abs()
    far = 15.0 if seed // 8 % 10 == 0 else 0.3  # nats; beyond every clamp now and then
    advantages = noise(1.0)[:, 0] * (rng.random() < 0.95)
    tensors = {
        "logps": logps,
        "advantages": advantages,
        "mask": mask.double(),
        "old_logps": logps + noise(far) if rng.random() < 0.7 else None,
        "ref_logps": logps + noise(0.3),
        "sampling_logps": None,
        "entropies": noise(1.0).abs(),
    }
    options = {
        "loss_type": TRLS[seed % len(TRLS)],
        "epsilon": rng.choice([0.1, 0.2]),
        "epsilon_high": rng.choice([None, 0.28, 5.0]),
        "delta": rng.choice([None, 1.5, 4.0]),
        "beta": rng.choice([0.0, 0.04]),
        "use_bias_correction_kl": rng.random() < 0.5,
        "importance_sampling_level": rng.choice(["token", "sequence"]),
        "sapo_temperature_pos": rng.choice([1.0, 0.8]),
        "sapo_temperature_neg": rng.choice([1.05, 1.5]),
        "vespo_k_pos": rng.choice([2.0, 1.0]),
        "vespo_lambda_pos": rng.choice([3.0, 0.5]),
        "vespo_k_neg": rng.choice([3.0, 1.5]),
        "vespo_lambda_neg": rng.choice([2.0, 0.7, 0.0]),
        "off_policy_mask_threshold": rng.choice([None, None, 0.05]),
        "top_entropy_quantile": rng.choice([1.0, 1.0, 0.4]),
        "entropy_coef": rng.choice([0.0, 0.01]),
        "max_completion_length": rng.choice([T, 20]),
        "num_items_in_batch": rng.choice([1, 37]),
        "gradient_accumulation_steps": rng.choice([1, 2, 3]),
        "steps_per_generation": rng.choice([1, 2, 4]),
        "num_processes": rng.choice([1, 2]),
    }
    if tensors["old_logps"] is not None and rng.random() < 0.4:
        tensors["sampling_logps"] = tensors["old_logps"] + noise(0.2)
        if rng.random() < 0.3:
            tensors["sampling_logps"][0, 0] = math.nan  # vLLM could not score it
        options["vllm_importance_sampling_mode"] = rng.choice(MODES)
        options["vllm_importance_sampling_clip_min"] = rng.choice([None, 0.7])
        options["vllm_importance_sampling_clip_max"] = rng.choice([None, 1.5, 3.0])
        if options["vllm_importance_sampling_clip_min"] is None:  # TRL refuses to truncate at neither end
            options["vllm_importance_sampling_clip_max"] = rng.choice([1.5, 3.0])
        if options["loss_type"] == "vespo":
            options["vllm_importance_sampling_mode"] = rng.choice(MODES[:2])
    return tensors, options


def case_of(loss_type: str) -> tuple[dict, dict]:
    """A random case of any type, of TRL's or not: what the laws are tried on."""
    tensors, options = random_case(losses.LOSS_TYPES.index(loss_type))
    return tensors, {**options, "loss_type": loss_type}


def trls_loss(tensors: dict, options: dict, metrics: dict | None = None) -> torch.Tensor:
    """`GRPOTrainer._compute_loss` itself, which fills the metrics."""
    trainer, inputs = trainer_and_inputs(tensors, options, metrics)
    return trainer._compute_loss(trainer.model, inputs)


def trainer_and_inputs(tensors: dict, options: dict, metrics: dict | None = None, *, training: bool = True) -> tuple:
    """A `trl.GRPOTrainer` of which only what its loss reads is there, and a micro-batch."""
    from trl import GRPOTrainer

    trainer = object.__new__(GRPOTrainer)
    accelerator = SimpleNamespace(
        num_processes=options["num_processes"],
        sync_gradients=True,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, **kwargs: x,
    )
    ratio = None
    if tensors["sampling_logps"] is not None:
        ratio = reference_sampling_ratio(tensors, options)
    trainer.__dict__.update(
        args=SimpleNamespace(
            **{f"vllm_importance_sampling_{name}": None for name in ("clip_min", "clip_max")}
            | {"vllm_importance_sampling_mode": MODES[0]}
            | {key: value for key, value in options.items() if key not in ("num_items_in_batch", "num_processes")}
        ),
        accelerator=accelerator,
        model=SimpleNamespace(training=training),
        loss_type=options["loss_type"],
        epsilon_low=options["epsilon"],
        epsilon_high=options["epsilon"] if options["epsilon_high"] is None else options["epsilon_high"],
        beta=options["beta"],
        importance_sampling_level=options["importance_sampling_level"],
        off_policy_mask_threshold=options["off_policy_mask_threshold"],
        top_entropy_quantile=options["top_entropy_quantile"],
        max_completion_length=options["max_completion_length"],
        current_gradient_accumulation_steps=options["gradient_accumulation_steps"],
        use_vllm=ratio is not None,
        vllm_importance_sampling_correction=True,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=options["entropy_coef"] != 0.0,
        use_adaptive_entropy=False,
        entropy_coef=options["entropy_coef"],
        _metrics={"train" if training else "eval": collections.defaultdict(list) if metrics is None else metrics},
    )
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (tensors["logps"], tensors["entropies"], None)
    inputs = {
        "prompt_ids": torch.zeros(N, 1, dtype=torch.long),
        "prompt_mask": torch.ones(N, 1),
        "completion_ids": torch.zeros(N, T, dtype=torch.long),
        "completion_mask": tensors["mask"],
        "advantages": tensors["advantages"],
        "ref_per_token_logps": tensors["ref_logps"],
        "num_items_in_batch": torch.tensor(float(options["num_items_in_batch"])),
    }
    if tensors["old_logps"] is not None:
        inputs["old_per_token_logps"] = tensors["old_logps"]
    if ratio is not None:
        inputs |= {"sampling_per_token_logps": tensors["sampling_logps"], "importance_sampling_ratio": ratio}
    return trainer, inputs


def reference_sampling_ratio(tensors: dict, options: dict) -> torch.Tensor:
    """The block of `_generate_and_score_completions`, which cannot be called without generating, in its own order."""
    difference = torch.nan_to_num((tensors["old_logps"] - tensors["sampling_logps"]) * tensors["mask"], nan=0.0)
    mode, low = options["vllm_importance_sampling_mode"], options["vllm_importance_sampling_clip_min"]
    high = options["vllm_importance_sampling_clip_max"]
    if mode in ("sequence_mask", "sequence_truncate"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = torch.exp(difference)
    if mode.endswith("truncate"):
        return torch.clamp(ratio, min=low, max=high)
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    return ratio.masked_fill((ratio < least) | (ratio > most), value=0.0)


def test_every_loss_of_trl_is_there():
    assert set(TRLS) <= set(losses.LOSS_TYPES)


@pytest.mark.parametrize("loss_type", TRLS)
def test_value_and_gradient_are_trls(loss_type):
    """300 random combinations of options for each of the eight losses."""
    first = TRLS.index(loss_type)
    for seed in range(first, CASES, len(TRLS)):
        tensors, options = random_case(seed)
        results = []
        for compute in (trls_loss, lambda t, o: losses.grpo_loss(**t, **o).loss):
            logps = tensors["logps"].clone().requires_grad_()
            entropies = tensors["entropies"].clone().requires_grad_()
            loss = compute({**tensors, "logps": logps, "entropies": entropies}, options)
            gradients = torch.autograd.grad(loss, [logps, entropies], allow_unused=True, materialize_grads=True)
            results.append([loss.detach(), *gradients])
        for theirs, ours in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=lambda m: f"{m}\n{seed} {options}")  # noqa: B023


@pytest.mark.parametrize("loss_type", TRLS)
def test_the_parts_are_trls_metrics(loss_type):
    """What TRL logs as clip_ratio and kl is the mean of `clipped` and `kl`."""
    seen, first = set(), TRLS.index(loss_type)
    for seed in range(first, CASES // 4, len(TRLS)):
        tensors, options = random_case(seed)
        options["entropy_coef"] = 0.0
        logged = collections.defaultdict(list)
        trls_loss(tensors, options, logged)
        result, mask = losses.grpo_loss(**tensors, **options), tensors["mask"]
        of_parts = {"clip_ratio/low_mean": result.clipped == -1, "clip_ratio/high_mean": result.clipped == 1}
        of_parts |= {"cispo_clip_ratio": result.clipped == 1, "kl": result.kl}
        for name in of_parts.keys() & logged.keys():
            part = of_parts[name].double()
            mean = part.mean() if part.shape[1] == 1 else losses.masked_mean(part, mask)
            assert mean.item() == pytest.approx(logged[name][0], rel=1e-6, abs=1e-9), f"{name} {seed} {options}"
            seen.add(name)
        assert loss_type not in ("sapo", "vespo") or not result.clipped.any(), "these clip nothing"
        assert loss_type != "cispo" or (result.clipped >= 0).all(), "it caps, and has no lower end"
    clips = {"cispo": {"cispo_clip_ratio"}, "sapo": set(), "vespo": set()}
    assert seen == clips.get(loss_type, {"clip_ratio/low_mean", "clip_ratio/high_mean"}) | {"kl"}


def batch(*rows: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and mask from ragged rows, padded with zeros."""
    width = max(map(len, rows))
    padded = torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float64)
    return padded, torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)


def test_on_policy_the_loss_is_minus_the_mean_advantage_and_its_gradient_is_not():
    """By hand: ρ = 1, so dapo's loss is −(2·1 + 1·(−1)) / 3 tokens; ∂/∂logp of a token is −A/3."""
    logps, mask = batch([-1.0, -2.0], [-0.5])
    logps.requires_grad_()
    loss = losses.grpo_loss(logps, torch.tensor([1.0, -1.0]), mask).loss
    loss.backward()
    assert loss.item() == pytest.approx(-1 / 3)
    torch.testing.assert_close(logps.grad, torch.tensor([[-1 / 3, -1 / 3], [1 / 3, 0.0]], dtype=torch.float64))


def test_what_each_loss_pays_to_a_short_and_a_long_answer():
    """By hand: two answers of 1 and 3 tokens, room for 4. The weight of one token of each, times 24."""
    mask = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0]])
    paid = {}
    for kind in TRLS:
        weights = losses.token_weights(mask, loss_type=kind, max_completion_length=4)
        paid[kind] = [round(24 * weights[row, 0].item(), 6) for row in (0, 1)]
    assert paid == {
        "grpo": [12, 4],
        "sapo": [12, 4],
        "bnpo": [6, 6],
        "dapo": [6, 6],
        "cispo": [6, 6],
        "vespo": [6, 6],
        "dr_grpo": [3, 3],
        "luspo": [12, 12],
    }


@pytest.mark.parametrize("loss_type", losses.LOSS_TYPES)
def test_the_parts_make_up_the_loss(loss_type):
    """Σ weights · per_token, but for the entropy bonus."""
    tensors, options = case_of(loss_type)
    result = losses.grpo_loss(**tensors, **options | {"entropy_coef": 0.0})
    torch.testing.assert_close((result.weights * result.per_token).sum(), result.loss)


@pytest.mark.parametrize("loss_type", losses.LOSS_TYPES)
def test_padding_changes_nothing(loss_type):
    tensors, options = case_of(loss_type)
    wider = {
        key: torch.nn.functional.pad(value, (0, 3), value=-9.0 if key != "mask" else 0.0)
        if value is not None and value.dim() == 2
        else value
        for key, value in tensors.items()
    }
    wider["entropies"][:, -3:] = 1e9
    ours, padded = (losses.grpo_loss(**case, **options).loss for case in (tensors, wider))
    torch.testing.assert_close(padded, ours)


@pytest.mark.parametrize("loss_type", [name for name in losses.LOSS_TYPES if name not in BY_MICRO_BATCH])
def test_the_order_and_the_split_of_completions_change_nothing(loss_type):
    """Two micro-batches of an accumulated update add up to the loss of both at once; with bnpo they do not."""
    tensors, options = case_of(loss_type)
    tensors |= {"sampling_logps": None, "mask": torch.ones(N, T, dtype=torch.float64)}
    tensors["mask"][:, 3:] = torch.arange(N * (T - 3)).reshape(N, T - 3) % 3 > 0
    options |= {"top_entropy_quantile": 1.0, "entropy_coef": 0.0, "num_items_in_batch": 30.0, "num_processes": 1}
    options |= {"gradient_accumulation_steps": 1, "steps_per_generation": 1}
    whole = losses.grpo_loss(**tensors, **options).loss
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    parts = []
    for half in (order[:3], order[3:]):
        part = {key: None if value is None else value[half] for key, value in tensors.items()}
        parts.append(
            losses.grpo_loss(**part, **options | {"gradient_accumulation_steps": 2, "steps_per_generation": 2})
        )
    torch.testing.assert_close(parts[0].loss + parts[1].loss, whole)


def test_bnpo_depends_on_how_a_batch_is_split():
    """A fact worth teaching: each micro-batch divides by its own tokens, so a short neighbour makes a token dearer."""
    logps, mask = batch([-1.0] * 4, [-1.0])
    advantages = torch.tensor([1.0, 0.0])
    whole = losses.grpo_loss(logps, advantages, mask, loss_type="bnpo").loss
    halves = [
        losses.grpo_loss(logps[i : i + 1], advantages[i : i + 1], mask[i : i + 1], loss_type="bnpo").loss / 2
        for i in (0, 1)
    ]
    assert whole.item() == pytest.approx(-4 / 5) and sum(halves).item() == pytest.approx(-1 / 2)


def test_beyond_the_clip_a_good_token_has_no_gradient():
    logps = torch.tensor([[-1.0, -1.0, -1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    old = logps.detach() - torch.tensor([[0.3, 0.1, -0.3, -0.1]])
    for sign, still in [(1.0, [False, True, True, True]), (-1.0, [True, True, False, True])]:
        result = losses.grpo_loss(logps, torch.tensor([sign]), torch.ones(1, 4), old_logps=old)
        (gradient,) = torch.autograd.grad(result.loss, logps)
        assert (gradient != 0).tolist() == [still]
        assert result.clipped.tolist() == [[0 if moves else int(sign) for moves in still]]


def test_delta_bounds_what_clipping_leaves_unbounded():
    """A bad completion that became much likelier: −min(ρA, …) grows with ρ, and δ stops it."""
    ratio, bad = torch.tensor([[50.0]]), torch.tensor([[-1.0]])
    assert losses.clipped_surrogate(ratio, bad).item() == 50.0
    assert losses.clipped_surrogate(ratio, bad, delta=4.0).item() == 4.0


def test_the_upper_end_is_the_lower_one_unless_it_is_given():
    """ε = 0.4 alone clips at 0.6 and at 1.4."""
    ratio, good = torch.tensor([[1.9]]), torch.tensor([[1.0]])
    assert losses.clipped_surrogate(ratio, good, epsilon=0.4).item() == pytest.approx(-1.4)
    assert losses.clipped_surrogate(ratio, good, epsilon=0.4, epsilon_high=0.1).item() == pytest.approx(-1.1)


def test_a_loss_type_that_nobody_knows_weighs_nothing():
    for function in (losses.token_weights, lambda mask, **k: losses.aggregate(mask, mask, **k)):
        with pytest.raises(ValueError, match=r"loss_type must be one of grpo, .*\(got 'Grpo'\)"):
            function(torch.ones(2, 3), loss_type="Grpo")


def test_one_loss_for_a_whole_answer_counts_for_each_of_its_tokens():
    """By hand: losses 1 and 4 of answers of 3 and 1 tokens; dapo (3·1 + 1·4) / 4, grpo (1 + 4) / 2; a longer limit."""
    mask, per_answer = torch.tensor([[1.0, 1, 1], [1, 0, 0]]), torch.tensor([[1.0], [4.0]])
    found = {kind: losses.aggregate(per_answer, mask, loss_type=kind).item() for kind in ("dapo", "grpo", "dr_grpo")}
    assert found == {"dapo": 7 / 4, "grpo": 5 / 2, "dr_grpo": pytest.approx(7 / 6)}
    assert losses.aggregate(per_answer, mask, loss_type="dr_grpo", max_completion_length=7).item() == 0.5


def test_kl_estimators():
    """k3 is never negative, and all three agree in the mean: E_π[k1] = E_π[k3] = KL, E_π[k2] to second order."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.softmax(torch.randn(2, 5, generator=generator, dtype=torch.float64), dim=1)
    logps, ref = policy.log(), reference.log()
    exact = (policy * (logps - ref)).sum()
    assert (losses.kl_k3(logps, ref) >= 0).all() and (losses.kl_k1(logps, ref) < 0).any()
    torch.testing.assert_close((policy * losses.kl_k1(logps, ref)).sum(), exact)
    torch.testing.assert_close((policy * losses.kl_k3(logps, ref)).sum(), exact)
    near = torch.softmax(logps + 1e-3 * torch.randn(5, generator=generator, dtype=torch.float64), dim=0).log()
    torch.testing.assert_close(
        (policy * losses.kl_k2(logps, near)).sum(), (policy * (logps - near)).sum(), rtol=1e-2, atol=0
    )


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens():
    log_ratio, mask = batch([0.2, 0.4], [1.0])
    ratio = losses.importance_ratio(log_ratio, mask, level="sequence")
    torch.testing.assert_close(ratio, torch.tensor([[0.3], [1.0]], dtype=torch.float64).exp())


def test_a_mask_of_zeros_leaves_a_loss_of_zero():
    for kind in losses.LOSS_TYPES:
        nothing = losses.grpo_loss(-torch.ones(2, 3), torch.ones(2), torch.zeros(2, 3), loss_type=kind)
        assert nothing.loss == 0, "nothing left to train on is no division by zero"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss_type": "ppo"}, r"loss_type must be one of grpo, .*\(got 'ppo'\)"),
        ({"loss_type": "dr_grpo", "max_completion_length": 0}, r"max_completion_length must be at least 1 \(got 0\)"),
        ({"importance_sampling_level": "word"}, "must be 'token' or 'sequence'"),
        ({"beta": 0.1}, r"beta = 0.1 must come with ref_logps"),
        ({"sampling_logps": torch.zeros(1, 1)}, "sampling_logps must come with old_logps"),
        ({"top_entropy_quantile": 0.2}, "must come with entropies"),
        ({"entropy_coef": 0.2}, "must come with entropies"),
        (
            {"sampling_logps": torch.zeros(1, 1), "old_logps": torch.zeros(1, 1), "vllm_importance_sampling_mode": "x"},
            "must be token_truncate",
        ),
    ],
)
def test_refusals(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        losses.grpo_loss(torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1), **changes)


def test_a_completion_far_from_its_sampler_is_left_out_only_if_it_is_bad():
    """By hand: mean drift 0.5 over two tokens, threshold 0.4; A = 0 counts as good, as in TRL."""
    logps, sampled, mask = torch.full((3, 2), -1.0), torch.full((3, 2), -0.5), torch.ones(3, 2)
    advantages = torch.tensor([[1.0], [0.0], [-1.0]])
    assert losses.near_policy(logps, sampled, advantages, mask, threshold=0.4).flatten().tolist() == [1, 1, 0]
    assert losses.near_policy(logps, sampled, advantages, mask, threshold=0.5).flatten().tolist() == [1, 1, 1]
