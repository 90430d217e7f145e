"""A right answer passes in whatever form it comes, a usual mistake is named, another gets a counterexample.

The answers are in tests/test_checks_<topic>.py; hidden solutions are in test_notebooks.
"""

import math
from decimal import Decimal
from fractions import Fraction

import check_answers
import numpy as np
import pytest
import torch

from grpo_nb.checks.exercises import exercise, judge, plain
from tools.pages import exercises

EVERY = check_answers.every()
each_exercise = pytest.mark.parametrize("answers", EVERY, ids=lambda answers: answers.check)


# What learners write, check by check.
def test_every_check_has_answers():
    assert [answers.check for answers in EVERY] == list(dict.fromkeys(answers.check for answers in EVERY))
    assert {answers.check for answers in EVERY} == set(check_answers.CHECKS)


def test_every_check_belongs_to_an_exercise():
    assert set(exercises.tasks()) == set(check_answers.CHECKS)


@each_exercise
def test_three_right_writings_pass(answers):
    assert len(answers.right) >= 3
    for yours in answers.right:
        verdict, sentence = answers.said(yours)
        assert verdict is True, sentence


@each_exercise
def test_wrong_and_almost_right_answers_are_told(answers):
    assert len(answers.wrong) >= 5
    for what, (yours, words) in {**answers.wrong, "almost right": answers.almost}.items():
        verdict, sentence = answers.said(yours)
        assert verdict is False and words in sentence, f"{what}: {sentence}"


@each_exercise
def test_each_usual_mistake_is_told_from_the_right_answer_and_from_the_others(answers):
    for mistake, wrong in answers.mistakes().items():
        verdict, sentence = answers.said(wrong)
        assert verdict is False and f"one who {mistake}. " in sentence, f"{mistake}: {sentence}"


def endless():
    while True:
        yield 0.25


class Mute:
    """An object that can neither show itself nor become a number."""

    def __float__(self):
        raise TypeError("no number")

    def __repr__(self):
        raise TypeError("no words")


NONSENSE = [
    Mute(),
    None,
    "1.0",
    b"1",
    [None],
    {"a": 1},
    {1},
    [[1.0, 2.0, 3.0]],
    [[1], [2, 3]],
    True,
    [True],
    math.nan,
    [math.inf],
]
NONSENSE += [
    10**400,
    1j,
    object(),
    torch.tensor([]),
    torch.empty(2, device="meta"),
    torch.rand(40, 40),
    np.array(["a"]),
    print,
    [],
    (),
]


@each_exercise
def test_nonsense_is_told_and_ends(answers):
    for yours in NONSENSE:
        verdict, sentence = answers.said(lambda *given, yours=yours, **named: yours)
        assert verdict is False and "yours" in sentence and len(sentence) < 1500, sentence
    assert answers.said(lambda *given, **named: endless())[0] is False
    assert answers.said(3) == (False, "hand over the function itself, by its name, not a value (got 3).")


@each_exercise
def test_a_stub_is_not_attempted_and_an_error_of_the_learners_passes(answers):
    def raising(error):
        def yours(*given, **named):
            raise error

        return yours

    assert answers.said(raising(NotImplementedError())) == (None, "not attempted.")
    with pytest.raises(AttributeError, match="mine") as caught:
        answers.said(raising(AttributeError("mine")))
    assert caught.value.__notes__[0].startswith("(in the case: ")


# The judge.
def mean(rewards, num_generations):
    return rewards.view(-1, num_generations).mean(1)


CASES = [
    ("one group", (torch.tensor([0.0, 1.0]), 2)),
    ("two groups", (torch.tensor([0.0, 1.0, 2.0, 3.0]), 2)),
]


@pytest.mark.parametrize(
    "form", [list, tuple, torch.Tensor.numpy, torch.Tensor.half, torch.Tensor.requires_grad_, iter]
)
def test_every_form_is_read(form):
    assert judge(lambda *given: form(mean(*given)), CASES, right=mean) == (True, "all 2 cases fit.")


@pytest.mark.parametrize("one", [0.5, [0.5], (Fraction(1, 2),), np.array(0.5), torch.tensor([0.5]), Decimal("0.5")])
def test_one_number_is_read(one):
    assert judge(lambda: one, [("one", ())], right=lambda: 0.5)[0]


@pytest.mark.parametrize(
    ("dtype", "off", "verdict"),
    [
        (torch.float64, 1e-5, False),
        (torch.float32, 1e-5, True),
        (torch.float32, 1e-4, False),
        (torch.float16, 2e-3, True),
        (torch.bfloat16, 1e-2, True),
        (torch.bfloat16, 5e-2, False),
    ],
)
def test_tolerance_goes_by_dtype(dtype, off, verdict):
    assert judge(lambda: torch.tensor(0.5 + off, dtype=dtype), [("a", ())], right=lambda: 0.5)[0] is verdict


