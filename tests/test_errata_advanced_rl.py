"""What docs/errata/advanced_rl.toml says, run: a test is named in the row that it belongs to."""

import ast
import dataclasses
from types import SimpleNamespace

import pytest
import torch
from test_losses import TRLS, random_case, trls_loss
from transformers import GenerationConfig
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from benchmarks import survival
from grpo_nb import advantages, losses, train
from grpo_nb.batchflow import arithmetic
from grpo_nb.runs import callbacks
from tests import small_runs, wheels

EXAMPLE_1 = {
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "num_generations": 3,
}
ONES = torch.ones(2, 4)


def default(key: str):
    """TRL's default of one key."""
    return {field.name: field.default for field in dataclasses.fields(GRPOConfig)}[key]


def handed_out(*, steps_per_generation: int, num_iterations: int, micro_steps: int, rows: int) -> tuple[list, int]:
    """(the rows of each micro-batch, how often completions were sampled), by TRL's own `_prepare_inputs`."""
    trainer, sampled = object.__new__(GRPOTrainer), []
    trainer.args = SimpleNamespace(steps_per_generation=steps_per_generation)
    trainer.model, trainer.num_iterations, trainer._buffered_inputs = (
        SimpleNamespace(training=True),
        num_iterations,
        None,
    )
    trainer._generate_and_score_completions = lambda batch: sampled.append(1) or {"row": torch.arange(rows)}
    slices = []
    for trainer._step in range(micro_steps):
        slices.append(GRPOTrainer._prepare_inputs.__wrapped__(trainer, None)["row"].tolist())
    return slices, len(sampled)


class Watch(callbacks.Callback):
    """Notes, after each micro-batch that ends no update, whether the gradients have been added to; and each update."""

    def __init__(self):
        self.events = []

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        has_gradient = any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
        self.events.append("gradient" if has_gradient else "nothing")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("update")


def watched(small_policy, folder, **settings) -> SimpleNamespace:
    """A real tiny run: its events, the completions of each call of the reward, and the trainer."""
    sampled, watch = [], Watch()

    def reward(completions, **columns):
        sampled.append(len(completions))
        return survival.variety(completions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(folder))
        trainer, _ = small_runs.trainer_of(small_policy, is_trls_own=True, reward=reward, **settings)
        trainer.add_callback(watch)
        sampled.clear()  # the trainer was assembled after one trial call
        train.resume_or_start(trainer)
    return SimpleNamespace(events=watch.events, sampled=sampled, trainer=trainer)


@pytest.fixture(scope="module")
def example_1(small_policy, tmp_path_factory):
    """Two generation cycles of the document's first example."""
    return watched(small_policy, tmp_path_factory.mktemp("example"), **EXAMPLE_1, max_steps=4)


