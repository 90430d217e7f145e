"""`KernelGRPOTrainer` trains as TRL's trainer does: same gradients, same weights, same metrics, on both known TRLs."""

import contextlib
import copy
import math
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import trl
from test_losses import TRLS

from grpo_nb import losses
from grpo_nb.kernels import dead_rows, prefix, sampler
from grpo_nb.kernels.trainer import SWITCHES, KernelGRPOTrainer
from tests import kernel_trainers as tiny
from tests import wheels

OTHER_TRL = {"1.14.2": "1.16.0", "1.16.0": "1.14.2"}
LEVELS = ("token", "sequence")
TRAINING = {"cached_sampler": False}  # the same completions as TRL's, so that whole runs can be compared
ALL_OFF = dict.fromkeys(SWITCHES, False)


def micro_batch(seed: int, *, options: str = "", dtype=torch.float64) -> dict:
    """One with a dead group, a dead row, a row of which no token counts, and what `options` name."""
    inputs, generator = tiny.micro_batch(seed=seed), torch.Generator().manual_seed(seed)
    shape = inputs["completion_ids"].shape

    def noise(scale):
        return scale * torch.randn(shape, generator=generator, dtype=dtype)

    inputs["advantages"] = inputs["advantages"].to(dtype)
    inputs["advantages"][torch.arange(shape[0]) % 3 == 1] = 0.0
    inputs["advantages"][6] = 0.0
    inputs["completion_mask"][3] = 0
    inputs["completion_mask"][inputs["advantages"] != 0, -2:] = 0  # the longest completions are dead
    if "old" in options:
        inputs["old_per_token_logps"] = noise(1.0) - 6.0
    if "tools" in options:
        inputs["tool_mask"] = (torch.rand(shape, generator=generator) < 0.7).int()
    mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
    if "vllm" in options:
        old, sampling = inputs["old_per_token_logps"], inputs["old_per_token_logps"] + noise(0.1)
        ratio = losses.sampling_ratio(old, sampling, mask, mode=mode_of(options))
        inputs |= {"sampling_per_token_logps": sampling, "importance_sampling_ratio": ratio}
    return inputs | {"num_items_in_batch": mask.sum().to(dtype)}


def mode_of(options: str) -> str:
    return "token_truncate" if "vllm tokens" in options else "sequence_mask"


def loss_and_metrics(trainer, inputs: dict):
    """(loss, gradients, the metrics of this one call) of the trainer's own `_compute_loss`."""
    trainer._metrics["train"].clear()
    loss = trainer._compute_loss(trainer.model, dict(inputs))
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    return loss.item(), tiny.gradients(loss, trainer.model), metrics


@pytest.fixture
def pair(tmp_path):
    """(TRL's trainer, ours) on one float64 model; the tests turn their settings."""
    model = tiny.tiny_model("GPTNeoX", dtype=torch.float64)
    return tiny.trainer_of(model, tmp_path), tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer)


@pytest.fixture
def set_up(pair, monkeypatch):
    """Give both trainers the same settings for one test."""

    def settings(**values):
        for trainer in pair:
            for name, value in values.items():
                monkeypatch.setattr(trainer.args if hasattr(trainer.args, name) else trainer, name, value)
                if hasattr(trainer, name):
                    monkeypatch.setattr(trainer, name, value)
        return pair

    return settings


# --- golden -----------------------------------------------------------------------------------------------------------


def test_the_scale_of_a_loss_by_hand():
    """4 rows, of which 1 lives; 10 tokens, of which 5. A mean over rows is divided by 4, not 1; over tokens by 10."""
    scales = {kind: dead_rows.loss_scale(kind, rows=1 / 4, tokens=5 / 10) for kind in TRLS}
    assert scales == dict.fromkeys(["grpo", "sapo", "luspo", "dr_grpo"], 1 / 4) | {"bnpo": 1 / 2} | dict.fromkeys(
        ["dapo", "cispo", "vespo"], 1.0
    )


def test_a_row_lives_by_its_advantage():
    """By hand: rounding's residue lives, and one token of a row is enough."""
    assert dead_rows.live_rows(torch.tensor([1e-5, 0.0, -2.0])).tolist() == [True, False, True]
    assert dead_rows.live_rows(torch.tensor([[0.0, 0.0], [0.0, 1.0]])).tolist() == [False, True]


