"""The generated task, by hand and by law; public data sets through files of a few rows; real GSM8K where it is."""

import gzip
import json
import random
import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from grpo_nb import data, preflight, rewards, templates

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
        str(folder / f"{data.SOURCES[name]['train']}[1].{kind}")
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
    with pytest.raises(ValueError, match=r"the train files must be of one kind .*train.jsonl, train.parquet\)"):
        data.load_rows("gsm8k", local_dir=tmp_path)


def test_only_answers_survive_that_the_rewards_read_as_numbers(tmp_path, capsys):
    odd = ["x+1", "inf", "nan", "1_000", "", None, "no"]
    cells = ["7", "-2.5", 3, 2.0, *odd, r"\frac12", "１２"]
    rows = [{**ROWS["open_math_reasoning"], "expected_answer": cell} for cell in cells]
    (tmp_path / "cot.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    kept = [row["answer"] for row in data.load_rows("open_math_reasoning", local_dir=tmp_path)]
    assert kept[:4] == ["7", "-2.5", "3", "2"] and not {*map(str, odd)} & {*kept}
    assert kept[4:] == [cell for cell in cells[-2:] if rewards.parsing.number(cell) is not None], "they own the parser"
    assert f"{len(cells) - len(kept)} of 13 rows are left out (row 4 has the answer 'x+1'" in capsys.readouterr().out


# The contract: (record, problem, answer, working).
WRAPPED = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    '$Answer.\n\nFind x.\n\nIt is odd.\n\nRemember to put your answer on its own line after "Answer:".'
)
BOXED = r"So $\boxed{\frac{2}{3}}$."


def turns(*texts, roles=("user", "assistant"), key="role", text="content"):
    return [{key: roles[i % 2], text: content} for i, content in enumerate(texts)]


