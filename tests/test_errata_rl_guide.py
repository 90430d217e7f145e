"""What docs/errata/rl_guide.toml says, run: a test is named in the row that it belongs to."""

import collections.abc
import dataclasses
import inspect
import typing

import pytest
import torch
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer, utils
from trl.trainer.utils import RepeatSampler

from grpo_nb import advantages, evaluate, losses, paradigms, rewards, templates
from grpo_nb.batchflow import arithmetic
from tests import small_runs
from tools.pages import proof

SNIPPET = "epsilon=0.1,\ndelta=2.0  # no comma\nloss_type='bnpo',\nloss_type='grpo',\n"  # its shape, in small
TABLE = {"guide": (42, 9.8, 0, 2.5), "standard": (414, 78.3, 16, 2.5)}  # GB: training, loss, weights, KV cache
LLAMA = {"layers": 32, "kv_heads": 8, "head_dim": 128, "vocabulary": 128256, "parameters": 8.03e9}


@pytest.fixture(scope="module")
def trainer(small_policy, tmp_path_factory):
    """A tiny GRPOTrainer that has not trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("guide")))
        return small_runs.trainer_of(small_policy, is_trls_own=True)[0]


def answer(text: str) -> str:
    """A completion with that solution, in our format."""
    return f"<end_working_out><SOLUTION>{text}</SOLUTION>"


# What PPO and GRPO are.
def test_b02_values_are_per_token():
    reward, average = torch.tensor([[0.0, 1.0]]), torch.full((1, 2), 0.5)
    per_token = paradigms.ppo_coefficient(reward, torch.tensor([[0.5, 0.75]]), torch.ones(1, 2), lam=1.0)
    assert per_token.tolist() == [[0.5, 0.25]]
    assert paradigms.ppo_coefficient(reward, average, torch.ones(1, 2), lam=1.0).tolist() == [[0.5, 0.5]]


def test_b03_a_reward_may_be_a_model():
    kinds = typing.get_args(inspect.signature(GRPOTrainer.__init__).parameters["reward_funcs"].annotation)
    assert {str, PreTrainedModel} < set(kinds) and collections.abc.Callable in map(typing.get_origin, kinds)


def test_b04_groups_are_completions_of_one_prompt():
    easy_and_hard = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 1]])
    found = advantages.group_advantages(easy_and_hard)
    assert not found[0].any() and found[1, 3] > 0
    assert (easy_and_hard - easy_and_hard.mean() > 0)[0].all(), "what an average over questions would praise"
    assert list(RepeatSampler(range(2), mini_repeat_count=4, batch_size=2, shuffle=False)) == [0] * 4 + [1] * 4


def test_b05_advantage_is_nearly_a_z_score():
    """The guide's rules of 9.1 for its four answers 4, 3, D, C: +1 or -1 for a number, +3 or -3 for the right one."""
    scores = torch.tensor([[4.0, -2.0, -4.0, -4.0]])
    found = advantages.group_advantages(scores)[0].tolist()
    z_scores = ((scores - scores.mean()) / scores.std(correction=0))[0].tolist()
    assert found == pytest.approx([5.5 / 3.7860, -0.5 / 3.7860, -2.5 / 3.7860, -2.5 / 3.7860], abs=1e-3)
    assert z_scores == pytest.approx([value * (4 / 3) ** 0.5 for value in found], abs=1e-3), "15 % larger"
    assert advantages.group_advantages(scores, scale_rewards="none").tolist() == [[5.5, -0.5, -2.5, -2.5]]


# Luck and patience.
def test_b06_a_budget_is_finite():
    assert advantages.hit_probability(1e-4, 300 * 8) == pytest.approx(0.213, abs=1e-3)
    assert advantages.hit_probability(1e-4, 10**6) == pytest.approx(1.0) and advantages.hit_probability(0, 10**6) == 0


def test_b07_a_group_of_equals_teaches_nothing():
    logps = torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0]], requires_grad=True)
    for scores, teaches in [([-3.0] * 4, False), ([-3.0, -3.0, -3.0, 4.0], True)]:
        found = advantages.group_advantages(torch.tensor([scores])).flatten()
        (gradient,) = torch.autograd.grad(losses.grpo_loss(logps, found, torch.ones(4, 1)).loss, logps)
        assert bool(gradient.any()) is teaches


# Settings.
def test_b08_the_rule_forbids_17b_in_15_gb():
    by_the_rule_gb, weights_gb = 17, 17e9 * 4 / 8 / 1e9
    assert by_the_rule_gb > 15 and weights_gb == 8.5


