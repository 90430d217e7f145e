"""Rewards: the scores by hand, the laws they keep, the mended bugs of the source by number, GSM8K row by row."""

import itertools
import json
import os
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from grpo_nb import rewards, templates
from grpo_nb.rewards import parsing
from tests.reward_calls import NAMES, scored

OPEN, CLOSE, START, END = templates.TAGS
GSM8K = Path(os.environ.get("GRPO_NB_DATA") or "no such folder", "gsm8k")


def block(solution, working="1+1=2"):
    return f"{working}{CLOSE}{START}{solution}{END}"


def scores(completion, true="2"):
    """The four rewards of one completion, called with every argument that TRL gives."""
    columns = {"prompts": ["1+1?"], "completion_ids": [[1, 2]], "answer": [true], "level": ["easy"]}
    hooks = {"trainer_state": None, "log_extra": print, "log_metric": print}
    return [reward(completions=[completion], **columns, **hooks)[0] for reward in rewards.FOUR]


def total(completion, true="2"):
    return sum(score for score in scores(completion, true) if score is not None)


# --- Golden


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (block("2"), [3.0, 1.5, 5.0, 3.5]),  # the maximum: 13
        (block(" 2 "), [3.0, 1.5, 3.5, 3.5]),
        (block("2.2"), [3.0, 1.5, 2.0, -1.5]),  # 10 % off, the edge belongs
        (block("1.6"), [3.0, 1.5, 1.5, -1.5]),  # 20 % off, the edge belongs
        (block("3"), [3.0, 1.5, -2.5, -1.5]),
        (block("two"), [3.0, 1.5, -2.5, -2.5]),
        (block("x = 2"), [3.0, 1.5, -2.5, 3.5]),  # a number in words: right for check_numbers alone
        (f"{START}2{END}", [0.0, 0.0, -4.5, 3.5]),  # -1 + 0.5 + 0.5
        (f"1+1=2{CLOSE}{START}2", [0.0, 0.0, -4.5, 3.5]),  # 0.5 + 0.5 - 1
        (f"{START}2{END}{CLOSE}", [0.0, -3.0, -4.5, 3.5]),  # no tag stands in order
        ("2", [0.0, -3.0, -4.5, -2.5]),  # the minimum: -10
        ("", [0.0, -3.0, -4.5, -2.5]),
    ],
)
def test_score_table(completion, expected):
    assert scores(completion) == expected
    assert scores([{"role": "assistant", "content": completion}]) == expected


def test_text_answers():
    assert scores(block("blue"), "blue") == [3.0, 1.5, 5.0, None]
    assert scores(block(" blue"), "blue ") == [3.0, 1.5, 3.5, None]
    assert scores(block("red"), "blue") == [3.0, 1.5, -2.5, None]
    assert scores("blue", "blue") == [0.0, -3.0, -4.5, None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-7", -7),
        ("\u22127", -7),
        ("- 7", -7),
        ("+7", 7),
        ("007", 7),
        ("1,234,567", 1234567),
        ("$1,000.50", Fraction(2001, 2)),
        ("-€5", -5),
        ("£ 5", 5),
        ("50%", 50),
        ("50 %", 50),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("3/4", Fraction(3, 4)),
        ("-6/8", Fraction(-3, 4)),
        ("1,000/3", Fraction(1000, 3)),
        ("1.5e3", 1500),
        ("1e-3", Fraction(1, 1000)),
        ("1E\u22122", Fraction(1, 100)),
        ("2e99", 2 * 10**99),
        ("9" * 64, int("9" * 64)),
        ("\t 7\n", 7),
    ],
)
def test_number(text, value):
    assert parsing.number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        ".",
        "-",
        "$",
        "%",
        "--7",
        "-$-7",
        "7 7",
        "1,00",
        "1,0000",
        ",100",
        "0,123",
        "1.2.3",
        "1_000",
        "0x10",
    ]
    + ["nan", "inf", "-Infinity", "1e100", "1e", "e5", "1/0", "6/2", "1/2/3", "1.5/2", "/2", "1/", "seven", "7m"]
    + ["\u0667", "7\u0667", "7\u200b", "7\x00", "\ud800", "9" * 65, "0" * 64 + "1", "7²"],
)
def test_no_number(text):
    assert parsing.number(text) is None


def test_leading_opening_tag_is_harmless_and_a_second_one_is_not():
    assert scores(OPEN + block("2")) == scores(f" \n{OPEN}" + block("2")) == scores(block("2"))
    # exact format is gone, REASONING_END counts for nothing: -1 + 0.5 + 0.5
    for completion in (OPEN + OPEN + block("2"), "so " + OPEN + block("2")):
        assert scores(completion) == [0.0, 0.0, -4.5, 3.5]


