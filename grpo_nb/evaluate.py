"""Held-out accuracy: sampled (pass@1), greedy, format; same prompts and template before and after training."""

import contextlib
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

from grpo_nb import templates
from grpo_nb.guards import contract
from grpo_nb.rewards import parsing

ALIVE_PROMPTS = 16  # sampled by `check_alive`
FEW_ALIVE = 0.2  # of them: below this share most of the compute buys no gradient


def completions(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    num_return_sequences: int = 1,
    max_new_tokens: int,
    greedy: bool = False,
    temperature: float = 1.0,
    batch_size: int = 256,
    seed: int = 0,
) -> list[list[str]]:
    """What the policy writes after each prompt, decoded as TRL decodes it (special tokens dropped, tags kept).

    Args:
        rows: with a "prompt", messages or text.
        num_return_sequences: completions per prompt; greedy decoding makes one.
        max_new_tokens: longest completion, in tokens.
        temperature: of the sampling; top_p, top_k and min_p are off, as in training.
        batch_size: completions generated side by side.
        seed: of the sampling; the caller's random state is left as it was.
    Returns: for each row a list of completion texts.
    """
    import torch

    many = 1 if greedy else num_return_sequences
    how = (
        {"do_sample": False}
        if greedy
        else {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, "min_p": None}
    )
    texts = [row["prompt"] for row in rows]
    if not isinstance(texts[0], str):
        texts = tokenizer.apply_chat_template(texts, tokenize=False, add_generation_prompt=True)
    step, out = max(1, batch_size // many), []
    with torch.no_grad(), torch.random.fork_rng(), _evaluation_mode(policy):
        torch.manual_seed(seed)
        for start in range(0, len(texts), step):
            batch = tokenizer(
                texts[start : start + step],
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=False,
            ).to(policy.device)
            ids = policy.generate(
                **batch,
                **how,
                num_return_sequences=many,
                max_new_tokens=max_new_tokens,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[:, batch["input_ids"].shape[1] :]
            decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
            out += [decoded[i : i + many] for i in range(0, len(decoded), many)]
    return out


@contextlib.contextmanager
def _evaluation_mode(policy):
    was_training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(was_training)


def is_correct(completion: str, answer: str) -> bool:
    """Whether a completion has the exact format and its solution equals the answer as a number (as text if it is none).

    >>> is_correct("1+1=2<end_working_out><SOLUTION>2.0</SOLUTION>", "2")
    True
    """
    solution = parsing.solution(completion)
    if solution is None:
        return False
    guess, truth = parsing.number(solution), parsing.number(answer)
    if truth is None:
        return solution.strip() == answer.strip()
    return guess is not None and parsing.same_number(guess, truth)


def accuracy(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    max_new_tokens: int,
    num_return_sequences: int = 4,
    batch_size: int = 256,
    seed: int = 0,
) -> dict:
    """Shares of right answers and of well-formed completions on held-out rows.

    Args:
        rows: with "prompt" and "answer".
        num_return_sequences: samples per prompt at temperature 1; their mean is an unbiased estimate of pass@1.
    Returns: `sampled`, `greedy`, `format` (of the samples) in [0, 1], each with a 95 % `<key>_interval`; `prompts`,
    `samples`.
    """
    settings = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "seed": seed}
    sampled = completions(policy, tokenizer, rows, num_return_sequences=num_return_sequences, **settings)
    greedy = completions(policy, tokenizer, rows, greedy=True, **settings)
    per_prompt = [
        sum(is_correct(c, r["answer"]) for c in group) / len(group) for group, r in zip(sampled, rows, strict=True)
    ]
    well_formed = [sum(parsing.solution(c) is not None for c in group) / len(group) for group in sampled]
    right = [float(is_correct(group[0], r["answer"])) for group, r in zip(greedy, rows, strict=True)]
    result = {"prompts": len(rows), "samples": num_return_sequences}
    for key, shares in {"sampled": per_prompt, "greedy": right, "format": well_formed}.items():
        result[key] = sum(shares) / len(shares)
        result[f"{key}_interval"] = wilson_interval(result[key], len(shares))
    return result


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


def group_totals(
    completions: list[list[str]], rows: Sequence[dict], rewards: Sequence[Callable], weights: Sequence[float] = ()
) -> list[list[float | None]]:
    """The weighted sum of all rewards for each completion, as TRL adds them up; None where no reward applies.

    Args:
        completions: for each row a list of texts.
        rewards: functions in TRL's contract; the random numbers that they draw are given back.
        weights: one for each reward; () weighs them equally.
    """
    from transformers import TrainerState

    flat = [(row, text) for row, texts in zip(rows, completions, strict=True) for text in texts]
    is_text = isinstance(rows[0]["prompt"], str)
    call = {
        **{key: [row[key] for row, _ in flat] for key in rows[0] if key not in ("prompt", "completion")},
        "prompts": [row["prompt"] for row, _ in flat],
        "completions": [text if is_text else [{"role": "assistant", "content": text}] for _, text in flat],
        "completion_ids": [[0]] * len(flat),
        "trainer_state": TrainerState(),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    with _same_random_numbers():
        scores = [contract.scores(reward(**call), contract.name_of(reward), len(flat)) for reward in rewards]
    totals: list[float | None] = []
    for answers in zip(*scores, strict=True):
        weighted = [a * w for a, w in zip(answers, weights or [1.0] * len(answers), strict=True) if a is not None]
        totals.append(sum(weighted) if weighted else None)
    ends = itertools.accumulate(map(len, completions))
    return [totals[end - len(texts) : end] for end, texts in zip(ends, completions, strict=True)]


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    import numpy
    import torch

    plain, arrays = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(plain)
    numpy.random.set_state(arrays)


def alive_share(totals: list[list[float | None]]) -> float:
    """Share of groups whose completions do not all score the same: only these have an advantage that is not zero.

    >>> alive_share([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [None, 1.0]])
    0.25
    """
    return sum(len({t for t in group if t is not None}) > 1 for group in totals) / len(totals)


def check_alive(policy, tokenizer, rows: Sequence[dict], rewards: Sequence[Callable], config: dict) -> dict:
    """Sample some groups, and refuse a run in which no prompt is solved sometimes: 0 < p < 1 for none.

    Args:
        rows: to be trained on; `ALIVE_PROMPTS` of them are drawn, always the same.
        rewards: functions in TRL's contract; with a reward model or a coroutine among them nothing is
            sampled.
        config: settings of `GRPOConfig`: group size, completion length, temperature and reward weights count.
    Returns: `alive_share`, and `advice` where it is below `FEW_ALIVE`.
    Raises: ValueError where it is 0, saying whether the task is too hard or too easy.
    """
    if not all(contract.is_function(reward) and not contract.is_async(reward) for reward in rewards):
        return {}
    drawn, many = random.Random(0).sample(list(rows), min(ALIVE_PROMPTS, len(rows))), config.get("num_generations", 8)
    samples = completions(
        policy,
        tokenizer,
        drawn,
        num_return_sequences=many,
        max_new_tokens=config.get("max_completion_length", 512),
        temperature=config.get("temperature", 1.0),
    )
    totals = group_totals(samples, drawn, rewards, config.get("reward_weights") or ())
    share = alive_share(totals)
    if share >= FEW_ALIVE:
        return {"alive_share": share}
    mean = _mean(totals)
    is_easy = _is_nearer_to_right(mean, drawn, rewards, config.get("reward_weights") or ())
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
