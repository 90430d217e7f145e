"""Rows, prompts, lengths and what the rewards read: what is refused, and what is let pass."""

import functools
import re

import pytest
from datasets import Dataset

from grpo_nb import data, models, preflight, profiles, rewards
from grpo_nb.preflight import context_lengths, prompts

USER = {"role": "user", "content": "What is 1+1?"}
ROWS = [{"prompt": [{"role": "system", "content": "Add."}, USER], "answer": "2"}, {"prompt": [USER], "answer": "2"}]


@pytest.fixture(scope="module")
def tokenizer():
    profile = profiles.current("ci")
    rows = data.load_task({**profile.task, "num_train": 300, "num_held_out": 1})[0]
    return models.tiny_tokenizer(rows, system_prompt="Show your work.")


# Rows.
def test_a_dataset_is_read_as_its_rows():
    assert preflight.read_rows(Dataset.from_list(ROWS)) == ROWS and preflight.read_rows(ROWS) is ROWS


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ({"train": ROWS}, r"not a dict of splits \(got the keys 'train'\). Pass one of them: dataset\['train'\]"),
        ("train.jsonl", r"a list of dicts or a datasets.Dataset \(got str\)"),
        ((row for row in ROWS), r"\(got generator\)"),
        ([ROWS[0], "What is 1+1?"], r"row 1 must be a dict of columns \(got str 'What is 1\+1\?'\)"),
    ],
)
def test_what_holds_no_rows_is_refused(dataset, sentence):
    with pytest.raises(ValueError, match=sentence):
        preflight.read_rows(dataset)


# Prompts.
@pytest.mark.parametrize(
    "prompt",
    [
        [USER],
        [{"role": "system", "content": ""}, USER],
        [USER, {"role": "assistant", "content": "2"}, USER],
        [{"role": "user", "content": "Füge 1 und 1 zusammen: ½ 一 💥", "name": None}],
    ],
)
def test_legal_messages_pass(prompt):
    assert preflight.check_prompts([{"prompt": prompt}]) == {"repeated_prompts": 0, "crlf_prompts": 0}


def test_text_prompts_pass():
    preflight.check_prompts([{"prompt": "1+1?"}, {"prompt": "2+2?\n"}])


def test_what_is_odd_but_legal_is_counted():
    odd = [{"prompt": text} for text in ("1+1?", "1+1?", "2+2?\r\nTell me.", "1+1?", "2 + 2?")]
    assert preflight.check_prompts(odd) == {"repeated_prompts": 2, "crlf_prompts": 1}
    twice = [{"prompt": [{"role": "system", "content": f"{n}"}, USER]} for n in range(2)]
    assert preflight.check_prompts(twice)["repeated_prompts"] == 1, "the system turn is no part of the question"


def test_typed_parts_are_refused_with_advice_that_works():
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1+1?"}]
    rows = [{"prompt": [{"role": "user", "content": parts}], "answer": "2"}]
    with pytest.raises(ValueError, match=r"row 0, .*must have plain text in every turn .*\"\".join\(part") as error:
        preflight.check_prompts(rows)
    assert "data.grpo_rows(data.as_rows(rows))" in str(error.value)
    preflight.check_prompts(data.grpo_rows(data.as_rows(rows)))
    joined = [{"prompt": [{"role": "user", "content": "".join(part["text"] for part in parts)}]}]
    assert preflight.check_prompts(joined) and prompts.question(joined[0]["prompt"]) == "What is 1+1?"
    with pytest.raises(ValueError, match="reads text only"):
        preflight.check_prompts([{"prompt": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]}])


def test_a_row_without_the_column_is_named():
    with pytest.raises(ValueError, match=r"row 1, column 'prompt', must hold text or messages \(got None\)"):
        preflight.check_prompts([*ROWS[:1], {"answer": "2"}])


def test_messages_in_an_array_are_refused_with_advice_that_works():
    """As a data frame of a Parquet file holds them."""
    frame = Dataset.from_list(ROWS).to_pandas()
    with pytest.raises(ValueError, match=r"row 0, .* \(got array.*\)\. Pass data.grpo_rows\(data.as_rows\(rows\)\)"):
        preflight.check_prompts(frame.to_dict("records"))
    preflight.check_prompts(data.grpo_rows(data.as_rows(frame.to_dict("records"))))