def test_columns_that_are_padding_in_every_row_go_but_two_stay():
    """TRL takes a width of 1 for one value per row."""
    inputs = {"completion_mask": torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]), "prompt_ids": torch.ones(2, 4)}
    kept = dead_rows.trimmed(inputs | {"tool_mask": torch.ones(2, 4), "importance_sampling_ratio": torch.ones(2, 1)})
    shapes = {"completion_mask": (2, 2), "prompt_ids": (2, 4), "tool_mask": (2, 2), "importance_sampling_ratio": (2, 1)}
    assert {key: tuple(value.shape) for key, value in kept.items()} == shapes
    assert dead_rows.trimmed({"completion_mask": torch.tensor([[1, 0, 0]])})["completion_mask"].tolist() == [[1, 0]]


# --- oracle: TRL's loss, gradients and metrics ------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss_type", TRLS)
def test_loss_gradients_and_metrics_are_trls(loss_type, level, set_up):
    """Without dead rows, off and on policy, with tools, vLLM's ratios and a mask of far sequences."""
    for seed, options in enumerate(["", "old", "old tools", "old vllm tokens", "old vllm tools"]):
        stock, ours = set_up(
            loss_type=loss_type,
            importance_sampling_level=level,
            use_vllm="vllm" in options,
            vllm_importance_sampling_mode=mode_of(options),
            off_policy_mask_threshold=0.5 if "vllm" in options else None,
            delta=1.5 if "tools" in options else None,
        )
        inputs = micro_batch(seed, options=options)
        loss, gradients, metrics = loss_and_metrics(stock, inputs)
        our_loss, our_gradients, our_metrics = loss_and_metrics(ours, inputs)
        assert our_loss == pytest.approx(loss, rel=1e3 * tiny.EXACT, abs=tiny.EXACT), options
        assert tiny.distance(our_gradients, gradients) < tiny.EXACT, options
        of_the_living = {"vespo/phi_seq_mean"}
        assert our_metrics.keys() == metrics.keys()
        for name in metrics.keys() - of_the_living:
            assert our_metrics[name] == pytest.approx(metrics[name], rel=1e-5, abs=1e-9, nan_ok=True), (
                f"{name} {options}"
            )


def test_clip_ratios_are_compared_where_there_are_any(set_up):
    """The test above would not see a wrong correction of zeros."""
    stock, _ = set_up(loss_type="dapo")
    metrics = loss_and_metrics(stock, micro_batch(1, options="old"))[2]
    assert metrics["clip_ratio/region_mean"] > 0.1 and metrics["clip_ratio/high_max"] > 0.1


@pytest.mark.parametrize("level", LEVELS)
def test_the_least_and_the_largest_clip_ratio_are_trls(level, set_up):
    """Every living row clips every token: only a dead row, if it has tokens, makes the least ratio 0."""
    stock, ours = set_up(loss_type="dapo", importance_sampling_level=level)
    inputs, found = micro_batch(0), []
    living = inputs["advantages"] != 0
    inputs["advantages"][living] = -1.0
    inputs["old_per_token_logps"] = torch.zeros(12, tiny.T, dtype=torch.float64)
    for empty in ([], ~living, living, slice(None)):  # rows of which every token is masked
        mask = inputs["completion_mask"].clone()
        mask[:, 0], mask[empty] = 1, 0
        theirs, mine = (loss_and_metrics(trainer, inputs | {"completion_mask": mask})[2] for trainer in (stock, ours))
        for name in ("clip_ratio/low_min", "clip_ratio/low_mean", "clip_ratio/high_max"):
            assert mine[name] == pytest.approx(theirs[name], nan_ok=True), f"{name} without {empty}"
        found.append(theirs["clip_ratio/low_min"])
    if level == "token":
        assert repr(found) == "[0.0, 1.0, 0.0, nan]"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss_type", TRLS)
