"""Rewards as tests call them: the four that train, and each with every column that TRL hands it."""

from grpo_nb import rewards

# By name: another reward of the package earns nothing here.
FOUR = [rewards.match_format_exactly, rewards.match_format_approximately, rewards.check_answer, rewards.check_numbers]
NAMES = [name for name in rewards.__all__ if callable(getattr(rewards, name))]  # of every reward of the package


def scored(reward, completions: list, answers: list[str]) -> list[float | None]:
    """The reward's scores. Its columns are those of `data.grpo_rows`: `prompts` and `answer`."""
    prompts = [[{"role": "user", "content": "1+1?"}] for _ in completions]
    return reward(prompts=prompts, completions=completions, answer=answers)


def paid(completion, answer: str) -> list[float | None]:
    """What each of the four pays for one completion."""
    return [scored(reward, [completion], [answer])[0] for reward in FOUR]


def total(completion, answer: str) -> float:
    """The sum of the four, `None` left out."""
    return sum(score for score in paid(completion, answer) if score is not None)
