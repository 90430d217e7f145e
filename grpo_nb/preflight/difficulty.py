"""Too hard, too easy, or right: how many prompts does the policy solve sometimes, so that an advantage can tell?"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence

from grpo_nb import data, evaluate, templates
from grpo_nb import rewards as scoring
from grpo_nb.preflight import dry_runs, keys
from grpo_nb.rewards import contract

DRAWN_PROMPTS = 16  # on which `check_alive` samples, and `choose` for each level
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
    drawn, samples = _sampled(policy, tokenizer, rows, config)
    many, weights = config["num_generations"], config["reward_weights"] or ()
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


def choose(
    policy,
    tokenizer,
    levels: Mapping[str, Sequence[dict]],
    rewards: Sequence[Callable],
    config: dict,
    *,
    prompts: int = DRAWN_PROMPTS,
    is_right: Callable[[str, dict], bool] | None = None,
) -> list[dict]:
    """Which of some tasks or difficulties to train on: that of which most prompts are solved sometimes, 0 < p < 1.

    Args:
        levels: name → rows, as `data.grpo_rows` makes them.
        rewards: functions in TRL's contract.
        config: settings of `GRPOConfig`: group size, completion length, temperature and reward weights count.
        prompts: of each level on which to sample, always the same ones; with 16 the share is good to ±0.25.
        is_right: (completion, row) → whether it counts as solved; None: as the row's verifier says, or without one
            by the exact layout.
    Returns: best first, and of equal ones first that which is nearer to half solved: [{"level", "alive" (the share of
    groups whose rewards differ), "right" (the mean of p), "advice" ("" where most of the compute is not lost)}].
    Raises: ValueError where no level has such a prompt, with the share of right completions of each.
    """
    from trl import GRPOConfig

    if not isinstance(levels, Mapping) or not levels or not all(len(data.read_rows(rows)) for rows in levels.values()):
        got = f"the keys {', '.join(map(repr, levels))}" if isinstance(levels, Mapping) else type(levels).__name__
        raise ValueError(
            f'levels must be a dict from names to rows, at least one of each (got {got}). Write {{"easy": rows}}.'
        )
    settings, found = keys.completed(config, GRPOConfig), []
    for level, rows in levels.items():
        drawn, samples = _sampled(policy, tokenizer, data.read_rows(rows), settings, prompts=prompts)
        alive = alive_share(group_totals(samples, drawn, rewards, settings["reward_weights"] or ()))
        judged = [
            (is_right or _is_solved)(text, row) for row, texts in zip(drawn, samples, strict=True) for text in texts
        ]
        right = sum(judged) / len(judged)
        advice = "" if alive >= FEW_ALIVE else f"too {'easy' if right > 0.5 else 'hard'} for most prompts"
        found.append({"level": level, "alive": alive, "right": right, "advice": advice})
    if not any(row["alive"] for row in found):
        shares = ", ".join(f"{row['level']} {row['right']:.0%}" for row in found)
        raise ValueError(
            f"some level must have prompts that are solved sometimes, not always and not never (got none; right are "
            f"{shares}). Take an easier one than those near 0 %, a harder one than those near 100 %, or reward a part "
            "of the way."
        )
    return sorted(found, key=lambda row: (-row["alive"], abs(row["right"] - 0.5)))


def _is_solved(completion: str, row: dict) -> bool:
    is_verified = isinstance(row.get("entry"), str)
    return scoring.is_right(completion, row) if is_verified else evaluate.is_correct(completion, row["answer"])


def _sampled(policy, tokenizer, rows: Sequence[dict], config: dict, *, prompts: int = DRAWN_PROMPTS) -> tuple:
    """Some rows, always the same, and a group of completions for each."""
    drawn = random.Random(0).sample(list(rows), min(prompts, len(rows)))
    samples = evaluate.completions(
        policy,
        tokenizer,
        drawn,
        num_return_sequences=config["num_generations"],
        max_new_tokens=config["max_completion_length"],
        temperature=config["temperature"],
    )
    return drawn, samples


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
