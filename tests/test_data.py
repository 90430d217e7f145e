"""The generated task, by hand and by law; public data sets through files of a few rows; real GSM8K where it is."""

import json
import random
import re

import pytest

from grpo_nb import data, templates

TASK = {"name": "addition", "digits": 3, "slip_rate": 0.6, "num_train": 500, "num_held_out": 100}


def test_column_addition_by_hand():
    # 8+5 is 13: write 3, carry 1 · 4+9 is 13, with the carry 14: write 4, carry 1 · 2+1 is 3, with the carry 4
    assert data.column_addition(248, 195) == ("8+5=13 4+9=13+1=14 2+1=3+1=4", "443")


def test_a_forgotten_carry_is_missing_from_working_and_solution():
    assert data.column_addition(248, 195, slip_rate=1.0, rng=random.Random(0)) == ("8+5=13 4+9=13 2+1=3", "333")


def test_without_slips_every_solution_is_the_sum():
    rng = random.Random(1)
    for _ in range(500):
        a, b = rng.randrange(10_000), rng.randrange(10_000)
        assert data.column_addition(a, b)[1] == str(a + b)


def operands(rows):
    return {frozenset(re.findall(r"\d+", row["problem"])) for row in rows}


@pytest.mark.parametrize("seed", range(5))
def test_held_out_problems_are_new_even_with_addends_exchanged(seed):
    train, held_out = data.load_task({**TASK, "digits": 2}, seed=seed)
    assert (len(train), len(held_out)) == (500, 100)
    assert len(operands(train + held_out)) == 600


def test_answers_are_true_and_solutions_slip():
    train, _ = data.load_task(TASK)
    for row in train:
        a, b = map(int, re.findall(r"\d+", row["problem"]))
        assert row["answer"] == str(a + b)
    wrong = sum(row["solution"] != row["answer"] for row in train) / len(train)
    # two inner columns carry with probability near 0.5 each, and 0.6 of the carries are forgotten
    assert 0.35 < wrong < 0.6


def test_seed_decides_everything():
    assert data.load_task(TASK, seed=3) == data.load_task(TASK, seed=3)
    assert data.load_task(TASK, seed=3) != data.load_task(TASK, seed=4)


def test_digits_are_the_difficulty():
    longest = [max(len(r["working"]) for r in data.load_task({**TASK, "digits": d})[0]) for d in (2, 3, 4)]
    assert longest == sorted(longest) and len(set(longest)) == 3


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"1-digit addition has 55 different problems \(got 50 \+ 6 wanted\)"):
        data.addition(num_train=50, num_held_out=6, digits=1)


ROWS = {
    "gsm8k": {"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"},
    "dapo_math": {"prompt": "2+2?", "solution": " 1004 "},
    "open_math_reasoning": {
        "problem": "2+2?",
        "expected_answer": "1004",
        "generated_solution": "<think>\nhm\n</think> so",
    },
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ROWS)
def test_public_data_sets_load_from_a_local_folder(name, kind, tmp_path, monkeypatch):
    import datasets

    table = datasets.Dataset.from_list([ROWS[name]] * 3)
    folder = tmp_path / name
    folder.mkdir()
    getattr(table, "to_json" if kind == "jsonl" else "to_parquet")(
        str(folder / f"{data.SOURCES[name]['train']}.{kind}")
    )
    monkeypatch.delenv("GRPO_NB_DATA", raising=False)
    assert not data.is_available(name)
    by_argument = data.load_rows(name, local_dir=folder)
    monkeypatch.setenv("GRPO_NB_DATA", str(tmp_path))
    assert data.is_available(name)
    assert data.load_rows(name) == by_argument
    assert len(by_argument) == 3
    assert by_argument[0]["problem"] == "2+2?" and by_argument[0]["answer"] == "1004"
    assert "think>" not in by_argument[0]["working"]


def test_one_split_never_stands_in_for_the_other(tmp_path):
    row = json.dumps(ROWS["gsm8k"]) + "\n"
    (tmp_path / "train.jsonl").write_text(row, encoding="utf8")
    with pytest.raises(ValueError, match=r"the held_out files must be .* named test\* \(got train.jsonl\)"):
        data.load_rows("gsm8k", split="held_out", local_dir=tmp_path)
    (tmp_path / "test.jsonl").write_text(row * 2, encoding="utf8")
    assert len(data.load_rows("gsm8k", local_dir=tmp_path)) == 1
    assert len(data.load_rows("gsm8k", split="held_out", local_dir=tmp_path)) == 2
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="all jsonl or all parquet"):
        data.load_rows("gsm8k", local_dir=tmp_path)


def test_only_numeric_answers_survive(tmp_path):
    rows = [{**ROWS["open_math_reasoning"], "expected_answer": answer} for answer in ("7", "x+1", "-2.5", r"\frac12")]
    (tmp_path / "cot.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    assert [r["answer"] for r in data.load_rows("open_math_reasoning", local_dir=tmp_path)] == ["7", "-2.5"]


@pytest.mark.skipif(not data.is_available("gsm8k"), reason="GRPO_NB_DATA holds no gsm8k")
def test_real_gsm8k_has_its_published_size():
    train, test = data.load_rows("gsm8k"), data.load_rows("gsm8k", split="held_out")
    assert (len(train), len(test)) == (7473, 1319)
    assert not any("####" in row["working"] or "," in row["answer"] for row in train + test)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="one of gsm8k, dapo_math, open_math_reasoning"):
        data.load_rows("gms8k")
    with pytest.raises(ValueError, match="dapo_math has no 'held_out' split"):
        data.load_rows("dapo_math", split="held_out")
    with pytest.raises(ValueError, match="at least 4 different problems"):
        data.split_rows([{"problem": "1"}, {"problem": "2"}], 2, 2)


def test_sft_rows_teach_the_demonstrators_solution_and_grpo_rows_hide_it():
    row = {"problem": "2+2?", "answer": "4", "working": "2+2=5", "solution": "5"}
    (sft,), (grpo,) = data.sft_rows([row], system_prompt="Add."), data.grpo_rows([row])
    assert sft["completion"][0]["content"] == "<start_working_out>2+2=5<end_working_out><SOLUTION>5</SOLUTION>"
    assert sft["prompt"] == [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2?"}]
    assert grpo == {"prompt": templates.prompt_messages("2+2?"), "answer": "4"}


def test_keep_short_keeps_the_share_asked_for(tiny, rows):
    _, tokenizer = tiny
    many = data.grpo_rows([{"problem": "1" * n, "answer": "1"} for n in range(1, 101)])
    kept, limit = data.keep_short(many, tokenizer, quantile=0.9)
    longest = tokenizer.apply_chat_template(kept[-1]["prompt"], add_generation_prompt=True, return_dict=False)
    assert 89 <= len(kept) <= 91 and len(longest) <= limit
    assert data.keep_short(many, tokenizer, quantile=0.9, max_tokens=limit - 30)[1] == limit - 30
    assert data.keep_short(many, tokenizer, quantile=0.9, max_tokens=limit + 30)[1] == limit
    assert len(data.keep_short(many, tokenizer)[0]) == 100
    with pytest.raises(ValueError, match="at least one row must fit"):
        data.keep_short(many, tokenizer, max_tokens=1)
