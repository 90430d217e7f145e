"""What counts as right, and that measuring disturbs nothing."""

import random

import numpy
import pytest
import torch

from grpo_nb import data, evaluate
from grpo_nb.evaluate import sampling

GOOD = "1+1=2<end_working_out><SOLUTION>2</SOLUTION>"


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        (GOOD, "2", True),
        (GOOD, "2.0", True),
        (GOOD.replace("2<", "2.0<"), "2", True),
        (GOOD, "3", False),
        (GOOD + " trailing", "2", False),
        ("<SOLUTION>2</SOLUTION>", "2", False),
        ("2", "2", False),
        (GOOD.replace(">2<", ">x<"), "x", True),
        (GOOD.replace(">2<", ">x<"), "2", False),
    ],
)
def test_is_correct(completion, answer, right):
    assert evaluate.is_correct(completion, answer) is right


@pytest.fixture
def prompts(rows):
    longer = {"problem": "What is 12+34, please? I have to know.", "answer": "46"}  # so that batches are padded
    return data.grpo_rows([*rows[:5], longer], system_prompt="Show your work.")


def test_apart_every_generator_begins_at_the_seed_and_is_put_back(tiny):
    policy, _ = tiny

    def draws():
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    drawn = []
    for seed in (1, 1, 2):
        policy.train()
        torch.manual_seed(0), random.seed(0), numpy.random.seed(0)
        expected = draws()
        torch.manual_seed(0), random.seed(0), numpy.random.seed(0)
        with pytest.raises(ZeroDivisionError), evaluate.apart(policy, seed=seed):
            assert not policy.training
            drawn.append(draws())
            raise ZeroDivisionError
        assert policy.training and draws() == expected
    assert drawn[0] == drawn[1] and not set(drawn[0]) & set(drawn[2])


def test_seed_decides_the_samples_and_the_callers_state_stays(tiny, prompts):
    policy, tokenizer = tiny
    policy.train()
    state = torch.get_rng_state()
    settings = {"num_return_sequences": 3, "max_new_tokens": 5}
    first, same, other = (evaluate.completions(policy, tokenizer, prompts, seed=s, **settings) for s in (1, 1, 2))
    assert first == same != other
    assert [len(group) for group in first] == [3] * 6
    assert torch.equal(torch.get_rng_state(), state) and policy.training


def test_greedy_does_not_depend_on_the_batch(tiny, prompts):
    policy, tokenizer = tiny
    one = evaluate.completions(policy, tokenizer, prompts, greedy=True, max_new_tokens=5, batch_size=1)
    all_at_once = evaluate.completions(policy, tokenizer, prompts, greedy=True, max_new_tokens=5, batch_size=64)
    assert one == all_at_once


def test_random_weights_solve_nothing(tiny, prompts):
    result = evaluate.accuracy(*tiny, prompts, max_new_tokens=8, num_return_sequences=2)
    assert (result["sampled"], result["greedy"], result["format"]) == (0, 0, 0)
    assert (result["prompts"], result["samples"]) == (6, 2)


def test_accuracy_counts_samples_greedy_and_format_apart(tiny, prompts, monkeypatch):
    """Two prompts, two samples each: one of four samples right, three well formed; one of two greedy answers right."""
    right = [f"<end_working_out><SOLUTION>{row['answer']}</SOLUTION>" for row in prompts[:2]]
    wrong = "<end_working_out><SOLUTION>-1</SOLUTION>"
    answers = {False: [[right[0], wrong], [wrong, "no tags"]], True: [[wrong], [right[1]]]}
    monkeypatch.setattr(sampling, "completions", lambda *args, greedy=False, **kwargs: answers[greedy])
    result = evaluate.accuracy(*tiny, prompts[:2], max_new_tokens=8)
    assert (result["sampled"], result["greedy"], result["format"]) == (0.25, 0.5, 0.75)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wilson_interval_holds_its_share_and_shrinks(share):
    wide, narrow = evaluate.wilson_interval(share, 20), evaluate.wilson_interval(share, 2000)
    assert 0 <= wide[0] <= narrow[0] <= share <= narrow[1] <= wide[1] <= 1


@pytest.mark.parametrize("key", ["max_new_tokens", "num_return_sequences", "batch_size"])
@pytest.mark.parametrize("value", ["4", 0, -1, 2.5, True, None, float("nan")])
def test_a_count_that_is_none_is_refused_before_a_token(key, value):
    settings = {"max_new_tokens": 4, key: value}
    with pytest.raises(ValueError, match=rf"{key} must be a whole number of at least 1 \(got .*\)\. Try {key} = \d"):
        evaluate.accuracy(None, None, [{"prompt": "1+1?", "answer": "2"}], **settings)
