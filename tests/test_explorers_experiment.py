"""The bench as a widget: the same function behind a button, and refusals where the result would stand."""

import pytest

from grpo_nb import lab, plots
from grpo_nb.explorers import experiment


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The widget, where nothing was trained."""
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    return experiment.explorer()


def test_a_press_shows_what_the_function_returns(bench):
    bench.button.click()
    wanted = lab.experiment({"num_generations": 2}, {"num_generations": 16}, seeds=(0, 1, 2))
    assert all(found.source == "recorded" for outcome in wanted.outcomes for found in outcome.measured)
    assert bench.view.value == wanted._repr_html_() and "<img" in bench.view.value
    assert not bench.button.disabled and bench.status.value == ""


def test_other_values_show_another_result(bench):
    bench.button.click()
    first = bench.view.value
    bench.key.value, bench.a.value, bench.b.value, bench.seeds.value = "scale_rewards", "group", "none", "2 seeds"
    bench.button.click()
    assert "scale_rewards=none against scale_rewards=group" in bench.view.value != first
    assert "paired over 2 seeds" in bench.view.value


@pytest.mark.parametrize(
    ("key", "a", "b", "sentence"),
    [
        ("num_generation", "2", "4", "num_generation → num_generations"),
        ("num_generations", "5", "8", "must be a multiple of num_generations"),
        ("learning_rate", "fast", "5e-4", "learning_rate"),
        ("dtype", "fp16", "float32", "dtype must be one of"),
        ("seed", "0", "1", "seeds=(0, 1)"),
        ("", "1", "2", "every key must be a field"),
        ("<b>", "1", "2", "&lt;b&gt;"),
    ],
)
def test_what_is_refused_is_said_in_place(bench, key, a, b, sentence):
    bench.key.value, bench.a.value, bench.b.value = key, a, b
    bench.button.click()
    assert sentence in bench.view.value and 'role="alert"' in bench.view.value and "<b>>" not in bench.view.value
    assert not bench.button.disabled


def test_a_saved_notebook_says_what_it_was(bench, outputs):
    bench._ipython_display_()
    (controls, _), (page, _) = outputs
    assert "open the notebook with a kernel" in page["text/html"] and plots.WIDGET_VIEW not in page
    assert controls[plots.WIDGET_VIEW]["model_id"] == bench.widget.model_id and not controls["text/html"]
    bench.button.click()
    assert bench.view.value in outputs[-1][0]["text/html"]
