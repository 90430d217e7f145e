"""A record of any of the usual layouts → a row {"problem", "answer", "working"}: the contract in the door's table."""

import contextlib
import json
import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from grpo_nb.rewards import parsing

# What data sets call the columns; preflight's advice reads these too.
PROBLEM = ("problem", "question", "prompt", "query", "instruction", "messages", "conversations", "input", "text")
ANSWER = ("reward_model", "answer", "expected_answer", "final_answer", "ground_truth", "solution", "target", "label")
ANSWER += ("output", "response", "completion", "answerkey")
WORKING = ("working", "generated_solution", "rationale", "reasoning", "solution")
CONTEXT, CHOICES = ("body", "context", "passage"), ("choices", "options")  # what a question cannot be answered without
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}

_BOX = re.compile(r"\\(?:boxed|fbox) {0,9}\{")
_LABELLED = re.compile(r"\(?[A-Z] ?[).:]")


def read_rows(dataset) -> Sequence[dict]:
    """The rows of a data set as dicts.

    Args:
        dataset: a list of dicts, or a `datasets.Dataset`.
    Raises: ValueError if it is something else: a path, a dict of splits, a stream, a data frame.
    """
    if hasattr(dataset, "to_list"):
        dataset = dataset.to_list()  # the whole table at once: 17 000 rows in 20 ms, one by one in 250
    if isinstance(dataset, Mapping) and dataset and all(map(_is_column, dataset.values())):
        raise ValueError(
            f"the data set must be rows, not a dict of columns (got the keys {', '.join(map(repr, dataset))}). "
            "Turn it: datasets.Dataset.from_dict(dataset)."
        )
    if isinstance(dataset, Mapping) and dataset:
        raise ValueError(
            f"the data set must be rows, not a dict of splits (got the keys {', '.join(map(repr, dataset))}). "
            f"Pass one of them: dataset[{next(iter(dataset), 'train')!r}]."
        )
    if not isinstance(dataset, Sequence) or isinstance(dataset, (str, bytes)):
        raise ValueError(
            f"the data set must be a list of dicts or a datasets.Dataset (got {type(dataset).__name__}). "
            "Load a file with data.load_rows, read a table with data.as_rows, or make a list of dicts."
        )
    for number, row in enumerate(dataset):
        if not isinstance(row, Mapping):
            raise ValueError(
                f"row {number} must be a dict of columns (got {type(row).__name__} {short(row)}). "
                'Write {"prompt": …, "answer": …}.'
            )
    return dataset


def _is_column(values) -> bool:
    """Whether this is a list of cells, not of rows."""
    return isinstance(values, list | tuple) and not (values and isinstance(values[0], Mapping))


def as_rows(table, *, columns: Mapping[str, str] | None = None, where: str = "the table") -> list[dict]:
    """A table of any of the layouts above → rows {"problem", "answer", "working"}.

    Args:
        table: a list of dicts, a `datasets.Dataset`, or a table of pandas, Arrow or Polars.
        columns: as for `load_rows`.
        where: what to call the table in a sentence.
    Raises: ValueError if no row has both a problem and an answer, or if `columns` names none that is there.

    >>> as_rows([{"question": "8·9?", "answer": "8·9=72\\n#### 72"}, {"instruction": "1+1?", "output": 2}])[0]
    {'problem': '8·9?', 'answer': '72', 'working': '8·9=72'}
    """
    if hasattr(table, "iterrows"):  # pandas: its NaN, NA and NaT are all None here
        table = table.astype(object).where(table.notna(), None).to_dict("records")
    for method in ("to_pylist", "to_dicts"):  # Arrow's, Polars'
        table = getattr(table, method)() if hasattr(table, method) else table
    records = read_rows(table)
    if columns is not None:
        _check_names(columns, {name for record in records for name in record})
    # Where most rows mark their answer, prose without a mark is a rationale: it must not become its own answer.
    cells = [_cell(record, "answer", columns) for record in records]
    most_are_marked = sum(isinstance(cell, str) and _marked(cell) is not None for cell in cells) * 2 > len(cells)

    def row_of(record: Mapping) -> dict:
        cell = _cell(record, "answer", columns)
        is_prose = isinstance(cell, str) and parsing.number(cell) is None
        return as_row(record, columns=columns, must_mark=most_are_marked and is_prose)

    return read(records, row_of, where=where)


