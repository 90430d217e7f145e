"""Too hard, too easy, or right: how many prompts does the policy solve sometimes, so that an advantage can tell?"""

import itertools
import random
from collections.abc import Callable, Sequence

from grpo_nb import evaluate, templates
from grpo_nb.preflight import dry_runs
from grpo_nb.rewards import contract

DRAWN_PROMPTS = 16  # on which `check_alive` samples
FEW_ALIVE = 0.2  # of them: below this share most of the compute buys no gradient


def group_totals(
    completions: list[list[str]], rows: Sequence[dict], rewards: Sequence[Callable], weights: Sequence[float] = ()
) -> list[list[float | None]]:
    """The weighted sum of all rewards for each completion, as TRL adds them up; None where no reward applies.

    Args:
        completions: for each row a list of texts.
        rewards: functions in TRL's contract; the random numbers that they draw are given back.
        weights: one for each reward; () weighs them equally.
    """
    flat = [(row, text) for row, texts in zip(rows, completions, strict=True) for text in texts]
    call = contract.call([row for row, _ in flat], [text for _, text in flat])
    with dry_runs.same_random_numbers():
        scores = [contract.scores(reward(**call), contract.name_of(reward), len(flat)) for reward in rewards]
    totals: list[float | None] = []
    for answers in zip(*scores, strict=True):
        weighted = [a * w for a, w in zip(answers, weights or [1.0] * len(answers), strict=True) if a is not None]
        totals.append(sum(weighted) if weighted else None)
    ends = itertools.accumulate(map(len, completions))
    return [totals[end - len(texts) : end] for end, texts in zip(ends, completions, strict=True)]


def alive_share(totals: list[list[float | None]]) -> float:
    """Share of groups whose completions do not all score the same: only these have an advantage that is not zero.

    >>> alive_share([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [None, 1.0]])
    0.25
    """
    return sum(len({t for t in group if t is not None}) > 1 for group in totals) / len(totals)


def check_alive(policy, tokenizer, rows: Sequence[dict], rewards: Sequence[Callable], config: dict) -> dict:
    """Sample some groups, and refuse a run in which no prompt is solved sometimes: 0 < p < 1 for none.

    Args:
        rows: to be trained on; `DRAWN_PROMPTS` of them are drawn, always the same.
        rewards: functions in TRL's contract; with a reward model or a coroutine among them nothing is
            sampled.
        config: every setting of `GRPOConfig`: group size, completion length, temperature and reward weights count.
    Returns: `alive_share`, and `advice` where it is below `FEW_ALIVE`.
    Raises: ValueError where it is 0, saying whether the task is too hard or too easy.
    """
    if not all(contract.is_function(reward) and not contract.is_async(reward) for reward in rewards):
        return {}
    drawn, many = random.Random(0).sample(list(rows), min(DRAWN_PROMPTS, len(rows))), config["num_generations"]
    samples = evaluate.completions(
        policy,
        tokenizer,
        drawn,
        num_return_sequences=many,
        max_new_tokens=config["max_completion_length"],
        temperature=config["temperature"],
    )
    weights = config["reward_weights"] or ()
    totals = group_totals(samples, drawn, rewards, weights)
    share = alive_share(totals)
    if share >= FEW_ALIVE:
        return {"alive_share": share}
    mean = _mean(totals)
    is_easy = _is_nearer_to_right(mean, drawn, rewards, weights)
    advice = (
        "Take harder problems, or raise temperature"
        if is_easy
        else "Take easier problems, train the warm start longer, or reward a part of the way"
    )
    if share:
        return {"alive_share": share, "advice": f"too {'easy' if is_easy else 'hard'} for most prompts: {advice}"}
    raise ValueError(
        "some prompts must be solved sometimes, not always and not never, for an advantage compares "
        f"(got equal scores, {mean:.3g} on average, for the {many} completions of each of {len(drawn)} prompts: "
        f"too {'easy' if is_easy else 'hard'}). {advice}."
    )


def _mean(totals: list[list[float | None]]) -> float:
    scored = [total for group in totals for total in group if total is not None]
    return sum(scored) / len(scored) if scored else 0.0


def _is_nearer_to_right(mean: float, rows: Sequence[dict], rewards: Sequence[Callable], weights) -> bool:
    """Whether a mean score is nearer to that of the right answer in the layout than to that of saying nothing."""
    worst = _mean(group_totals([[""]] * len(rows), rows, rewards, weights))
    if "answer" not in rows[0]:
        return mean > worst
    right = [templates.worked_answer("", str(r["answer"])).removeprefix(templates.REASONING_START) for r in rows]
    best = _mean(group_totals([[text] for text in right], rows, rewards, weights))
    return abs(mean - best) < abs(mean - worst)
