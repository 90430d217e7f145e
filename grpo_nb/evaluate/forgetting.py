"""What training on one task costs elsewhere: ten plain questions, a page of prose, and how far the policy has moved.

| key            | what is measured                                                     | gets worse by |
|----------------|----------------------------------------------------------------------|---------------|
| `questions`    | share of `QUESTIONS` answered right, greedily                        | falling       |
| `perplexity`   | exp of the mean nats per token of `PROSE`                            | rising        |
| `kl`           | KL(policy ‖ base) on the task's prompts, mean nats per token         | rising        |
| `kl_questions` | the same on `QUESTIONS`, at the greedy answers                       | rising        |
"""

import contextlib
import itertools
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from grpo_nb.batchflow import limits
from grpo_nb.evaluate import judging, sampling

# Question → the words that answer it. SmolLM2-135M-Instruct says nine of them, seven with 0.5 nats to spare at each
# token, and takes Neptune for the largest. Where two tokens are nearly tied, a KL of 0.002 nats turns an answer.
QUESTIONS = {
    "What is the capital of Japan?": ("Tokyo",),
    "What is the capital of Germany?": ("Berlin",),
    "What is the currency of Japan?": ("yen",),
    "What is the opposite of hot?": ("cold",),
    "What is the opposite of up?": ("down",),
    "What is the plural of child?": ("children",),
    "How many days are in a week?": ("seven", "7"),
    "What is the chemical formula of water?": ("H2O", "H₂O"),
    "Which organ pumps blood through the body?": ("heart",),
    "What is the largest planet in the solar system?": ("Jupiter",),
}
ANSWER_TOKENS = 32
PROSE = Path(__file__).with_name("prose.txt").read_text(encoding="utf8")  # ours, 371 words
WINDOW = 1024  # tokens that are scored side by side
ROWS = 64  # of [T, V] at a time in float32: 12 MiB for a vocabulary of 49,152