# Columns.
@pytest.mark.parametrize(
    "column", [{"image": None}, {"image": "x.png"}, {"images": None}, {"images": ["x.png"]}, {"image": []}]
)
def test_a_column_that_trl_takes_for_pictures_is_refused(column):
    rows, (name,) = [{**row, **column} for row in ROWS], column
    with pytest.raises(ValueError, match=rf"\(got {name}\). Drop it: \[") as error:
        preflight.check_media(rows)
    dropped = re.search(r"Drop it: (.*)\.$", str(error.value))[1]
    preflight.check_media(eval(dropped, {"rows": rows}))


@pytest.mark.parametrize("column", [{"video": None}, {"audio": "x.wav"}, {"images": []}])
def test_columns_that_trl_lets_be_pass(column):
    preflight.check_media([{**row, **column} for row in ROWS])


@pytest.mark.parametrize(
    "record",
    [
        {"question": "1+1?", "answer": "1+1=2\n#### 2"},
        {"problem": "1+1?", "solution": r"\boxed{2}"},
        {"instruction": "Add.", "input": "1, 1", "output": "2"},
        {"prompt": [USER], "reward_model": {"ground_truth": "2"}},
        {"prompt": [USER], "answer": "1+1=2\n#### 2"},
        {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
    ],
)
def test_the_advice_to_read_a_table_works(record):
    def check(rows):
        preflight.check_columns(rows, ["prompt"], why="GRPO")
        preflight.check_rewards(rewards.FOUR, rows)
        return preflight.check_truths(rows, rewards.FOUR)

    with pytest.raises(ValueError, match=r"Pass data.grpo_rows\(data.as_rows\(rows\)\)"):
        check([record])
    assert check(data.grpo_rows(data.as_rows([record]))) == {"text_answers": 0}


# Truths.
@pytest.mark.parametrize(
    "truth", ["", "  ", "8*9=72\n#### 72", "1+1=2 #### 2", "two\nlines", "word " * 40, "</SOLUTION>"]
)
def test_truths_that_nobody_can_match_are_counted_and_named(truth):
    rows = [*ROWS, {**ROWS[1], "answer": truth}, {**ROWS[1], "answer": "B"}]
    with pytest.raises(ValueError, match=r"\(got 1 of 4 that none can: row 2 '") as error:
        preflight.check_truths(rows, [rewards.check_answer, good])
    kept = re.search(r"Keep (\[.*\])\.$", str(error.value))
    mended = eval(kept[1], {"rows": rows, "rewards": rewards}) if kept else data.grpo_rows(data.as_rows(rows))
    assert preflight.check_truths(mended, rewards.FOUR) == {"text_answers": 1}
    assert preflight.check_truths(rows, [good]) == {}, "none of our rewards reads them"


def test_where_only_numbers_are_paid_text_is_no_truth():
    rows = [*ROWS, {**ROWS[1], "answer": "B"}, {**ROWS[1], "answer": "inf"}]
    assert preflight.check_truths(rows, rewards.FOUR) == {"text_answers": 2}
    with pytest.raises(
        ValueError, match=r"all that check_numbers reads \(got 2 of 4 .*: row 2 'B', row 3 'inf'\)"
    ) as error:
        preflight.check_truths(rows, [rewards.check_numbers])
    kept = eval(re.search(r"Keep (\[.*\])\.$", str(error.value))[1], {"rows": rows, "rewards": rewards})
    assert kept == ROWS and preflight.check_truths(kept, [rewards.check_numbers]) == {"text_answers": 0}


# Held-out rows.
def test_a_held_out_question_is_found_whatever_its_case_and_space():
    asked, other = [{**USER, "content": "what is\n1+1?"}], [{**USER, "content": "2+2?"}]
    train = [{"prompt": other}, {"prompt": [USER]}]
    test = [{"prompt": [{**USER, "content": "3+3?"}]}, {"prompt": [{"role": "system", "content": "x"}, *asked]}]
    with pytest.raises(ValueError, match=r"\(got 1 of 2 prompts in both: row 1 is held-out row 1\)"):
        preflight.check_held_out(train, test)
    preflight.check_held_out(train, test[:1])


def test_a_broken_held_out_row_is_named_as_one():
    with pytest.raises(ValueError, match="^held-out row 0, column 'prompt', must ask something"):
        preflight.check_held_out(ROWS, [{"prompt": " "}])
    with pytest.raises(ValueError, match="held_out needs the column 'prompt' .*Rename problem to prompt"):
        preflight.check_held_out(ROWS, [{"problem": "1+1?"}])


# Lengths.
def tokens_of(tokenizer, row: dict) -> int:
    """As TRL counts them."""
    return len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False))


