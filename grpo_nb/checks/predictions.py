"""A prediction before the cell that computes: typed or picked where a kernel runs, then compared in one sentence."""

import html
import math
import re
from numbers import Real

from grpo_nb.checks.exercises import plain

NONE = "—"  # nothing picked yet
NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})(e[+-]?\d{1,2})?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3}){1,4}(\.\d{0,15})?")  # 0,500 is a half


def predict(question: str, options: list | tuple | None = None) -> "Prediction":
    """Ask for a guess: a number, or one of several options. Nothing waits for it: without one, Run All goes on.

    Args:
        question: what is asked, with its unit ("share of walks that end at the cheese, in %").
        options: what can be picked, by name; without them a number is typed.
    Returns: a `Prediction`; let the cell end with it, and Jupyter shows its field.
    Raises: TypeError for a question that is no text; ValueError unless there are two or more options that differ.

    >>> guess = predict("hits in 8 tries")
    >>> guess.compare(5)
    it is 5.
    >>> guess.field.value = "3"
    >>> guess.compare(5)
    you said 3, it is 5.
    """
    return Prediction(question, options)


class Prediction:
    """One question and the guess that was made.

    Attributes:
        widget: the ipywidgets box, to be put into another layout.
        field: the control in it; set its `.value` as a reader would.
    """

    def __init__(self, question: str, options: list | tuple | None = None):
        import ipywidgets

        if not isinstance(question, str) or not question.strip():
            raise TypeError(f"the question must be text (got {question!r:.80}). Try 'hits in 8 tries'.")
        self.question, self.options = " ".join(question.split()), _names(options)
        room = len(self.question) + max(map(len, self.options or ["1234567890"])) + 6
        look = {  # ipywidgets 7 reads a description as HTML, 8 as text. It is the field's name for a screen reader.
            "description": html.escape(self.question) if ipywidgets.__version__ < "8" else self.question,
            "style": {"description_width": "initial"},
            "layout": ipywidgets.Layout(width=f"{room}ch", max_width="100%"),
        }
        if self.options:
            self.field = ipywidgets.Dropdown(options=[NONE, *self.options], value=NONE, **look)
        else:
            self.field = ipywidgets.Text(placeholder="a number", **look)
        self.widget = ipywidgets.HBox([self.field])

    @property
    def value(self) -> object:
        """The guess: a number, or the option that was picked; None until there is one that can be read."""
        return self.options.get(self.field.value) if self.options else _read(self.field.value)

    def compare(self, measured: object, *, within: float | None = None) -> None:
        """Print in one sentence what was said, and what it is.

        Args:
            measured: the number, or one of the options.
            within: how far from the number a guess may lie and still be right; else it must round to the same.
        Raises: TypeError if it is no number, ValueError if it is none of the options.
        """
        measured = plain(measured)  # a tensor of one number
        typed, guess, before = self.field.value.strip(), self.value, ""
        if self.options:
            named = [name for name, option in self.options.items() if name == str(measured) or option == measured]
            said, told = typed, named[0] if named else None
            if told is None:
                raise ValueError(
                    f"measured must be one of {', '.join(map(repr, self.options))} (got {measured!r:.80})."
                )
            is_right, is_open = said == told, said == NONE
        else:
            number, reach = _number("measured", measured), None if within is None else _number("within", within)
            said, told = (None, _shown(number)) if guess is None else (_shown(guess, 6), _shown(number, _digits(guess)))
            is_right = said == told or (
                guess is not None and reach is not None and abs(guess - number) <= reach * (1 + 1e-9)
            )
            is_open = guess is None
            before = f"{typed!r:.42} cannot be read as a number; " if is_open and typed else ""
        print(f"{before}it is {told}." if is_open else f"you said {said}, {'and ' * is_right}it is {told}.")

    def _ipython_display_(self) -> None:
        """The field where a kernel runs; the question in a line for everybody else, in an output of its own."""
        from grpo_nb import plots

        line = f"Your guess: {self.question}" + (f" ({', '.join(self.options)})" if self.options else "")
        plots.show_live(self.widget, f"<p><i>{html.escape(line)}</i></p>", line, instead=True)


def _names(options: list | tuple | None) -> dict[str, object] | None:
    if options is None:
        return None
    names = {str(option).strip(): option for option in options} if isinstance(options, list | tuple) else {}
    if len(names) < 2 or len(names) < len(options) or NONE in names or "" in names:
        raise ValueError(
            f"options must be a list of two or more different names (got {options!r:.80}). Try ['more', 'less']."
        )
    return names


def _read(text: str) -> float | None:
    """A typed number, with %, ~, a comma for thousands or decimals, or as a fraction; None for anything else.

    >>> _read("≈ 25.5 %"), _read("1,500"), _read("0,500"), _read("1/4"), _read("−2"), _read("a few"), _read("1/0")
    (25.5, 1500.0, 0.5, 0.25, -2.0, None, None)
    """
    text = text[:60].replace("−", "-").replace("–", "-").strip("~≈% \t").replace(" ", "")
    text = text.replace(",", "" if THOUSANDS.fullmatch(text) else ".")
    parts = text.split("/")
    if len(parts) > 2 or not all(NUMBER.fullmatch(part) for part in parts):
        return None
    first, *divisor = map(float, parts)
    number = first if not divisor else first / divisor[0] if divisor[0] else None
    return None if number is None else number + 0.0  # no −0


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
        raise TypeError(f"{name} must be one number (got {value!r:.80}). For words, give predict(question, options).")
    return float(value) + 0.0  # no −0


def _digits(number: float) -> int:
    """How many decimals a guess has, up to six."""
    _, _, decimals = f"{number:.6f}".rstrip("0").partition(".")
    return len(decimals)


def _shown(number: float, decimals: int = 0) -> str:
    """A number with three digits that count, or more: as many decimals as asked for.

    >>> _shown(25.4317), _shown(0.34388), _shown(1234.5678), _shown(25.4317, 2), _shown(3.0), _shown(-4e-9)
    ('25.4', '0.344', '1,235', '25.43', '3', '-4e-09')
    """
    size = abs(number)
    if size and not 1e-6 <= size < 1e15:
        return f"{number:.3g}"
    needed = max(decimals, 2 - math.floor(math.log10(size))) if size else 0
    text = f"{number:,.{max(needed, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
