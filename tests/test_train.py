"""Preflight against TRL's own verdict, and what the assembled trainers train."""

import copy
import random
import re

import pytest
import torch

from grpo_nb import configs, data, models, profiles, rewards, train


def prompts(rows):
    return data.grpo_rows(rows, system_prompt="Show your work.")


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
    from trl import GRPOConfig

    rng, accepted = random.Random(0), 0
    for _ in range(300):
        settings = random_batch(rng)
        if rng.random() < 0.3:
            settings["steps_per_generation"] = rng.randint(1, 6)
        try:
            config = GRPOConfig(use_cpu=True, bf16=False, report_to="none", **settings)
        except ValueError:
            with pytest.raises(ValueError, match="got"):
                configs.batch_numbers(settings)
            continue
        accepted += 1
        numbers = configs.batch_numbers(settings)
        assert numbers["generation_batch_size"] == config.generation_batch_size
        assert numbers["unique_prompts"] * config.num_generations == config.generation_batch_size
    assert 50 < accepted < 250, "both outcomes must have been met"


def test_suggested_values_are_legal():
    settings = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3, "num_generations": 5}
    with pytest.raises(ValueError, match="num_generations = 3 or 4 or 6, or per_device_train_batch_size = 10"):
        configs.batch_numbers(settings)
    for changes in ({"num_generations": 3}, {"num_generations": 6}, {"per_device_train_batch_size": 10}):
        configs.batch_numbers({**settings, **changes})


def test_every_suggested_value_is_legal():
    """300 random refusals: whatever number a sentence proposes is accepted when it is put in."""
    rng, tried = random.Random(1), 0
    for _ in range(300):
        settings = {**random_batch(rng), "num_generations": rng.randint(2, 9)}
        try:
            configs.batch_numbers(settings)
        except ValueError as error:
            for key, values in re.findall(r"(\w+) = (\d+(?: or \d+)*)", str(error).partition("Try")[2]):
                for value in values.split(" or "):
                    configs.batch_numbers({**settings, key: int(value)})
                    tried += 1
    assert tried > 300


def test_the_batch_of_the_source_tutorial_is_refused():
    """*Qwen3-8B GRPO with SwanLab* sets b = 1, A = 1, G = 4: one completion cannot be four."""
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 4}
    with pytest.raises(ValueError, match=r"multiple of num_generations \(got 1 completions, num_generations = 4\)"):
        configs.batch_numbers(settings)


@pytest.mark.parametrize(
    ("key", "today"),
    [
        ("kl_coef", "beta"),
        ("max_new_tokens", "max_completion_length"),
        ("max_prompt_length", "data.keep_short"),
        ("warmup_ratio", "warmup_steps"),
        ("num_generation", "num_generations"),
    ],
)
def test_an_outdated_or_misspelt_key_is_refused_with_todays_name(key, today, profile, rows):
    with pytest.raises(ValueError, match=rf"{key} → .*{today}"):
        train.preflight({**profile.grpo, key: 1}, prompts(rows))


def test_preflight_reports_the_arithmetic(profile, rows):
    report = train.preflight(profile.grpo, prompts(rows), [rewards.check_answer], profile)
    # 8 completions at once, 4 a prompt: 2 prompts a step, 64 prompts: 32 steps an epoch
    assert report["generation_batch_size"] == 8 and report["unique_prompts"] == 2
    assert report["optimizer_steps_per_epoch"] == 32 and report["columns"] == ["prompt", "answer"]