def long_rows(*repeats: int) -> list[dict]:
    return [{"prompt": [{"role": "user", "content": "one más 2 " * n}]} for n in repeats]


def test_lengths_are_exact_with_a_tokenizer(tokenizer):
    rows = long_rows(1, 9, 5)
    longest, middle = tokens_of(tokenizer, rows[1]), tokens_of(tokenizer, rows[2])
    preflight.check_lengths(rows, context=longest + 10, completion=10, tokenizer=tokenizer)
    with pytest.raises(ValueError) as error:
        preflight.check_lengths(rows, context=longest + 9, completion=10, tokenizer=tokenizer)
    assert re.search(rf"row 1, .* \(got {longest}, and 1 such rows\). Try max_completion_length = 9,", str(error.value))
    preflight.check_lengths(rows, context=longest + 9, completion=9, tokenizer=tokenizer)
    with_completion = [{**row, "completion": [{"role": "assistant", "content": "2"}]} for row in rows]  # TRL drops it
    preflight.check_lengths(with_completion, context=longest + 9, completion=9, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="and 2 such rows"):
        preflight.check_lengths(rows, context=middle + 9, completion=10, tokenizer=tokenizer)


def test_the_advice_of_dropping_long_rows_holds(tokenizer):
    rows = long_rows(1, 9, 5)
    context = tokens_of(tokenizer, rows[2]) + 9  # row 2 is one token too long
    with pytest.raises(ValueError) as error:
        preflight.check_lengths(rows, context=context, completion=10, tokenizer=tokenizer)
    limit = int(re.search(r"data.keep_short\(rows, tokenizer, max_tokens=(\d+)\)", str(error.value))[1])
    kept, _ = data.keep_short(rows, tokenizer, max_tokens=limit)
    preflight.check_lengths(kept, context=context, completion=10, tokenizer=tokenizer)


def test_without_a_tokenizer_only_what_is_certain_is_refused(tokenizer):
    """The lower bound stays below the true count, also with accents in two code points and tags that are one token."""
    texts = ["one más 2 " * 9, "e\u0301te\u0301 " * 9, "<end_working_out><SOLUTION> " * 9, "don't, 1234 (x²) _a_b " * 9]
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in texts]
    for (number, at_least), row in zip(context_lengths._at_least(rows, 1), rows, strict=True):
        content = len(tokenizer(row["prompt"][0]["content"], add_special_tokens=False)["input_ids"])
        assert at_least <= content, texts[number]
    assert [at_least for _, at_least in context_lengths._at_least(rows[:3], 1)] == [27, 9, 0], (
        "one, más, 2; été; only tags"
    )
    preflight.check_lengths(rows[:1], context=37, completion=10)
    with pytest.raises(ValueError, match=r"so it may have 26 \(got at least 27, and 1 such rows\). Drop long rows"):
        preflight.check_lengths(rows[:1], context=36, completion=10)


def test_the_advice_of_dropping_long_rows_holds_for_text_too(tokenizer):
    rows = [{"prompt": "1+1? " * n, "answer": "2"} for n in (1, 9, 5)]
    with pytest.raises(ValueError) as error:
        preflight.check_lengths(rows, context=40, completion=10, tokenizer=tokenizer)
    limit = int(re.search(r"data.keep_short\(rows, tokenizer, max_tokens=(\d+)\)", str(error.value))[1])
    kept, _ = data.keep_short(rows, tokenizer, max_tokens=limit)
    preflight.check_lengths(kept, context=40, completion=10, tokenizer=tokenizer)
    assert len(kept) == 2


def test_text_prompts_have_no_template(tokenizer):
    preflight.check_lengths([{"prompt": "1+1?"}], context=14, completion=10, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"\(got 4, "):
        preflight.check_lengths([{"prompt": "1+1?"}], context=13, completion=10, tokenizer=tokenizer)


# Rewards.
def good(completions, answer, **columns):
    return [0.0] * len(completions)


class Judge:
    def __call__(self, completions, **columns):
        return [0.0] * len(completions)


