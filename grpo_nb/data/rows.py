"""Rows → those to train on and those held out → what TRL's trainers eat."""

import random
import unicodedata
from collections.abc import Sequence

from grpo_nb import templates
from grpo_nb.data import tables


def normal_form(problem: str) -> str:
    """A problem without what does not make it another one: case, white space, how Unicode writes its accents.

    >>> normal_form("What  is\\n1+1?") == normal_form("what is 1+1?")
    True
    """
    return " ".join(unicodedata.normalize("NFC", problem).casefold().split())


def split_rows(
    rows: list[dict], num_train: int | None, num_held_out: int, *, seed: int = 0
) -> tuple[list[dict], list[dict]]:
    """Shuffle, drop problems whose normal form is repeated, then cut off the held-out rows.

    Raises: ValueError if fewer problems are left than asked for.

    >>> train, held_out = split_rows([{"problem": str(i % 9)} for i in range(20)], None, 3)
    >>> len(train), len(held_out), {r["problem"] for r in train} & {r["problem"] for r in held_out}
    (6, 3, set())
    """
    unique = list({normal_form(row["problem"]): row for row in rows}.values())
    wanted = num_held_out + (1 if num_train is None else num_train)
    if len(unique) < wanted:
        raise ValueError(f"the task must have at least {wanted} different problems (got {len(unique)}). Ask for fewer.")
    random.Random(seed).shuffle(unique)
    held_out, train = unique[:num_held_out], unique[num_held_out:]
    return (train if num_train is None else train[:num_train]), held_out


def without_problems(rows: list[dict], held_out: list[dict]) -> list[dict]:
    """Rows whose problem, in its normal form, is none of the held-out ones.

    >>> without_problems([{"problem": "What  is 1+1?"}, {"problem": "2+2?"}], [{"problem": "what is 1+1?"}])
    [{'problem': '2+2?'}]
    """
    taken = {normal_form(row["problem"]) for row in held_out}
    return [row for row in rows if normal_form(row["problem"]) not in taken]


def sft_rows(rows: list[dict], *, system_prompt: str | None = None) -> list[dict]:
    """Worked rows as prompt and completion: TRL's SFTTrainer then puts the loss on the completion only."""
    return [
        {
            "prompt": templates.prompt_messages(row["problem"], system_prompt or templates.SYSTEM_PROMPT),
            "completion": [
                {
                    "role": "assistant",
                    "content": templates.worked_answer(row["working"], row.get("solution", row["answer"])),
                }
            ],
        }
        for row in rows
    ]


def grpo_rows(rows: list[dict], *, system_prompt: str | None = None) -> list[dict]:
    """Rows as TRL's GRPOTrainer wants them: the prompt, and for the reward functions' eyes only the answer.

    Other columns go with it, for TRL hands each to the rewards by its name; `working` and `solution` stay behind.
    """
    return [
        {
            "prompt": templates.prompt_messages(row["problem"], system_prompt or templates.SYSTEM_PROMPT),
            **{key: cell for key, cell in row.items() if key not in ("prompt", "problem", "working", "solution")},
        }
        for row in rows
    ]


def steps(working: str) -> int:
    """Steps of a worked answer: its calculations, <<48/2=24>> in GSM8K, or where none is marked its lines.

    >>> steps("He has 48/2 = <<48/2=24>>24. That is\\nall."), steps("Half of 48 is 24.\\nTwice 24 is 48."), steps("")
    (1, 2, 0)
    """
    return working.count("<<") or sum(bool(line.strip()) for line in working.splitlines())


def token_lengths(rows: Sequence[dict], tokenizer) -> list[int]:
    """Tokens of each row as TRL counts them: its prompt, text or messages, and its completion if there is one."""
    is_text = bool(rows) and isinstance(rows[0]["prompt"], str)
    texts = []
    for row in rows:
        turns = row["prompt"] + row.get("completion", "" if isinstance(row["prompt"], str) else [])
        if not isinstance(turns, str):
            turns = [{**turn, "content": tables.plain_text(turn["content"])} for turn in turns]
            opens = "completion" not in row
            turns = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opens)
        texts.append(turns)
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=is_text)["input_ids"]] if texts else []


def keep_short(
    rows: list[dict], tokenizer, *, max_tokens: int | None = None, quantile: float = 1.0, at_least: int = 1
) -> tuple[list, int]:
    """Drop the longest rows: GRPO has no truncation, one long prompt pads the whole batch.

    Args:
        rows: rows with a "prompt", messages or text, and perhaps a "completion".
        tokenizer: with a chat template, for messages.
        max_tokens: longest row kept, in tokens; None sets no such limit.
        quantile: share of rows to keep, in (0, 1]; the stricter of the two limits counts.
        at_least: so many of the shortest rows are kept however long they are; 1 refuses instead to keep none.
    Returns: (kept rows, the length limit in tokens).
    Raises: ValueError if nothing is left.
    """
    import numpy as np

    lengths = np.array(token_lengths(rows, tokenizer))
    limit = int(np.quantile(lengths, quantile)) if len(rows) else 0
    limit = limit if max_tokens is None else min(limit, max_tokens)
    if at_least > 1 and len(rows):
        limit = max(limit, int(np.sort(lengths)[:at_least][-1]))
    kept = [row for row, length in zip(rows, lengths, strict=True) if length <= limit]
    if not kept:
        shortest = f"shortest {lengths.min()}, limit {limit} tokens" if len(rows) else "before any was dropped"
        advice = (
            f"Allow {lengths.min()} or more: max_tokens, or in a warm start max_seq_length"
            if len(rows)
            else "Look at the filter before"
        )
        raise ValueError(f"at least one row must fit (got {len(rows)} rows, {shortest}). {advice}.")
    return kept, limit