# --- Law


def random_completions(count, seed):
    rng = random.Random(seed)
    pieces = [*templates.TAGS, "2", "2.0", " ", "\n", "x", "3", "-", block("2"), block("2.1")]
    return ["".join(rng.choices(pieces, k=rng.randrange(8))) for _ in range(count)]


def each_reward():
    """Each of the package: those that no notebook trains with keep the laws too."""
    return [getattr(rewards, name) for name in NAMES]


@pytest.mark.parametrize("reward", each_reward())
def test_a_score_depends_on_its_own_completion_and_answer_alone(reward):
    completions, rng = random_completions(2000, seed=0), random.Random(1)
    answers = rng.choices(["2", "3", "0", "blue", "1,000"], k=len(completions))
    whole = scored(reward, completions, answers)
    assert len(whole) == len(completions)
    one_by_one = [scored(reward, [c], [a])[0] for c, a in zip(completions, answers, strict=True)]
    assert whole == one_by_one
    order = rng.sample(range(len(completions)), len(completions))
    shuffled = scored(reward, [completions[i] for i in order], [answers[i] for i in order])
    assert shuffled == [whole[i] for i in order]
    assert scored(reward, [], []) == []


@pytest.mark.parametrize("reward", each_reward())
def test_blanks_at_the_end_change_nothing(reward):
    completions = random_completions(2000, seed=2)
    answers = ["2"] * len(completions)
    padded = [completion + blanks for completion, blanks in zip(completions, itertools.cycle([" ", "\n\n", "\t "]))]
    assert scored(reward, padded, answers) == scored(reward, completions, answers)


def test_working_out_is_free():
    assert {total(block("2", working)) for working in ("", "1+1=2", "3, no, 4", "x" * 5000)} == {13.0}


def test_right_beats_near_beats_wrong_beats_unreadable_beats_no_format():
    right, near, wrong, unreadable = (total(block(solution)) for solution in ("2", "2.1", "3", "dunno"))
    pieces = [*templates.TAGS, "2", " ", "x"]
    texts = ["".join(choice) for length in range(6) for choice in itertools.product(pieces, repeat=length)]
    no_format = max(total(text) for text in texts if parsing.solution(text) is None)
    assert (right, near, wrong, unreadable, no_format) == (13.0, 5.0, 0.5, -0.5, -1.0)


def test_approximate_format_is_full_exactly_where_the_format_is_exact():
    pieces = [*templates.TAGS, "2", " ", "x"]
    for length in range(6):
        for choice in itertools.product(pieces, repeat=length):
            text = "".join(choice)
            exact, approximate, _, _ = scores(text)
            assert -3.0 <= approximate <= 1.5
            is_blank = not parsing.after_solution_start(text).strip()
            assert (approximate == 1.5) == (exact == 3.0 or (approximate == 1.5 and is_blank)), text


# --- Oracle


def test_solution_equals_a_pattern_that_may_be_slow():
    other = f"(?:(?!{'|'.join(templates.TAGS)}).)*"
    layout = re.compile(rf"\s*(?:{OPEN})?{other}{CLOSE}{other}{START}({other}){END}\s*", re.DOTALL)
    pieces = [*templates.TAGS, "2", " ", "<"]
    for length in range(6):
        for choice in itertools.product(pieces, repeat=length):
            text = "".join(choice)
            match = layout.fullmatch(text)
            expected = match[1] if match and match[1].strip() else None
            assert parsing.solution(text) == expected, text


# --- The source's bugs, mended, by the numbers of the modules' lists


def test_departure_01_junk_after_a_line_break_is_not_exact():
    assert scores(block("2") + "\ntrash")[:3] == [0.0, 0.0, -4.5]
    assert scores(block("2") + "\n\n")[0] == 3.0


def test_departure_02_two_solutions_are_not_exact():
    assert scores(f"w{CLOSE}{START}1{END} b {START}2{END}")[:3] == [0.0, -1.5, -4.5]  # 0.5 - 1 - 1
    for tag in (CLOSE, START, END):
        assert scores(block("2").replace(tag, tag + tag))[:3] == [0.0, 0.0, -4.5]  # -1 + 0.5 + 0.5


def test_departure_03_end_of_text_token_is_junk():
    assert scores(block("2") + "<|im_end|>")[0] == 0.0


def test_departure_04_cubic_text_is_answered():
    assert scores(CLOSE * 2000 + START * 3000) == [0.0, -3.0, -4.5, -2.5]


def test_departure_05_blank_solution_is_no_solution():
    assert scores(block(" \n")) == [0.0, 1.5, -4.5, -2.5]