def general(
    policy, tokenizer, rows: Sequence[dict] = (), *, max_new_tokens: int = ANSWER_TOKENS, base=None, seed: int = 0
) -> dict:
    """What the policy can do outside its task; call it before and after training, with the same arguments.

    Args:
        rows: of the task, with "prompt"; a few dozen tell enough.
        max_new_tokens: longest completion of the task. The questions have `ANSWER_TOKENS`.
        base, seed: as in `kl_to_base`.
    Returns: the keys of the table above, as JSON has them; `questions_interval`, 95 %; `kl_by_prompt`, a number for
    each row; `answers`, {"question", "answer", "right", "kl"} for each question. What was not measured is None: `kl`
    without rows, and every KL of a policy that has no adapter and no base beside it.
    """
    limits.check_whole(max_new_tokens=max_new_tokens)
    comparable = base is not None or hasattr(policy, "disable_adapter")
    asked = [{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS]
    settings = {"greedy": True, "max_new_tokens": ANSWER_TOKENS, "seed": seed}
    texts = [text for (text,) in sampling.completions(policy, tokenizer, asked, **settings)]
    at_questions = _kl(policy, tokenizer, asked, texts, base) if comparable else []
    at_rows = []
    if comparable and len(rows):
        at_rows = kl_to_base(policy, tokenizer, rows, max_new_tokens=max_new_tokens, base=base, seed=seed)
    answers = [
        {
            "question": question,
            "answer": text,
            "right": says(text, words),
            "kl": statistics.fmean(nats) if nats else None,
        }
        for (question, words), text, nats in itertools.zip_longest(QUESTIONS.items(), texts, at_questions)
    ]
    share = statistics.fmean(answer["right"] for answer in answers)
    return {
        "questions": share,
        "questions_interval": judging.wilson_interval(share, len(answers)),
        "perplexity": perplexity(policy, tokenizer),
        "kl": _mean(at_rows),
        "kl_questions": _mean(at_questions),
        "kl_by_prompt": [statistics.fmean(nats) for nats in at_rows] or None,
        "answers": answers,
    }


def says(text: str, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the text, as a whole word, in capitals or not.

    >>> says("It is Paris.", ["paris"]), says("Comparison", ["Paris"])
    (True, False)
    """
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


def perplexity(policy, tokenizer, text: str = PROSE) -> float:
    """exp(−mean log p(token | tokens before it)) of a text: as many tokens seem equally likely at each place.

    Args:
        text: any, read as it stands, without a chat template, in windows of at most `WINDOW` tokens; the first token
            of a window is given.
    Raises: ValueError for a text of fewer than two tokens.
    """
    import torch

    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long, device=policy.device)
    if len(ids) < 2:
        raise ValueError(f"a text must have two tokens, for the second to be foretold (got {len(ids)}). Try a page.")
    nats: list[float] = []
    for part in ids.split(min(WINDOW, getattr(policy.config, "max_position_embeddings", WINDOW))):
        if len(part) > 1:
            logits = _last_logits(policy, part[:-1], len(part) - 1)
            for some, targets in zip(logits.split(ROWS), part[1:].split(ROWS), strict=True):
                nats += torch.nn.functional.cross_entropy(some.float(), targets, reduction="none").tolist()
    return math.exp(statistics.fmean(nats))


def kl_to_base(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    max_new_tokens: int,
    base=None,
    batch_size: int = 256,
    seed: int = 0,
) -> list[list[float]]:
    """KL(π ‖ π_base) = Σ_v π(v) (log π(v) − log π_base(v)) at each place of π's own completions, in nats.

    A completion, its text read as T tokens, has T + 1 places: that of each, and where it ends or is cut. The sum goes
    over the whole vocabulary, so it is exact at each place; only the completions are sampled, at temperature 1.

    Args:
        rows: with "prompt", messages or text.
        base: the policy to compare with; None: this one without its adapter.
        max_new_tokens, batch_size, seed: as in `completions`.
    Returns: one list of numbers a row.
    Raises: ValueError where there is nothing to compare with.
    """
    if base is None and not hasattr(policy, "disable_adapter"):
        raise ValueError(
            f"a policy must have an adapter or a base beside it (got {type(policy).__name__} alone). Hand over "
            "base=models.own_copy(policy) from before the training, or train an adapter (models.add_lora)."
        )
    settings = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "seed": seed}
    texts = [text for (text,) in sampling.completions(policy, tokenizer, rows, **settings)]
    return _kl(policy, tokenizer, rows, texts, base)


def _kl(policy, tokenizer, rows: Sequence[dict], texts: list[str], base) -> list[list[float]]:
    """KL at each place of a text after each row's prompt: one at a time, so that nothing is padded."""
    import torch

    prompts, found = sampling.prompt_texts(tokenizer, rows), []
    begun, ends = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompts, texts))
    for prompt, written in zip(begun, ends, strict=True):
        both, places = torch.tensor([*prompt, *written], device=policy.device), len(written) + 1
        ours = _last_logits(policy, both, places)
        with policy.disable_adapter() if base is None else contextlib.nullcontext():
            theirs = _last_logits(policy if base is None else base, both, places)
        nats: list[float] = []
        for some, others in zip(ours.split(ROWS), theirs.split(ROWS), strict=True):
            logps, base_logps = some.float().log_softmax(-1), others.float().log_softmax(-1)  # [≤ ROWS, V]
            nats += (logps.exp() * (logps - base_logps)).sum(-1).tolist()
        found.append(nats)
    return found


def _mean(nats: Sequence[Sequence[float]]) -> float | None:
    return statistics.fmean(itertools.chain(*nats)) if nats else None


def _last_logits(policy, ids, last: int):
    """Logits after the last tokens of a text, [last, V]; the head is spared the others."""
    import torch

    with torch.no_grad(), sampling.evaluation_mode(policy):
        return policy(input_ids=ids[None], logits_to_keep=last).logits[0, -last:]
