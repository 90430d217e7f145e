"""A table of a batch flow, as somebody has written it → its rows."""

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grpo_nb.batchflow import arithmetic

# Step | prompts | notes; the prompts in brackets, or up to the first word. Bounded, so that no text takes long.
LINE = re.compile(
    r"[|\s]{0,9}(?:step\s{0,3})?(\d{1,9})\s{0,9}[|:]\s{0,9}"
    r"((?:\[[\d\s,]{0,9999}\][\s|,]{0,9}){1,999}|[\d\s,|]{0,9999})(.*)",
    re.IGNORECASE,
)
UPDATE = re.compile(r"update|optimi[sz]er|更新", re.IGNORECASE)
DENIAL = re.compile(r"\b(?:no|not|without)\b|不|无", re.IGNORECASE)
SIGNS = {"*", "→", "->", "✓", "✅", "yes"}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Fields:
        label: the step number that stands there.
        prompts: of each completion, process after process.
        is_marked: whether the row says that an optimizer update follows.
    """

    label: int
    prompts: tuple[int, ...]
    is_marked: bool


def rows_of(text_or_rows: str | Iterable) -> list[Row]:
    """The rows of a Markdown table, of lines `step: ids`, or of `(step, ids…)`.

    Args:
        text_or_rows: a line is a row if it begins with a step number and a bar or a colon; headings, rules and prose
            are passed over.
    Raises: ValueError if a row cannot be read, or nothing is a row.

    >>> rows_of("| 0 | [0,0,1] | |\\n| 1 | [1,2,2] | → optimizer update |")[1]
    Row(label=1, prompts=(1, 2, 2), is_marked=True)
    """
    if isinstance(text_or_rows, bytes | dict) or not isinstance(text_or_rows, Iterable):
        raise ValueError(
            f"a table must be text or a list of rows (got {type(text_or_rows).__name__}). Write 0 | [0,0,1] on a line."
        )
    if isinstance(text_or_rows, str):
        lines = text_or_rows.replace("\\", "").replace("**", "").splitlines()
        rows: list[Row] = []
        match = None
        for line in lines:
            above, match = match, LINE.match(line)
            if match:
                rows.append(_row([int(match[1]), *map(int, re.findall(r"\d{1,9}", match[2])), match[3]], line))
            elif above and re.match(r"\s{0,9}\|[|\s]{0,99}\w", line):  # goes on with the table, without a step number
                _row([], line)
    else:
        rows = [_row(values, values) for values in text_or_rows]
    if not rows:
        raise ValueError(
            f"a table must have a row for each micro-step (got {reprlib.repr(text_or_rows)}). "
            "Write its step number and its prompts: 0 | [0,0,1]."
        )
    return rows


def _row(values: Any, given: object) -> Row:
    """A row of `(step, ids…)`; ids may be nested, one list per process, and words may follow them."""
    cells = values if isinstance(values, list | tuple) else ()
    flat = [value for cell in cells for value in (cell if isinstance(cell, list | tuple) else (cell,))]
    numbers = [int(value) for value in flat if arithmetic.is_whole(value)]
    words = [value for value in flat if isinstance(value, str)]
    if len(numbers) < 2 or len(numbers) + len(words) < len(flat):
        raise ValueError(
            f"every row must be a step number and prompts (got {reprlib.repr(given)}). "
            "Write them as numbers: 0 | [0,0,1], or (0, 0, 0, 1)."
        )
    notes = " ".join(words).strip(" |\t").lower()
    return Row(
        numbers[0], tuple(numbers[1:]), notes in SIGNS or bool(UPDATE.search(notes) and not DENIAL.search(notes))
    )
