"""*Re0-04: TRL GRPOTrainer*, row by row: what it claims fails, and what docs/errata/re0_04.toml says holds."""

import collections
import copy
import dataclasses
import inspect
import itertools
import math
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import trl
from test_losses import N, T, trls_loss
from test_project import pins
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler, selective_log_softmax

from benchmarks import survival
from grpo_nb import advantages, data, evaluate, losses, paradigms, rewards, train
from grpo_nb.batchflow import arithmetic
from tests import small_runs

DEFAULTS = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
FOUR = torch.tensor([[1.0, -0.5, 1.0, -1.0]])  # the document's example of a group


def config(**settings) -> GRPOConfig:
    """A config for the CPU; the document's `bf16=True` and paths are none of the questions here."""
    return GRPOConfig(
        **{"output_dir": tempfile.gettempdir(), "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"} | settings
    )


def slope(function, x: float) -> float:
    """d function / dx."""
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(function(point), point)[0].item()


def trls_gradient(*, drift: float, advantage: float) -> torch.Tensor:
    """∂ TRL's default loss / ∂ log-probs [N, T], where every token's log-prob has moved by `drift` since sampling."""
    logps = torch.full((N, T), -1.0, dtype=torch.float64, requires_grad=True)
    tensors = {"logps": logps, "old_logps": logps.detach() - drift, "ref_logps": None, "sampling_logps": None}
    tensors |= {"mask": torch.ones_like(logps), "entropies": torch.zeros_like(logps)}
    tensors["advantages"] = torch.full((N,), advantage, dtype=torch.float64)
    names = "loss_type epsilon epsilon_high delta beta use_bias_correction_kl importance_sampling_level entropy_coef"
    names += " off_policy_mask_threshold top_entropy_quantile max_completion_length"
    options = {name: DEFAULTS[name] for name in names.split()} | {"num_processes": 1, "num_items_in_batch": N * T}
    options |= {"steps_per_generation": 1, "gradient_accumulation_steps": 1}
    return torch.autograd.grad(trls_loss(tensors, options), logps)[0]


def compare_in_trl(better: float, worse: float) -> float:
    """`RewardTrainer.compute_loss` itself, on one pair of scores."""
    trainer = object.__new__(trl.RewardTrainer)
    trainer.__dict__.update(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=None),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _total_train_tokens=0,
        _metrics={"eval": collections.defaultdict(list)},
    )
    scores = torch.tensor([[better], [worse]], dtype=torch.float64)
    return trainer.compute_loss(lambda **inputs: SimpleNamespace(logits=scores), {}).item()


@pytest.fixture(scope="module")
def whole(small_policy, tmp_path_factory):
    """Two updates from one generation by plain TRL: whole weights, a KL penalty, a function and a model as rewards.

    The policy in memory is moved away from the folder that it was loaded from before the trainer gets it.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Qwen3ForSequenceClassification

    policy, tokenizer, rows = small_policy
    folder = str(tmp_path_factory.mktemp("policy"))
    policy.save_pretrained(folder)
    moved = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        moved.lm_head.weight.add_(0.01)
    shape = copy.deepcopy(policy.config)
    shape.num_labels, shape.pad_token_id = 1, tokenizer.pad_token_id
    judge, calls, batches = Qwen3ForSequenceClassification(shape), [], []
    before = [weight.detach().clone() for weight in judge.parameters()]

    def variety(**columns):
        calls.append(columns)
        return survival.variety(**columns)

    sizes = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8}
    trainer = GRPOTrainer(
        model=moved,
        reward_funcs=[variety, judge],
        args=config(beta=0.04, max_steps=2, num_iterations=2, learning_rate=1e-3, logging_steps=1, **sizes),
        train_dataset=Dataset.from_list(data.grpo_rows(rows, system_prompt="Add.")),
        processing_class=tokenizer,
        reward_processing_classes=[None, tokenizer],
    )
    compute = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: batches.append(dict(inputs)) or compute(model, inputs)
    start, saved = moved.lm_head.weight.detach().clone(), policy.lm_head.weight.detach()
    trainer.train()
    found = {"trainer": trainer, "calls": calls, "batches": batches, "logs": trainer.state.log_history}
    return SimpleNamespace(judge=judge, judge_before=before, start=start, saved=saved, **found)


@pytest.fixture(scope="module")
def light(small_policy, tmp_path_factory):
    """Two steps of this project's own trainer without a KL penalty, each answer's tokens weighed by its length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("light")))
        trainer, run = small_runs.trainer_of(small_policy, is_trls_own=True, max_steps=2, loss_type="grpo", beta=0.0)
        train.resume_or_start(trainer)
    return SimpleNamespace(trainer=trainer, logs=run.rows())


