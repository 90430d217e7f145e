"""The live table shows what the run has logged, however the run ends; a callback answers every event."""

import re
from types import SimpleNamespace

import pytest

from grpo_nb.runs import callbacks


class Shown:
    """Stands for IPython's display handle."""

    def __init__(self):
        self.page = ""

    def update(self, shown):
        self.page = shown.data


def state(step: int, history=()) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=10, log_history=list(history))


def table_after(steps: int) -> callbacks.LiveTable:
    table = callbacks.LiveTable("run <b>", every=5)
    table.on_train_begin(None, state(0), None)
    table.handle = Shown()
    for step in range(1, steps + 1):
        table.on_log(None, state(step), None, logs={"reward": float(step)})
    return table


def test_every_fifth_step_is_drawn_and_the_title_is_text():
    assert table_after(4).handle.page == ""
    page = table_after(5).handle.page
    assert "run &lt;b&gt;: step 5 of 10" in page and re.findall(r">(\d\.000)<", page) == [
        f"{n}.000" for n in range(1, 6)
    ]


def test_a_run_that_a_guard_stops_shows_its_last_steps():
    table = table_after(3)
    table.on_stop(ValueError("constant reward"))
    assert ">3.000<" in table.handle.page


def test_stopped_before_the_first_step_there_is_nothing_to_show():
    table = table_after(0)
    table.on_stop(ValueError())
    table.on_train_end(None, state(0), None)
    assert table.handle.page == ""


def test_a_resumed_run_begins_with_what_was_logged_before():
    table = callbacks.LiveTable()
    table.on_train_begin(None, state(2, [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 2.0}]), None)
    table.handle = Shown()
    table.on_train_end(None, state(2), None)
    assert ">1.000<" in table.handle.page and ">2.000<" in table.handle.page


def test_an_evaluation_stands_in_the_row_of_its_step():
    table = callbacks.LiveTable(every=1)
    history = [{"step": 0, "eval_reward": 0.5}, {"step": 1, "reward": 1.0}, {"step": 1, "eval_reward": 1.5}]
    table.on_train_begin(None, state(1, [*history, {"step": 1, "train_runtime": 9.0}]), None)
    table.on_log(None, state(2), None, logs={"reward": 2.0})
    table.on_log(None, state(2), None, logs={"eval_reward": 2.5})
    assert table.rows == [
        {"step": 0, "eval_reward": 0.5},
        {"step": 1, "reward": 1.0, "eval_reward": 1.5},
        {"step": 2, "reward": 2.0, "eval_reward": 2.5},
    ]


def test_what_a_policy_wrote_is_shown_as_text_short_and_on_its_line():
    """Colour codes, a new line, a direction mark, half a surrogate, a very long one; None where nothing was scored."""
    nasty = ["\x1b[31mred", "a\nb", "1\u202e2", "\ud800", "x" * 10**6]
    batch = {
        "prompts": [[{"role": "user", "content": "1+1?\x07"}]],
        "answer": None,
        "scores": {"f": [None] * 4 + [2.0]},
    }
    for text in nasty:
        messages = [{"role": "assistant", "content": text}]
        shown = callbacks.samples({**batch, "completions": [messages] * 5}, 5)
        assert shown.isprintable() or shown.replace("\n", "").isprintable()
        assert len(shown.splitlines()) == 3 and len(shown) < 600 and "rewards none" in shown and "'1+1?\\x07'" in shown


def test_where_all_completions_agree_one_is_shown():
    batch = {"prompts": ["1+1?"] * 2, "answer": ["2"] * 2, "scores": {"f": [1.0, 1.0]}}
    assert callbacks.samples({**batch, "completions": ["2", "2"]}, 2).count("response") == 1
    assert callbacks.samples({**batch, "completions": ["2", "two"]}, 2).count("response") == 2


def test_a_callback_answers_every_event_and_nothing_else():
    assert callbacks.Callback().on_prediction_step(1, two=2) is None
    with pytest.raises(AttributeError):
        _ = callbacks.Callback().state
