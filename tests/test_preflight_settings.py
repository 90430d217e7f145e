"""Keys, values, batches and disk: our verdict against TRL's own, and every suggestion followed."""

import ast
import contextlib
import dataclasses
import inspect
import math
import os
import random
import re

import pytest
from trl import GRPOConfig, GRPOTrainer, SFTConfig

from grpo_nb import losses, memory, preflight, profiles, rewards, train
from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import bounds, disk, keys, processes, rules, values
from tools.pages import refusals

CI = profiles.current("ci").grpo
CONTEXT = profiles.current("ci").policy["max_seq_length"]
FIELDS = {field.name: field for field in dataclasses.fields(GRPOConfig)}


def check(settings: dict) -> None:
    with refusals.without_gpu_packages():
        preflight.check_keys(settings, GRPOConfig)
        arithmetic.batch_numbers(settings)
        preflight.check_values(settings, GRPOConfig, context=CONTEXT)
        preflight.check_weights(settings.get("reward_weights"), 2)


def suggestions(sentence: str) -> list[dict]:
    """The settings that the last part of a sentence proposes: "Try a = 1 or 2, or b = 3 and c = 4" makes three."""
    advice, proposed = re.split(r"\)\. (?=Try |Drop )", sentence)[-1].removesuffix("."), []
    if not advice.startswith("Try "):
        return []
    for option in advice[4:].split(", or "):
        pairs = re.findall(r"(\w+) = (\[.*?\]|\{.*?\}|'.*?'|[^\s,]+(?: or [^\s,]+)*)", option)
        for value in pairs[0][1].split(" or ") if pairs else []:
            proposed.append({key: ast.literal_eval(v) for key, v in [(pairs[0][0], value), *pairs[1:]]})
    return proposed


# Keys.
@pytest.mark.parametrize(
    ("key", "today"),
    [
        ("kl_coef", "beta"),
        ("max_new_tokens", "max_completion_length"),
        ("max_prompt_length", "data.keep_short"),
        ("warmup_ratio", "warmup_steps"),
        ("num_generation", "num_generations"),
        ("vllm_importance_sampling_cap", "vllm_importance_sampling_clip_max"),
        ("xyzzy", "no such setting"),
    ],
)
def test_an_outdated_or_misspelt_key_is_refused_with_todays_name(key, today):
    with pytest.raises(ValueError, match=rf"{key} → .*{today}"):
        preflight.check_keys({**CI, key: 1}, GRPOConfig)


def test_todays_names_are_known_to_trl_and_the_old_ones_are_not():
    assert keys.NAMES.keys() <= FIELDS.keys() - keys.DEPRECATED
    assert keys.RENAMED.keys() & FIELDS.keys() == keys.DEPRECATED
    arguments = inspect.signature(GRPOTrainer).parameters
    for advice in keys.ELSEWHERE.values():
        words = re.findall(r"\w+", advice)
        known = words[0] in FIELDS or words[0] in ("no", "max_length", "prompt")
        assert known or (words[0] in arguments and "argument of the trainer" in advice), advice


def test_a_grpo_key_is_no_advice_for_an_sft_config():
    with pytest.raises(ValueError) as error:
        preflight.check_keys({"max_new_tokens": 8, "lr": 1e-3}, SFTConfig)
    assert "max_completion_length" not in str(error.value) and "lr → learning_rate" in str(error.value)


def test_a_config_object_is_refused():
    with pytest.raises(ValueError, match=r"the settings must be a dict \(got SFTConfig\)"):
        preflight.check_keys(SFTConfig(output_dir="runs", use_cpu=True, bf16=False), GRPOConfig)


# Values.
@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_passes(name, monkeypatch):
    monkeypatch.setattr(rules, "has_package", lambda name: True)  # a machine with the gpu extra
    profile = profiles.current(name)
    preflight.check_keys(profile.grpo, GRPOConfig)
    preflight.check_values(profile.grpo, GRPOConfig, context=profile.policy["max_seq_length"])
    arithmetic.batch_numbers(profile.grpo)


