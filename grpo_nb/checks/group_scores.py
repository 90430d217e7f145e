"""Exercises about rewards, and about advantages made of them."""

from grpo_nb import templates
from grpo_nb.checks.exercises import exercise


@exercise
def check_reward(your_reward):
    """Whether `your_reward` is a verifier in TRL's contract: 1.0 right, 0.0 wrong, None if the truth is no number.

    Args:
        your_reward: f(completions, answer, **kwargs) -> list of scores, one per completion.
    See: notebook 04, exercise 4.1.

    >>> def stub(completions, answer, **kwargs):
    ...     raise NotImplementedError
    >>> check_reward(stub)
    check_reward: not attempted.
    >>> check_reward(lambda completions, answer, **kwargs: [1.0] * len(completions))
    check_reward: 2.1 for 2, near but not right, must score 0.0 (yours: 1.0).
    False
    """
    names, completions, answers, expected = zip(*_reward_cases(), strict=True)
    messages = [[{"role": "assistant", "content": text}] for text in completions]
    columns = {"answer": list(answers), "prompts": [""] * len(names), "completion_ids": [[0]] * len(names)}
    for batch in (list(completions), messages):
        yours = your_reward(completions=batch, trainer_state=None, **columns)
        if not isinstance(yours, list) or len(yours) != len(names):
            return False, f"{len(names)} completions must give a list of {len(names)} scores (yours: {yours!r})."
        for name, score, right in zip(names, yours, expected, strict=True):
            if score != right:
                kind = " (given as messages)" if batch is messages else ""
                return False, f"{name}{kind}, must score {right} (yours: {score!r})."
    return True, f"all {len(names)} cases fit, as text and as messages."


def _reward_cases() -> list[tuple[str, str, str, float | None]]:
    """(what it is, completion, true answer, score), worked out by hand."""
    block = f"1+1=2{templates.REASONING_END}{templates.SOLUTION_START}{{}}{templates.SOLUTION_END}".format
    return [
        ("2 for 2", block("2"), "2", 1.0),
        ("2.0 for 2, equal in value", block("2.0"), "2", 1.0),
        ("1,000 for 1000, equal in value", block("1,000"), "1000", 1.0),
        ("2.1 for 2, near but not right", block("2.1"), "2", 0.0),
        ("-2 for 2", block("-2"), "2", 0.0),
        ("0 for 0", block("0"), "0", 1.0),
        ("a solution that is no number", block("two"), "2", 0.0),
        ("a right number without the format", "2", "2", 0.0),
        ("a right number with junk after it", block("2") + " or 3", "2", 0.0),
        ("an empty completion", "", "2", 0.0),
        ("a true answer that is no number", block("blue"), "blue", None),
    ]


@exercise
def check_advantages(your_advantages):
    """Whether `your_advantages` normalises every group by itself, as TRL does with scale_rewards="group".

    Args:
        your_advantages: f(rewards [N], num_generations) -> advantages [N].
    See: notebook 06, exercise 6.1.
    """
    import torch

    half, root = 0.5 / (0.5 + 1e-4), 1 / (2**0.5 + 1e-4)  # deviations from the mean over (std + 1e-4), by hand
    cases = [
        ("one group, one hit in four", [0, 0, 1, 0], 4, [-half / 2, -half / 2, 1.5 * half, -half / 2]),
        ("two groups of two on different levels", [0, 2, 100, 98], 2, [-root, root, root, -root]),
        ("a dead group beside a live one", [3, 3, 0, 2], 2, [0, 0, -root, root]),
    ]
    for name, given, size, expected in cases:
        yours = your_advantages(torch.tensor(given, dtype=torch.float32), size)
        if not isinstance(yours, torch.Tensor) or tuple(yours.shape) != (len(given),):
            return False, f"{name}: a flat tensor of {len(given)} advantages must come back (yours: {yours!r:.80})."
        if not torch.allclose(yours, torch.tensor(expected, dtype=yours.dtype), atol=1e-4):
            return (
                False,
                f"{name}, rewards {given}: must give {[round(e, 3) for e in expected]} (yours: {yours.tolist()}).",
            )
    return True, f"all {len(cases)} cases fit."