# DPO and GRPO in one picture.
def test_c01_a_checker_makes_preference_pairs():
    answers = ["<SOLUTION>5</SOLUTION>", "<SOLUTION>4</SOLUTION>", "<SOLUTION>22</SOLUTION>"]
    scores = rewards.check_numbers(answers, ["4"] * 3)
    pairs = [(a, b) for (a, s), (b, t) in itertools.permutations(zip(answers, scores, strict=True), 2) if s > t]
    assert pairs == [(answers[1], answers[0]), (answers[1], answers[2])], "nobody labelled anything"
    same = torch.zeros(len(pairs))
    assert (paradigms.dpo_coefficient(same, same, same, same) > 0).all(), "and DPO learns from them"


def test_c02_without_parentheses_the_mean_is_ten_times_too_large():
    assert 1.0 - 0.5 + 1.0 - 1.0 / 4 == 1.25
    assert (1.0 - 0.5 + 1.0 - 1.0) / 4 == FOUR.mean().item() == 0.125


def test_c03_the_default_divides_by_the_spread():
    claimed = torch.tensor([[0.875, -0.625, 0.875, -1.125]])
    torch.testing.assert_close(advantages.group_advantages(FOUR, scale_rewards="none"), claimed)
    found = advantages.group_advantages(FOUR, scale_rewards=DEFAULTS["scale_rewards"])
    assert found[0].tolist() == pytest.approx([0.8488, -0.6063, 0.8488, -1.0913], abs=1e-4)


# Formulas.
def test_c04_the_signs_of_ppo_fit_neither_a_loss_nor_an_objective():
    def policy(ratio):
        return losses.clipped_surrogate(ratio.view(1, 1), torch.ones(1, 1)).sum()  # −min(…), a loss, A = 1

    def value(guess):
        return (guess - 1.0) ** 2  # the target is 1

    assert slope(lambda v: -0.5 * value(v), 3.0) < 0, "descent on … − c₁ VF moves the guess 3 away from 1"
    assert slope(policy, 1.0) < 0, "ascent on −min(…) makes the good action rarer"
    assert slope(lambda v: 0.5 * value(v), 3.0) > 0, "with + c₁ VF descent is right for both"


def test_c06_the_simple_loss_is_right_only_while_the_ratio_is_one():
    mask, good = torch.ones(1, 1), torch.ones(1)

    def ours(drift):
        return slope(lambda x: losses.grpo_loss(x.view(1, 1), good, mask, old_logps=mask * (-1.0 - drift)).loss, -1.0)

    assert slope(lambda x: -x, -1.0) == ours(0.0) == -1.0, "− A log π, and the loss, on-policy"
    assert ours(0.1) == pytest.approx(-math.exp(0.1)) and ours(0.3) == 0.0, "later: the ratio, then the clip"


def test_c07_the_mean_minus_the_reward_teaches_the_worst_answer():
    ours = advantages.group_advantages(FOUR, scale_rewards="none").flatten()
    theirs = FOUR.mean() - FOUR.flatten()
    torch.testing.assert_close(theirs, -ours)
    logps = torch.full((4, 1), -1.0, requires_grad=True)
    (push,) = torch.autograd.grad(-losses.grpo_loss(logps, theirs, torch.ones(4, 1)).loss, logps)
    assert push.argmax() == FOUR.argmin() == 3 and push[0] < 0, "up with the worst, down with the right ones"


def test_c08_trl_clips():
    assert (trls_gradient(drift=0.1, advantage=1.0) != 0).all() and DEFAULTS["epsilon"] == 0.2
    assert not trls_gradient(drift=0.3, advantage=1.0).any(), "e^0.3 > 1.2: a good token has no gradient any more"
    assert not trls_gradient(drift=-0.3, advantage=-1.0).any(), "e^-0.3 < 0.8: nor has a bad one"


def test_c09_grpo_samples_once_and_corrects_with_ratios(whole):
    on_policy, reused = (trls_gradient(drift=drift, advantage=1.0) for drift in (0.0, 0.1))
    torch.testing.assert_close(reused / on_policy, torch.full_like(reused, math.exp(0.1)))
    assert all("old_per_token_logps" in batch for batch in whole.batches)
    assert [log["clip_ratio/region_mean"] > 0 for log in whole.logs[:2]] == [False, True], "one generation, two updates"