@pytest.mark.parametrize("value", [0, -1e-5, 5, math.nan, math.inf, True, "fast", None])
def test_a_learning_rate_that_cannot_be_meant(value):
    with pytest.raises(ValueError, match=r"^learning_rate must be .* Try learning_rate = 1e-05"):
        check({**CI, "learning_rate": value})


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_p": 0.95, "top_k": 50, "min_p": 0.1},
        {"beta": 0, "warmup_steps": 0, "max_grad_norm": 0, "learning_rate": 0.01, "bf16": 0},
        {"max_steps": -1, "num_train_epochs": 0.5, "save_steps": 0.1, "logging_steps": 0.5},
        {"scale_rewards": False, "loss_type": "cispo", "epsilon_high": 5, "importance_sampling_level": "sequence"},
        {"loss_type": "dr_grpo", "scale_rewards": "none", "num_iterations": 4, "delta": 1.5},
        {"eval_strategy": "no", "lr_scheduler_type": "cosine", "optim": "sgd", "report_to": []},
        {"report_to": ["tensorboard"], "save_strategy": "no", "save_total_limit": None},
        {"vllm_importance_sampling_clip_max": None, "vllm_importance_sampling_clip_min": 0.5},
        {"reward_weights": [0, 1], "seed": 7, "generation_kwargs": {"suppress_tokens": [5]}},
        {"logging_nan_inf_filter": False, "remove_unused_columns": False, "gradient_checkpointing": True},
    ],
)
def test_what_is_legal_and_sensible_passes(settings):
    check({**CI, **settings})
    GRPOConfig(output_dir="runs", **{**CI, **settings})


ROUNDS = 3  # "True" is read as True, which this machine may not have; epochs do not count beside max_steps
WRONG = ["abc", "1e-5", "True", 2.5, None, -1, 0, 1, 1e9, math.nan, math.inf, True, [], {}]


def follow(settings: dict, rounds: int) -> None:
    """Take the first suggestion, and the first that follows from it, until nothing is refused."""
    try:
        check(settings)
    except ValueError as error:
        assert rounds, error
        settings = {**settings, **dict(*suggestions(str(error))[:1])}
        if dropped := re.search(r"Drop (\w+)\.$", str(error)):
            del settings[dropped[1]]
        follow(settings, rounds - 1)


def test_every_suggested_value_is_accepted():
    """Each field of GRPOConfig with each of fourteen values: what a sentence proposes passes when it is put in."""
    refused = followed = 0
    for key in FIELDS:
        for value in WRONG:
            settings = {**CI, key: value}
            try:
                check(settings)
            except ValueError as error:
                refused += 1
                assert re.fullmatch(r"[^()]+.* \(got .+\)\. [A-Z].+\.", str(error)), error
                for proposed in suggestions(str(error)):
                    followed += 1
                    follow({**settings, **proposed}, ROUNDS)
    assert refused > 900 and followed > 850, (refused, followed)


def test_what_trl_refuses_is_refused_here_too():
    """Each field that we judge, with each of fourteen values: TRL's own refusals are a part of ours."""
    judged = {*bounds.RANGES, *values.CHOICES, "lr_scheduler_type", "optim", "save_strategy", "eval_strategy"}
    refused = 0
    for key in judged:
        for value in WRONG:
            try:
                GRPOConfig(output_dir="runs", **{**CI, key: value})
            except (ValueError, TypeError, OverflowError):
                refused += 1
                with pytest.raises(ValueError):
                    check({**CI, key: value})
    assert refused > 60, refused