def test_the_trajectory_of_the_optimizer_is_trls(loss_type, level, set_up):
    """AdamW over four micro-batches, of which one is dead as a whole: momentum and decay go on."""
    stock, ours = set_up(loss_type=loss_type, importance_sampling_level=level)
    start, ends = copy.deepcopy(stock.model.state_dict()), []
    for trainer in (stock, ours):
        trainer.model.load_state_dict(start)
        optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3)
        for seed in range(4):
            inputs = micro_batch(seed)
            if seed == 2:
                inputs["advantages"].zero_()
            trainer._compute_loss(trainer.model, inputs).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    stock.model.load_state_dict(start)
    moved = max((ends[0][name] - start[name]).norm() for name in start)
    assert moved > 1e-2 and tiny.distance(ends[1], ends[0]) < 100 * tiny.EXACT


def test_what_a_loss_weighs_by_rows_would_be_seen(set_up, monkeypatch):
    monkeypatch.setattr(dead_rows, "loss_scale", lambda *a, **k: 1.0)
    for loss_type, is_seen in [("grpo", True), ("bnpo", True), ("dapo", False)]:
        stock, ours = set_up(loss_type=loss_type)
        found = [loss_and_metrics(trainer, micro_batch(0))[1] for trainer in (stock, ours)]
        assert (tiny.distance(*found) > 1e-3) == is_seen


def test_dead_rows_are_read_for_the_entropy_but_not_differentiated(set_up):
    _, ours = set_up(loss_type="dapo")
    inputs, seen, counts = micro_batch(0), [], []
    loss_and_metrics(ours, inputs)  # which tests itself first
    handle = ours.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(torch.is_grad_enabled() * kwargs["input_ids"].numel()),
        with_kwargs=True,
    )
    for advantages in (torch.ones(12), inputs["advantages"], torch.zeros(12)):
        seen.clear()
        loss_and_metrics(ours, inputs | {"advantages": advantages})
        counts.append(sum(seen))
    handle.remove()
    assert counts[0] > 1.5 * counts[1]
    assert counts[2] <= inputs["prompt_ids"].shape[1] + tiny.T, "a single row, to have a loss at all"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"beta": 0.1}, "KL"),
        ({"_entropy_bonus_enabled": True, "entropy_coef": 0.1, "use_adaptive_entropy": False}, "bonus"),
        ({"top_entropy_quantile": 0.5}, "quantile"),
        ({"aux_loss_enabled": True}, "router"),
    ],
)
def test_rows_that_train_without_an_advantage_stay(setting, reason, set_up):
    stock, ours = set_up(loss_type="grpo", **setting)
    assert reason in dead_rows.why_keep_all(ours, {})
    assert reason in ours.left_to_trl()["drop_dead_rows"]
    if reason == "router":
        return
    inputs = micro_batch(0)
    inputs["ref_per_token_logps"] = -6 + torch.randn(12, tiny.T, dtype=torch.float64)
    theirs, mine = (loss_and_metrics(trainer, inputs) for trainer in (stock, ours))
    assert tiny.distance(mine[1], theirs[1]) < tiny.EXACT
    assert mine[2] == pytest.approx(theirs[2], rel=1e-6)


def test_dropout_keeps_every_row():
    dropout = torch.nn.Dropout(0.1)
    assert prefix.droppers(torch.nn.Sequential(dropout, torch.nn.Dropout(0.0))) == [dropout]
    assert prefix.droppers(tiny.tiny_model(attention_dropout=0.1)) and not prefix.droppers(tiny.tiny_model())


@pytest.mark.parametrize("kind", ["trainer", "plug"])
def test_while_dropout_is_on_every_row_stays(kind, tmp_path):
    """One mask is drawn for all rows, so others would drop other values without the dead."""
    model = tiny.with_lora(tiny.tiny_model(), lora_dropout=0.5)
    stock, ours = tiny.trainer_of(model, tmp_path), tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer)
    inputs, found = micro_batch(0, dtype=torch.float32), []
    plugged = tiny.linear_head(stock, drop_dead_rows=True) if kind == "plug" else contextlib.nullcontext(ours)
    with plugged as mine:
        for trainer in (mine, mine, super(KernelGRPOTrainer, ours)):
            torch.manual_seed(5)
            found.append(tiny.gradients(trainer._compute_loss(model, dict(inputs)), model))
        assert all(tiny.distance(one, found[2]) < 2e-5 for one in found)
        droppers = prefix.droppers(model)
        assert "dropout" in dead_rows.why_keep_all(mine, inputs, droppers)
        assert dead_rows.why_keep_all(mine, inputs, [module.eval() for module in droppers]) is None


