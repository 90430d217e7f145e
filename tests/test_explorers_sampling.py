"""The sampling explorer's numbers against `generate` and against TRL's scoring, and what it shows of hostile tokens."""

import io
import math

import pytest
import torch

from grpo_nb.explorers import sampling
from tests import small_runs

SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 2.5, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.5, "min_p": 0.4},
    {"repetition_penalty": 1.3},
    {"temperature": 0.2, "repetition_penalty": 0.8, "top_k": 40, "top_p": 0.7, "min_p": 0.05},
    {"temperature": 0.1, "repetition_penalty": 2.0, "top_k": 100, "top_p": 0.3, "min_p": 0.2},
]


@pytest.fixture(scope="module")
def spoken(small_policy):
    """(policy, logits, prompt ids): the logits after one prompt, as the explorer takes them."""
    policy, tokenizer, rows = small_policy
    messages = [{"role": "user", "content": rows[0]["problem"]}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        return policy.eval(), policy(input_ids=torch.tensor([ids])).logits[0, -1], ids


def halves(**settings):
    """Four tokens of probability 1/2, 1/4, 1/8, 1/8; the second has been said before."""
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    return sampling.compute(logits, [1], ["a", "b", "c", "d"], **settings)


# Golden: four tokens, by hand.
def test_nothing_is_changed_by_default():
    shares = halves()
    torch.testing.assert_close(shares.drawn, torch.tensor([0.5, 0.25, 0.125, 0.125]))
    assert torch.equal(shares.drawn, shares.scored) and shares.moved == 0.0 and shares.drawable == 4
    assert shares.entropy == pytest.approx((1.75 * math.log(2),) * 2)
    assert shares.rows == [(text, p, p, False) for text, p in zip("abcd", (0.5, 0.25, 0.125, 0.125), strict=True)]


def test_temperature_changes_what_the_loss_sees_too():
    shares = halves(temperature=0.5)  # squares: 16 + 4 + 1 + 1 = 22 parts
    torch.testing.assert_close(shares.scored, torch.tensor([16.0, 4.0, 1.0, 1.0]) / 22)
    assert torch.equal(shares.drawn, shares.scored) and shares.moved == 0.0


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.7}, {"min_p": 0.4}])
def test_truncation_moves_the_mass_it_cuts(settings):
    shares = halves(**settings)
    torch.testing.assert_close(shares.drawn, torch.tensor([2 / 3, 1 / 3, 0.0, 0.0]))
    torch.testing.assert_close(shares.scored, torch.tensor([0.5, 0.25, 0.125, 0.125]))
    assert shares.drawable == 2 and shares.moved == pytest.approx(0.25)
    assert [is_cut for *_, is_cut in shares.rows] == [False, False, True, True]


def test_a_repeated_token_is_penalised():
    shares = halves(repetition_penalty=2.0)  # log 1/4, twice: 1/16; of 8 + 1 + 2 + 2 = 13 parts
    torch.testing.assert_close(shares.drawn, torch.tensor([8.0, 1.0, 2.0, 2.0]) / 13)


# Law.
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_rows_hold_all_the_probability(spoken, settings):
    _, logits, ids = spoken
    shares = sampling.compute(logits, ids, ["x"] * len(logits), **settings)
    assert len(shares.rows) == sampling.SHOWN + 1 and shares.rows[-1][0] == f"{len(logits) - 10} others"
    for column in (1, 2):
        assert sum(row[column] for row in shares.rows) == pytest.approx(1.0, abs=1e-5)
    scored = [row[1] for row in shares.rows[:-1]]
    assert scored == sorted(scored, reverse=True)
    assert shares.drawable == int((shares.drawn > 0).sum())
    if "repetition_penalty" not in settings:
        assert shares.moved == pytest.approx(float(shares.scored[shares.drawn == 0].sum()), abs=1e-5)


# Oracle: transformers and TRL.
@pytest.mark.parametrize("settings", SETTINGS)
def test_generate_samples_from_it(spoken, settings):
    policy, logits, ids = spoken
    off = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    said = policy.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=True,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
        **{**off, **settings},
    )
    shares = sampling.compute(logits, ids, ["x"] * len(logits), **settings)
    torch.testing.assert_close(shares.drawn, said.scores[0][0].softmax(0), rtol=1e-4, atol=1e-7)
    assert torch.equal(shares.drawn > 0, said.scores[0][0].isfinite())