def test_the_choices_are_those_of_trls_source():
    source = inspect.getsource(GRPOTrainer)
    compared = re.findall(
        r"self\.(?:loss_type|scale_rewards|multi_objective_aggregation) (?:==|!=|in) (.+?)[:)]", source
    )
    compared += re.findall(
        r"self\.(?:importance_sampling_level|vllm_importance_sampling_mode) (?:==|in) (.+?)[:)]", source
    )
    named = set(re.findall(r'"(\w+)"', " ".join(compared)))
    keys_of_trl = {*values.CHOICES, "loss_type"} - {"vllm_mode"}
    ours = {c for key in keys_of_trl for c in values.choices(key) if isinstance(c, str)}
    assert named <= ours
    assert ours - named <= {*losses.LOSS_TYPES}, "a loss type may be ours alone"


def test_the_loss_types_are_those_of_losses(monkeypatch):
    monkeypatch.setattr(losses, "LOSS_TYPES", (*losses.LOSS_TYPES, "mine"))
    check({**CI, "loss_type": "mine"})
    with pytest.raises(ValueError, match=r"loss_type must be one of grpo, .*, mine \(got 'min'\)\. Try .* = 'mine'"):
        check({**CI, "loss_type": "min"})


@pytest.mark.parametrize(
    ("bound", "words", "legal", "illegal"),
    [
        (bounds.Bound(above=0, at_most=1), "above 0 and at most 1", [1e-9, 1], [0, -1, 1.01, math.nan, math.inf]),
        (bounds.Bound(at_least=0, below=1), "at least 0 and below 1", [0, 0.99], [-1e-9, 1]),
        (bounds.Bound(at_least=1, exactly=-1, why="for x"), "-1 or at least 1, for x", [-1, 1, 7], [0, -2, math.inf]),
    ],
)
def test_a_bound_holds_what_it_says(bound, words, legal, illegal):
    assert str(bound) == words
    assert all(map(bound.holds, legal)) and not any(map(bound.holds, illegal))


def test_bitsandbytes_optimizers_are_those_of_transformers():
    from transformers import trainer_optimizer
    from transformers.training_args import OptimizerNames

    theirs = {name.value for name in trainer_optimizer._BITSANDBYTES_OPTIMIZERS}
    assert {name.value for name in OptimizerNames if rules.needs_bitsandbytes(name.value)} == theirs


def test_evaluation_is_legal_where_there_are_rows_for_it():
    settings = {**CI, "eval_strategy": "steps", "per_device_eval_batch_size": 8}
    preflight.check_values(settings, GRPOConfig, has_eval_data=True)
    with pytest.raises(ValueError, match=r"\(got 12, 8\). Try per_device_eval_batch_size = 8"):
        preflight.check_values({**settings, "per_device_eval_batch_size": 12}, GRPOConfig, has_eval_data=True)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0], [1.0, math.nan], 1.0, "11", [True, 1.0]])
def test_weights_must_be_one_number_a_reward(weights):
    with pytest.raises(ValueError, match=r"one finite number for each of 2 rewards .* reward_weights = \[1.0, 1.0\]"):
        preflight.check_weights(weights, 2)


# Batches.
def random_batch(rng: random.Random) -> dict:
    """Batch settings of which some are legal and some are not."""
    settings = {
        "per_device_train_batch_size": rng.randint(1, 12),
        "gradient_accumulation_steps": rng.randint(1, 4),
        "num_generations": rng.randint(1, 8),
    }
    return settings | ({"generation_batch_size": rng.randint(1, 48)} if rng.random() < 0.3 else {})


def test_batch_numbers_equal_trls_or_both_refuse():
    """300 random batch settings: our numbers are those of GRPOConfig, our refusals fall where its ValueErrors do."""
    rng, accepted = random.Random(0), 0
    for _ in range(300):
        settings = random_batch(rng)
        if rng.random() < 0.3:
            settings["steps_per_generation"] = rng.randint(1, 6)
        try:
            config = GRPOConfig(use_cpu=True, bf16=False, report_to="none", **settings)
        except ValueError:
            with pytest.raises(ValueError, match="got"):
                arithmetic.batch_numbers(settings)
            continue
        accepted += 1
        numbers = arithmetic.batch_numbers(settings)
        assert numbers["generation_batch_size"] == config.generation_batch_size
        assert numbers["unique_prompts"] * config.num_generations == config.generation_batch_size
    assert 50 < accepted < 250, "both outcomes must have been met"