@pytest.mark.parametrize("name", ["pixel_values", "token_type_ids", "mm_token_type_ids"])
def test_with_images_every_row_stays(name, pair):
    inputs = micro_batch(0) | {name: torch.zeros(12)}
    assert dead_rows.why_keep_all(pair[1], inputs) == "images are not sorted by row"
    assert dead_rows.compute_loss(pair[1], lambda model, kept: kept, pair[1].model, inputs) is inputs


def test_among_several_processes_every_row_stays(pair, monkeypatch):
    inputs, ours = micro_batch(0), pair[1]
    assert dead_rows.why_keep_all(ours, inputs) is None
    monkeypatch.setattr(type(ours.accelerator), "num_processes", 2)
    assert "several processes" in dead_rows.why_keep_all(ours, inputs)
    assert dead_rows.compute_loss(ours, lambda model, kept: kept, ours.model, inputs) is inputs


@pytest.mark.parametrize("rope", [tiny.DYNAMIC, tiny.LONG], ids=lambda rope: rope["rope_type"])
def test_a_dead_row_that_decides_the_angles_of_all_stays(rope, tmp_path):
    model = tiny.tiny_model("Llama", rope_parameters=rope)
    ours = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer)
    assert ours.left_to_trl().keys() == {"shared_prefix", "drop_dead_rows", "cached_sampler"}
    assert all("angles of all" in reason for reason in ours.left_to_trl().values())
    inputs = micro_batch(0, dtype=torch.float32)
    kept = dead_rows.trimmed({key: value[inputs["advantages"] != 0] for key, value in inputs.items() if value.dim()})
    assert tiny.ids_of(kept)[0].shape[1] == 11 < tiny.ids_of(inputs)[0].shape[1], "the longest rows are dead"
    theirs = tiny.gradients(super(KernelGRPOTrainer, ours)._compute_loss(model, dict(inputs)), model)
    assert tiny.distance(tiny.gradients(ours._compute_loss(model, dict(inputs)), model), theirs) < 2e-5


def test_evaluation_too(set_up):
    stock, ours = set_up(loss_type="dapo")
    stock.model.eval()
    try:
        with torch.no_grad():
            theirs, mine = (t._compute_loss(t.model, micro_batch(0)).item() for t in (stock, ours))
    finally:
        stock.model.train()
    assert mine == pytest.approx(theirs, rel=1e-9)
    assert ours._metrics["eval"].keys() == stock._metrics["eval"].keys()


# --- whole runs -------------------------------------------------------------------------------------------------------


def trained(folder, *, kind=KernelGRPOTrainer, switches=None, model=None, **changes):
    """(weights, logged curve without times) of a short run."""
    if model is None:
        model = tiny.with_lora(tiny.tiny_model("Phi", dtype=torch.float64))
        model.get_output_embeddings().bias.data[model.config.eos_token_id] += 4  # completions of different lengths
    trainer = tiny.trainer_of(model, folder, kind=kind, switches=switches, **changes)
    torch.manual_seed(0)
    trainer.train()
    curve = [
        {k: v for k, v in row.items() if "time" not in k and "per_second" not in k} for row in trainer.state.log_history
    ]
    return {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}, curve