@pytest.fixture(scope="module")
def one_prompt(small_policy, tmp_path_factory):
    """One update on four completions of a single prompt."""
    settings = {"per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 1}
    return watched(small_policy, tmp_path_factory.mktemp("one"), **settings)


# Parameters of the loss.
def test_a01_ratio_is_positive_and_clipped_around_one():
    log_ratio = torch.tensor([[-1.2, 0.0, 1.2]])  # the range that the document gives
    ratio = losses.importance_ratio(log_ratio, torch.ones(1, 3))
    assert ratio.min() > 0 and ratio.tolist()[0] == pytest.approx([0.3012, 1, 3.3201], abs=1e-4)
    assert (-losses.clipped_surrogate(ratio, torch.ones(1, 1))).max().item() == pytest.approx(1.2)
    assert losses.clipped_surrogate(ratio, -torch.ones(1, 1)).min().item() == pytest.approx(0.8)


def test_a02_the_whole_generation_batch_is_replayed():
    slices, sampled = handed_out(steps_per_generation=2, num_iterations=2, micro_steps=8, rows=4)
    assert slices[:2] == slices[2:4] and slices[0] != slices[1], "not each slice twice in a row"
    assert sampled == 2 and sorted(slices[0] + slices[1]) == [0, 1, 2, 3]


def test_a03_delta_bounds_bad_completions_only():
    ratio, good, bad = torch.tensor([[5.0]]), torch.ones(1, 1), -torch.ones(1, 1)
    assert losses.clipped_surrogate(ratio, good).item() == pytest.approx(-1.2), "bounded without delta"
    assert losses.clipped_surrogate(ratio, good, delta=1.5).item() == pytest.approx(-1.2)
    assert [losses.clipped_surrogate(ratio, bad, delta=delta).item() for delta in (None, 1.5)] == [5.0, 1.5]
    inside = torch.tensor([[1.15]])
    assert losses.clipped_surrogate(inside, good, delta=1.1).item() == pytest.approx(-1.1), "below 1 + epsilon_high"


def test_a04_sequence_ratio_is_a_geometric_mean():
    ratios = torch.tensor([[4.0, 0.25]])
    found = losses.importance_ratio(ratios.log(), torch.ones(1, 2), level="sequence").item()
    assert found == pytest.approx(1.0) and ratios.mean().item() == 2.125


def test_a05_dapo_weighs_sequences_by_length():
    mask = torch.tensor([[1.0, 0, 0], [1, 1, 1]])
    share = {kind: losses.token_weights(mask, loss_type=kind).sum(1).tolist() for kind in ("grpo", "dapo")}
    assert share == {"grpo": pytest.approx([0.5, 0.5]), "dapo": pytest.approx([0.25, 0.75])}


def test_a06_there_are_eight_loss_types():
    assert {"cispo", "sapo", "luspo", "vespo"} < set(TRLS) and len(TRLS) == 8
    for number, kind in enumerate(TRLS):
        tensors, options = random_case(number)
        assert options["loss_type"] == kind and trls_loss(tensors, options).isfinite()
    with pytest.raises(ValueError, match="Unknown loss type"):
        trls_loss(tensors, {**options, "loss_type": "ppo"})


def test_a07_dr_grpo_divides_by_rows_times_length():
    weights = losses.token_weights(ONES, loss_type="dr_grpo", max_completion_length=10, gradient_accumulation_steps=3)
    assert weights[0, 0].item() == pytest.approx(1 / (2 * 10) / 3), "not 1 / 10"


def test_a08_dapo_counts_the_generation_batch():
    """Two updates of two micro-batches each, short completions first: the first update has 4 tokens of 16."""
    weight = losses.token_weights(
        torch.ones(1, 2), loss_type="dapo", num_items_in_batch=16, gradient_accumulation_steps=2, steps_per_generation=4
    )
    assert weight[0, 0].item() == pytest.approx(1 / 8), "not 1 / 4"


def test_a09_bnpo_equals_grpo_for_one_row():
    bnpo, grpo = (losses.token_weights(ONES[:1], loss_type=kind) for kind in ("bnpo", "grpo"))
    assert torch.equal(bnpo, grpo)
    ragged = torch.tensor([[1.0, 0], [1, 1]])
    assert not torch.equal(*(losses.token_weights(ragged, loss_type=kind) for kind in ("bnpo", "grpo")))


@pytest.mark.filterwarnings("error")
def test_a10_masking_every_token_makes_no_nan():
    for number in range(len(TRLS)):
        tensors, options = random_case(number)
        logps = tensors["logps"].clone().requires_grad_()
        masked = {**tensors, "logps": logps, "mask": torch.zeros_like(tensors["mask"]), "sampling_logps": None}
        settings = {**options, "beta": 0.04, "num_items_in_batch": 0, "top_entropy_quantile": 1.0, "entropy_coef": 0.0}
        loss = trls_loss(masked, settings)
        loss.backward()
        assert loss.item() == 0 and not logps.grad.any()
    assert (torch.zeros(3).sum() / torch.zeros(3).sum()).isnan(), "what the document's denominator would make"


def test_a11_unsloth_masks_for_an_explicit_dapo_only(unsloth):
    code = wheels.written_by_unsloth(unsloth, "if loss_type.lower() == 'dr_grpo'")
    decided = {}
    for kind, is_default in [("dapo", False), ("dapo", True), ("bnpo", False), ("grpo", False)]:
        names = {"loss_type": kind, "_unsloth_default_loss_type": is_default, "mask_truncated_completions": None}
        decided[kind, is_default] = wheels.run(code, **names, scale_rewards="group", epsilon_high=None, beta=0.0)
    masks = {key: names["mask_truncated_completions"] for key, names in decided.items()}
    assert masks == {("dapo", False): True, ("dapo", True): False, ("bnpo", False): False, ("grpo", False): False}


def test_a12_unsloth_turns_the_correction_off(unsloth):
    key = "vllm_importance_sampling_correction"
    replaced = [
        value.value
        for node in ast.walk(ast.parse(unsloth["unsloth/models/rl.py"]))
        if isinstance(node, ast.Dict)
        for name, value in zip(node.keys, node.values, strict=True)
        if isinstance(name, ast.Constant) and name.value == key
    ]
    assert replaced == [False] and default(key) is True
    assert not any(f"{key} = True" in text or f"{key}=True" in text for text in unsloth.values())


def test_a13_the_default_mode_drops_sequences():
    assert default("vllm_importance_sampling_mode") == "sequence_mask"
    old, sampled = torch.tensor([[4.0, 1.0]]).log(), torch.zeros(1, 2)
    dropped = losses.sampling_ratio(old, sampled, torch.ones(1, 2))
    cut = losses.sampling_ratio(old, sampled, torch.ones(1, 2), mode="token_truncate")
    assert dropped.tolist() == [[0.0]] and cut.tolist() == [[3.0, 1.0]]


def test_a14_the_cap_is_deprecated(tmp_path):
    assert (default("vllm_importance_sampling_cap"), default("vllm_importance_sampling_clip_max")) == (None, 3.0)
    with pytest.warns(FutureWarning, match="vllm_importance_sampling_cap.*deprecated"):
        config = GRPOConfig(output_dir=str(tmp_path), vllm_importance_sampling_cap=2.0, bf16=False)
    assert config.vllm_importance_sampling_clip_max == 2.0


def test_a15_top_k_none_keeps_fifty_tokens(small_policy):
    policy, tokenizer, _ = small_policy
    ids = torch.tensor([tokenizer.encode("1+1=")])
    kept = {}
    for top_k in (None, 0):
        how = GenerationConfig(
            do_sample=True, top_k=top_k, max_new_tokens=1, output_scores=True, return_dict_in_generate=True
        )
        made = policy.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)  # as TRL calls it
        kept[top_k] = int(made.scores[0].isfinite().sum())
    assert kept == {None: 50, 0: policy.config.vocab_size} and policy.config.vocab_size > 50
    assert default("top_k") == 0