def test_c10_the_kl_is_estimated_at_the_sampled_token():
    policy, reference = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    exact = (policy * (policy / reference).log()).sum()
    estimates = losses.kl_k3(policy.log(), reference.log())
    assert estimates.tolist() == pytest.approx([0.2122, 0.8094], abs=1e-4), "at one token and at the other"
    torch.testing.assert_close((policy * estimates).sum(), exact)
    assert exact.item() == pytest.approx(0.5108, abs=1e-4), "neither of the two"


def test_c11_by_default_there_is_no_kl_at_all(light, unsloth):
    assert 'self._metrics[mode]["kl"].append(mean_kl.item())' in unsloth["unsloth/models/rl_replacements.py"]
    assert DEFAULTS["beta"] == 0.0 and light.trainer.ref_model is None
    assert not any("kl" in log for log in light.logs)
    assert losses.grpo_loss(-torch.ones(1, 2), torch.ones(1), torch.ones(1, 2)).kl is None


def test_c12_grpo_needs_no_reward_model_and_may_need_a_reference(light, whole):
    assert not any(isinstance(reward, torch.nn.Module) for reward in light.trainer.reward_funcs)
    policy, reference = ({w.data_ptr() for w in m.parameters()} for m in (whole.trainer.model, whole.trainer.ref_model))
    assert len(policy) == len(reference) and not policy & reference, "a whole second copy beside the policy"


def test_c13_the_group_mean_shrinks_the_expected_gradient():
    """Every group of G answers, right (reward 1) with probability p; ∂ log p / ∂ logit is 1 − p, of the others −p."""
    for p, group in [(0.3, 2), (0.7, 4)]:
        expected = 0.0
        for right in itertools.product([0.0, 1.0], repeat=group):
            chance = math.prod(p if r else 1 - p for r in right)
            found = advantages.group_advantages(torch.tensor([right]), scale_rewards="none")[0].tolist()
            assert sum(found) == pytest.approx(0, abs=1e-6), "zero in every group: arithmetic, no expectation"
            expected += chance * sum(a * (r - p) for a, r in zip(found, right, strict=True)) / group
        assert expected == pytest.approx((group - 1) / group * p * (1 - p)), "(G − 1)/G of the true gradient"


def test_c14_subtracting_the_mean_leaves_the_scale():
    for scaling, ratio in [("none", 10.0), ("group", 1.0)]:
        small, large = (advantages.group_advantages(c * FOUR, scale_rewards=scaling) for c in (1.0, 10.0))
        torch.testing.assert_close(large, ratio * small, rtol=1e-3, atol=0)
        shifted = advantages.group_advantages(FOUR + 7.0, scale_rewards=scaling)
        torch.testing.assert_close(shifted, small, rtol=1e-3, atol=1e-6)


def test_c15_equal_ranks_unequal_advantages():
    groups = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 30.0]])
    assert torch.equal(groups.argsort(dim=1), groups.argsort(dim=1)[[1, 0]]), "the same ranks"
    even, skewed = advantages.group_advantages(groups)
    assert even[2] > 0 > skewed[2], "the second best of four is rewarded in one and punished in the other"


# Rewards.
def test_c16_a_function_is_enough(light):
    assert [log["reward_std"] > 0 and log["grad_norm"] > 0 for log in light.logs[:2]] == [True, True]
    assert all(callable(f) and not isinstance(f, torch.nn.Module) for f in light.trainer.reward_funcs)


def test_c17_outcome_and_process_supervision_say_where_a_reward_falls():
    logps, mask = torch.zeros(2, 3), torch.ones(2, 3)
    outcome = paradigms.grpo_coefficient(torch.tensor([[1.0, 0.0]]), logps, logps, mask)
    process = paradigms.process_advantages([[1.0, 0.0], [0.0]], [[0, 2], [2]], length=3)
    assert (outcome == outcome[:, :1]).all(), "one number for every token of an answer; no reward model in sight"
    assert len(set(process[0].tolist())) == 2, "a number for each step"


