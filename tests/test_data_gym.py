"""Rows from reasoning-gym's tasks: new problems held out, the same ones again, one sentence for what cannot be."""

import importlib.util
import random
import re

import numpy
import pytest

from grpo_nb import data, rewards
from grpo_nb.rewards import verifiers

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason=f"needs reasoning-gym=={verifiers.VERSION}"
)
TWO = {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2}
SUMS = {"name": "gym", "gym": "chain_sum", "options": TWO, "num_train": 60, "num_held_out": 20}
EASY = {
    "chain_sum": TWO,
    "basic_arithmetic": {"max_terms": 2, "max_digits": 1, "operators": ["+", "-"]},
    "letter_counting": {"min_words": 1, "max_words": 3},
    "gsm_symbolic": {"difficulty": 1.0},
    "number_sorting": {"min_numbers": 3, "max_numbers": 3, "max_decimals": 0, "max_value": 99},
    "spell_backward": {"min_word_len": 3, "max_word_len": 4},
}


def columns(rows, name):
    return [row[name] for row in rows]


# --- Golden


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_sum_is_true_and_worked_out(seed):
    train, held_out = data.load_task({**SUMS, "options": {**TWO, "max_terms": 4}}, seed=seed)
    assert (len(train), len(held_out)) == (60, 20)
    for row in train + held_out:
        first, *others = map(int, re.findall(r"-?\d+", re.sub(r"- (?=\d)", "-", row["problem"])))
        assert row["answer"] == str(first + sum(others))
        lines, total = row["working"].splitlines(), first
        assert len(lines) == len(others)
        for line, term in zip(lines, others, strict=True):
            assert line == f"{total} {'-' if term < 0 else '+'} {abs(term)} = {total + term}"
            total += term


def test_a_question_of_ones_own():
    (row,), _ = data.load_task({**SUMS, "question": "What is {expression}?", "num_train": 1, "num_held_out": 0})
    assert re.fullmatch(r"What is \d\d [-+] \d\d\?", row["problem"])
    asked = {**SUMS, "question": "{question} Reply with the number only.", "num_train": 1, "num_held_out": 0}
    assert data.load_task(asked)[0][0]["problem"].endswith(" Reply with the number only.")


def test_a_word_problem_brings_its_working():
    train, _ = data.load_task({**SUMS, "gym": "gsm_symbolic", "options": {}, "num_train": 20})
    for row in train:
        assert "####" not in row["working"] and row["answer"] in row["working"].replace(",", "")


# --- Law


@pytest.mark.parametrize("gym", EASY)
def test_no_problem_is_shared_and_every_truth_is_right(gym):
    task = {**SUMS, "gym": gym, "options": EASY[gym]}
    train, held_out = data.load_task(task, seed=1)
    assert len({*map(data.normal_form, columns(train + held_out, "problem"))}) == 80
    assert all(rewards.is_right(row["answer"], row) for row in train + held_out)
    assert 1.0 not in rewards.verified(["?"] * 60, columns(train, "entry"))


def test_a_sum_in_another_order_is_the_same_problem():
    train, held_out = data.load_task({**SUMS, "num_train": 500, "num_held_out": 128})
    numbers = [tuple(sorted(re.findall(r"-? ?\d+", row["problem"]))) for row in train + held_out]
    assert len({*numbers}) == 628


def test_the_seed_decides_everything_and_neighbours_share_little():
    first, again, other = (data.load_task(SUMS, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert len({*columns(first[0], "problem")} & {*columns(other[0], "problem")}) < 5  # not the same ones, moved by one


def test_more_training_rows_leave_the_held_out_ones_alone():
    assert data.load_task({**SUMS, "num_train": 61})[1] == data.load_task(SUMS)[1]


@pytest.mark.parametrize("gym", ["pool_matrix", "list_functions"])  # these draw from the global generators
def test_the_random_numbers_stay_where_they_were(gym):
    states = random.getstate(), numpy.random.get_state()[1].tolist()
    few = {"name": "gym", "gym": gym, "num_train": 3, "num_held_out": 0}
    random.seed(1)
    first = data.load_task(few)
    random.seed(2)
    assert data.load_task(few) == first
    random.setstate(states[0])
    assert numpy.random.get_state()[1].tolist() == states[1]


# --- Refusal


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gym": "chainsum"}, r"\(got 'chainsum'\)\. Try chain_sum"),
        ({"gym": "n_queens"}, r"\(got n_queens: its verifier evaluates text\)"),
        ({"options": {"digits": 2}}, r"it has no digits\)\. Try m"),
        ({"num_train": 900, "options": {**TWO, "min_digits": 1, "max_digits": 1}},
         r"must give 900 \+ 20 different problems \(got 1\d\d\)\. Ask for fewer"),
        ({"num_train": None}, "num_train must be a whole number of at least 1"),
        ({"num_held_out": -1}, "num_held_out must be a whole number of at least 0"),
        ({"question": "What is {sum}?"}, r"in braces \(got 'What is \{sum\}\?': 'sum'\)\. It has .*\{expression\}"),
        ({"question": "What is {expression?"}, "names of the problem in braces"),
        ({"question": 5}, "names of the problem in braces"),
    ],
)  # fmt: skip
def test_what_cannot_be(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.load_task({**SUMS, **changes})


def test_no_task_is_named():
    with pytest.raises(ValueError, match=r"\(got 'None'\)\. Try "):
        data.load_task({"name": "gym", "num_train": 1, "num_held_out": 1})