def test_suggested_batches_are_the_nearest():
    settings = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3, "num_generations": 5}
    with pytest.raises(ValueError, match="num_generations = 3 or 4 or 6, or per_device_train_batch_size = 10"):
        arithmetic.batch_numbers(settings)


def test_every_suggested_batch_is_legal():
    """600 random batches, some with counts of 0: whatever a sentence proposes is accepted when it is put in."""
    rng, tried = random.Random(1), 0
    for turn in range(600):
        settings = {**random_batch(rng), "num_generations": rng.randint(2, 9)}
        if turn % 2:
            settings[rng.choice([*arithmetic.COUNTS])] = 0
        try:
            arithmetic.batch_numbers(settings)
        except ValueError as error:
            for proposed in suggestions(str(error)):
                try:
                    arithmetic.batch_numbers({**settings, **proposed})
                except ValueError as again:  # two things were wrong: the second is another one
                    assert turn % 2 and "generation_batch_size" in settings, (settings, error, again)
                tried += 1
    assert tried > 600


def test_the_batch_of_the_source_tutorial_is_refused():
    """*Qwen3-8B GRPO with SwanLab* sets b = 1, A = 1, G = 4: one completion cannot be four."""
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 4}
    with pytest.raises(ValueError, match=r"multiple of num_generations \(got 1 completions, num_generations = 4\)"):
        arithmetic.batch_numbers(settings)


@pytest.mark.parametrize("key", ["steps_per_generation", "generation_batch_size"])
def test_a_generation_of_nothing_is_refused_though_trl_divides_it_without_remainder(key):
    with pytest.raises(ValueError, match=r"got 0"):
        arithmetic.batch_numbers({**CI, key: 0})


@pytest.mark.parametrize(
    ("settings", "prompts", "advice"),
    [
        ({}, 5, "Try per_device_train_batch_size = 40, or add rows"),  # 64 / 8 = 8 prompts a batch, 40 / 8 = 5
        ({"generation_batch_size": 128}, 9, "Try generation_batch_size = 64, or add rows"),
        ({}, 0, "Try a smaller batch, or add rows"),
    ],
)
def test_too_few_prompts_for_a_batch(settings, prompts, advice):
    with pytest.raises(ValueError, match=rf"\(got {prompts}\). {advice}"):
        arithmetic.check_prompts_fill_a_batch({**CI, **settings}, prompts)


# Disk.
@pytest.mark.parametrize(("name", "parameters"), [("t4", 33_030_144), ("a100", 87_293_952)])
def test_adapters_of_the_gpu_profiles(name, parameters):
    """Worked by hand for t4, r = 16: q and o 2560 + 4096, k and v 2560 + 1024, three of 2560 + 9728; × 36 layers."""
    profile = profiles.current(name)
    assert memory.adapter_parameters(disk.policy_config(profile.policy), profile.lora) == parameters


def test_a_model_is_looked_up_by_its_name_and_one_that_is_unknown_counts_as_8b():
    assert disk.policy_config({"model_name": "unsloth/Qwen3-14B"}) == memory.MODELS["Qwen3-14B"]
    assert disk.policy_config({"model_name": "me/mine"}) == memory.MODELS["Qwen3-8B"]


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"], r".*_proj"])
def test_targets_that_only_peft_knows_count_as_all_of_them(targets):
    profile = profiles.current("t4")
    bound = preflight.largest_checkpoint(profile)
    profile.lora["target_modules"] = targets
    assert preflight.largest_checkpoint(profile) == bound