def test_departure_06_tags_count_in_order_only():
    assert rewards.match_format_approximately([END + START + CLOSE, block("2") + " so"]) == [-3.0, 0.0]


def test_departure_07_opening_tag_is_neither_needed_nor_allowed_again():
    assert rewards.match_format_exactly([block("2"), OPEN + block("2"), f"{OPEN}a{OPEN}" + block("2")]) == [
        3.0,
        3.0,
        0.0,
    ]


def test_departure_08_nothing_is_printed_or_remembered(capfd):
    assert len({tuple(scores(block("2"))) for _ in range(11)}) == 1
    assert capfd.readouterr() == ("", "")


def test_departure_09_refusing_the_format_is_the_worst():
    assert rewards.check_answer([block("dunno"), "dunno"], ["2", "2"]) == [-2.5, -4.5]


def test_departure_10_values_are_compared_before_texts():
    assert rewards.check_answer([block("2.0"), block("+2"), block("4/2")], ["2"] * 3) == [5.0, 5.0, -2.5]
    assert rewards.check_answer([block("0.50")], ["1/2"]) == [5.0]


def test_departure_11_true_answer_zero():
    assert rewards.check_answer([block("0.0"), block("0"), block("-0"), block("0.001")], ["0"] * 4) == [
        5.0,
        5.0,
        5.0,
        -2.5,
    ]


def test_departure_12_commas_on_both_sides():
    for solution, true in [("1,000", "1000"), ("1000", "1,000"), ("1,000", "1,000")]:
        assert scores(block(solution), true) == [3.0, 1.5, 5.0, 3.5]


def test_departure_13_mistakes_of_the_programmer_raise():
    with pytest.raises(TypeError, match="a completion must be a string or a list of messages"):
        rewards.check_answer([None], ["2"])


@pytest.mark.parametrize(
    ("solution", "true", "expected"),
    [
        ("Therefore, x = 5", "5", 3.5),
        ("Therefore, x = 5.", "5", 3.5),
        ("Therefore,", "5", -2.5),
        ("$1,000", "1000", 3.5),
        ("3/4", "0.75", 3.5),
        ("- 5", "-5", 3.5),
        ("- 5", "5", -1.5),
        ("\u22125", "-5", 3.5),
        ("x-5", "5", -2.5),  # a difference: neither 5 nor -5
        ("x-5", "-5", -2.5),
        ("1.5e3 m", "1500", 3.5),
        ("1.5e-3 m", "0.0015", 3.5),
        ("**5**", "5", 3.5),
        ("答案是5", "5", 3.5),
        ("x=10-7=3", "3", -1.5),
        ("1, 2, 3", "3", -1.5),
        ("5 apples, 3 pears", "5", -1.5),
        ("\u0665", "5", -2.5),
        ("5\u0665", "5", -2.5),
        ("5" + " so" * 100, "5", -2.5),  # longer than PROSE_LIMIT
    ],
)
def test_departure_14_exactly_one_number(solution, true, expected):
    assert rewards.check_numbers([f"{START}{solution}{END}"], [true]) == [expected]
    assert rewards.check_numbers([f"{START}{solution}"], [true]) == [expected]


def test_departure_14_nothing_is_read_beyond_the_next_tag():
    texts = [f"{START}none{tag} see 42" for tag in templates.TAGS]
    assert rewards.check_numbers(texts, ["42"] * 4) == [-2.5] * 4


def test_departure_15_garbage_is_not_better_than_a_wrong_number():
    assert rewards.check_numbers([f"{START},{END}", f"{START}4{END}"], ["5", "5"]) == [-2.5, -1.5]


def test_departure_16_equality_has_a_tolerance_and_integers_have_none():
    assert scores(block("0.30000000000000004"), "0.3") == [3.0, 1.5, 5.0, 3.5]
    assert scores(block("0.33333333333"), "1/3") == [3.0, 1.5, 5.0, 3.5]
    assert scores(block("0.3333"), "1/3") == [3.0, 1.5, 2.0, -1.5]
    assert scores(block("10000000000000001"), "10000000000000000") == [3.0, 1.5, 2.0, -1.5]


@pytest.mark.parametrize("solution", ["1_000", "nan", "inf", "\u0661\u0660\u0660\u0660", "1e3000"])
def test_departure_17_what_float_reads_and_we_do_not(solution):
    assert scores(block(solution), "1000") == [3.0, 1.5, -2.5, -2.5]


def test_departure_18_check_numbers_does_not_apply_to_text():
    assert rewards.check_numbers([block("blue"), block("5")], ["blue", "5"]) == [None, 3.5]


