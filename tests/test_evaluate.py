"""What counts as right, and that measuring disturbs nothing."""

import random

import numpy
import pytest
import torch

from grpo_nb import data, evaluate, plots
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


def test_judges_of_ones_own_see_the_completion_and_its_row(tiny, prompts, monkeypatch):
    """Two prompts, two samples: "46." is right by the row's `entry`, and is no number alone; "47" is one, and wrong."""
    rows = [{**row, "entry": "46"} for row in prompts[:2]]
    answers = {False: [["46", "46."], ["47", "say 46"]], True: [["46."], ["47"]]}
    monkeypatch.setattr(sampling, "completions", lambda *args, greedy=False, **kwargs: answers[greedy])
    judges = {"is_right": lambda text, row: row["entry"] in text, "has_format": str.isdecimal}
    result = evaluate.accuracy(*tiny, rows, max_new_tokens=8, **judges)
    assert (result["sampled"], result["greedy"], result["format"]) == (0.75, 0.5, 0.5)


class Pushing:
    """What a policy says is fixed; it reaches transformers' streamer token by token, as `generate` hands it over."""

    training, device = False, torch.device("cpu")
    eval = train = lambda self, mode=False: self

    def __init__(self, ids):
        self.ids = torch.tensor(ids)

    def generate(self, *, input_ids, streamer, **settings):
        for part in (input_ids, *self.ids.split(1)):
            streamer.put(part)
        streamer.end()
        return torch.cat([input_ids, self.ids[None]], 1)


def test_a_streamed_answer_is_printed_and_returned(tiny, prompts, capsys):
    policy, tokenizer = tiny
    policy.train()
    state, settings = torch.get_rng_state(), {"max_new_tokens": 6, "seed": 3}
    for greedy in (True, False):
        text = evaluate.stream(policy, tokenizer, prompts[5]["prompt"], greedy=greedy, **settings)
        assert [[text]] == evaluate.completions(policy, tokenizer, prompts[5:], greedy=greedy, **settings)
        assert capsys.readouterr().out == plots.visible(text) + "\n"
    assert torch.equal(torch.get_rng_state(), state) and policy.training


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b[31mred", "⟨U+001B⟩[2J⟨U+001B⟩[31mred"),
        ("\x1b]8;;http://example.invalid\x07link", "⟨U+001B⟩]8;;http://example.invalid⟨U+0007⟩link"),
        ("12\r34\b5", "12⟨U+000D⟩34⟨U+0008⟩5"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("1\u202e2\u200b", "1⟨U+202E⟩2⟨U+200B⟩"),
        ("7 + 5 = 12\n\t<b>數</b>", "7 + 5 = 12\n\t<b>數</b>"),
    ],
)
def test_a_streamed_answer_cannot_move_the_cursor(text, shown, tiny, capsys):
    tokenizer = tiny[1]
    policy = Pushing(tokenizer(text)["input_ids"])
    assert evaluate.stream(policy, tokenizer, "Say it.", max_new_tokens=64) == text
    assert capsys.readouterr().out == shown + "\n"


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


@pytest.mark.parametrize("said", [0.01, None, "yes", [1.0], 2, float("nan")])
@pytest.mark.parametrize("judge", ["is_right", "has_format"])
def test_a_judge_that_scores_is_refused_before_a_token(judge, said):
    with pytest.raises(ValueError, match=r"must say True or False of a completion \(got .* for ''\)\. Compare a score"):
        row = {"prompt": "1+1?", "answer": "2"}
        evaluate.accuracy(None, None, [row], max_new_tokens=4, **{judge: lambda completion, row=None: said})


@pytest.mark.parametrize("prompt", [{"role": "user", "content": "1+1?"}, [], None, 5, ["1+1?"], b"1+1?"])
def test_what_is_no_prompt_is_refused(prompt):
    for ask in (
        lambda: evaluate.stream(None, None, prompt, max_new_tokens=4),
        lambda: evaluate.completions(None, None, [{"prompt": "1+1?"}, {"prompt": prompt}], max_new_tokens=4),
    ):
        with pytest.raises(ValueError, match="a prompt must be text or a list of messages"):
            ask()


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"there must be a prompt to answer \(got no rows\)"):
        evaluate.accuracy(None, None, [], max_new_tokens=4)