def test_a_checkpoint_that_was_written_is_below_the_bound_and_above_half_of_it(profile, rows, tiny):
    prompts = refusals.good_rows()[0]
    trainer = train.grpo_trainer(*tiny, prompts, [rewards.check_answer], profile, max_steps=1, save_steps=1)
    trainer.train()
    folder = os.path.join(trainer.args.output_dir, "checkpoint-1")
    written = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    assert preflight.largest_checkpoint(profile) / 2 < written < preflight.largest_checkpoint(profile)
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert memory.adapter_parameters(disk.policy_config(profile.policy), profile.lora) == trained


@pytest.mark.parametrize(
    ("settings", "many"),
    [
        ({"max_steps": 24, "save_steps": 8}, 3),
        ({"max_steps": 24, "save_steps": 10}, 3),  # 10, 20, and the end
        ({"max_steps": 24, "save_steps": 0.25, "save_total_limit": 5}, 4),
        ({"max_steps": 24, "save_steps": 1, "save_total_limit": 2}, 3),  # two, and the one being written
        ({"save_strategy": "epoch"}, 3),
        ({"save_strategy": "no", "max_steps": 24}, 0),
        ({"max_steps": 501}, 2),  # TRL saves at 500
    ],
)
def test_checkpoints_at_once(settings, many, profile, tmp_path):
    assert preflight.check_disk(settings, profile, updates=50, folder=tmp_path)["checkpoints"] == many


def test_a_run_that_the_disk_cannot_hold_is_refused(profile, tmp_path):
    settings = {**profile.grpo, "max_steps": 10**9, "save_steps": 1, "save_total_limit": None}
    with pytest.raises(ValueError) as error:
        preflight.check_disk(settings, profile, updates=8, folder=tmp_path / "not" / "yet")
    sentence = str(error.value)
    assert re.search(
        r"must hold 1000000000 checkpoints of 4 MiB .*\(got \d+ MiB free, \d+ MiB needed\)\. Try", sentence
    )
    for proposed in suggestions(sentence):
        preflight.check_disk({**settings, **proposed}, profile, updates=8, folder=tmp_path)


# Checkpoints.
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_iterations": 3}, r"save_steps must be a multiple of 3: .* \(got 8\)\. Try save_steps = 9"),
        ({"logging_steps": 5}, r"save_steps must be a multiple of 5: .* \(got 8\)\. Try save_steps = 10"),
        ({"save_steps": 0.25}, r"must be whole numbers of steps where a run is to be resumed \(got 1 and 0.25\)"),
        ({"save_only_model": True}, "save_only_model must be False"),
        ({"save_strategy": "epoch"}, r"save_strategy must be 'steps'.*, or 'no' \(got 'epoch'\)"),
        ({"save_strategy": "best"}, r"save_strategy must be 'steps'.*, or 'no' \(got 'best'\)"),
        ({"logging_strategy": "epoch"}, r"logging_strategy must be 'steps' or 'no': .*\(got 'epoch'\)"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 6}, "save_steps must be a multiple of 3"),
    ],
)
def test_what_no_run_could_go_on_from_is_refused_with_the_settings(settings, sentence, monkeypatch):
    """The ci profile saves every 8 steps and logs each."""
    with pytest.raises(ValueError, match=sentence) as error:
        preflight.check_settings({**CI, **settings})
    for proposed in suggestions(str(error.value)):
        preflight.check_settings({**CI, **settings, **proposed})
    if "save_steps" not in settings:
        # A run without saves can still be interrupted, and is sealed there: what spoils a seal is refused all the same.
        if not {"save_only_model", "logging_strategy"} & settings.keys():
            preflight.check_settings({**CI, **settings, "save_strategy": "no"})
        monkeypatch.setenv("WORLD_SIZE", "2")  # to be trained in one go: several processes cannot be resumed
        preflight.check_settings({**CI, **settings})