def test_c18_both_methods_are_one_and_one_is_no_python():
    with pytest.raises(SyntaxError):
        compile("Q(x > y) = f(x - y)", "re-made", "exec")
    bradley_terry = math.exp(1.2) / (math.exp(1.2) + math.exp(0.5))
    assert -math.log(1 / (1 + math.exp(-(1.2 - 0.5)))) == pytest.approx(-math.log(bradley_terry))
    assert compare_in_trl(1.2, 0.5) == pytest.approx(-math.log(bradley_terry)), "and it is what TRL trains"


def test_c20_trl_never_trains_a_reward_model(whole):
    optimized = {id(weight) for group in whole.trainer.optimizer.param_groups for weight in group["params"]}
    assert optimized and not optimized & {id(weight) for weight in whole.judge.parameters()}
    assert small_runs.same(list(whole.judge.parameters()), whole.judge_before), "two updates of the policy later"


def test_c22_a_list_within_the_list():
    def wrong_ones(n):
        return [f"= {i}" for i in range(n)]

    nested = ["= 9", wrong_ones(3)]
    assert len(nested) == 2
    with pytest.raises(TypeError):
        [re.search(r"\d", answer) for answer in nested]
    assert len([bool(re.search(r"\d", answer)) for answer in ["= 9", *wrong_ones(3)]]) == 4


def test_c23_token_ids_are_wanted_and_the_last_one_counts(small_policy):
    policy, tokenizer, _ = small_policy
    with pytest.raises(TypeError, match="must be Tensor, not str"):
        policy.model("1+1=", "2")  # (prompt, answer) where (input_ids, attention_mask) are wanted
    with pytest.raises(AttributeError, match="float"):
        torch.nn.MSELoss()(torch.zeros(1), 1.0)  # a target that is a plain number
    ids = tokenizer(["1+1=2", "1+1=3"], return_tensors="pt").input_ids
    with torch.no_grad():
        right, wrong = policy.model(ids).last_hidden_state
    assert torch.allclose(right[0], wrong[0]) and not torch.allclose(right[-1], wrong[-1], rtol=1e-2)


def test_c24_a_mean_of_rewards_says_nothing_about_a_reward_model():
    with pytest.raises(NameError, match="np"):
        exec("average = np.mean([1.0])", {})
    assert compare_in_trl(1.2, 0.5) == pytest.approx(compare_in_trl(101.2, 100.5)), "100 higher, trained no differently"


def test_c25_trl_calls_a_reward_with_keywords_of_its_own(whole):
    def theirs(prompts, responses):
        return [0.0 for _ in responses]

    with pytest.raises(TypeError, match="completions"):
        theirs(**whole.calls[0])
    expected = {"prompts", "completions", "completion_ids", "answer", "trainer_state", "log_extra", "log_metric"}
    assert set(whole.calls[0]) == expected


# The trainer.
def test_c26_two_groups_with_the_default_scale():
    groups = torch.tensor([[0.5, 0.9, 0.6, 0.4], [0.7, 0.8, 0.5, 0.6]])
    claimed = torch.tensor([[-0.1, 0.3, 0.0, -0.2], [0.05, 0.15, -0.15, -0.05]])
    torch.testing.assert_close(advantages.group_advantages(groups, scale_rewards="none"), claimed)
    found = advantages.group_advantages(groups).flatten().tolist()
    assert found == pytest.approx([-0.4627, 1.3881, 0, -0.9254, 0.3870, 1.1610, -1.1610, -0.3870], abs=1e-4)


def test_c27_a_sum_over_answers_grows_with_the_batch():
    logps, mask, pay = -torch.ones(2, 3), torch.ones(2, 3), torch.tensor([1.0, -0.5])

    def theirs(logps, pay):
        return (-pay * logps.sum(dim=1)).sum()

    double = (torch.cat([logps, logps]), torch.cat([pay, pay]))
    assert theirs(*double) == 2 * theirs(logps, pay)
    loss, loss_of_double = losses.grpo_loss(logps, pay, mask).loss, losses.grpo_loss(*double, mask.repeat(2, 1)).loss
    torch.testing.assert_close(loss_of_double, loss)


def test_c28_the_moving_reference_is_off_and_not_for_lora(small_policy):
    from datasets import Dataset
    from peft import LoraConfig

    policy, tokenizer, _ = small_policy
    names = ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps")
    assert [DEFAULTS[name] for name in names] == [False, 0.6, 512]
    settings = {"processing_class": tokenizer, "train_dataset": Dataset.from_list([{"prompt": "1+1="}] * 8)}
    with pytest.raises(NotImplementedError, match="PEFT"):
        args = config(sync_ref_model=True, beta=0.1)
        GRPOTrainer(copy.deepcopy(policy), survival.variety, args, peft_config=LoraConfig(r=2), **settings)


