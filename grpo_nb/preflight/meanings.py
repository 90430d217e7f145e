"""What a key means and what it is by default, read from the installed TRL: no text of ours can go out of date."""

import dataclasses
import re
from collections.abc import Iterable

from grpo_nb.preflight.keys import DEPRECATED, check_keys, default


def meanings(keys: Iterable[str] | None = None, *, sentences: int | None = 2) -> list[dict[str, str]]:
    """Key, default and meaning of settings of TRL's `GRPOConfig`, in TRL's own words.

    Args:
        keys: which, in the order of the answer; None: all that GRPOConfig defines or changes beyond transformers.
        sentences: how many of the help text; None: all.
    Returns: [{"key", "default", "meaning"}], the default as Python writes it.
    Raises: ValueError for a key that GRPOConfig does not know, with today's name for it.
    """
    from transformers import TrainingArguments
    from trl import GRPOConfig

    keys = [keys] if isinstance(keys, str) else keys
    fields = {field.name: field for field in dataclasses.fields(GRPOConfig)}
    if keys is None:
        inherited = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
        own = [name for name, field in fields.items() if inherited.get(name, dataclasses.MISSING) != field.default]
        keys = [name for name in own if name not in DEPRECATED]
    keys = list(keys)
    check_keys(dict.fromkeys(keys), GRPOConfig)
    return [
        {"key": key, "default": repr(default(fields[key])), "meaning": _plain(fields[key], sentences)} for key in keys
    ]


def _plain(field: dataclasses.Field, sentences: int | None) -> str:
    """The help text without links and line breaks, cut after so many sentences."""
    text = re.sub(r"\[([^\]]{1,200})\]\([^)\s]{1,300}\)", r"\1", field.metadata.get("help", "").replace("%%", "%"))
    parts = re.split(r"(?<=[.?!]) (?=[A-Z])", " ".join(text.split()))  # the items of a list begin with a quote
    return " ".join(parts[:sentences])
