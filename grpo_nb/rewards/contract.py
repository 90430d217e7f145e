"""TRL's contract of a reward: what it is handed, by name, and what it may answer: a number or None per completion."""

import functools
import inspect
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from grpo_nb.rewards import parsing

GIVEN_BY_TRL = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
LARGEST_REWARD = 1e6  # in float32, 1e38 in one completion of a group turns the advantages of all of them to zero or NaN


def unwrapped(function: Callable) -> Callable:
    """The callable below all `functools.partial`s."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def name_of(function: Callable) -> str:
    """The name under which TRL logs a reward (`trl.trainer.utils.get_callable_name`).

    >>> name_of(functools.partial(max, 3))
    'max'
    """
    function = unwrapped(function)
    return getattr(function, "__name__", type(function).__name__)


def is_function(reward: object) -> bool:
    """Whether TRL calls `reward` as a function; a path or a module is a reward model."""
    import torch

    return callable(reward) and not isinstance(reward, torch.nn.Module)


def is_async(function: Callable) -> bool:
    """Whether calling it returns a coroutine (`trl.trainer.utils.is_async_callable`)."""
    function = unwrapped(function)
    call = function.__call__  # type: ignore[operator]  # mypy knows no __call__ of a Callable
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def scores(answer: object, name: str, count: int) -> list:
    """A reward's answer as a list of numbers and None.

    Args:
        answer: what the reward returned: a list, a tuple, or a 1-D tensor or array.
        name: of the reward.
        count: number of completions that it was given.
    Raises: ValueError for another type or length, or an element that is no number.

    >>> scores([1, None, 0.5], "check", 3)
    [1, None, 0.5]
    >>> scores([True], "check", 1)
    Traceback (most recent call last):
    ValueError: the reward check must return one number or None per completion (got True for completion 1 of 1).
    Write float(...).
    """
    rule = f"the reward {name} must return one number or None per completion"
    values = answer.tolist() if hasattr(answer, "tolist") else answer
    if inspect.iscoroutine(values):
        values.close()
        raise ValueError(f"{rule} (got a coroutine). Declare the reward itself with async def.")
    if not isinstance(values, (list, tuple)):
        what = "None" if answer is None else f"{type(answer).__name__} {shown(answer)}"
        forgotten = " Does it end with return?" if answer is None else ""
        raise ValueError(f"{rule} (got {what} for {count} completions). Return a list of float.{forgotten}")
    if len(values) != count:
        raise ValueError(f"{rule} (got {len(values)} for {count} completions). Loop over `completions`, all of them.")
    return [_score(value, f"{rule} (got %s for completion {i} of {count})") for i, value in enumerate(values, 1)]


def _score(value: Any, rule: str) -> float | None:
    """One element: a number, the number in a 0-D tensor or array scalar, or None."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or type(value) in (int, float):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{rule % shown(value)}. Write float(...).")


def absurd(values: list, limit: float = LARGEST_REWARD) -> list[int]:
    """Where the numbers are NaN, infinite, or beyond ±`limit`.

    >>> absurd([1.0, None, float("inf"), -1e7])
    [2, 3]
    """
    return [i for i, value in enumerate(values) if value is not None and not abs(value) <= limit]


def shown(value: object, limit: int = 60) -> str:
    """A value in an error message: shortened, control and direction-changing characters as escapes.

    >>> shown("1\\u202e2")
    "'1\\\\u202e2'"
    """
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def shown_completion(completion: Any) -> str:
    """The text of a completion, or of what came in its place, for an error message."""
    try:
        return shown(parsing.text(completion))
    except TypeError:  # no string and no assistant turn: then what it is says more
        return shown(completion)


def call(rows: Sequence[dict], texts: Sequence[str]) -> dict:
    """The keywords with which TRL calls a reward, for one completion of each row; nothing is logged.

    Args:
        texts: the completions; they become messages where the prompt is a list of messages.
    See: `GRPOTrainer._calculate_rewards`.
    """
    from transformers import TrainerState

    is_text = isinstance(rows[0]["prompt"], str)
    return {
        **{key: [row.get(key) for row in rows] for key in rows[0] if key not in ("prompt", "completion")},
        "prompts": [row["prompt"] for row in rows],
        "completions": [text if is_text else [{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [[0]] * len(texts),
        "trainer_state": TrainerState(max_steps=1),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
