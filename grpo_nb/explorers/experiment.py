"""Does this setting matter? Two values of one setting, a button, and what `lab.experiment` says of them."""

import ast
from collections.abc import Callable

from grpo_nb import lab, plots

KEYS = (
    "num_generations learning_rate temperature beta loss_type scale_rewards epsilon num_iterations "
    "max_completion_length mask_truncated_completions max_steps num_train dtype"
).split()
SEEDS = {"2 seeds": (0, 1), "3 seeds": (0, 1, 2)}
START = "<p>Predict first, then press <em>run</em>. A recorded arm comes at once; another takes some ten seconds.</p>"


def compute(key: str, a: str, b: str, seeds: str = "3 seeds", say: Callable[[str], None] | None = None):
    """`lab.experiment` with two values of a setting.

    Args:
        key: a setting of `GRPOConfig`, or a key of an arm.
        a, b: the values as typed: `8`, `5e-4`, `None`, `dapo`.
        seeds: a name in `SEEDS`.
        say: gets a few words at every step.
    Raises: ValueError for a setting that cannot be meant.
    """
    return lab.experiment({key.strip(): value_of(a)}, {key.strip(): value_of(b)}, seeds=SEEDS[seeds], say=say)


def value_of(typed: str):
    """What is typed as a Python literal; what is none is a word.

    >>> value_of("5e-4"), value_of(" True"), value_of("dapo")
    (0.0005, True, 'dapo')
    """
    try:
        return ast.literal_eval(typed.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return typed.strip()


class Bench:
    """The controls, the button, and the result beneath it.

    Attributes:
        widget: the ipywidgets box.
        key, a, b, seeds, button: its controls; `button.click()` runs.
        view: the HTML of the result, or the sentence of what was refused.
    """

    def __init__(self, key: str = "num_generations", a: str = "2", b: str = "16"):
        import ipywidgets

        look = {"style": {"description_width": "initial"}, "layout": ipywidgets.Layout(margin="2px 12px 2px 0")}
        self.key = ipywidgets.Combobox(value=key, options=KEYS, description="setting", **look)
        self.a = ipywidgets.Text(value=str(a), description="value A", **look)
        self.b = ipywidgets.Text(value=str(b), description="value B", **look)
        self.seeds = ipywidgets.Dropdown(value="3 seeds", options=[*SEEDS], description="over", **look)
        self.button = ipywidgets.Button(description="run", tooltip="Train both arms, or take them from the record")
        self.button.on_click(lambda _: self.run())
        self.status, self.view = ipywidgets.HTML(), ipywidgets.HTML(START)
        controls = ipywidgets.HBox(
            [self.key, self.a, self.b, self.seeds, self.button], layout=ipywidgets.Layout(flex_flow="row wrap")
        )
        self.widget = ipywidgets.VBox([controls, self.status, self.view])

    def run(self) -> None:
        """Run the experiment of the present values; meanwhile the button is off."""
        self.button.disabled = True
        try:
            values = (self.key.value, self.a.value, self.b.value, self.seeds.value)
            self.view.value = compute(*values, say=self._say)._repr_html_()
        except (ValueError, OSError) as error:
            self.view.value = f'<p role="alert"><b>{plots.safe_text(error)}</b></p>'
        finally:
            self.status.value, self.button.disabled = "", False

    def _say(self, words: str) -> None:
        self.status.value = f'<p role="status">{plots.safe_text(words)}</p>'

    def _ipython_display_(self) -> None:
        """The live widget for a kernel's front end; what it shows now for everybody else."""
        words = "A setting, two values of it, and a button that trains both: open the notebook with a kernel."
        saved = f"<p>{words}</p>" if self.view.value == START else self.view.value
        update = plots.show_live(self.widget, saved, words, instead=True)
        self.view.observe(lambda change: update(change["new"], words), names="value")


def explorer(key: str = "num_generations", a: str = "2", b: str = "16") -> Bench:
    """The bench with these values in it, the last expression of a cell."""
    return Bench(key, a, b)