def test_b09_the_snippet_is_no_call_and_makes_tuples():
    with pytest.raises(SyntaxError):
        compile(f"GRPOConfig(\n{SNIPPET})", "snippet", "exec")
    with pytest.raises(SyntaxError, match="keyword argument repeated"):
        compile(f"GRPOConfig(\n{SNIPPET.replace('2.0', '2.0,')})", "snippet", "exec")
    names = {}
    exec(SNIPPET, names)
    assert (names["epsilon"], names["delta"], names["loss_type"]) == ((0.1,), 2.0, ("grpo",))


def test_b10_epsilon_high_and_delta_bound_different_signs():
    ratio, good, bad = torch.tensor([[1.25], [0.75], [9.0]]), torch.ones(3, 1), -torch.ones(3, 1)
    sides = {
        high: [
            losses.clip_side(ratio, a, epsilon=0.2, epsilon_high=high, loss_type="dapo").flatten().tolist()
            for a in (good, bad)
        ]
        for high in (0.2, 0.28)
    }
    assert sides == {0.2: [[1, 0, 1], [0, -1, 0]], 0.28: [[0, 0, 1], [0, -1, 0]]}
    paid = losses.clipped_surrogate(ratio, good, epsilon_high=0.28).flatten().tolist()
    assert paid == pytest.approx([-1.25, -0.75, -1.28])
    assert torch.equal(losses.clipped_surrogate(ratio, good, delta=1.5), losses.clipped_surrogate(ratio, good))
    assert losses.clipped_surrogate(ratio, bad, delta=1.5).flatten().tolist() == pytest.approx([1.25, 0.8, 1.5])


def test_b11_dapo_is_the_default():
    (found,) = [field.default for field in dataclasses.fields(GRPOConfig) if field.name == "loss_type"]
    assert found == "dapo"
    micro_batches = torch.tensor([[[1.0, 0], [1, 0]], [[1, 1], [1, 1]]])
    weights = {
        kind: [losses.token_weights(mask, loss_type=kind, num_items_in_batch=6)[0, 0].item() for mask in micro_batches]
        for kind in ("bnpo", "dapo")
    }
    assert weights["dapo"][0] == weights["dapo"][1] and weights["bnpo"] == [0.5, 0.25], "bnpo depends on its neighbours"


def test_b12_trl_takes_a_peft_config(trainer):
    assert "peft_config" in inspect.signature(GRPOTrainer.__init__).parameters
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)


def test_b13_steps_follow_from_the_batch():
    settings = {"per_device_train_batch_size": 8, "num_generations": 8}
    assert arithmetic.updates(settings, prompts=300) == 300, "one prompt, one update"
    changes = [{"num_generations": 4}, {"num_iterations": 2}, {"gradient_accumulation_steps": 4}]
    assert [arithmetic.updates({**settings, **change}, prompts=300) for change in changes] == [150, 600, 75]


def test_b14_unsloth_brings_diffusers(unsloth):
    (metadata,) = [text for name, text in unsloth.items() if name.endswith(".dist-info/METADATA")]
    lines = metadata.splitlines()
    assert "Requires-Dist: diffusers" in lines, "for everybody, not for an extra"


def test_b15_only_the_weights_are_four_times():
    in_4_bits, in_16_bits = (LLAMA["parameters"] * bits / 8 / 1e9 for bits in (4, 16))
    assert in_16_bits / in_4_bits == 4
    assert (54.3 - in_4_bits + in_16_bits) / 54.3 == pytest.approx(1.22, abs=0.01)


# What a run shows.
def test_b18_nearness_needs_a_target():
    nine, three = answer("9"), answer("3")
    assert rewards.check_answer([nine, three], ["10", "10"]) == [2.0, -2.5]
    assert rewards.check_answer([nine, three], ["3", "3"]) == [-2.5, 5.0]
    assert abs(9 - 10) < abs(3 - 10) and abs(9 - (2 + 2)) > abs(3 - (2 + 2))


def test_b20_pip_is_no_python():
    with pytest.raises(SyntaxError):
        compile("pip install unsloth\nimport unsloth\n", "block", "exec")


# The requirements: the guide's numbers, added and multiplied.
def test_b21_the_saving_is_below_ninety_percent():
    saved = 1 - 54.33 / 510.8
    assert round(saved, 3) == 0.894 and saved < 0.90


def test_b22_checkpointing_saves_372_gb_by_the_table():
    assert TABLE["standard"][0] - TABLE["guide"][0] == 372 != 52