LAYOUTS = {
    "gsm8k": ({"question": "q", "answer": "2+2=4\n#### 1,004"}, "q", "1004", "2+2=4"),
    "number": ({"problem": "q", "answer": 72}, "q", "72", ""),
    "float": ({"problem": "q", "answer": 72.0}, "q", "72", ""),
    "decimals": ({"problem": "q", "answer": 0.1}, "q", "0.1", ""),
    "list of one": ({"problem": "q", "final_answer": ["72"]}, "q", "72", ""),
    "capitals": ({"Question": " q ", " Answer": " B "}, "q", "B", ""),
    "MATH": ({"problem": "q", "solution": BOXED}, "q", r"\frac{2}{3}", BOXED),
    "MATH-500": ({"problem": "q", "solution": "So 3.", "answer": "3"}, "q", "3", "So 3."),
    "other boxes": ({"problem": "q", "solution": r"\boxed{1} or \fbox {2}."}, "q", "2", r"\boxed{1} or \fbox {2}."),
    "only a box": ({"problem": "q", "answer": r"$\boxed{72}$"}, "q", "72", ""),
    "last box": ({"problem": "q", "solution": r"\boxed{1}, no: \boxed{2}"}, "q", "2", r"\boxed{1}, no: \boxed{2}"),
    "DAPO": ({"prompt": turns("q"), "reward_model": {"ground_truth": "34"}}, "q", "34", ""),
    "DAPO, processed": ({"prompt": "q", "solution": "34", "reward_model": None}, "q", "34", ""),
    "a model's name": ({"prompt": "q", "reward_model": "judge", "target": "5"}, "q", "5", ""),
    "Alpaca": ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, "Add.\n\n1 and 2", "3", ""),
    "Alpaca, no input": ({"instruction": "q", "input": "", "output": "3"}, "q", "3", ""),
    "ShareGPT": (
        {"conversations": turns("q", r"<think>hm</think> \boxed{3}", roles=("human", "gpt"), key="from", text="value")},
        *("q", "3", r"hm \boxed{3}"),
    ),
    "two exchanges": ({"messages": [{"role": "system", "content": "s"}, *turns("q", "a", "r", "b")]}, "q", "a", ""),
    "MetaMathQA": ({"query": "q", "response": "1+1.\n#### 2\nThe answer is: 2"}, "q", "2", "1+1."),
    "SVAMP": ({"Body": "Tom has 2.", "Question": "How many?", "Answer": "2.0"}, "Tom has 2.\n\nHow many?", "2.0", ""),
    "Dolly": ({"instruction": "When?", "context": "In 2000.", "response": "2000"}, "In 2000.\n\nWhen?", "2000", ""),
    "BoolQ": ({"question": "So?", "passage": "So it is.", "answer": True}, "So it is.\n\nSo?", "True", ""),
    "MMLU": ({"question": "q", "choices": ["0", "4", "2"], "answer": 1}, "q\n\nA) 0\nB) 4\nC) 2", "B", ""),
    "MMLU-Pro": ({"question": "q", "options": ["x", "y"], "answer": "B"}, "q\n\nA) x\nB) y", "B", ""),
    "AQuA": ({"question": "q", "options": ["A)5", "B)8"], "answer": "B"}, "q\n\nA)5\nB)8", "B", ""),
    "ARC": ({"question": "q", "choices": {"text": ["x"], "label": ["1"]}, "answerKey": "1"}, "q\n\n1) x", "1", ""),
    "MedQA": ({"question": "q", "options": {"A": "x", "B": "y"}, "answer": "B"}, "q\n\nA) x\nB) y", "B", ""),
    "C-Eval": ({"question": "q", "A": "x", "B": "y", "answer": "B"}, "q\n\nA) x\nB) y", "B", ""),
    "a and b that are numbers": (
        {"question": "A+b?", "A": 1, "B": 2, "a": "1", "b": "2", "answer": 1},
        "A+b?",
        "1",
        "",
    ),
    "Skywork-OR1": ({"prompt": turns("q"), "reward_model": {"ground_truth": r'["\\frac12"]'}}, "q", r"\frac12", ""),
    "said before": ({"question": "In 2000. When?", "context": "In 2000.", "answer": "1"}, "In 2000. When?", "1", ""),
    "an input that is no text": ({"instruction": "Add.", "input": [1, 2], "output": 3}, "Add.\n\n[1, 2]", "3", ""),
    "an input that is NaN": ({"instruction": "q", "input": float("nan"), "output": 3}, "q", "3", ""),
    "a huge number": ({"problem": "q", "answer": 10**400}, "q", str(10**400), ""),
    "a fraction": ({"problem": "q", "answer": Fraction(1, 2)}, "q", "1/2", ""),
    "a message": ({"prompt": turns("q"), "completion": turns("72", roles=("assistant",))[0]}, "q", "72", ""),
    "typed parts": (
        {"prompt": turns([{"type": "text", "text": "q"}, {"type": "text", "text": "?"}]), "label": 1},
        *("q?", "1", ""),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_usual_layout_is_read(layout, capsys):
    record, problem, answer, working = LAYOUTS[layout]
    assert data.as_rows([record]) == [{"problem": problem, "answer": answer, "working": working}]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"problem": "q"}, "has no answer"),
        ({"problem": "q", "answer": "  "}, "has no answer"),
        ({"problem": None, "answer": "1"}, "has no problem"),
        ({"problem": "q", "answer": float("nan")}, "no answer that is a number or text (got nan)"),
        ({"problem": "q", "answer": float("inf")}, "(got inf)"),
        ({"problem": "q", "answer": ["1", "2"]}, "(got ['1', '2'])"),
        ({"problem": "q", "answer": b"72"}, "(got b'72')"),
        ({"problem": "q", "answer": {72}}, "(got {72})"),
        ({"problem": "q", "answer": 1 + 2j}, "(got (1+2j))"),
        ({"problem": "q", "answer": Decimal("NaN")}, "(got NaN)"),
        ({"problem": "q", "answer": '["1", "2"]'}, "(got ['1', '2'])"),
        ({"prompt": turns([{"type": "image"}]), "answer": "1"}, "no text ('image')"),
        (
            {"prompt": [{"role": r, "content": r} for r in ("user", "assistant", "user")], "answer": "1"},
            "more than one",
        ),
        ({"prompt": ["q"], "answer": "1"}, "messages that are no messages"),
        ({"prompt": [], "answer": "1"}, "has no problem"),
    ],
)
def test_a_row_without_problem_or_answer_is_left_out_and_counted(record, reason, capsys):
    assert (
        len(data.as_rows([record, *[{"problem": "q", "answer": "1", **dict.fromkeys(record)} | LAYOUTS["number"][0]]]))
        == 1
    )
    said = capsys.readouterr().out
    assert "1 of 2 rows are left out (row 0 " in said and reason in said
    with pytest.raises(ValueError, match=r"the table must have a row with a problem and an answer \(got 1 rows, col"):
        data.as_rows([record])


