"""What every check does: a stub passes as not attempted, a usual mistake is named, any other gets a counterexample.

A check is some cases, the right function of the package, and the mistakes that learners make: see `judge`.
"""

import contextlib
import copy
import functools
import inspect
import io
import itertools
import math
import numbers
import os
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping

TOLERANCES = {"float16": 5e-3, "bfloat16": 2e-2, "float32": 2e-5}  # relative, and absolute below 1; others 1e-6
WORDS = reprlib.Repr()  # survives an object that cannot show itself
WORDS.maxstring = WORDS.maxother = 240
MOST = 4096  # so many items of what came back are read: a generator may have no end


def exercise(check: Callable[[Callable], tuple[bool, str]]) -> Callable[[Callable], bool | None]:
    """Let a check say its sentence, after its own name; a stub that raises NotImplementedError is not attempted."""

    @functools.wraps(check)
    def run(your_function: Callable) -> bool | None:
        try:
            is_right, sentence = check(your_function)
        except NotImplementedError:
            is_right, sentence = None, "not attempted."
        print(f"{check.__name__}: {sentence}")
        return is_right

    return run


def judge(
    yours: Callable,
    cases: list[tuple[str, tuple]],
    *,
    right: Callable,
    usual: Mapping[str, Callable] | None = None,
    keeps: bool = False,
    call: Callable = lambda function, *given: function(*given),
) -> tuple[bool, str]:
    """Whether `yours` gives what `right` gives in every case, and the sentence that says so or names the mistake.

    Lists, tuples, arrays, tensors and numbers compare alike, within the tolerance of the coarsest dtype in sight. A
    division by zero or an overflow counts as what came back; another exception passes, with its case as a note.

    Args:
        cases: (name, arguments); every call gets copies.
        right: the package's function; the names of its parameters are said with the arguments.
        usual: what one does wrong, as "takes the mean over the batch" → a function that does it. It is named if its
            answers are the learner's in every case.
        keeps: whether the arguments must be left as they were.
        call: how a function gets its arguments, if not one after the other.

    >>> judge(lambda p, k: k * p, [("two tries", (0.5, 2))], right=lambda p, k: 1 - (1 - p) ** k)
    (False, 'two tries, p = 0.5, k = 2: must give 0.75 (yours: 1).')
    """
    if not callable(yours):
        return False, f"hand over the function itself, by its name, not a value (got {_shown(plain(yours))})."
    answers: list[tuple[object, float]] = []
    for name, given in cases:
        arguments = copy.deepcopy(given)
        try:
            answers.append(_answer(yours, arguments, call))
        except Exception as error:
            error.add_note(f"(in the case: {_case(name, given, right)})")
            raise
        if keeps and not _fits(plain(given), plain(arguments), 0):
            return False, f"{_case(name, given, right)}: must leave its arguments as they were (yours changes them)."
        wanted = _answer(right, copy.deepcopy(given), call)
        if not _fit(wanted, answers[-1]):
            break
    else:
        return True, f"all {len(cases)} cases fit."
    told, shown = _told(wanted[0], answers[-1][0]), _shown_arguments(given, right)
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):  # each was shown once
        answers += [_try(yours, given, call) for _, given in cases[len(answers) :]]
        for mistake, wrong in (usual or {}).items():
            if all(_fit(_try(wrong, given, call), answer) for (_, given), answer in zip(cases, answers, strict=True)):
                kind = "answers" if _shape(wanted[0]) is None or isinstance(wanted[0], bool) else "numbers"
                with_what = f"With {shown} it" if shown else "It"
                return False, f"{name}: your {kind} are those of one who {mistake}. {with_what} {told}"
    return False, f"{_case(name, given, right)}: {told}"


def plain(value: object, depth: int = 8) -> object:
    """What came back as nested lists and dicts of numbers, words and None; what cannot be read stays as it is.

    >>> plain((1, 2.5)), plain({"a": range(2)}), plain("12")
    ([1, 2.5], {'a': [0, 1]}, '12')
    """
    try:
        value = value.tolist() if hasattr(value, "tolist") else value  # an array, a tensor
    except Exception:  # one without values: meta, sparse
        return value
    if value is None or isinstance(value, str | bytes | set | numbers.Real | Exception):
        return value
    if not depth:
        return ...  # a list in itself
    if isinstance(value, Mapping):
        return {key: plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item, depth - 1) for item in itertools.islice(value, MOST)]
    try:
        return float(value)  # a decimal
    except Exception:
        return value


def numbers_of(value: object) -> list[float] | None:
    """What came back as a flat list of numbers, for a check that computes with them; None for anything else.

    >>> numbers_of((1, 2.5)), numbers_of(3), numbers_of("12"), numbers_of([True])
    ([1.0, 2.5], [3.0], None, None)
    """
    value = plain(value)
    items = value if isinstance(value, list) else [value]
    are_numbers = all(isinstance(item, numbers.Real) and not isinstance(item, bool) for item in items)
    return [float(item) for item in items] if are_numbers else None


def _answer(function: Callable, arguments: tuple, call: Callable) -> tuple[object, float]:
    """What a function gives, plain, and how exact it is; an ArithmeticError is an answer, too."""
    try:
        value = call(function, *arguments)
    except ArithmeticError as error:
        value = error
    return plain(value), _tolerance(value, arguments)