def test_c29_there_is_no_ppo_trainer():
    assert not hasattr(trl, "PPOTrainer") and hasattr(trl, "GRPOTrainer")
    sources = [path.read_text(encoding="utf8") for path in Path(trl.__file__).parent.rglob("*.py")]
    assert not any("class PPOTrainer" in source for source in sources)
    assert any("class RLOOTrainer" in source for source in sources)


def test_c30_the_weight_of_the_kl_is_beta(unsloth):
    with pytest.raises(TypeError, match="kl_coef"):
        config(kl_coef=0.05)
    assert DEFAULTS["beta"] == 0.0 and config(beta=0.001).beta == 0.001
    namespace, said = {}, []
    exec(compile(unsloth["unsloth/models/rl_config_compat.py"], "rl_config_compat", "exec"), namespace)
    assert namespace["filter_config_init_kwargs"](GRPOConfig, {"kl_coef": 0.05}, notify=said.append) == {}
    assert "IGNORED" in said[0], "under Unsloth beta stays 0, and a printed line is all there is"


def test_c31_the_reference_is_no_copy_of_the_policy_in_memory(whole, light, unsloth):
    assert "use base model as reference, not SFT/LoRA model" in unsloth["unsloth/models/rl.py"]
    reference = whole.trainer.ref_model.lm_head.weight
    assert torch.equal(reference, whole.saved) and not torch.equal(reference, whole.start), "read from its folder"
    assert light.trainer.ref_model is None


def test_c32_the_metric_is_kl_and_it_needs_a_beta(whole, light):
    assert all(log["kl"] > 0 for log in whole.logs[:2])
    names = {name for log in [*whole.logs, *light.logs] for name in log}
    assert not any(name.startswith("objective/") for name in names)
    assert not any("kl" in log for log in light.logs)


def test_c33_lengths_have_other_names():
    for name in ("max_new_tokens", "max_prompt_length"):
        with pytest.raises(TypeError, match=name):
            config(**{name: 256})
    assert config(max_completion_length=256).max_completion_length == 256
    assert DEFAULTS["max_completion_length"] == 512 and not any("prompt_length" in name for name in DEFAULTS)


def test_c34_epochs_are_not_updates():
    """GSM8K has 7473 training problems; the document's batch against one of 64 completions, one epoch each."""
    theirs = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "num_generations": 4}
    larger = {**theirs, "per_device_train_batch_size": 8}
    assert [arithmetic.updates(batch, 7473) for batch in (theirs, larger)] == [3736, 467]
    sampler = RepeatSampler(range(7473), mini_repeat_count=4, batch_size=16, repeat_count=8)
    assert len(sampler) // 64 // 8 == 467, "64 rows a batch of the loader, 8 micro-steps an update"


def test_c35_the_batch_size_counts_completions(whole):
    args = config(per_device_train_batch_size=8, num_generations=4)
    assert args.generation_batch_size == 8, "not 8 · 4"
    assert {batch["completion_ids"].shape[0] for batch in whole.batches} == {8}
    assert len({str(prompt) for prompt in whole.calls[0]["prompts"]}) == 8 // 4


def test_c36_temperature_is_one_constant_and_part_of_the_loss():
    others = {name for name in DEFAULTS if "temperature" in name} - {"sapo_temperature_pos", "sapo_temperature_neg"}
    assert DEFAULTS["temperature"] == 1.0 and others == {"temperature"}, "and no schedule"
    logits, chosen = torch.tensor([[[2.0, 0.0, -1.0]]]), torch.tensor([[0]])
    cool = selective_log_softmax(logits, chosen, temperature=0.7)
    torch.testing.assert_close(cool, (logits / 0.7).log_softmax(-1)[..., 0])
    assert cool > selective_log_softmax(logits, chosen), "the same token, another log-prob to train on"


def test_c37_a_name_that_was_never_imported():
    with pytest.raises(NameError, match="load_dataset"):
        exec("from datasets import Dataset\nrows = load_dataset('gsm8k', 'main')", {})
    assert data.SOURCES["gsm8k"]["path"] == "openai/gsm8k"


