"""A guess typed or picked reaches the comparison; without one nothing waits, and nothing is remembered."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from grpo_nb import checks


def sentence(capsys, measured, typed=None, options=None, **compared):
    guess = checks.predict("hits in 8 tries", options)
    if typed is not None:
        guess.field.value = typed
    guess.compare(measured, **compared)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("typed", "measured", "said"),
    [
        (None, 25.4, "it is 25.4."),
        ("", 25.4, "it is 25.4."),
        ("50", 25.4, "you said 50, it is 25.4."),
        ("3", 3, "you said 3, and it is 3."),
        ("25.4", 25.4317, "you said 25.4, and it is 25.4."),
        ("25.43", 25.4317, "you said 25.43, and it is 25.43."),
        ("25", 25.4317, "you said 25, it is 25.4."),
        ("~ 1,500 ", 1234.56, "you said 1,500, it is 1,235."),
        ("1/3", 0.25, "you said 0.333333, it is 0.25."),
        ("0,5 %", torch.tensor(0.5), "you said 0.5, and it is 0.5."),
        ("0,500", 0.5, "you said 0.5, and it is 0.5."),
        ("–2", -2, "you said -2, and it is -2."),
        ("-0", -0.0, "you said 0, and it is 0."),
        ("-2", np.float32(-2.5), "you said -2, it is -2.5."),
        ("0", 4e-9, "you said 0, it is 4e-09."),
        ("1e3", math.inf, "you said 1,000, it is inf."),
        ("a lot\x1b[31m", Fraction(1, 2), r"'a lot\x1b[31m' cannot be read as a number; it is 0.5."),
        ("nan", 2, "'nan' cannot be read as a number; it is 2."),
        ("1/0", 2, "'1/0' cannot be read as a number; it is 2."),
        ("9" * 5000, 2, "'" + "9" * 41 + " cannot be read as a number; it is 2."),
    ],
)
def test_a_number_is_compared(typed, measured, said, capsys):
    assert sentence(capsys, measured, typed) == said


def test_a_guess_within_reach_is_right(capsys):
    assert sentence(capsys, 25.4, "24", within=2) == "you said 24, and it is 25.4."
    assert sentence(capsys, 25.4, "20", within=2) == "you said 20, it is 25.4."
    assert sentence(capsys, 0.4, "0.3", within=0.1) == "you said 0.3, and it is 0.4.", (
        "0.4 − 0.3 is above 0.1 in floats"
    )


@pytest.mark.parametrize(
    ("picked", "measured", "said"),
    [
        (None, "2", "it is 2."),
        ("5", "5", "you said 5, and it is 5."),
        ("all alike", 2, "you said all alike, it is 2."),
        ("2", torch.tensor(5.0), "you said 2, it is 5."),
    ],
)
def test_an_option_is_compared(picked, measured, said, capsys):
    assert sentence(capsys, measured, picked, ["2", 5, "all alike"]) == said


def test_the_value_is_the_guess():
    typed, picked = checks.predict("hits"), checks.predict("which?", [2, "all"])
    assert typed.value is None and picked.value is None
    typed.field.value, picked.field.value = "2.5", "2"
    assert typed.value == 2.5 and picked.value == 2
    assert checks.predict("hits").value is None, "a cell that runs again asks again"


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda: checks.predict(""), "must be text (got ''). Try"),
        (lambda: checks.predict(3), "must be text (got 3)"),
        (lambda: checks.predict("q", ["a"]), "two or more different names"),
        (lambda: checks.predict("q", [1, "1"]), "two or more different names"),
        (lambda: checks.predict("q", "ab"), "two or more different names"),
        (lambda: checks.predict("q", ["a", "—"]), "two or more different names"),
        (lambda: checks.predict("q", ["a", "b"]).compare("c"), "one of 'a', 'b' (got 'c')"),
        (lambda: checks.predict("q").compare("a"), "measured must be one number (got 'a'). For words, give"),
        (lambda: checks.predict("q").compare(True), "must be one number (got True)"),
        (lambda: checks.predict("q").compare(math.nan), "must be one number (got nan)"),
        (lambda: checks.predict("q").compare(torch.ones(3)), "must be one number (got [1.0, 1.0, 1.0])"),
        (lambda: checks.predict("q").compare(None), "must be one number (got None)"),
    ],
)
def test_what_cannot_be_asked_or_compared_is_refused(refused, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        refused()
    assert words in str(caught.value)


def test_a_wrong_reach_is_refused_with_or_without_a_guess(capsys):
    for typed in (None, "2"):
        with pytest.raises(TypeError, match="within must be one number"):
            sentence(capsys, 2, typed, within="a little")


def test_everybody_sees_the_question(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, **_: shown.append(data))
    guess = checks.predict('is p < 0.5 & "rare"?', ["yes", "<b>no</b>"])
    guess._ipython_display_()
    field, line = shown
    assert field["application/vnd.jupyter.widget-view+json"]["model_id"] == guess.widget.model_id
    assert field["text/html"] == "", "published without the widget, this output is empty"
    assert "p &lt; 0.5 &amp;" in line["text/html"] and "<b>" not in line["text/html"]
    assert line["text/plain"] == 'Your guess: is p < 0.5 & "rare"? (yes, <b>no</b>)'
    assert guess.field.description == guess.question, "the name that a screen reader says"


def test_a_description_that_is_read_as_html_is_escaped(monkeypatch):
    import ipywidgets

    monkeypatch.setattr(ipywidgets, "__version__", "7.7.1")
    assert checks.predict("p < 0.5?").field.description == "p &lt; 0.5?"