def test_a16_batch_scaling_keeps_the_mean_of_the_group():
    rewards = torch.tensor([[0.0, 1.0], [10.0, 11.0]])
    found = advantages.group_advantages(rewards, scale_rewards="batch")
    whole_batch = (rewards - rewards.mean()) / rewards.std()
    assert found.sum(1).tolist() == pytest.approx([0, 0]) and (whole_batch[1] > 0).all()
    assert found[0, 1].item() == pytest.approx(0.5 / (rewards.std().item() + 1e-4))


def test_a17_unsloth_lists_gpt_oss_only(unsloth):
    source = unsloth["unsloth/models/loader.py"]
    (listed,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VLLM_UNSUPPORTED_MODEL_TYPES"
    ]
    (sampled,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(unsloth["unsloth/models/vision.py"]).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VLLM_SUPPORTED_VLM"
    ]
    assert listed == ("gpt_oss",) and "qwen3_5" in sampled


def test_a18_beta_depends_on_the_loss_in_unsloth(unsloth):
    code = wheels.written_by_unsloth(unsloth, "beta = 0.0 if str(loss_type)")
    chosen = {kind: wheels.run(code, loss_type=kind)["beta"] for kind in TRLS[:4]}
    assert chosen == {"grpo": 0.001, "bnpo": 0.001, "dr_grpo": 0.0, "dapo": 0.0} and default("beta") == 0.0


