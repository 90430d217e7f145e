"""A table of a batch flow, as somebody has written it → its rows."""

import re
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from grpo_nb.batchflow import arithmetic

# Every repetition is bounded, so that no text takes long.
PROMPT = re.compile(r"[pP#]?(\d{1,9})")
LABEL = re.compile(
    r"(?:(?:micro-?\s?)?step|t|步骤)?\s{0,3}[=#]?\s{0,3}(\d{1,9})(?=[\s|:.,;)]|$)[\s|:.,;)]{0,9}", re.IGNORECASE
)
DEVICE = re.compile(r"\b(?:gpu|rank|process|device|worker)\s{0,3}#?\d{1,4}\b\s{0,3}[:=]?", re.IGNORECASE)
GROUPS = re.compile(r"[\s|]{0,9}((?:\[[\dpP#\s,;]{0,9999}\][\s|,;/&]{0,9}){1,999})")
RULE = re.compile(r"[\s|:+=.…⋮-]{0,9999}")
UPDATE = re.compile(r"update|optimi[sz]er|更新", re.IGNORECASE)
DENIAL = re.compile(r"\b(?:no|not|without)\b|不|无", re.IGNORECASE)
SIGNS = {"*", "▲", "✓", "✔", "✅", "→", "⇒", "←", "->", "=>", "<-", "yes", "x"}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Fields:
        label: the step number that stands there, if any.
        prompts: of each completion, process after process.
        is_marked: whether the row says that an optimizer update follows.
    """

    label: int | None
    prompts: tuple[int, ...]
    is_marked: bool


def rows_of(text_or_rows: str | Iterable, *, width: int) -> list[Row]:
    """The rows of a Markdown table, of lines of numbers, or of `(step, ids…)`.

    Args:
        text_or_rows: a line is a row if it begins with a step number, or with prompts in square brackets; headings,
            rules and prose are passed over.
        width: completions of a micro-step, so that a column after them is none of them.
    Raises: ValueError if a table has a row that cannot be read, or nothing is a row.

    >>> rows_of("| 0 | [0,0,1] | |\\n| 1 | [1,2,2] | → optimizer update |", width=3)[1]
    Row(label=1, prompts=(1, 2, 2), is_marked=True)
    """
    if isinstance(text_or_rows, bytes | dict) or not isinstance(text_or_rows, Iterable):
        raise ValueError(
            f"a table must be text or a list of rows (got {type(text_or_rows).__name__}). Write 0 | [0,0,1] on a line."
        )
    if isinstance(text_or_rows, str):
        rows = list(_rows_of_text(text_or_rows, width))
    else:
        rows = list(map(_row_of_values, text_or_rows))
    if not rows:
        raise ValueError(
            f"a table must have a row for each micro-step (got {_short(str(text_or_rows))}). "
            "Write its step number and its prompts: 0 | [0,0,1]."
        )
    return rows


def _rows_of_text(text: str, width: int) -> Iterator[Row]:
    is_in_table = False
    for line in text.splitlines():
        cleaned = DEVICE.sub(" ", line.replace("\\", "").replace("**", "")).strip().strip("|").strip()
        row = None if RULE.fullmatch(line) else _row_of_line(cleaned, width)
        if row is None and is_in_table and line.lstrip().startswith("|") and not RULE.fullmatch(line):
            raise ValueError(
                f"every row must begin with a step number and hold prompts (got {_short(line)}). "
                "Write them as numbers: 0 | [0,0,1]."
            )
        is_in_table = line.lstrip().startswith("|") and (is_in_table or row is not None)
        if row is not None:
            yield row


def _row_of_line(line: str, width: int) -> Row | None:
    label = None if line.startswith("[") else LABEL.match(line)
    if label is None and not line.startswith("["):
        return None
    rest = line[label.end() :] if label else line
    if groups := GROUPS.match(rest.replace("[[", "[").replace("]]", "]")):
        prompts, notes = [int(number) for number in PROMPT.findall(groups[1])], groups.string[groups.end() :]
    else:
        prompts, notes = _leading_prompts(rest, width)
        if len(prompts) != width and notes.strip() and not _is_mark(notes) and "|" not in line:
            return None  # prose that begins with numbers
    if not prompts:
        return None
    return Row(int(label[1]) if label else None, tuple(prompts), _is_mark(notes))


def _leading_prompts(text: str, width: int) -> tuple[list[int], str]:
    """The numbers up to the first word, or up to the first column after `width` of them; what comes then."""
    prompts: list[int] = []
    cells = text.split("|")
    for at, cell in enumerate(cells):
        words = re.split(r"[\s,;]", re.sub(r"([*▲✓✔✅→⇒←])", r" \1 ", cell))
        words = [word for word in words if word]
        matches = [PROMPT.fullmatch(word) for word in words]
        many = next((n for n, match in enumerate(matches) if match is None), len(words))
        if len(prompts) >= width or (prompts and many < len(words)):
            return prompts, " ".join(cells[at:])
        prompts += [int(match[1]) for match in matches[:many] if match]
        if many < len(words):
            return prompts, " ".join([*words[many:], *cells[at + 1 :]])
    return prompts, ""


def _row_of_values(values: Any) -> Row:
    """A row of `(step, ids…)`; ids may be nested, one list per process, and words may follow them."""
    flat = list(_flat(values)) if not isinstance(values, str) else []
    numbers = [value for value in flat if arithmetic.is_whole(value)]
    words = [value for value in flat if isinstance(value, str)]
    if len(numbers) < 2 or len(numbers) + len(words) < len(flat):
        raise ValueError(
            f"every row must be a step number and prompts (got {reprlib.repr(values)!r}). Write it as (0, 0, 0, 1)."
        )
    return Row(int(numbers[0]), tuple(map(int, numbers[1:])), _is_mark(" ".join(words)))


def _flat(values: Any, depth: int = 3) -> Iterator:
    """What a row holds, out of its lists of lists; what lies deeper is passed on as it is, and is no number."""
    for value in values:
        if isinstance(value, str) or not isinstance(value, Iterable) or not depth:
            yield value
        else:
            yield from _flat(value, depth - 1)


def _is_mark(notes: str) -> bool:
    notes = notes.strip(" |\t").lower()
    return notes in SIGNS or (bool(UPDATE.search(notes)) and not DENIAL.search(notes))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
