"""A reward's answer: one number or None per completion. Checked on every batch, and once before training."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import numbers
import random
from collections.abc import Callable, Iterator, Sequence

from grpo_nb import columns, templates
from grpo_nb.rewards import parsing

LARGEST_REWARD = 1e6  # in float32, 1e38 in one completion of a group turns the advantages of all of them to zero or NaN
FAKE_COMPLETIONS = 4


def is_function(reward: object) -> bool:
    """Whether TRL calls `reward` as a function; a path or a module is a reward model."""
    import torch

    return callable(reward) and not isinstance(reward, torch.nn.Module)


def is_async(function: Callable) -> bool:
    """Whether calling it returns a coroutine (`trl.trainer.utils.is_async_callable`)."""
    function = columns.unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)


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


def _score(value: object, rule: str) -> float | None:
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


def shown_completion(completion: object) -> str:
    """The text of a completion, or of what came in its place, for an error message."""
    try:
        return shown(parsing.text(completion))
    except TypeError:  # no string and no assistant turn: then what it is says more
        return shown(completion)


def dry_run(rewards: Sequence[Callable], rows: Sequence[dict], *, num_generations: int = 4) -> bool:
    """Call every reward once on fake completions, before a model loads; the random numbers stay where they were.

    Args:
        rewards: as for the trainer; reward models are passed over.
        rows: the training rows; the first ones lend their prompts and columns.
        num_generations: fakes for each prompt, whole groups of them, four in all or one group.
    Returns: whether any reward told any two of them apart.
    Raises: ValueError naming the reward, what it returned or raised, and what to do.
    """
    count = num_generations * -(-FAKE_COMPLETIONS // num_generations)
    lent = [rows[i // num_generations % len(rows)] for i in range(count)]
    given, differ = call(lent, fake_completions(lent)), False
    for reward in filter(is_function, rewards):
        with same_random_numbers():
            differ |= len(set(_try_out(reward, given))) > 1
    return differ


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


def fake_completions(rows: Sequence[dict]) -> list[str]:
    """A text for each row, by turns: one in the layout with the row's answer, nothing, a bare number, odd characters.

    >>> fake_completions([{"prompt": "1+1?", "answer": "2"}] * 4)[:3]
    ['1+1=2<end_working_out><SOLUTION>2</SOLUTION>', '', '42']
    """
    odd = "\x00\u202e½ ∞ 7,5 \ufffd💥 </SOLUTION>\n"
    return [[_in_the_layout(row), "", "42", odd][i % FAKE_COMPLETIONS] for i, row in enumerate(rows)]


def _in_the_layout(row: dict) -> str:
    return templates.worked_answer("1+1=2", str(row.get("answer", "2"))).removeprefix(templates.REASONING_START)


def _try_out(reward: Callable, given: dict) -> list:
    name, completions = columns.name_of(reward), given["completions"]
    try:
        answer = _called(reward, given)
    except Exception as error:  # a reward is the learner's code: anything may come
        is_text = isinstance(completions[0], str)
        advice = "" if is_text else "A completion is a list of messages, its text is completion[0]['content']. "
        raise ValueError(
            f"the reward {name} must score any completion without raising (got {type(error).__name__}: {error} "
            f"in a dry run on {', '.join(map(shown_completion, completions[:FAKE_COMPLETIONS]))}). {advice}"
            "Return 0.0 for wrong and None for not applicable; read the columns that it needs as parameters."
        ) from error
    values = scores(answer, name, len(completions))
    for i in absurd(values)[:1]:
        raise ValueError(
            f"the reward {name} must return finite numbers within ±{LARGEST_REWARD:g}, or None "
            f"(got {values[i]} in a dry run, for {shown_completion(completions[i])}). "
            "Return 0.0 for wrong and None for not applicable."
        )
    return values


def _called(reward: Callable, given: dict) -> object:
    if not is_async(reward):
        return reward(**given)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # a notebook's own thread already runs an event loop
        return thread.submit(asyncio.run, reward(**given)).result()


@contextlib.contextmanager
def same_random_numbers() -> Iterator[None]:
    """Within the block any random number may be drawn; after it the next ones are those that would have come."""
    import numpy
    import torch

    plain, arrays = random.getstate(), numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(plain)
        numpy.random.set_state(arrays)