def test_b23_the_savings_do_not_add_up():
    difference = 510.8 - 54.33
    assert 68.5 + 52 + 16 == 136.5 and difference == pytest.approx(456.47)
    assert 68.5 + 372 + 16 == pytest.approx(difference, abs=0.1)


def test_b24_78_3_are_gib():
    sizes = [2 * 2 * 8 * length * LLAMA["vocabulary"] for length in (20480, 20000)]
    assert [round(size / 1e9, 2) for size in sizes] == [84.05, 82.08]
    assert [round(size / 2**30, 2) for size in sizes] == [78.28, 76.45]
    assert round(2 * LLAMA["parameters"] / 1e9) == 16 and round(2 * LLAMA["parameters"] / 2**30) == 15


def test_b25_logits_have_a_vocabulary():
    shapes = [(8, 20480), (8, 20480, LLAMA["vocabulary"])]
    as_written, real = (2 * torch.empty(shape, dtype=torch.bfloat16, device="meta").nbytes for shape in shapes)
    assert as_written == 640 * 2**10 and real == 2 * 2 * 8 * 20480 * 128256


def test_b26_the_kv_cache_is_of_one_sequence():
    keys_and_values = 2 * LLAMA["layers"] * LLAMA["kv_heads"] * LLAMA["head_dim"] * 2
    assert keys_and_values * 20480 == 2.5 * 2**30 and 8 * keys_and_values * 20480 == 20 * 2**30


def test_b27_trl_scores_one_micro_batch_at_a_time(trainer):
    shapes, ids = [], torch.ones(8, 10, dtype=torch.long)
    head = trainer.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, given, made: shapes.append(tuple(made.shape)))
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, torch.ones_like(ids), logits_to_keep=4, batch_size=2
        )
    hook.remove()
    assert shapes == [(2, 4 + 1, head.out_features)] * 4 and logps.shape == (8, 4)
    assert not trainer.use_liger_kernel
    assert (utils._CHUNKED_LOGPROB_TOKEN_CHUNK_SIZE, grpo_trainer._CHUNKED_LOGPROB_CHUNK_SIZE) == (2048, 8192)


def test_b28_the_columns_add_up_to_54_3_and_510_8():
    assert [sum(column) for column in TABLE.values()] == pytest.approx([54.3, 510.8], abs=1e-9)
    assert sum(TABLE["guide"]) != pytest.approx(54.33, abs=0.01)


# Contradictions.
@pytest.fixture
def recorded():
    """Least and largest of five runs of the cpu profile, and the settings of their GRPO."""
    record = proof.records()["learning"]
    return record["summary"], record["profile"]["grpo"]


def test_b31_fifty_steps_can_be_enough(recorded):
    summary, grpo = recorded
    assert (grpo["max_steps"], grpo["per_device_train_batch_size"] // grpo["num_generations"]) == (50, 16)
    assert summary["before sampled"]["max"] < 0.6 and summary["after sampled"]["min"] > 0.97


def test_b32_a_tiny_policy_keeps_the_layout(recorded, small_policy):
    assert recorded[0]["before format"]["min"] > 0.99, "after SFT, before GRPO"
    assert sum(weights.numel() for weights in small_policy[0].parameters()) < 2e6


def test_b33_no_template_writes_that_pair():
    assert templates.TAGS[:2] == ("<start_working_out>", "<end_working_out>")
    assert "</end_working_out>" not in templates.chat_template()
    good = "1+1=2<end_working_out><SOLUTION>2</SOLUTION>"
    told = good.replace("<end_", "</end_")
    assert rewards.match_format_exactly([good, told]) == [3.0, 0.0]


def test_b34_more_reward_is_not_more_right():
    honest, lazy = answer("42"), answer(" ".join(map(str, range(100))))
    pays = ["41" in honest, "41" in lazy]  # a reward for a completion in which the true answer, 41, occurs
    assert pays == [False, True] and not any(evaluate.is_correct(text, "41") for text in (honest, lazy))
    assert not advantages.group_advantages(torch.ones(2, 8)).any(), "and where all are right, nothing is left to learn"


def test_b35_a_step_goes_beyond_the_clip():
    theta = torch.zeros(4, requires_grad=True)
    old = theta.detach().log_softmax(-1)
    pay = advantages.group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))[0]
    loss = losses.grpo_loss(theta.log_softmax(-1).unsqueeze(1), pay, torch.ones(4, 1), epsilon=0.2).loss
    (slope,) = torch.autograd.grad(loss, theta)
    ratio = ((theta - 5 * slope).log_softmax(-1) - old).exp()
    assert ratio[0] > 2 and ratio[1:].max() < 0.8, "one step; the interval is 0.8 to 1.2"