def test_c38_the_column_is_called_prompt(small_policy, whole):
    from datasets import Dataset

    policy, tokenizer, _ = small_policy
    rows = Dataset.from_list([{"query": "1+1=", "ground_truth": 2}] * 8)
    settings = {"train_dataset": rows, "processing_class": tokenizer}
    trainer = GRPOTrainer(copy.deepcopy(policy), survival.variety, config(max_steps=1), **settings)
    with pytest.raises(KeyError, match="prompt"):
        trainer.train()
    assert "prompt" in whole.trainer.train_dataset.column_names


def test_c39_the_answer_of_gsm8k_comes_after_its_working():
    row = {"question": "?", "answer": "He pays 3 * 400 = 1200 dollars.\n#### 1,200"}
    ours, right = data.READERS["gsm8k"](row)["answer"], "<SOLUTION>1200</SOLUTION>"
    assert ours == "1200" and evaluate.is_correct(f"<end_working_out>{right}", ours)
    assert rewards.check_numbers([right], [ours]) == [3.5]
    assert rewards.check_numbers([right], [row["answer"]]) == [None], "the whole rationale is no number"


def test_c40_reward_funcs_is_the_argument():
    parameters = inspect.signature(GRPOTrainer.__init__).parameters
    assert "reward_funcs" in parameters and "reward_function" not in parameters
    with pytest.raises(TypeError, match="reward_function"):
        GRPOTrainer(model=None, reward_function=survival.variety)


def test_c41_unsloth_ignores_a_peft_config(unsloth):
    assert "if peft_config is not None:" in inspect.getsource(GRPOTrainer.__init__)
    assert 'init.replace("if peft_config is not None:", "if False:")' in unsloth["unsloth/models/rl.py"]


def test_c42_what_the_trainer_logs(whole, unsloth):
    source = unsloth["unsloth/models/rl_replacements.py"]
    assert re.search(r'\["kl"\]\.append', source) and not re.search(r'\["entropy"\]\.append', source)
    logged = {name for log in whole.logs for name in log}
    assert {"reward", "reward_std", "rewards/variety/mean", "rewards/variety/std", "kl", "entropy"} <= logged
    assert not {"rewards/mean", "rewards/best", "rewards/worst", "objective/kl", "objective/entropy"} & logged


def test_c43_the_loss_is_nothing_to_watch(light):
    assert all(abs(log["loss"]) < 1e-5 and log["grad_norm"] > 0.1 for log in light.logs[:2])
    for group in ([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]):
        pay = advantages.group_advantages(torch.tensor([group]))[0]
        loss = losses.grpo_loss(-torch.ones(4, 2), pay, torch.ones(4, 2)).loss
        assert abs(loss) < 1e-6, "a bad policy and a good one"
    mask = (torch.arange(6) < torch.tensor([[1], [6], [6], [6]])).float()
    pay = advantages.group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))[0]
    ours = {
        kind: losses.grpo_loss(-torch.ones(4, 6), pay, mask, loss_type=kind).loss.item() for kind in ("grpo", "dapo")
    }
    assert abs(ours["grpo"]) < 1e-6 and ours["dapo"] > 0.3, "one short answer right, three long ones wrong"


def test_c45_a_larger_group_is_no_larger_micro_batch(whole):
    for group in (2, 4, 8):
        args = config(per_device_train_batch_size=8, num_generations=group)
        assert (args.per_device_train_batch_size, args.generation_batch_size) == (8, 8)
    rows, length = whole.batches[0]["completion_ids"].shape
    assert (rows, length) == (8, 8), "the logits held at once: 8 rows of 8 tokens, in groups of 4"


def test_c46_fewer_generations_free_nothing_and_may_not_fit():
    smaller = config(per_device_train_batch_size=8, num_generations=4)
    assert smaller.generation_batch_size == config(per_device_train_batch_size=8).generation_batch_size == 8
    with pytest.raises(ValueError, match="divisible by num_generations"):
        config(per_device_train_batch_size=8, num_generations=5)


def test_c47_vllm_is_there_and_off():
    assert DEFAULTS["use_vllm"] is False and DEFAULTS["vllm_mode"] == "colocate"


# The recipe.
def test_c48_the_truth_comes_as_a_column(whole):
    def theirs(text):  # marks, an operator, any number: 0.2 each; the truth is not looked at
        return 0.2 * ("####" in text) + 0.2 * ("=" in text) + 0.2 * any(c.isdigit() for c in text)

    assert theirs("2+2=5 #### 5") == theirs("2+2=4 #### 4") == pytest.approx(0.6)
    given = whole.calls[0]
    assert len(given["answer"]) == len(given["completions"]) == 8 and all(a.isdigit() for a in given["answer"])