def test_a_rationale_without_its_mark_is_no_answer(tmp_path, capsys):
    (tmp_path / "train.json").write_text(
        json.dumps([{"question": "q", "answer": a} for a in ("#### 7", "It is 7.", "w\n#### ")]), encoding="utf8"
    )
    assert [row["answer"] for row in data.load_rows("gsm8k", local_dir=tmp_path)] == ["7"]
    assert "row 1 has no ####" in capsys.readouterr().out
    (tmp_path / "train.json").write_text(json.dumps({"question": "q", "answer": "It is 7."}), encoding="utf8")
    with pytest.raises(ValueError, match="no answer is marked"):
        data.load_rows("gsm8k", local_dir=tmp_path)
    mostly = [LAYOUTS["MATH"][0], LAYOUTS["last box"][0], {"problem": "q", "solution": "It is plain."}]
    assert len(data.as_rows(mostly)) == 2
    assert len(data.as_rows([*mostly, mostly[0], {"problem": "q", "answer": "72"}])) == 4, "a number is no rationale"
    assert len(data.as_rows([{"problem": "q", "answer": "4"}, {"problem": "r", "answer": "#### 5"}])) == 2


def test_tables_in_memory_are_read_too():
    import datasets

    records = [{"problem": "q", "answer": 1.0}, {"problem": "r", "answer": None}, {"problem": "s", "answer": 3.0}]
    dataset = datasets.Dataset.from_list(records)
    frame = dataset.to_pandas()
    for table in (records, dataset, dataset.data.table, frame, frame.astype({"answer": "Int64"})):
        assert [row["answer"] for row in data.as_rows(table)] == ["1", "3"]


def test_the_original_dapo_loses_the_lines_that_ask_for_another_layout(tmp_path):
    record = {"prompt": [{"role": "user", "content": WRAPPED}], "reward_model": {"ground_truth": "34", "style": "rule"}}
    (tmp_path / "dapo.jsonl").write_text(json.dumps(record), encoding="utf8")
    assert data.load_rows("dapo_math", local_dir=tmp_path) == [
        {"problem": "Find x.\n\nIt is odd.", "answer": "34", "working": ""}
    ]


