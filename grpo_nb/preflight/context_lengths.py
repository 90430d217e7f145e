"""Lengths: GRPO has no truncation, so a long prompt pads its whole batch and runs out of the context."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from grpo_nb import data

TAG = re.compile(r"<[^<>\s]*>")  # may be one token
WORD_OR_DIGIT = re.compile(r"[^\W\d_]+|\d")  # Qwen's tokenizer puts a word, and each digit, into a token of its own


def check_lengths(rows: Sequence[dict], *, context: int, completion: int, tokenizer=None) -> None:
    """Refuse prompts that leave less than `completion` tokens of the context.

    Args:
        rows: checked by `check_prompts`.
        context: tokens that the policy can hold.
        completion: `max_completion_length`.
        tokenizer: counts exactly; without one only prompts with more words and digits than room are refused.
    Raises: ValueError naming the first such row; with a tokenizer, the longest of them too.
    """
    room = context - completion
    count, at_least = (_token_counter(tokenizer), "") if tokenizer else (_at_least, "at least ")
    too_long = [(number, tokens) for number, tokens in count(rows, room) if tokens > room]
    if not too_long:
        return
    number, tokens = too_long[0]
    longest = max(tokens for _, tokens in too_long)
    keep = f"data.keep_short(rows, tokenizer, max_tokens={room})"
    advice = f"Try max_completion_length = {context - longest}, or drop" if longest < context and tokenizer else "Drop"
    raise ValueError(
        f"row {number}, column 'prompt', must leave max_completion_length = {completion} of max_seq_length = {context} "
        f"tokens, so it may have {room} (got {at_least}{tokens}, and {len(too_long)} such rows). "
        f"{advice} long rows with {keep}."
    )


def _at_least(rows: Sequence[dict], room: int) -> list[tuple[int, int]]:
    """(row number, a number of tokens that no tokenizer of Qwen's kind stays below) for texts of more characters than
    room."""
    counts = []
    for number, row in enumerate(rows):
        texts = _texts(row["prompt"])
        if sum(map(len, texts)) > room:
            clean = (unicodedata.normalize("NFC", TAG.sub("", text)) for text in texts)
            counts.append((number, sum(len(WORD_OR_DIGIT.findall(text)) for text in clean)))
    return counts


def _token_counter(tokenizer):
    """Count tokens as TRL will, of those prompts only that might not fit: a byte-level token is at least one byte."""

    def count(rows: Sequence[dict], room: int) -> list[tuple[int, int]]:
        around: dict[tuple, int] = {}  # roles → bytes that the template adds
        suspects = []
        for number, row in enumerate(rows):
            prompt = row["prompt"]
            roles = () if isinstance(prompt, str) else tuple(turn["role"] for turn in prompt)
            if roles not in around:
                bare = [{"role": role, "content": "x"} for role in roles]
                opened = {"tokenize": False, "add_generation_prompt": True}
                # a few special tokens around text
                around[roles] = len(tokenizer.apply_chat_template(bare, **opened).encode()) if roles else 8
            if around[roles] + sum(len(text.encode()) for text in _texts(prompt)) > room:
                suspects.append(number)
        asked = [{"prompt": rows[number]["prompt"]} for number in suspects]  # whatever else their rows hold
        return list(zip(suspects, data.token_lengths(asked, tokenizer), strict=True))

    return count


def _texts(prompt: str | Sequence[Mapping]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