def test_c49_a_hyphen_is_no_arithmetic():
    for text in ("a well-known fact", "see https://a.org/b", "yes/no"):
        assert any(sign in text for sign in "+-*/=")
        assert rewards.check_numbers([text], ["4"]) == [-2.5]


def test_c51_sixteen_is_no_multiple_of_six():
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "num_generations": 6}
    with pytest.raises(ValueError, match=r"generation_batch_size \(16\) must be divisible by num_generations \(6\)"):
        config(**batch)
    assert config(**{**batch, "num_generations": 8}).generation_batch_size == 16


def test_c54_a_reward_of_one_answer_is_none_of_trls(whole):
    def theirs(prompt, response, ground_truth):
        return 0.6

    with pytest.raises(TypeError, match="unexpected keyword"):
        theirs(**whole.calls[0])


def test_c55_six_words_are_never_more_than_ten():
    words = [f"word{i}" for i in range(6)]
    for text in (" ".join(words), " ".join(words * 20)):
        assert sum(word in text for word in words) == 6 < 10, "each is counted once, however often it is said"


def test_c56_words_are_found_inside_words():
    for word, text in [("so", "a reason"), ("then", "authentication"), ("check", "the checkout"), ("step", "stepson")]:
        assert word in text and not re.search(rf"\b{word}\b", text)
    assert "so" in (sentence := "the checkout is also closed") and "check" in sentence, "two bonuses, no thought"


def test_c58_the_r1_config_after_renaming():
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "num_generations": 8}
    with pytest.raises(TypeError):
        config(**batch, kl_coef=0.03, max_new_tokens=512)
    args = config(**batch, beta=0.03, max_completion_length=512)
    assert args.generation_batch_size // args.num_generations == 2


def test_c59_one_version_of_trl():
    assert pins("cpu")["trl"] == pins("gpu")["trl"] == version("trl") == trl.__version__
    assert not {"kl_coef", "max_new_tokens", "max_prompt_length"} & set(DEFAULTS), "what another version took"


def test_c60_there_is_no_logging_dir_and_no_tensorboard():
    assert DEFAULTS["report_to"] == "none" and config().report_to == []
    with pytest.raises(TypeError, match="logging_dir"):
        config(logging_dir="logs")


def test_c62_process_supervision_sums_the_steps_to_come():
    found = paradigms.process_advantages([[0.0, 1.0], [0.0, 0.0]], [[0, 1], [0, 1]], length=2)
    scaled = (torch.tensor([0.0, 1.0, 0.0, 0.0]) - 0.25) / (0.5 + 1e-4)
    torch.testing.assert_close(found[0], torch.stack([scaled[0] + scaled[1], scaled[1]]))


def test_c63_one_over_the_length_is_one_loss_of_eight():
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    paper, default = (losses.token_weights(mask, loss_type=kind) for kind in ("grpo", DEFAULTS["loss_type"]))
    assert paper[0, 0] == pytest.approx(3 * paper[1, 0].item()) and DEFAULTS["loss_type"] == "dapo"
    assert default[0, 0] == default[1, 0], "a token counts the same in a long answer"


def test_c64_dpo_can_sample_too():
    from trl.experimental import online_dpo

    parameters = inspect.signature(online_dpo.OnlineDPOTrainer.__init__).parameters
    assert "reward_funcs" in parameters, "it samples, scores and pairs while it trains"


def test_c67_a_smaller_group_generates_as_much():
    batch = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}
    found = [arithmetic.batch_numbers({**batch, "num_generations": group}, num_processes=1) for group in (16, 8, 4)]
    assert {numbers["completions_per_update"] for numbers in found} == {32}
    assert [numbers["unique_prompts"] for numbers in found] == [2, 4, 8]


def test_c68_a_verifier_needs_the_truth(whole):
    with pytest.raises(TypeError, match="answer"):
        rewards.check_numbers(["<SOLUTION>4</SOLUTION>"])
    assert rewards.check_numbers(["<SOLUTION>4</SOLUTION>"] * 2, answer=["4", "5"]) == [3.5, -1.5], (
        "one text, two truths"
    )
    assert len(whole.calls[0]["answer"]) == len(whole.calls[0]["completions"]), "TRL hands it over"