# Files.
TABLE = [{"problem": "What, is ½?", "answer": "007"}, {"problem": "r\u2028s", "answer": "1_000"}]
LINES = "\n".join(json.dumps(record, ensure_ascii=False) for record in TABLE)
CSV = 'problem,answer\n"What, is ½?",007\nr\u2028s,1_000\n'
WRITTEN = {
    "a.jsonl": LINES.encode(),
    "a.ndjson": LINES.replace("\n", "\r\n\r\n").encode("utf-8-sig"),
    "a.json": json.dumps(TABLE, indent=1).encode("utf-8-sig"),
    "lines.json": LINES.encode(),
    "under_a_key.json": json.dumps({"version": 1, "data": TABLE}).encode(),
    "a.csv": CSV.encode("utf-8-sig"),
    "semicolons.csv": CSV.replace(",a", ";a").replace(",0", ";0").replace(",1", ";1").encode(),
    "trailing.csv": CSV.replace("\n", ",\n").encode(),
    "a.tsv": CSV.replace(",a", "\ta").replace(",0", "\t0").replace(",1", "\t1").encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode(), mtime=0),
    "a.csv.gz": gzip.compress(CSV.encode(), mtime=0),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_cells_are_as_the_file_has_them(name, tmp_path):
    (tmp_path / name).write_bytes(WRITTEN[name])
    (tmp_path / "dataset_info.json").write_text("{}", encoding="utf8")
    rows = [{**row, "working": ""} for row in TABLE]
    assert data.load_rows(tmp_path / name) == data.load_rows(str(tmp_path)) == rows
    assert sorted(map(str, data.load_task({"name": str(tmp_path), "num_train": 1, "num_held_out": 1}))) == sorted(
        str([row]) for row in rows
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("e.jsonl", b"", r"e.jsonl must hold rows with named columns \(got none\)"),
        ("e.json", b"[]", r"\(got none\)"),
        ("h.csv", b"problem,answer\n", r"\(got none\)"),
        ("n.json", b"[1, 2]", r"\(got int\)"),
        ("b.jsonl", b'{"problem": "q"}\n{"problem":\n', "JSONDecodeError: Expecting value: line 3"),
        ("b.parquet", b"PAR", "b.parquet must be a table in UTF-8 .*ArrowInvalid"),
        (
            "lfs.jsonl",
            b"version https://git-lfs.github.com/spec/v1\n",
            "begins with 'version https://git-lfs.* git lfs pull",
        ),
        ("d.json", b"[" * 100_000, "RecursionError"),
        ("b.json.gz", gzip.compress(LINES.encode(), mtime=0)[:30], "EOFError"),
        ("b.csv.gz", b"problem,answer", "BadGzipFile"),
        ("l.csv", "problem,answer\nMüller,1\n".encode("cp1252"), "UnicodeDecodeError"),
        ("q.csv", b"problem,answer\nWhat, then?,1\n", "row 0 with '1' after its last column: quote cells with ','"),
        ("t.txt", b"problem,answer\nq,1\n", "a name that ends in none of .jsonl"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(name, content, sentence, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        data.load_rows(tmp_path / name)


def test_columns_of_other_names_can_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("Frage,Lösung,id\nq,5,1\n", encoding="utf8")
    with pytest.raises(ValueError, match=r"a.csv must have .*columns 'Frage', 'Lösung', 'id': row 0 has no problem\)"):
        data.load_rows(tmp_path / "a.csv")
    found = data.load_rows(tmp_path / "a.csv", columns={"problem": "Frage", "answer": "Lösung"})
    assert found == [{"problem": "q", "answer": "5", "working": ""}]
    for odd in (
        "Frage",
        ["Frage"],
        {"Frage": "problem"},
        {"problem": "Fragen"},
        {"working": None},
        {"answer": ["Frage"]},
    ):
        with pytest.raises(
            ValueError, match=r"columns must be a dict from .* one of 'Frage', 'Lösung', 'id' \(got .*Turn"
        ):
            data.load_rows(tmp_path / "a.csv", columns=odd)


def test_a_folder_is_read_as_it_is_downloaded(tmp_path):
    """Shards in subfolders, one configuration of two, cards and caches beside them; each split in its own format."""
    row = json.dumps(ROWS["gsm8k"])
    for name in ("main/train-00000-of-00002.jsonl", "main/train-00001-of-00002.jsonl", "socratic/train.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(row, encoding="utf8")
    (tmp_path / "main" / "gsm8k_test.json").write_text(f"[{row}]", encoding="utf8")
    (tmp_path / "main" / "train_test.jsonl").write_text(row, encoding="utf8")  # of both splits, so of neither
    (tmp_path / "main" / "dataset_infos.json").write_text("{}", encoding="utf8")
    (tmp_path / "main" / ".cache").mkdir()
    (tmp_path / "main" / ".cache" / "train.jsonl").write_text(row, encoding="utf8")
    assert len(data.load_rows("gsm8k", local_dir=tmp_path)) == 2
    assert len(data.load_rows("gsm8k", split="held_out", local_dir=tmp_path)) == 1


def test_a_folder_without_a_table_does_not_end_at_the_hub(tmp_path, monkeypatch):
    (tmp_path / "gsm8k").mkdir()
    monkeypatch.setenv("GRPO_NB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"must be of one kind .* \(got an empty folder\)"):
        data.load_rows("gsm8k")
    (tmp_path / "gsm8k" / "data.arrow").write_bytes(b"")
    with pytest.raises(ValueError, match=r"\(got data.arrow\)"):
        data.load_rows("gsm8k")
    with pytest.raises(ValueError, match=r"a file or folder that exists \(got .*gsm9k'\)"):
        data.load_rows("gsm8k", local_dir=tmp_path / "gsm9k")
    with pytest.raises(ConnectionError, match=r"dapo_math must be in a local folder, .*train.jsonl, into that folder"):
        data.load_rows("dapo_math")


# One normal form.
@pytest.mark.parametrize("seed", range(20))
def test_our_own_split_passes_our_own_check(seed):
    """…on rows with near duplicates, as GSM8K and DAPO-Math have them."""
    asked = [f"Tom has {n} pens. Zoé has é more?" for n in range(40)]
    near = [text.upper() for text in asked[:9]] + [f" {text}\n" for text in asked[9:18]]
    near += [unicodedata.normalize("NFD", text) for text in asked[18:27]] + [t.replace(" ", "  ") for t in asked[27:36]]
    train, held_out = data.split_rows([{"problem": text, "answer": "1"} for text in asked + near], None, 20, seed=seed)
    assert (len(train), len(held_out)) == (20, 20)
    prompts, tests = data.grpo_rows(train), data.grpo_rows(held_out)
    preflight.check_held_out(prompts, tests)
    assert preflight.check_prompts(prompts)["repeated_prompts"] == 0
    assert data.without_problems(train, held_out) == train


def test_other_problems_keep_apart():
    """A full-width or raised digit, an accent or a sign makes another problem."""
    texts = ["x2?", "x²?", "x２?", "X+2?", "x-2?", "resume 2", "resumé 2", "x 2?"]
    assert len({data.normal_form(text) for text in texts}) == len(texts)


def test_the_sample_of_gsm8k_comes_with_the_package_and_its_licence():
    rows = data.load_rows("gsm8k_sample")
    assert len(rows) == 100 and len({row["problem"] for row in rows}) == 100
    assert all(rewards.can_match(row["answer"]) and row["working"] for row in rows)
    assert data.is_available("gsm8k_sample")
    with pytest.raises(ValueError, match="has no 'held_out' split"):
        data.load_rows("gsm8k_sample", split="held_out")
    licence = Path(data.__file__).parent / "gsm8k_sample" / "LICENSE"
    assert licence.read_text(encoding="utf8").startswith("MIT License\n\nCopyright (c) 2021 OpenAI")


@pytest.mark.skipif(not data.is_available("gsm8k"), reason="GRPO_NB_DATA holds no gsm8k")
def test_the_sample_is_every_88th_row_of_the_real_one():
    whole = data.load_rows("gsm8k") + data.load_rows("gsm8k", split="held_out")
    assert data.load_rows("gsm8k_sample") == whole[::88]


@pytest.mark.skipif(not data.is_available("gsm8k"), reason="GRPO_NB_DATA holds no gsm8k")
def test_real_gsm8k_has_its_published_size():
    train, test = data.load_rows("gsm8k"), data.load_rows("gsm8k", split="held_out")
    assert (len(train), len(test)) == (7473, 1319)
    assert not any("####" in row["working"] or "," in row["answer"] for row in train + test)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="one of gsm8k, dapo_math, open_math_reasoning, gsm8k_sample"):
        data.load_rows("gms8k")
    with pytest.raises(ValueError, match="dapo_math has no 'held_out' split"):
        data.load_rows("dapo_math", split="held_out")
    with pytest.raises(ValueError, match="at least 4 different problems"):
        data.split_rows([{"problem": "1"}, {"problem": "2"}], 2, 2)


def test_other_columns_go_with_the_prompt_but_nothing_that_teaches():
    row = {"problem": "1+1?", "answer": "2", "working": "1+1=2", "solution": "3", "entry": "{}", "level": 1}
    assert {k: v for k, v in data.grpo_rows([row])[0].items() if k != "prompt"} == {
        "answer": "2",
        "entry": "{}",
        "level": 1,
    }


def test_the_easier_rows_are_those_of_few_steps(tmp_path):
    sample = {"name": "gsm8k_sample", "num_train": 10, "num_held_out": 5}
    train, held_out = data.load_task({**sample, "most_steps": 2})
    assert {data.steps(row["working"]) for row in train + held_out} == {1, 2}
    assert max(data.steps(row["working"]) for row in data.load_rows("gsm8k_sample")) > 2
    with pytest.raises(ValueError, match=r"most_steps must be a whole number of at least 1 \(got 0\)"):
        data.load_task({**sample, "most_steps": 0})
    with pytest.raises(ValueError, match="different problems"):
        data.load_task({**sample, "most_steps": 1, "num_train": 99})
    file = tmp_path / "bare.jsonl"
    file.write_text('{"problem": "1+1?", "answer": "2"}', encoding="utf8")
    with pytest.raises(ValueError, match=r"at most 3 steps \(got none among 1 of .*bare\.jsonl\)\. Raise it"):
        data.load_task({"name": str(file), "num_train": 1, "num_held_out": 0, "most_steps": 3})


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
    with pytest.raises(ValueError, match="at least one row must fit") as error:
        data.keep_short(many, tokenizer, max_tokens=1)
    shortest = int(re.search(r"Allow (\d+) or more: max_tokens", str(error.value))[1])
    assert len(data.keep_short(many, tokenizer, max_tokens=shortest)[0]) == 1
    with pytest.raises(ValueError, match=r"\(got 0 rows, before any was dropped\). Look at the filter"):
        data.keep_short([], tokenizer)


def test_keep_short_keeps_a_number_of_rows_if_asked(tiny):
    many = data.grpo_rows([{"problem": "1" * n, "answer": "1"} for n in range(1, 101)])
    longest = max(data.token_lengths(many[:7], tiny[1]))
    assert data.keep_short(many, tiny[1], max_tokens=1, at_least=7) == (many[:7], longest)
    assert len(data.keep_short(many, tiny[1], max_tokens=longest, at_least=3)[0]) == 7, "the limit already leaves more"
    assert len(data.keep_short(many, tiny[1], max_tokens=1, at_least=1000)[0]) == 100


def test_prompts_of_text_and_of_typed_parts_have_a_length(tiny):
    texts = [{"prompt": "1" * n} for n in (3, 9, 5)]
    kept, limit = data.keep_short(texts, tiny[1], max_tokens=5)
    assert limit == 5 and [len(row["prompt"]) for row in kept] == [3, 5]
    assert data.token_lengths([{"prompt": "11", "completion": "22"}], tiny[1]) == [4]
    parts = [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}]
    plain = [{"role": "user", "content": "1+1?"}]
    assert data.token_lengths([{"prompt": parts}], tiny[1]) == data.token_lengths([{"prompt": plain}], tiny[1])