RUNS = {
    "as it is": {},
    "accumulated, two passes": {"gradient_accumulation_steps": 2, "num_iterations": 2, "max_steps": 4},
    "KL to the base": {"beta": 0.1, "loss_type": "grpo"},
    "truncated ones masked": {"mask_truncated_completions": True, "loss_type": "bnpo"},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_where_trls_ends(name, tmp_path):
    theirs, their_curve = trained(tmp_path, kind=trl.GRPOTrainer, **RUNS[name])
    ours, curve = trained(tmp_path, switches=TRAINING, **RUNS[name])
    assert tiny.distance(ours, theirs) < 1000 * tiny.EXACT
    for mine, other in zip(curve, their_curve, strict=True):
        assert mine.keys() == other.keys()
        for key in mine:
            same = mine[key] == other[key] or mine[key] == pytest.approx(other[key], rel=1e-5, abs=1e-8, nan_ok=True)
            assert same, f"{key}: {mine[key]}, TRL {other[key]}"
    assert 0 < sum(row["completions/clipped_ratio"] for row in curve if "reward" in row) < 3, "some end by themselves"
    assert any(0 < row["frac_reward_zero_std"] < 1 for row in curve if "reward" in row), "some groups are dead"


def test_with_every_switch_off_it_is_trls_trainer_to_the_bit(tmp_path):
    theirs, their_curve = trained(tmp_path, kind=trl.GRPOTrainer, model=tiny.tiny_model())
    ours, curve = trained(tmp_path, switches=ALL_OFF, model=tiny.tiny_model())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and repr(curve) == repr(their_curve)


def test_with_every_switch_on_it_trains_and_is_the_same_each_time(tmp_path):
    def generate(*args, **kwargs):
        raise AssertionError("the cached sampler takes its place")

    runs = []
    for _ in range(2):
        model = tiny.with_lora(tiny.tiny_model())
        model.generate = generate
        runs.append(trained(tmp_path, model=model))
    assert repr(runs[0][1]) == repr(runs[1][1]) and all(torch.equal(runs[0][0][n], runs[1][0][n]) for n in runs[0][0])
    _, stock = trained(tmp_path, kind=trl.GRPOTrainer, model=tiny.with_lora(tiny.tiny_model()))
    assert [row.keys() for row in runs[0][1]] == [row.keys() for row in stock]
    assert all(math.isfinite(row["grad_norm"]) for row in stock if "grad_norm" in row)


def test_each_switch_can_be_turned_off(tmp_path):
    model = tiny.tiny_model()
    trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, switches={"shared_prefix": False})
    trainer._compute_loss(model, micro_batch(0, dtype=torch.float32))
    assert model.config._attn_implementation == "sdpa" and trainer._plug.tested
    trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer)
    trainer._compute_loss(model, micro_batch(0, dtype=torch.float32))
    assert model.config._attn_implementation == prefix.ATTENTION
    assert trainer.left_to_trl() == {}
    with pytest.raises(ValueError, match="shared_prefix needs linear_head"):
        tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, switches={"linear_head": False})


def test_what_is_left_to_trl_is_said(tmp_path):
    model = tiny.with_lora(tiny.tiny_model("Mistral"))
    trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, beta=0.1)
    reasons = trainer.left_to_trl()
    assert (
        reasons["drop_dead_rows"] == "the KL penalty trains every row"
        and "a sliding window" in reasons["shared_prefix"]
    )


def sampled(trainer, prompts, *, by_trl=False) -> list[list[int]]:
    """Four completions of each prompt, by TRL's method or by ours."""
    method = trl.GRPOTrainer._generate_single_turn if by_trl else type(trainer)._generate_single_turn
    torch.manual_seed(3)
    completions, logps = method(trainer, [prompt for prompt in prompts for _ in range(4)], None, {}, 4)
    assert logps is None
    return completions


PROMPTS = [[5, 9, 12], [8, 1, 30, 31, 2, 7], [6]]


@pytest.mark.parametrize(
    ("options", "ends"),
    [({}, [5, 6, 7]), ({"repetition_penalty": 50.0}, []), ({"suppress_tokens": list(range(9, 290))}, [])],
    ids=["several ends", "the pad is seen", "TRL's generation_kwargs"],
)
def test_greedy_completions_are_trls(options, ends, tmp_path):
    """A model that likes its ends and its pad, which a penalty of repetitions sees to the left of a shorter prompt."""
    model, tokenizer = tiny.tiny_model("Phi"), tiny.rows_and_tokenizer()[1]
    bias = model.get_output_embeddings().bias.data
    bias[tokenizer.pad_token_id] += 12
    bias[ends] += 14
    model.generation_config.eos_token_id = ends or None
    greedy = {"generation_kwargs": {"do_sample": False, **options}}
    trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, **greedy)
    assert "cached_sampler" not in trainer.left_to_trl()
    ours = sampled(trainer, PROMPTS)
    assert ours == sampled(trainer, PROMPTS, by_trl=True) and len({tuple(row) for row in ours}) > 1
    if ends:
        assert trainer.eos_token_ids == [tokenizer.eos_token_id, *ends]
        assert len({row[-1] for row in ours if len(row) < tiny.T}) > 1, "they end in several ways"