def everything_by_name(prompts, completions, completion_ids, answer, trainer_state, log_extra, log_metric):
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    "functions",
    [
        [good, rewards.check_answer, rewards.match_format_exactly],
        [functools.partial(good, answer=["2"])],
        [Judge()],
        [everything_by_name],
        [lambda **columns: []],
    ],
)
def test_legal_rewards_pass(functions):
    preflight.check_rewards(functions, ROWS)


def responses(prompts, responses, **columns): ...
def prompt(prompt, completions, **columns): ...
def narrow(completions, answer): ...
def hidden(completions, /, **columns): ...
def unknown(completions, difficulty, **columns): ...
def solution(completions, solution, **columns): ...


@pytest.mark.parametrize(
    ("functions", "sentence"),
    [
        ([], r"at least one function \(got none\). Try \[rewards.check_answer\]"),
        (good, r"rewards must be a list \(got good\). Write \[good\]"),
        ("check_answer", r"rewards must be a list \(got 'check_answer'\)"),
        (["check_answer"], r"a reward must be a function \(got 'check_answer'\)"),
        ([good, functools.partial(good)], r"different names, .* \(got good 2 times\)"),
        ([responses], r"\(got responses\). Write completions instead of responses"),
        ([prompt], r"\(got prompt\). Write prompts instead of prompt"),
        ([solution], r"the reward solution needs the column 'solution' \(got 'prompt', 'answer'\)"),
        ([narrow], r"the reward narrow must take everything .* no room for completion_ids, log_extra, log_metric, p"),
        ([unknown], r"the reward unknown needs the column 'difficulty' \(got 'prompt', 'answer'\)"),
    ],
)
def test_rewards_that_trl_could_not_call_are_refused(functions, sentence):
    with pytest.raises(ValueError, match=sentence):
        preflight.check_rewards(functions, ROWS)


@pytest.mark.parametrize("name", ["prompts", "completions", "completion_ids", "trainer_state", "log_metric"])
def test_columns_named_as_trls_own_arguments_are_refused(name):
    with pytest.raises(ValueError, match=rf"\(got {name}\). Rename it, for example to my_{name}"):
        preflight.check_rewards([good], [{**row, name: 1} for row in ROWS])


@pytest.mark.parametrize("answer", [None, float("nan")])
def test_an_answer_that_is_missing_in_one_row_is_named(answer):
    with pytest.raises(ValueError, match=rf"row 1, column 'answer', must have .* reward good .* \(got {answer}\)"):
        preflight.check_rewards([good], [ROWS[0], {**ROWS[1], "answer": answer}])
    preflight.check_rewards([Judge()], [ROWS[0], {**ROWS[1], "answer": answer}])  # nobody reads it


def test_numbers_of_two_types_are_one_kind():
    preflight.check_rewards([good], [{**ROWS[0], "answer": 2}, {**ROWS[1], "answer": 2.5}])
    with pytest.raises(ValueError, match=r"one kind of value \(got 2 in row 0 and '2' in row 1\)"):
        preflight.check_rewards([good], [{**ROWS[0], "answer": 2}, ROWS[1]])


def test_the_question_is_what_the_user_asks():
    assert prompts.question(ROWS[0]["prompt"]) == prompts.question(ROWS[1]["prompt"]) == "What is 1+1?"


def test_a_verifier_needs_entries():
    with pytest.raises(
        ValueError, match=r"verified needs the column 'entry' \(got 'prompt', 'answer'\)\. Take rows of "
    ):
        preflight.check_rewards([rewards.verified], ROWS)
    entries = [{**row, "entry": entry} for row, entry in zip(ROWS, ["{}", None], strict=True)]
    with pytest.raises(ValueError, match=r"row 1, column 'entry', must have what the reward verified reads there"):
        preflight.check_rewards([rewards.verified], entries)
    with pytest.raises(ValueError, match=r"the reward verified .*an entry must name a problem of reasoning-gym"):
        preflight.dry_run([rewards.verified], entries[:1])


def test_rows_of_reasoning_gym_bring_them():
    pytest.importorskip("reasoning_gym", reason="needs reasoning-gym==0.1.25")
    train, _ = data.load_task({"name": "gym", "gym": "chain_sum", "num_train": 4, "num_held_out": 0})
    rows = data.grpo_rows(train)
    assert rows[0].keys() == {"prompt", "answer", "entry"}
    preflight.check_rewards([rewards.verified, rewards.answer_alone], rows)
    assert preflight.dry_run([rewards.verified], rows)
