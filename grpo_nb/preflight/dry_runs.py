"""A dry run of the rewards: called once on fake completions, before a model loads."""

import asyncio
import concurrent.futures
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

from grpo_nb import templates
from grpo_nb.rewards import contract

FAKE_COMPLETIONS = 4
LARGEST_GROUP = 1024  # of which a dry run makes fakes: a larger one tells nothing more, and takes minutes


def dry_run(rewards: Sequence[Callable], rows: Sequence[dict], *, num_generations: int = 4) -> bool:
    """Call every reward once on fake completions, before a model loads; the random numbers stay where they were.

    Args:
        rewards: as for the trainer; reward models are passed over.
        rows: the training rows; the first ones give their prompts and columns.
        num_generations: fakes for each prompt, whole groups of them, four in all or one group; at most
            `LARGEST_GROUP`.
    Returns: whether any reward distinguished any two of them.
    Raises: ValueError naming the reward, what it returned or raised, and what to do.
    """
    num_generations = min(num_generations, LARGEST_GROUP)
    count = num_generations * -(-FAKE_COMPLETIONS // num_generations)
    shown = [rows[i // num_generations % len(rows)] for i in range(count)]
    given, differ = contract.call(shown, fake_completions(shown)), False
    for reward in filter(contract.is_function, rewards):
        with same_random_numbers():
            differ |= len(set(_try_out(reward, given))) > 1
    return differ


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
    name, completions = contract.name_of(reward), given["completions"]
    try:
        answer = _called(reward, given)
    except Exception as error:  # a reward is the learner's code: anything may come
        is_text = isinstance(completions[0], str)
        advice = "" if is_text else "A completion is a list of messages, its text is completion[0]['content']. "
        raise ValueError(
            f"the reward {name} must score any completion without raising (got {type(error).__name__}: {error} "
            f"in a dry run on {', '.join(map(contract.shown_completion, completions[:FAKE_COMPLETIONS]))}). {advice}"
            "Return 0.0 for wrong and None for not applicable; read the columns that it needs as parameters."
        ) from error
    values = contract.scores(answer, name, len(completions))
    for i in contract.absurd(values)[:1]:
        raise ValueError(
            f"the reward {name} must return finite numbers within ±{contract.LARGEST_REWARD:g}, or None "
            f"(got {values[i]} in a dry run, for {contract.shown_completion(completions[i])}). "
            "Return 0.0 for wrong and None for not applicable."
        )
    return values


def _called(reward: Callable, given: dict) -> object:
    if not contract.is_async(reward):
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