@pytest.mark.parametrize("setting", ["use_vllm", "use_transformers_continuous_batching", "_has_cached_sampler"])
def test_where_another_engine_samples_it_samples(setting, tmp_path, monkeypatch):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path, kind=KernelGRPOTrainer)
    asked = []
    monkeypatch.setattr(
        trl.GRPOTrainer, "_generate_single_turn", lambda *a, **k: asked.append(a[1:]) or ([[setting]], None)
    )
    sampled(trainer, PROMPTS)
    assert not asked and "cached_sampler" not in trainer.left_to_trl()
    setattr(trainer, setting, setting != "_has_cached_sampler")
    assert sampled(trainer, PROMPTS) == [[setting]] and len(asked) == 1
    if trainer._has_cached_sampler:
        assert trainer.left_to_trl()["cached_sampler"].startswith("another engine samples")


def test_weights_are_rounded_while_sampling_where_asked_and_where_it_gains(tmp_path, monkeypatch):
    """Whether a processor gains is measured; here each answer is tried."""
    model, dtypes = tiny.with_lora(tiny.tiny_model()), []
    model.get_base_model().register_forward_pre_hook(lambda module, args: dtypes.append(module.lm_head.weight.dtype))
    trainer = tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, switches={"bf16_sampler": True})
    for faster, dtype in [(True, torch.bfloat16), (False, torch.float32)]:
        monkeypatch.setattr(sampler, "bf16_is_faster", lambda faster=faster: faster)
        dtypes.clear()
        sampled(trainer, PROMPTS)
        assert set(dtypes) == {dtype} and ("bf16_sampler" in trainer.left_to_trl()) != faster
    assert "no faster than float32" in trainer.left_to_trl()["bf16_sampler"]
    monkeypatch.setattr(trainer, "use_vllm", True)
    assert trainer.left_to_trl()["bf16_sampler"].startswith("another engine samples")
    assert "some weights are not float32" in sampler.why_not_bf16(tiny.tiny_model(dtype=torch.float64))
    with pytest.raises(ValueError, match="bf16_sampler needs cached_sampler"):
        tiny.trainer_of(model, tmp_path, kind=KernelGRPOTrainer, switches={"bf16_sampler": True} | TRAINING)


def test_images_go_to_trls_own_sampler(tmp_path, monkeypatch):
    trainer, asked = tiny.trainer_of(tiny.tiny_model(), tmp_path, kind=KernelGRPOTrainer), []
    monkeypatch.setattr(trl.GRPOTrainer, "_generate_single_turn", lambda *a, **k: asked.append((a[1:], k)))
    for images, fields in ([["image"]], {}), (None, {"pixel_values": [0]}):
        trainer._generate_single_turn([[5]], images, fields, 1, has_tool_images=True)
        assert asked.pop() == (([[5]], images, fields, 1), {"has_tool_images": True})


def test_the_plug_drops_dead_rows_too(set_up):
    stock, _ = set_up(loss_type="grpo")
    theirs = loss_and_metrics(stock, micro_batch(1, options="old"))
    with tiny.linear_head(stock, shared_prefix=True, drop_dead_rows=True):
        ours = loss_and_metrics(stock, micro_batch(1, options="old"))
    assert tiny.distance(ours[1], theirs[1]) < tiny.EXACT
    assert ours[2]["entropy"] == pytest.approx(theirs[2]["entropy"], rel=1e-5)
    assert ours[2]["clip_ratio/low_min"] == theirs[2]["clip_ratio/low_min"]


# --- the other TRL ----------------------------------------------------------------------------------------------------


THE_SAME = (
    "scores_as_trl or float64 or parts or metrics_are or truncated or passes or switch_on or plug_drops or version"
)


def test_this_holds_on_the_other_known_trl(tmp_path):
    """The comparisons with TRL again, in a process that finds the other version first."""
    other = OTHER_TRL[version("trl")]
    with zipfile.ZipFile(wheels.wheel("trl", other)) as files:
        files.extractall(tmp_path / "trl")
    paths = [str(tmp_path / "trl"), *filter(None, [os.environ.get("PYTHONPATH")])]
    files = [__file__, str(Path(__file__).with_name("test_kernels_plug.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"({THE_SAME}) and not other", *files],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "EXPECTED_TRL": other},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30


def test_the_version_is_the_one_that_was_asked_for():
    assert version("trl") == trl.__version__ == os.environ.get("EXPECTED_TRL", version("trl"))