def test_steps_per_epoch_are_the_trainers(profile, rows, tiny):
    """…also where prompts are left over, batches are accumulated, and every generation is used twice."""
    changes = {"gradient_accumulation_steps": 3, "steps_per_generation": 2, "num_iterations": 2, "max_steps": -1}
    trainer = train.grpo_trainer(
        *tiny, prompts(rows[:15]), [rewards.check_answer], profile, **changes, num_train_epochs=1
    )
    batches = len(trainer.get_train_dataloader())
    report = train.preflight({**profile.grpo, **changes}, prompts(rows[:15]))
    assert report["optimizer_steps_per_epoch"] == -(-batches // 3)


def test_missing_columns_and_rows_are_refused_before_a_model_is_touched(profile, rows):
    refused = [
        ([{"question": "1+1?"}] * 8, "GRPO needs the column 'prompt' (got 'question')"),
        ([{"prompt": "1+1?"}] * 8, "the reward check_answer needs the column 'answer'"),
        ([], "at least one row"),
        (prompts(rows)[:1], "fill one generation batch of 2 prompts"),
    ]
    for bad, sentence in refused:
        with pytest.raises(ValueError) as error:
            train.grpo_trainer(None, None, bad, [rewards.check_answer], profile)
        assert sentence in str(error.value)
    with pytest.raises(ValueError, match="SFT needs the column 'completion'"):
        train.sft_trainer(None, None, prompts(rows), profile)


def test_a_slip_in_the_settings_stops_a_warm_start_before_a_model_is_built(profile, rows, monkeypatch):
    monkeypatch.setattr(models, "load_policy", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    for section, key, value, sentence in [
        ("sft", "warmup_ratio", 0.1, "warmup_ratio → warmup_steps"),
        ("grpo", "kl_coef", 0.1, "kl_coef → beta"),
        ("grpo", "num_generations", 5, "multiple of num_generations"),
    ]:
        broken = profiles.current("ci")
        getattr(broken, section)[key] = value
        with pytest.raises(ValueError, match=sentence):
            train.warm_start(broken, rows)
    with pytest.raises(ValueError, match="a warm start needs the column 'working'"):
        train.warm_start(profile, [{"problem": "1+1?", "answer": "2"}])


def test_steps_per_epoch_with_two_processes(profile, rows, monkeypatch):
    """64 prompts, 2 a generation round and process, 8 of 16 completions on each: 16 rounds of one micro-step."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    report = train.preflight(profile.grpo, prompts(rows))
    assert report["generation_batch_size"] == 16 and report["unique_prompts"] == 4
    assert report["optimizer_steps_per_epoch"] == 16


def test_a_completion_as_long_as_the_context_is_refused(profile, rows):
    with pytest.raises(ValueError, match="leave room for the prompt in max_seq_length = 128"):
        train.preflight({**profile.grpo, "max_completion_length": 128}, prompts(rows), profile=profile)


def test_sft_puts_the_loss_on_the_completion_only(profile, rows, tiny):
    policy, tokenizer = tiny
    trainer = train.sft_trainer(policy, tokenizer, data.sft_rows(rows, system_prompt="Show your work."), profile)
    row = trainer.train_dataset[0]
    trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    solution = f"{rows[0]['working']}<end_working_out><SOLUTION>{rows[0]['solution']}</SOLUTION>{tokenizer.eos_token}"
    assert tokenizer.decode(trained) == solution


def test_sft_moves_every_weight_and_grpo_only_the_adapter(profile, rows, tiny):
    policy, tokenizer = tiny
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    train.sft_trainer(policy, tokenizer, data.sft_rows(rows, system_prompt="Show your work."), profile).train()
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before)

    def lively(completions, **columns):
        return [float(i) for i in range(len(completions))]

    trainer = train.grpo_trainer(policy, tokenizer, prompts(rows), [lively], profile)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert any("lora_B" in name for name in moved)


def test_rows_that_truncation_would_empty_are_refused(profile, rows, tiny):
    """TRL cuts at max_length, then drops rows whose completion is gone: with the long system prompt, all of them."""
    with pytest.raises(ValueError, match=r"max_length = 16 must leave some of each completion \(got 0 of 64 rows"):
        train.sft_trainer(*tiny, data.sft_rows(rows), profile, max_length=16)


def test_warm_start_is_trained_once_per_recipe(profile, rows):
    first, _ = train.warm_start(profile, rows)
    path = train.warm_start_path(profile, rows)
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    again, _ = train.warm_start(profile, rows)
    assert (path / "model.safetensors").stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert train.warm_start_path(profile, rows, seed=1) != path
    for section, key, value in [("sft", "learning_rate", 1e-5), ("lora", "r", 4), ("task", "system_prompt", "Add.")]:
        changed = profiles.current("ci")
        changed.__dict__.update(copy.deepcopy(vars(profile)))
        getattr(changed, section)[key] = value
        assert train.warm_start_path(changed, rows) != path


def test_same_seed_same_run(profile, rows):
    def reward_curve():
        policy, tokenizer = models.load_policy(profile, rows)
        trainer = train.grpo_trainer(policy, tokenizer, prompts(rows), [rewards.match_format_approximately], profile)
        trainer.train()
        return [{k: v for k, v in log.items() if "time" not in k} for log in trainer.state.log_history[:-1]]

    assert reward_curve() == reward_curve()