def _try(function: Callable, given: tuple, call: Callable) -> tuple[object, float]:
    """An answer of a function that may raise; what raises is like nothing else."""
    try:
        return _answer(function, copy.deepcopy(given), call)
    except Exception:
        return object(), 0.0


def _fit(right: tuple[object, float], yours: tuple[object, float]) -> bool:
    return _fits(right[0], yours[0], max(right[1], yours[1]))


def _fits(right: object, yours: object, tolerance: float) -> bool:
    """Whether two plain values are equal, numbers within the tolerance; [0.5] will do for 0.5."""
    is_wrapped = isinstance(yours, list) and len(yours) == 1 and not isinstance(right, list)
    return _is_equal(right, yours[0] if is_wrapped else yours, tolerance)


def _is_equal(right: object, yours: object, tolerance: float) -> bool:
    if isinstance(right, dict) and isinstance(yours, dict):
        return right.keys() == yours.keys() and all(_is_equal(right[key], yours[key], tolerance) for key in right)
    if isinstance(right, list) and isinstance(yours, list):
        return len(right) == len(yours) and all(
            _is_equal(mine, theirs, tolerance) for mine, theirs in zip(right, yours, strict=True)
        )
    if not isinstance(right, numbers.Real) or not isinstance(yours, numbers.Real):
        return type(right) is type(yours) and (isinstance(right, Exception) or right == yours)
    if isinstance(yours, bool) and not isinstance(right, int):
        return False  # True is no 1.0, but it is a 1 in a mask
    try:
        is_close = math.isclose(right, yours, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # more digits than a float holds
        is_close = False
    return is_close or right == yours or (right != right and yours != yours)  # NaN


def _tolerance(*values: object, depth: int = 3) -> float:
    """The coarsest among what came back and the arguments."""
    names = [str(getattr(value, "dtype", "")).removeprefix("torch.") for value in values]
    inner = [_tolerance(*value[:64], depth=depth - 1) for value in values if depth and isinstance(value, list | tuple)]
    return max([1e-6, *inner, *(TOLERANCES.get(name, 0.0) for name in names)])


def _shape(value: object) -> list | None:
    """The lengths of nested lists, [] for one number; None for what is no regular block of numbers."""
    if isinstance(value, numbers.Real):
        return []
    if not isinstance(value, list):
        return None
    inner = [_shape(item) for item in value]
    return None if None in inner or inner[1:] != inner[:-1] else [len(value), *(inner[0] if inner else [])]


def _case(name: str, given: tuple, right: Callable) -> str:
    """The case, and its arguments."""
    return ", ".join(filter(None, [name, _shown_arguments(given, right)]))


def _shown_arguments(given: tuple, right: Callable) -> str:
    """The arguments by name, but for those that would fill the line."""
    letters = inspect.signature(right).parameters
    shown = [f"{letter} = {_shown(plain(item))}" for letter, item in zip(letters, given, strict=False)]
    return ", ".join(text for text in shown if len(text) <= 80)


def _told(right: object, yours: object) -> str:
    """Both, with as many digits as tell them apart, and their shapes where these differ."""
    if isinstance(right, str) and isinstance(yours, str):  # from shortly before they part
        start = max(0, len(os.path.commonprefix([right, yours])) - 40)
        right, yours = (f"{'…' * (start > 0)}{text[start:]}" for text in (right, yours))
    if isinstance(yours, Exception):
        return f"must give {_shown(right)} (yours raises {type(yours).__name__}: {yours})."
    digits = next((n for n in (4, 6, 9) if _shown(right, n) != _shown(yours, n)), 17)
    must, is_so, shapes = _shown(right, digits), _shown(yours, digits), (_shape(right), _shape(yours))
    if yours is None:
        is_so += "; is there a `return`?"
    elif None not in shapes and shapes[0] != shapes[1]:
        must, is_so = (f"{text}, {_of(shape)}" for text, shape in zip((must, is_so), shapes, strict=True))
    elif shapes[0] is not None and shapes[1] is None and not isinstance(yours, list):
        is_so += f", a {type(yours).__name__}"
    must, is_so = (text if len(text) <= 400 else f"{text[:400]} …" for text in (must, is_so))
    return f"must give {must} (yours: {is_so})."


def _of(shape: list) -> str:
    return f"of shape {shape}" if shape else "one number"


def _shown(value: object, digits: int = 4) -> str:
    """A value, short.

    >>> _shown([0.5, 1 / 3, 2.0, None]), _shown({"kl": 1e-9}), _shown("a\\nb")
    ('[0.5, 0.3333, 2, None]', "{'kl': 1e-09}", "'a\\\\nb'")
    """
    if isinstance(value, list):
        items = [_shown(item, digits) for item in value[:16]] + ["…"] * (len(value) > 16)
        return f"[{', '.join(items)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(item, digits)}" for key, item in value.items()) + "}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return WORDS.repr(value)
    if isinstance(value, float) and not (value.is_integer() and abs(value) < 1e15):
        return f"{value:.{digits}g}"
    return f"{int(value)}" if isinstance(value, float) else f"{value}"
