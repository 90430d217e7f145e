"""What is wrong is refused in one sentence of three parts, before a model is touched, and the docs say the same."""

import collections
import random
import re
import time

import numpy
import pytest
import torch
import transformers
from datasets import Dataset
from test_preflight_settings import suggestions

from grpo_nb import data, models, preflight, profiles, rewards, train
from grpo_nb.preflight import difficulty
from tools.pages import refusals

THREE_PARTS = re.compile(r"\S.+ \(.+\)\. [A-Z].+\.")


def prompts(rows):
    return data.grpo_rows(rows, system_prompt="Show your work.")


@pytest.fixture
def no_model(monkeypatch):
    """Fail the test as soon as anybody builds or loads a model."""

    def fail(*args, **kwargs):
        pytest.fail("a model was touched")

    monkeypatch.setattr(transformers.PreTrainedModel, "__init__", fail)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", fail)
    for name in ("load_policy", "add_lora", "tiny_policy"):
        monkeypatch.setattr(models, name, fail)


def refused(rows, held_out=None, **settings) -> str:
    """The sentence with which `grpo_trainer` refuses, or preflight, where held-out rows count."""
    profile = profiles.current("ci")
    profile.grpo.update(settings)
    began = time.monotonic()
    with refusals.without_gpu_packages(), pytest.raises(ValueError) as error:
        if held_out is None:
            train.grpo_trainer(None, None, rows, refusals.REWARDS, profile)
        else:
            preflight.check(profile.grpo, rows, refusals.REWARDS, profile, held_out=held_out)
    assert time.monotonic() - began < 2, "no model loads, so there is nothing to wait for"
    return str(error.value)


# The cases of docs/refusals.md.
def test_there_are_as_many_cases_as_promised():
    assert len(set(refusals.SETTINGS)) >= 30 and len(set(refusals.DATA_SETS)) >= 14


@pytest.mark.parametrize("line", refusals.SETTINGS)
def test_a_wrong_setting_is_refused_before_a_model_is_touched(line, no_model):
    sentence = refused(refusals.good_rows()[0], **refusals.settings_of(line))
    assert THREE_PARTS.fullmatch(sentence)
    assert any(key in sentence for key in refusals.settings_of(line)), "it names the key"


@pytest.mark.parametrize("line", refusals.DATA_SETS)
def test_a_broken_data_set_is_refused_before_a_model_is_touched(line, no_model):
    rows, held_out = refusals.rows_of(line)
    sentence = refused(rows, held_out if "= held_out[" in line else None)
    assert THREE_PARTS.fullmatch(sentence)
    if "rows[3]" in line:
        assert re.search(r"\brows? (0 and )?3\b", sentence), "it names the row"


def test_a_dataset_object_is_refused_as_its_rows_are(no_model):
    tables = 0
    for line in refusals.DATA_SETS:
        rows, held_out = refusals.rows_of(line)
        try:
            table = Dataset.from_list(rows)
        except (ValueError, TypeError, KeyError, AttributeError):  # such rows never become a Dataset
            continue
        tables += 1
        assert THREE_PARTS.fullmatch(refused(table, held_out if "= held_out[" in line else None)), line
    assert tables > 14


@pytest.mark.parametrize("line", refusals.SETTINGS)
def test_what_a_sentence_suggests_is_accepted(line):
    settings, (rows, _) = refusals.settings_of(line), refusals.good_rows()
    sentence = refusals.refusal(settings, rows)
    for proposed in suggestions(sentence):
        assert not refusals.refusal({**settings, **proposed}, rows), proposed
    for old, new in re.findall(r"(\w+) → (\w+)(?=[.]| below 1)", sentence):
        assert not refusals.refusal({new: settings[old]}, rows)
    if dropped := re.search(r"Drop (\w+)[.;]", sentence):
        assert not refusals.refusal({key: settings[key] for key in settings if dropped[1] not in (key, "it")}, rows)


def test_good_rows_and_the_profile_pass():
    rows, held_out = refusals.good_rows()
    assert refusals.refusal({}, rows, held_out) == ""


def test_the_page_of_the_docs_is_up_to_date():
    assert refusals.PAGE.read_text(encoding="utf8") == refusals.page(), "stale: run `python tools/pages/refusals.py`"


def test_the_last_of_17_000_rows_is_read_too(no_model):
    """As many as DAPO-Math has."""
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {i}+{i}? {'Show your work. ' * 5}"}], "answer": str(2 * i)}
        for i in range(17_000)
    ]
    rows[-1]["answer"] = None
    assert refused(rows).startswith("row 16999, column 'answer', must have")