def test_departure_19_fraction_is_a_number_and_a_division_left_undone_is_not():
    assert scores(block("3/4"), "0.75") == [3.0, 1.5, 5.0, 3.5]
    assert scores(block("72/2"), "36") == [3.0, 1.5, -2.5, -2.5]


def test_departure_20_a_number_is_read_in_whatever_dress():
    for solution in ("\u20132.5", "-2\u00bd", r"\boxed{-2\frac{1}{2}}", "-25 × 10^{-1}", "\uff0d２．５"):
        assert scores(block(solution), "-2.5") == [3.0, 1.5, 5.0, 3.5]
        assert scores(block(solution), "2.5") == [3.0, 1.5, -2.5, -1.5]
    assert scores(block("2.5cm²"), "2.5") == [3.0, 1.5, -2.5, 3.5]


def test_departure_21_the_number_in_an_expression_or_a_list_is_not_the_answer():
    for solution, true in [("x+1", "1"), (r"3\pi", "3"), ("2 million", "2"), ("[-36,104]", "-36104")]:
        assert total(block(solution), true) <= total(block("7"), true)


def test_departure_22_a_choice_is_a_letter_however_it_is_written():
    assert rewards.check_answer([block("(B)"), block("b."), block(r"\text{B}"), block("(A)")], ["B"] * 4) == [
        *[5.0] * 3,
        -2.5,
    ]


def test_departure_23_blanks_beside_signs_are_no_difference():
    for solution, true in [("(3,4)", "(3, 4)"), (r"2\sqrt3", r"2 \sqrt{3}"), ("blue.", "blue"), ("3 / 4", "3/4")]:
        assert rewards.check_answer([block(solution)], [true]) == [5.0]
    assert rewards.check_answer([block("NewYork")], ["New York"]) == [-2.5]


# --- Refusal


@pytest.mark.parametrize("reward", [rewards.check_answer, rewards.check_numbers, rewards.answer_alone])
def test_lengths_and_types_are_checked(reward):
    with pytest.raises(ValueError, match=r"one answer per completion \(got 2 completions, 1 answers\)"):
        reward([block("2"), "2"], ["2"])
    with pytest.raises(TypeError, match=r"must be text \(got 2 in row 1\)\. Use str"):
        reward([block("2"), "2"], ["2", 2])


@pytest.mark.parametrize("completion", [None, 5, [], [{"role": "user", "content": "2"}], ["2"]])
def test_completions_are_text_or_messages(completion):
    with pytest.raises(TypeError, match="list of messages with an assistant turn"):
        parsing.text(completion)


def test_message_without_content_is_an_empty_completion():
    assert parsing.text([{"role": "assistant", "content": None}]) == ""


# --- Which truths a policy can meet


@pytest.mark.parametrize("truth", ["72", " 1,000\n", "-3/4", "blue", "(1, 2)", "x" * 64])
def test_a_truth_that_can_be_matched_earns_the_full_score(truth):
    assert rewards.can_match(truth)
    assert rewards.check_answer([block(truth.strip())], [truth]) == [5.0]


@pytest.mark.parametrize(
    "truth", ["", " \n", "8*9=72\n#### 72", "So 8*9 #### 72", "so " * 30 + "72", f"{START}72{END}", "7\x002"]
)
def test_a_truth_that_nobody_can_match(truth):
    assert not rewards.can_match(truth)


# --- GSM8K, every row


def gsm8k_rows():
    if not GSM8K.is_dir():
        pytest.skip("GRPO_NB_DATA names no folder with gsm8k/")
    lines = [row for split in ("train", "test") for row in (GSM8K / f"{split}.jsonl").read_bytes().splitlines()]
    return [json.loads(line)["answer"].rpartition("####") for line in lines]


def test_gsm8k_right_answers_get_the_maximum_and_wrong_ones_less():
    rows = gsm8k_rows()
    answers = [answer.strip() for _, _, answer in rows]
    assert len(rows) == 8792
    truths = [parsing.number(answer) for answer in answers]
    assert None not in truths
    right = [block(answer, working) for (working, _, _), answer in zip(rows, answers, strict=True)]
    off_by_one = [block(str(t + 1), working) for (working, _, _), t in zip(rows, truths, strict=True)]
    columns = [scored(reward, right, answers) for reward in rewards.FOUR]
    assert {sum(row) for row in zip(*columns, strict=True)} == {13.0}
    columns = [scored(reward, off_by_one, answers) for reward in rewards.FOUR]
    assert {sum(row) for row in zip(*columns, strict=True)} == {5.0, 4.5, 0.5}  # near, fairly near, wrong