def test_trl_scores_with_the_temperature_alone(spoken, small_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    settings = {"temperature": 0.7, "top_p": 0.5, "top_k": 2, "min_p": 0.9, "repetition_penalty": 1.5}
    trainer, _ = small_runs.trainer_of(small_policy, **settings)
    used = {name: getattr(trainer.generation_config, name) for name in settings}
    assert used == settings, "all five are given to the sampling"
    _, logits, ids = spoken
    shares = sampling.compute(logits, ids, ["x"] * len(logits), **settings)
    for token in (0, 100, int(shares.drawn.argmax())):
        tokens = torch.tensor([ids + [token]])
        with torch.no_grad():
            logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, tokens, torch.ones_like(tokens), 1)
        assert logps.item() == pytest.approx(float(shares.scored[token].log()), abs=1e-4)
    assert shares.moved > 0.5


# The picture.
def test_the_figure_draws_what_was_computed():
    shares = halves(top_k=1)
    (axes,) = sampling.figure(shares).axes
    assert [bar.get_width() for bar in axes.patches] == [*shares.scored.tolist(), *shares.drawn.tolist()]
    assert [label.get_text() for label in axes.get_yticklabels()] == list("abcd")
    assert [text.get_text() for text in axes.texts] == ["50.0% → 100.0%", "25.0% → cut", "12.5% → cut", "12.5% → cut"]


def test_the_words_follow_the_controls(small_policy):
    policy, tokenizer, rows = small_policy
    shown = sampling.explorer(policy, tokenizer, rows[0]["problem"])
    assert "320 of 320 tokens can be drawn" in shown.caption and "moved 0.0%" in shown.caption
    shown.fields["top_k"].value = 3
    assert "3 of 320 tokens can be drawn" in shown.caption and "moved 0.0%" not in shown.caption
    first = shown.caption
    shown.fields["temperature"].value = 2.0
    assert "temperature (2)" in shown.caption and shown.caption != first


def test_the_policy_runs_once_and_stays_as_it_is(small_policy):
    policy, tokenizer, rows = small_policy
    calls, was_training = [], policy.training
    hook = policy.register_forward_hook(lambda *_: calls.append(policy.training))
    policy.train()
    try:
        shown = sampling.explorer(policy, tokenizer, rows[0]["problem"])
        shown.fields["temperature"].value = 0.5
        assert calls == [False] and policy.training
    finally:
        hook.remove()
        policy.train(was_training)


def test_a_question_is_asked_in_the_chat_template(small_policy):
    policy, tokenizer, rows = small_policy
    question = rows[0]["problem"]
    as_text, as_messages, other = (
        sampling.explorer(policy, tokenizer, prompt).caption
        for prompt in (question, [{"role": "user", "content": question}], "Hello")
    )
    assert as_text == as_messages != other
    assert "<start_working_out>" in as_text, "an untrained policy with tied embeddings repeats the last token"


HOSTILE = [
    "$x^$",
    "<script>",
    "a\nb",
    "\x00\x1b[31m",
    "\u202edrow",
    "漢字",
    "🙂",
    "\ufffd",
    "",
    " " * 99,
    "\\frac{",
    "e\u0301",
]


@pytest.mark.filterwarnings("error")
def test_hostile_tokens_are_shown_as_text():
    shares = sampling.compute(torch.zeros(len(HOSTILE)), [0], HOSTILE)
    drawing = sampling.figure(shares)
    drawing.savefig(io.BytesIO(), format="png")
    labels = drawing.axes[0].get_yticklabels()
    assert len(labels) == sampling.SHOWN + 1 and labels[0].get_text() == "$x^$"
    assert not any(label.get_parse_math() for label in labels)
    assert all(label.get_text().isprintable() and len(label.get_text()) <= sampling.LONGEST for label in labels)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$x^$", "$x^$"),
        ("<b>", "<b>"),
        ("\x00\x1b", "⟨U+0000⟩⟨U+001B⟩"),
        ("\u202ea", "⟨U+202E⟩a"),
        ("字", "⟨U+5B57⟩"),
        ("e\u0301", "e⟨U+0301⟩"),
        (" a\nb", "␣a⏎b"),
        ("\xa0", "⟨U+00A0⟩"),
        ("<start_working_out>", "<start_working_out>"),
        ("x" * 21, "x" * 19 + "…"),
        ("", "token 5"),
        ("a\ufffd", "token 5"),
    ],
)
def test_every_character_is_visible(text, shown):
    assert sampling.label(5, text) == shown


# Refusal.
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 1.5}, {"min_p": 2.0}, {"repetition_penalty": 0}])
def test_settings_out_of_range(settings):
    name = "penalty" if "repetition_penalty" in settings else next(iter(settings))
    with pytest.raises(ValueError, match=name):
        halves(**settings)