def test_checkpoints_of_sft_are_judged_too():
    preflight.check_settings(profiles.current("ci").sft, stage="sft")
    with pytest.raises(ValueError, match=r"save_steps must be a multiple of 7.*\(got 150\)\. Try save_steps = 147"):
        preflight.check_settings({**profiles.current("ci").sft, "logging_steps": 7}, stage="sft")


def test_epochs_that_end_within_a_generation_are_seen_before_a_model_loads(profile, rows):
    """15 prompts, 4 a generation: 3 rounds of 4 micro-steps, of which an update takes 5: 3 updates an epoch."""
    changes = {"gradient_accumulation_steps": 5, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 24}
    settings = {**profile.grpo, **changes, "save_steps": 4}
    prompts = refusals.good_rows()[0]
    with pytest.raises(ValueError, match=r"an epoch has 3 steps, a generation 4\)\. Try save_steps = 12"):
        preflight.check(settings, prompts[:15])
    preflight.check({**settings, "save_steps": 12}, prompts[:15])


def test_the_group_to_evaluate_is_shared_by_the_processes(monkeypatch):
    settings = {**CI, "eval_strategy": "steps", "per_device_eval_batch_size": 4}
    monkeypatch.setenv("WORLD_SIZE", "2")
    preflight.check_values(settings, GRPOConfig, has_eval_data=True)
    monkeypatch.setattr(processes, "launched", lambda: 3)
    with pytest.raises(ValueError, match=r"\(got 12, 8\)"):
        preflight.check_values(settings, GRPOConfig, has_eval_data=True)


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["model.embed_tokens"]},
        {"target_modules": r".*\.(q_proj|embed_tokens)"},
        {"target_modules": r"(.*q_proj|lm_head)"},
        {"modules_to_save": ["lm_head"]},
        {"target_parameters": ["embed_tokens.weight"]},
    ],
)
def test_an_adapter_of_a_tied_embedding_is_refused_before_a_model_loads(lora):
    """The tiny policy and Qwen3-4B are tied, Qwen3-8B and a policy that the caller knows are not."""
    profile = profiles.current("ci")
    profile.lora.update(lora)
    with pytest.raises(
        ValueError, match=r"where embedding and head are one tensor .*Leave lm_head and embed_tokens out"
    ):
        preflight.check_settings(profile.grpo, profile)
    preflight.check_settings(profile.grpo, profile, is_tied=False)
    for name, is_tied in {"t4": True, "a100": False}.items():
        gpu = profiles.current(name)
        gpu.lora.update(lora)
        with pytest.raises(ValueError, match="are one tensor") if is_tied else contextlib.nullcontext():
            rules.check_adapter(gpu)


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r".*_proj"},
        {"modules_to_save": ["norm"]},
        {"target_modules": ".*", "exclude_modules": ["lm_head", "embed_tokens"]},
        {"inference_mode": False, "trainable_token_indices": [1]},
    ],
)
def test_any_other_adapter_passes(lora):
    profile = profiles.current("ci")
    profile.lora.update(lora)
    preflight.check_settings(profile.grpo, profile)


def test_an_adapter_for_inference_is_refused_before_a_model_loads():
    profile = profiles.current("ci")
    profile.lora["inference_mode"] = True
    with pytest.raises(
        ValueError, match=r"an adapter must be trainable \(got inference_mode = True, which freezes it\)"
    ):
        preflight.check_settings(profile.grpo, profile)


def test_the_packages_trainer_beside_unsloth_is_refused_before_a_model_loads():
    for name in ("t4", "a100"):
        profile = profiles.current(name)
        rules.check_engine(profile)
        profile.kernels = {"own_loss": False, "linear_head": True}
        with pytest.raises(
            ValueError, match=r"this one is Unsloth's \(got profile.kernels with linear_head\)\. Try prof"
        ):
            rules.check_engine(profile)
        profile.kernels["linear_head"] = False
        rules.check_engine(profile)