def _check_names(columns: Any, there: set) -> None:
    is_dict = isinstance(columns, Mapping) and columns.keys() <= {"problem", "answer", "working"}
    if not is_dict or not all(isinstance(name, str) and name in there for name in columns.values()):
        names = ", ".join(sorted(map(repr, there)))
        raise ValueError(
            "columns must be a dict from 'problem', 'answer' or 'working' to the name of a column, one of "
            f"{names} (got {columns!r:.80}). Turn it around, or correct the name."
        )


def as_row(record: Mapping, *, columns: Mapping[str, str] | None = None, must_mark: bool = False) -> dict:
    """One record of any of the layouts above → {"problem", "answer", "working"}.

    Args:
        must_mark: whether the answer has to be marked by `####` or `\\boxed{…}`.
    Raises: ValueError, as the end of a sentence ("has no answer").
    """
    asked = _cell(record, "problem", columns)
    problem, reply = _exchange(asked) if isinstance(asked, list | tuple) else (asked, None)
    if not isinstance(problem, str) or not problem.strip():
        raise ValueError("has no problem")
    answer = _cell(record, "answer", columns)
    if "problem" not in (columns or {}):
        choices = _choices(record)
        problem = _with_context(record, problem, choices)
        if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
            answer = chr(ord("A") + answer)
    text = _answer_text(reply if answer is None else answer)
    marked = _marked(text)
    if marked is None and must_mark:
        raise ValueError("has no #### and no \\boxed{…}, so that no answer is marked")
    before, text = marked or ("", text)
    working = _cell(record, "working", columns)
    working = before if not isinstance(working, str) or working == answer else working
    working = working.replace("<think>", "").replace("</think>", "").strip()
    return {"problem": problem.strip(), "answer": text, "working": working}


def is_readable(record: Mapping) -> bool:
    """Whether `as_row` finds a problem and an answer in it."""
    try:
        return bool(as_row(record))
    except ValueError:
        return False


def _cell(record: Mapping, which: str, columns: Mapping[str, str] | None) -> Any:
    """What a record has in the first of the columns that may hold its problem, answer or working; None without any."""
    if columns and which in columns:
        return record.get(columns[which])
    cells = _cells(record, {"problem": PROBLEM, "answer": ANSWER, "working": WORKING}[which])
    if which == "answer" and (rule := _cells(record, ANSWER[:1])):
        cells[0] = rule[0].get("ground_truth") if isinstance(rule[0], Mapping) else None
        cells = cells[1:] if cells[0] is None else cells
    return cells[0] if cells else None


def _cells(record: Mapping, known: Sequence[str]) -> list:
    """What a record has in those of the columns that are there; capitals and blanks in names do not count."""
    names = {str(name).strip().lower(): name for name in record}
    cells = [record[names[name]] for name in known if name in names]
    return [cell.tolist() if hasattr(cell, "tolist") else cell for cell in cells]  # numpy's


def _choices(record: Mapping) -> list[str]:
    """The choices of a question, each with the label that it has, or else its letter; they may be columns A, B, ….

    >>> _choices({"choices": ["7", "9"]}), _choices({"Options": {"text": ["x", "y"], "label": ["1", "2"]}})
    (['A) 7', 'B) 9'], ['1) x', '2) y'])
    """
    labels: Sequence = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    lettered = [record[letter] for letter in labels if isinstance(record.get(letter), str)]
    (cell,) = _cells(record, CHOICES)[:1] or [lettered if len(lettered) > 1 else None]
    if isinstance(cell, Mapping):
        is_split = "text" in cell
        labels, cell = (cell.get("label") or labels, cell["text"]) if is_split else ([*cell], [*cell.values()])
    if not isinstance(cell, list | tuple) or not all(isinstance(text, str | numbers.Real) for text in cell):
        return []
    has_labels = all(_LABELLED.match(str(text)) for text in cell)
    return [str(text) if has_labels else f"{label}) {text}" for label, text in zip(labels, cell, strict=False)]


def _with_context(record: Mapping, problem: str, choices: Sequence[str]) -> str:
    """A problem between its story or context and, after it, an instruction's input and the choices."""
    inputs = _cells(record, ["input"]) if problem in _cells(record, ["instruction"]) else []
    before, after = (
        [str(cell) for cell in cells if isinstance(cell, str | list) and cell and str(cell) not in problem]
        for cells in (_cells(record, CONTEXT), [*inputs, "\n".join(choices)])
    )
    return "\n\n".join([*before, problem, *after])