# Batches.
def test_a19_the_batch_need_not_reach_the_group(unsloth, tmp_path):
    code = wheels.written_by_unsloth(unsloth, "if steps_per_generation is None and generation_batch_size is None")
    found = {}
    for batch, accumulation, group in [(1, 4, 4), (8, 1, 6), (1, 1, 4)]:
        names = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        names |= {"num_generations": group, "steps_per_generation": None, "generation_batch_size": None}
        found[batch, accumulation, group] = wheels.run(code, **names)["per_device_train_batch_size"]
    assert found == {(1, 4, 4): 1, (8, 1, 6): 6, (1, 1, 4): 4}
    with pytest.raises(ValueError, match="must be divisible by num_generations"):
        GRPOConfig(output_dir=str(tmp_path), bf16=False, per_device_train_batch_size=8, num_generations=6)
    with pytest.raises(TypeError, match="unexpected keyword argument 'train_batch_size'"):
        GRPOConfig(output_dir=str(tmp_path), bf16=False, train_batch_size=8)


def test_a20_every_micro_batch_has_a_backward_pass(example_1):
    assert example_1.sampled == [12, 12], "once for four micro-batches"
    assert example_1.events == ["gradient", "update"] * 4


def test_a21_only_the_optimizer_waits(example_1):
    before_the_first_update = example_1.events[: example_1.events.index("update")]
    assert before_the_first_update == ["gradient"], "the first of two micro-batches has been through backward"


def test_a22_an_update_takes_six_completions_in_example_1(example_1):
    numbers = arithmetic.batch_numbers(EXAMPLE_1)
    assert (numbers["generation_batch_size"], numbers["completions_per_update"]) == (12, 6)
    trained = [len(batch["advantages"]) for batch in example_1.trainer._buffered_inputs]
    assert trained == [3] * 4 and example_1.events.count("update") == 2 * len(example_1.sampled), "two of 2 × 3 each"


def test_a23_iterations_multiply_the_updates():
    once, twice = (arithmetic.updates({**EXAMPLE_1, "num_iterations": iterations}, prompts=4) for iterations in (1, 2))
    assert (once, twice) == (4 // 2, 2 * 4 // 2)
    _, sampled = handed_out(steps_per_generation=4, num_iterations=2, micro_steps=8, rows=12)
    assert sampled == 1, "eight micro-batches, four updates, one generation"


def test_a24_one_prompt_is_enough(one_prompt, tmp_path):
    assert one_prompt.events == ["update"] and one_prompt.sampled == [4]
    assert one_prompt.trainer.args.generation_batch_size // one_prompt.trainer.args.num_generations == 1
    with pytest.raises(ValueError, match="at least 2 generations"):
        GRPOConfig(output_dir=str(tmp_path), bf16=False, num_generations=1)


def test_a26_completions_are_shuffled_before_they_are_cut():
    drawn = list(RepeatSampler(range(64), mini_repeat_count=3, batch_size=4, shuffle=True, seed=1))[:12]
    assert drawn != sorted(drawn) and default("shuffle_dataset") is True
    torch.manual_seed(0)
    (first, *_), _ = handed_out(steps_per_generation=2, num_iterations=1, micro_steps=2, rows=12)
    assert {row // 3 for row in first} != {0, 1}, "Example 4 would cut prompts 0 and 1 out of four"


def test_a27_example_3_leaves_no_prompt_out():
    drawn = list(RepeatSampler(range(6), mini_repeat_count=4, batch_size=3, shuffle=False))
    table = [drawn[at : at + 3] for at in range(0, len(drawn), 3)]
    assert table[:4] == [[0, 0, 0], [0, 1, 1], [1, 1, 2], [2, 2, 2]] and set(drawn[12:]) == {3, 4, 5}


def test_a28_a_second_update_needs_old_log_probs(example_1, one_prompt):
    assert "old_per_token_logps" in example_1.trainer._buffered_inputs[0]
    assert "old_per_token_logps" not in one_prompt.trainer._buffered_inputs[0]
    old = example_1.trainer._buffered_inputs[-1]["old_per_token_logps"]
    assert old.shape[0] == 3 and not old.requires_grad


def test_a29_steps_and_size_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="can not be both configured"):
        GRPOConfig(output_dir=str(tmp_path), bf16=False, steps_per_generation=2, generation_batch_size=16)