# The report.
def test_preflight_reports_the_arithmetic(profile, rows):
    report = preflight.check(profile.grpo, prompts(rows), [rewards.check_answer], profile)
    # 8 completions at once, 4 a prompt: 2 prompts a step, 64 prompts: 32 steps an epoch
    assert report["generation_batch_size"] == 8 and report["unique_prompts"] == 2
    assert report["optimizer_steps_per_epoch"] == 32 and report["columns"] == ["prompt", "answer"]
    assert report["repeated_prompts"] == report["crlf_prompts"] == 0
    assert report["checkpoint_mib"] == pytest.approx(4, abs=0.5)


def test_steps_per_epoch_are_the_trainers(profile, rows, tiny):
    """…also where prompts are left over, batches are accumulated, and every generation is used twice."""
    changes = {"gradient_accumulation_steps": 5, "steps_per_generation": 2, "num_iterations": 2, "max_steps": -1}
    changes |= {"num_train_epochs": 1}
    trainer = train.grpo_trainer(*tiny, prompts(rows[:15]), [rewards.check_answer], profile, **changes)
    batches = len(trainer.get_train_dataloader())
    report = preflight.check({**profile.grpo, **changes}, prompts(rows[:15]))
    assert batches == 12 and report["optimizer_steps_per_epoch"] == -(-batches // 5) == 3


def test_steps_per_epoch_with_two_processes(profile, rows, monkeypatch):
    """64 prompts, 2 a generation round and process, 8 of 16 completions on each: 16 rounds of one micro-step."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    report = preflight.check(profile.grpo, prompts(rows))
    assert report["generation_batch_size"] == 16 and report["unique_prompts"] == 4
    assert report["optimizer_steps_per_epoch"] == 16


def test_a_tokenizer_counts_prompts_exactly(profile, rows, tiny):
    """The long system prompt and its tags: too long for this context by count, though not by words alone."""
    long, settings = data.grpo_rows(rows), {**profile.grpo, "max_completion_length": 40}
    preflight.check(settings, long, profile=profile)
    with pytest.raises(ValueError, match="row 0, column 'prompt', must leave max_completion_length = 40") as error:
        preflight.check(settings, long, profile=profile, tokenizer=tiny[1])
    for proposed in suggestions(str(error.value)):
        preflight.check({**settings, **proposed}, long, profile=profile, tokenizer=tiny[1])


def test_a_disk_without_room_is_refused(profile, rows, no_model):
    profile.grpo.update(max_steps=10**9, save_strategy="steps", save_steps=1, save_total_limit=None)
    with pytest.raises(ValueError, match=r"must hold 1000000000 checkpoints of 4 MiB"):
        train.grpo_trainer(None, None, prompts(rows), [rewards.check_answer], profile)


def test_a_reward_that_breaks_the_contract_is_refused(profile, rows, no_model):
    def forgets(completions, **columns):
        return [0.0]

    with pytest.raises(ValueError, match="the reward forgets must return"):
        train.grpo_trainer(None, None, prompts(rows), [forgets], profile)
    with pytest.raises(ValueError, match="rewards must hold at least one function"):
        train.grpo_trainer(None, None, prompts(rows), [], profile)


# A model at hand: are there prompts that it sometimes solves?
def by_chance(completions, **columns):
    return [float(random.random() < 0.5 + 0 * numpy.random.rand()) for _ in completions]


def constant(value):
    def always(completions, **columns):
        return [value] * len(completions)

    return always


def wordy(completions, **columns):
    return [float(len(completion[0]["content"])) for completion in completions]


def test_a_lively_task_passes_and_every_random_number_stays(profile, rows, tiny):
    policy, tokenizer = tiny
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    report = preflight.check(profile.grpo, prompts(rows), [wordy], profile, tokenizer=tokenizer, policy=policy)
    assert report["alive_share"] > 0.5 and "advice" not in report
    preflight.check(profile.grpo, prompts(rows), [by_chance], profile, tokenizer=tokenizer, policy=policy)
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_task_without_signal_is_too_hard_or_too_easy(profile, rows, tiny):
    def check(*functions):
        policy, tokenizer = tiny
        preflight.check(profile.grpo, prompts(rows), functions, profile, tokenizer=tokenizer, policy=policy)

    with pytest.raises(ValueError, match=r"\(got equal scores, 0 .* too hard\). Take easier problems"):
        check(rewards.match_format_exactly)  # random weights never close a tag
    with pytest.raises(ValueError, match=r"too hard\)"):
        check(constant(0.0))
    with pytest.raises(ValueError, match=r"\(got equal scores, 3 .* too easy\). Take harder problems"):
        check(lambda completions, **columns: [3.0 if c[0]["content"] else 0.0 for c in completions])


def test_text_prompts_are_sampled_as_text(profile, rows, tiny):
    policy, tokenizer = tiny
    texts = [{"prompt": row["problem"], "answer": row["answer"]} for row in rows]

    def length(prompts, completions, **columns):
        assert all(isinstance(text, str) for text in [*prompts, *completions])
        return [float(len(text)) for text in completions]

    report = preflight.check(profile.grpo, texts, [length], profile, tokenizer=tokenizer, policy=policy)
    assert report["alive_share"] > 0.5


def test_few_lively_prompts_are_reported(profile, rows, tiny):
    policy, tokenizer = tiny
    first = prompts(rows)[: difficulty.DRAWN_PROMPTS]  # all of them are sampled

    def only_one(prompts, completions, **columns):
        lively = [prompt == first[3]["prompt"] for prompt in prompts]
        return [i % 2 * float(alive) for i, alive in enumerate(lively)]

    report = preflight.check(profile.grpo, first, [only_one], profile, tokenizer=tokenizer, policy=policy)
    assert report["alive_share"] == 1 / 16 and report["advice"].startswith("too hard for most prompts: Take easier")


def test_the_level_with_most_lively_prompts_comes_first(profile, rows, tiny):
    right: dict[str, int] = {}  # prompt → how many of its four completions count as right
    judged: collections.Counter = collections.Counter()

    def is_right(completion, row):
        judged[str(row["prompt"])] += 1
        return judged[str(row["prompt"])] % 4 < right[str(row["prompt"])]

    def paid(prompts, completions, **columns):
        return [float(place % 4 < right[str(prompt)]) for place, prompt in enumerate(prompts)]

    all_rows = prompts(rows)
    levels = {name: all_rows[4 * i : 4 * i + 4] for i, name in enumerate(["never", "always", "one", "half", "most"])}
    for name, counts in zip(levels, [[0] * 4, [4] * 4, [2, 0, 0, 0], [2, 2, 2, 4], [1, 1, 1, 0]], strict=True):
        right |= {str(row["prompt"]): count for row, count in zip(levels[name], counts, strict=True)}
    config = {"num_generations": 4, "max_completion_length": 2}
    found = preflight.choose(*tiny, levels, [paid], config, is_right=is_right)
    assert [(row["level"], row["alive"], row["right"]) for row in found] == [
        ("half", 0.75, 10 / 16),  # as lively as "most", and nearer to half
        ("most", 0.75, 3 / 16),
        ("one", 0.25, 2 / 16),
        ("never", 0.0, 0.0),
        ("always", 0.0, 1.0),
    ]
    assert [row["advice"] for row in found][2:] == ["", "too hard for most prompts", "too easy for most prompts"]
    dead = {name: levels[name] for name in ("never", "always")}
    with pytest.raises(ValueError, match=r"\(got none; right are never 0%, always 100%\)\. Take an easier one"):
        preflight.choose(*tiny, dead, [paid], config, is_right=is_right)


@pytest.mark.parametrize("levels", [{}, {"easy": []}, [], None])
def test_levels_hold_rows(levels):
    with pytest.raises(ValueError, match="levels must be a dict from names to rows, at least one of each"):
        preflight.choose(None, None, levels, [by_chance], {})


def test_weights_and_none_count_as_in_trl():
    rows = [{"prompt": "1+1?", "answer": "2"}] * 2
    texts = [["a", "bb"], ["c", "d"]]

    def length(completions, **columns):
        return [float(len(text)) for text in completions]

    def only_first(completions, **columns):
        return [1.0 if text == "c" else None for text in completions]

    assert difficulty.group_totals(texts, rows, [length, only_first], [2.0, 5.0]) == [[2.0, 4.0], [7.0, 2.0]]
    assert difficulty.group_totals(texts, rows, [only_first]) == [[None, None], [1.0, None]]
    assert difficulty.alive_share([[None, None], [1.0, None], [1.0, 1.0], [0.0, 1.0]]) == 0.25