def test_a_column_is_no_row():
    verdict, sentence = judge(lambda *given: mean(*given)[:, None], CASES, right=mean)
    assert not verdict and sentence.startswith("one group, rewards = [0, 1], num_generations = 2: must give")
    assert sentence.endswith("[0.5], of shape [1] (yours: [[0.5]], of shape [1, 1]).")


def test_a_mistake_is_named_only_if_it_explains_every_case():
    usual = {"takes the mean over the batch": lambda rewards, G: rewards.mean().repeat(len(rewards) // G)}
    named = judge(lambda rewards, G: [float(rewards.mean())] * (len(rewards) // G), CASES, right=mean, usual=usual)
    other = judge(
        lambda rewards, G: [rewards.mean()] if G == len(rewards) else [1.5, 1], CASES, right=mean, usual=usual
    )
    assert named[1].startswith("two groups: your numbers are those of one who takes the mean over the batch. With")
    assert named[1].endswith("num_generations = 2 it must give [0.5, 2.5] (yours: [1.5, 1.5]).")
    assert "two groups" in other[1] and "one who" not in other[1]


def test_a_later_case_that_raises_hides_no_verdict():
    def yours(rewards, num_generations):
        return [0] if len(rewards) == 2 else rewards.nothing

    assert "one group" in judge(yours, CASES, right=mean, usual={"is": mean})[1]


def test_a_learner_who_prints_reads_each_line_once(capsys):
    def yours(rewards, num_generations):
        print(len(rewards))
        return [0.0]

    wrong = {"sums up": lambda rewards, G: [rewards.sum()], "gives 0": lambda rewards, G: [0]}
    assert "one who gives 0" in judge(yours, CASES, right=mean, usual=wrong)[1]
    assert capsys.readouterr().out == "2\n"


def test_arguments_are_copies_and_may_have_to_be_kept():
    def in_place(rewards, num_generations):
        return mean(rewards.mul_(1), num_generations)

    def doubling(rewards, num_generations):
        right = mean(rewards, num_generations)
        rewards *= 2
        return right

    for _ in range(2):
        assert judge(doubling, CASES, right=mean)[0]
    assert judge(in_place, CASES, right=mean, keeps=True)[0]
    assert "must leave its arguments as they were" in judge(doubling, CASES, right=mean, keeps=True)[1]


def test_numbers_that_look_alike_get_more_digits():
    assert judge(lambda: 0.12345678, [("a", ())], right=lambda: 0.12345)[1] == "a: must give 0.12345 (yours: 0.123457)."


def test_a_division_by_zero_is_an_answer():
    sentence = judge(lambda: 1 / 0, [("a", ())], right=lambda: 0.0, usual={"divides by nothing": lambda: 2 / 0})[1]
    assert "one who divides by nothing. It must give 0 (yours raises ZeroDivisionError: division by zero)" in sentence


@pytest.mark.parametrize(
    ("right", "yours", "verdict"),
    [
        (1, True, True),  # of a mask
        (1.0, True, False),
        (True, np.bool_(True), True),
        (True, torch.tensor(1), True),
        (False, None, False),
        (None, None, True),
        (None, 0.0, False),
        (math.nan, math.nan, True),
        (-math.inf, -math.inf, True),
        (-math.inf, -1e300, False),
        ("group", np.str_("group"), True),
        ({"kl": 0.5}, {"kl": torch.tensor(0.5)}, True),
        ({"kl": 0.5}, {"loss": 0.5}, False),
        ([1, [2.0]], (1, torch.tensor([2])), True),
    ],
)
def test_what_equals_what(right, yours, verdict):
    assert judge(lambda: yours, [("a", ())], right=lambda: right)[0] is verdict


def test_a_list_in_itself_ends():
    knot = []
    knot.append(knot)
    assert judge(lambda: knot, [("a", ())], right=lambda: [1.0])[0] is False
    assert plain(range(10**9))[-1] == 4095


def test_the_sentence_follows_the_checks_name(capsys):
    @exercise
    def check_half(your_half):
        return judge(your_half, [("one", (1,))], right=lambda x: x / 2)

    assert check_half(lambda x: x / 2) is True and check_half(lambda x: x) is False
    assert capsys.readouterr().out.splitlines() == [
        "check_half: all 1 cases fit.",
        "check_half: one, x = 1: must give 0.5 (yours: 1).",
    ]
