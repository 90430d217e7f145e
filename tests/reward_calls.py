"""Rewards as tests call them: each with every column of the rows."""

import inspect

from grpo_nb import rewards


def _is_reward(what) -> bool:
    names = inspect.signature(what).parameters if callable(what) else ()
    return "completions" in names and "entry" not in names


# Of every reward of the package but one, which needs reasoning-gym: tests/test_rewards_verifiers.py.
NAMES = [name for name in rewards.__all__ if _is_reward(getattr(rewards, name))]


def scored(reward, completions: list, answers: list[str]) -> list[float | None]:
    """The reward's scores. Its columns are those of `data.grpo_rows`: `prompts` and `answer`."""
    prompts = [[{"role": "user", "content": "1+1?"}] for _ in completions]
    return reward(prompts=prompts, completions=completions, answer=answers)


def paid(completion, answer: str) -> list[float | None]:
    """What each of the four pays for one completion."""
    return [scored(reward, [completion], [answer])[0] for reward in rewards.FOUR]


def total(completion, answer: str) -> float:
    """The sum of the four, `None` left out."""
    return sum(score for score in paid(completion, answer) if score is not None)