def plain_text(content: Any) -> str:
    """The text of a message: its content, or the text of its typed parts put together.

    >>> plain_text([{"type": "text", "text": "8·9"}, {"type": "text", "text": "?"}])
    '8·9?'
    """
    if not isinstance(content, list | tuple):
        return content if isinstance(content, str) else ""
    for part in content:
        if not isinstance(part, str) and not (isinstance(part, Mapping) and isinstance(part.get("text"), str)):
            raise ValueError(
                f"has a part that is no text ({part.get('type') if isinstance(part, Mapping) else part!r})"
            )
    return "".join(part if isinstance(part, str) else part["text"] for part in content)


def _exchange(messages: Sequence) -> tuple[str | None, str | None]:
    """The first question of a conversation, and the reply to it if there is one; a system turn is passed over."""
    turns = []
    for turn in messages:
        if not isinstance(turn, Mapping):
            raise ValueError("has messages that are no messages")
        role = str(turn.get("role", turn.get("from"))).lower()
        turns.append((ROLES.get(role, role), plain_text(turn.get("content", turn.get("value")))))
    turns = [turn for turn in turns if turn[0] != "system"]
    asked = [place for place, (role, _) in enumerate(turns) if role == "user"]
    if not asked:
        return None, None
    if len(asked) > 1 and turns[-1][0] == "user":
        raise ValueError("asks more than one question")
    after = turns[asked[0] + 1 : asked[0] + 2]
    return turns[asked[0]][1], after[0][1] if after and after[0][0] == "assistant" else None


def _answer_text(cell: Any) -> str:
    """The answer in a cell as text: 72 of 72.0, and of a message or a list (of JSON too) that holds nothing else."""
    if isinstance(cell, str) and cell.startswith('["') and cell.endswith('"]'):
        with contextlib.suppress(ValueError):
            cell = json.loads(cell)
    if isinstance(cell, list | tuple) and len(cell) == 1:
        cell = cell[0]
    if isinstance(cell, Mapping) and "content" in cell:
        cell = plain_text(cell["content"])
    if isinstance(cell, float | Decimal) and math.isfinite(cell) and cell == int(cell) and abs(cell) < 2**53:
        cell = int(cell)
    is_finite = isinstance(cell, bool | numbers.Rational) or (isinstance(cell, float | Decimal) and math.isfinite(cell))
    if isinstance(cell, numbers.Number | Iterable) and not isinstance(cell, str) and not is_finite:
        raise ValueError(f"has no answer that is a number or text (got {str(cell):.40})")
    if cell is None or not str(cell).strip():
        raise ValueError("has no answer")
    return str(cell).strip()


def _marked(text: str) -> tuple[str, str] | None:
    """(working, answer) of `working #### answer` or of a text with a box, the last of each; None without a mark.

    >>> _marked(r"So it is \\boxed{\\frac{2}{3}}."), _marked("72")
    (('So it is \\\\boxed{\\\\frac{2}{3}}.', '\\\\frac{2}{3}'), None)
    """
    before, mark, after = text.rpartition("####")
    answer, _, rest = (part.strip() for part in after.strip().partition("\n"))
    if mark and answer and (not rest or ("\n" not in rest and rest.endswith(answer))):  # MetaMathQA says it once more
        return before.strip(), answer if parsing.number(answer) is None else answer.replace(",", "")
    *_, last = [None, *_BOX.finditer(text)]
    depth, start = 1, last.end() if last else len(text)
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            inside = text[start:end].strip()
            is_all = not (text[: last.start()].strip(" $") or text[end + 1 :].strip(" $."))
            return ("" if is_all else text.strip(), inside) if inside else None
    return None


def read(records: Iterable[Mapping], reader: Callable[[Mapping], dict], *, where: str) -> list[dict]:
    """The rows that `reader` makes of the records; those that it raises on are left out, and counted in a line."""
    records, rows, left_out = list(records), [], []
    for number, record in enumerate(records):
        try:
            rows.append(reader(record))
        except ValueError as why:
            left_out.append(f"row {number} {why}")
    some = "; ".join(left_out[:3]) + ("; …" if len(left_out) > 3 else "")
    if not rows:
        names = f", columns {', '.join(map(repr, records[0]))}: {some}" if records else ""
        raise ValueError(
            f"{where} must have a row with a problem and an answer (got {len(records)} rows{names}). Look at the "
            "rows, and where columns have other names, pass columns={'problem': …, 'answer': …}."
        )
    if left_out:
        print(f"{where}: {len(left_out)} of {len(records)} rows are left out ({some})")
    return rows


def short(value: Any) -> str:
    """A value in an error message: ASCII, at most 40 characters."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
