"""How much of what a policy writes is right: sampled (pass@1), greedy, format; same prompts before and after."""

import math
from collections.abc import Callable, Sequence

from grpo_nb.evaluate import sampling
from grpo_nb.rewards import contract, parsing


def is_correct(completion: str, answer: str) -> bool:
    """Whether a completion has the exact format and its solution equals the answer in value, as a choice, or in text.

    >>> is_correct("1+1=2<end_working_out><SOLUTION>2.0</SOLUTION>", "2")
    True
    """
    solution = parsing.solution(completion)
    return solution is not None and parsing.is_same(solution, answer)


def accuracy(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    max_new_tokens: int,
    num_return_sequences: int = 4,
    batch_size: int = 256,
    seed: int = 0,
    is_right: Callable[[str, dict], bool] | None = None,
    has_format: Callable[[str], bool] | None = None,
) -> dict:
    """Shares of right answers and of well-formed completions on held-out rows.

    Args:
        rows: with "prompt", and what `is_right` reads: "answer".
        num_return_sequences: samples per prompt at temperature 1; their mean is an unbiased estimate of pass@1.
        is_right: (completion, row) → whether it is right; None: `is_correct`, in the exact layout.
        has_format: completion → whether it is well formed; None: whether it has the exact layout.
    Returns: `sampled`, `greedy`, `format` (of the samples) in [0, 1], each with a 95 % `<key>_interval`; `prompts`,
    `samples`.
    Raises: ValueError for a count that is none, no rows, and a judge that says anything but True or False.
    """
    settings = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "seed": seed}
    judges = {"is_right": is_right, "has_format": has_format}
    found = shares(policy, tokenizer, rows, num_return_sequences=num_return_sequences, **judges, **settings)
    result = {"prompts": len(rows), "samples": num_return_sequences}
    for key, per_prompt in found.items():
        result[key] = sum(per_prompt) / len(per_prompt)
        result[f"{key}_interval"] = wilson_interval(result[key], len(per_prompt))
    return result


def shares(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    num_return_sequences: int,
    is_right: Callable[[str, dict], bool] | None = None,
    has_format: Callable[[str], bool] | None = None,
    **settings,
) -> dict[str, list[float]]:
    """What `accuracy` is the mean of, prompt by prompt: `sampled`, `greedy` and `format` (of the samples), in [0, 1].

    Args:
        is_right, has_format: as in `accuracy`.
        settings: `max_new_tokens`, `batch_size` and `seed`, as in `accuracy`.
    """
    right = is_right or (lambda completion, row: is_correct(completion, row["answer"]))
    formed = has_format or (lambda completion: parsing.solution(completion) is not None)
    for row in rows[:1]:  # what a judge cannot read is known before a token is drawn
        _verdict(right, "", row), _verdict(formed, "")
    sampled = sampling.completions(policy, tokenizer, rows, num_return_sequences=num_return_sequences, **settings)
    greedy = sampling.completions(policy, tokenizer, rows, greedy=True, **settings)
    return {
        "sampled": [
            sum(_verdict(right, c, row) for c in group) / len(group) for group, row in zip(sampled, rows, strict=True)
        ],
        "greedy": [float(_verdict(right, group[0], row)) for group, row in zip(greedy, rows, strict=True)],
        "format": [sum(_verdict(formed, c) for c in group) / len(group) for group in sampled],
    }


def _verdict(judge: Callable, completion: str, *row: dict) -> bool:
    """What a judge says. A score is none: reasoning-gym's verifiers pay 0.01 for a wrong answer, which is no False."""
    said = judge(completion, *row)
    if said not in (0, 1):
        raise ValueError(
            f"is_right and has_format must say True or False of a completion (got {contract.shown(said)} for "
            f"{contract.shown(completion)}). Compare a score: `score == 1`."
        )
    return bool(said)


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a share out of n independent prompts; never leaves [0, 1].

    Samples of one prompt are not independent, so n counts prompts: for several samples a prompt the interval is on
    the wide side.

    See: Wilson 1927, JASA 22:209.

    >>> tuple(round(x, 3) for x in wilson_interval(0.5, 100))
    (0.404, 0.596)
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
