"""What training on one task costs elsewhere: ten plain questions, a page of prose, and how far the policy has moved.

| key            | what is measured                                                     | gets worse by |
|----------------|----------------------------------------------------------------------|---------------|
| `questions`    | share of `QUESTIONS` answered right, greedily                        | falling       |
| `perplexity`   | exp of the mean nats per token of `PROSE`                            | rising        |
| `kl`           | KL(policy ‖ base) on the task's prompts, mean nats per token         | rising        |
| `kl_questions` | the same on `QUESTIONS`                                              | rising        |
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

# Question → the words that answer it. SmolLM2-135M-Instruct says nine of them, and takes Neptune for the largest.
QUESTIONS = {
    "What is the capital of France?": ("Paris",),
    "What is the currency of Japan?": ("yen",),
    "What color is the sky on a clear day?": ("blue",),
    "What is the opposite of hot?": ("cold",),
    "What is the opposite of big?": ("small", "little"),
    "How many days are in a week?": ("seven", "7"),
    "What is the chemical formula of water?": ("H2O", "H₂O"),
    "Which month comes after January?": ("February",),
    "Which organ pumps blood through the body?": ("heart",),
    "What is the largest planet in the solar system?": ("Jupiter",),
}
ANSWER_TOKENS = 32
PROSE = Path(__file__).with_name("prose.txt").read_text(encoding="utf8")  # ours, 371 words
WINDOW = 1024  # tokens that are scored side by side
ROWS = 64  # of [T, V] at a time: 13 MiB for a vocabulary of 49,152


def general(
    policy, tokenizer, rows: Sequence[dict] = (), *, max_new_tokens: int = ANSWER_TOKENS, base=None, seed: int = 0
) -> dict:
    """What the policy can do outside its task; call it before and after training, with the same arguments.

    Args:
        rows: of the task, with "prompt"; a few dozen tell enough.
        max_new_tokens: longest completion of the task. The questions have `ANSWER_TOKENS`.
        base: see `kl_to_base`.
    Returns: the keys of the table above, as JSON has them; `questions_interval`, 95 %; `kl_by_prompt`, a number for
    each row; `answers`, {"question", "answer", "right"} for each question. What was not measured is None: `kl` without
    rows, both KLs of a policy that has no adapter and no base beside it.
    """
    asked = [{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS]
    texts = sampling.completions(policy, tokenizer, asked, greedy=True, max_new_tokens=ANSWER_TOKENS)
    answers = [
        {"question": question, "answer": text, "right": says(text, words)}
        for (question, words), (text,) in zip(QUESTIONS.items(), texts, strict=True)
    ]
    share = sum(answer["right"] for answer in answers) / len(answers)
    found = {
        "questions": share,
        "questions_interval": judging.wilson_interval(share, len(answers)),
        "perplexity": perplexity(policy, tokenizer),
        "kl": None,
        "kl_questions": None,
        "kl_by_prompt": None,
        "answers": answers,
    }
    if base is None and not hasattr(policy, "peft_config"):
        return found
    nats = kl_to_base(policy, tokenizer, asked, base=base, max_new_tokens=ANSWER_TOKENS, seed=seed)
    found["kl_questions"] = statistics.fmean(itertools.chain(*nats))
    if len(rows):
        nats = kl_to_base(policy, tokenizer, rows, base=base, max_new_tokens=max_new_tokens, seed=seed)
        found["kl"] = statistics.fmean(itertools.chain(*nats))
        found["kl_by_prompt"] = [statistics.fmean(each) for each in nats]
    return found


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

    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)
    if len(ids) < 2:
        raise ValueError(f"a text must have two tokens, for the second to be foretold (got {len(ids)}). Try a page.")
    window = min(WINDOW, getattr(policy.config, "max_position_embeddings", WINDOW))
    nats: list[float] = []
    for part in ids[: len(ids) - (len(ids) % window == 1)].split(window):  # one token alone foretells nothing
        for logits, targets in _scored(policy, part.to(policy.device), len(part) - 1):
            nats += torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none").tolist()
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
    """KL(π ‖ π_base) = Σ_v π(v) (log π(v) − log π_base(v)) where each token of π's own completions was drawn.

    The sum goes over the whole vocabulary, so it is exact at each place; only the places are sampled, at temperature 1.

    Args:
        rows: with "prompt", messages or text.
        base: the policy to compare with; None: this one without its adapter.
        max_new_tokens, batch_size, seed: as in `completions`.
    Returns: nats at each token, one list a row.
    Raises: ValueError where there is nothing to compare with.
    """
    if base is None and not hasattr(policy, "disable_adapter"):
        raise ValueError(
            f"a policy must have an adapter or a base beside it (got {type(policy).__name__} alone). Hand over "
            "base=models.own_copy(policy) from before the training, or train an adapter (models.add_lora)."
        )
    limits.check_whole(max_new_tokens=max_new_tokens, batch_size=batch_size)
    limits.check_whole(seed=seed, least=0)
    texts = sampling.prompt_texts(tokenizer, rows)
    settings = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "temperature": 1.0, "seed": seed}
    drawn = sampling.token_ids(policy, tokenizer, texts, many=1, **settings)
    found = []
    for prompt, ids in zip(tokenizer(texts, add_special_tokens=False)["input_ids"], drawn, strict=True):
        found.append(_kl_of(policy, base, prompt, _until_eos(ids, tokenizer.eos_token_id)))
    return found


def _until_eos(ids: Sequence[int], eos: int) -> list[int]:
    """What was drawn: the eos is the last of it, what stands behind is padding."""
    ids = list(ids)
    return ids[: ids.index(eos) + 1] if eos in ids else ids


def _kl_of(policy, base, prompt: list[int], completion: list[int]) -> list[float]:
    """KL at each token of a completion, in nats."""
    import torch

    ids = torch.tensor([*prompt, *completion], device=policy.device)
    ours = _scored(policy, ids, len(completion))
    with policy.disable_adapter() if base is None else contextlib.nullcontext():
        theirs = _scored(policy if base is None else base, ids, len(completion))
    nats: list[float] = []
    for (logits, _), (base_logits, _) in zip(ours, theirs, strict=True):
        logps = logits.float().log_softmax(-1)  # [≤ ROWS, V]
        nats += (logps.exp() * (logps - base_logits.to(logps).log_softmax(-1))).sum(-1).tolist()
    return nats


def _scored(policy, ids, last: int) -> list[tuple]:
    """(logits, targets) of the last tokens of a text, at most `ROWS` of them at a time.

    One text at a time has no padding, and its prompt needs no head.
    """
    import torch

    with torch.no_grad(), sampling.evaluation_mode(policy):
        logits = policy(input_ids=ids[None, :-1], logits_to_keep=last).logits[0, -last:]
    return list(zip(logits.split(ROWS), ids[-last:].split(ROWS), strict=True))
