"""A record of any of the usual layouts → a row {"problem", "answer", "working"}: the contract in the door's table."""

import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from grpo_nb.rewards import parsing

# What data sets call the columns; preflight's advice reads these too.
PROBLEM = ("problem", "question", "prompt", "query", "instruction", "messages", "conversations", "input", "text")
ANSWER = ("reward_model", "answer", "expected_answer", "final_answer", "ground_truth", "solution", "target", "label")
ANSWER += ("output", "response", "completion")
WORKING = ("working", "generated_solution", "rationale", "reasoning", "solution")
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}

_BOX = re.compile(r"\\(?:boxed|fbox) {0,9}\{")


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
        table: a list of dicts, a `datasets.Dataset` or a pandas data frame.
        columns: as for `load_rows`.
        where: what to call the table in a sentence.
    Raises: ValueError if no row has both a problem and an answer.

    >>> as_rows([{"question": "8·9?", "answer": "8·9=72\\n#### 72"}, {"instruction": "1+1?", "output": 2}])[0]
    {'problem': '8·9?', 'answer': '72', 'working': '8·9=72'}
    """
    if hasattr(table, "columns"):  # pandas: its NaN, NA and NaT are all None here
        table = table.astype(object).where(table.notna(), None).to_dict("records")
    records = read_rows(table)
    # Where most rows mark their answer, prose without a mark is a rationale: it must not become its own answer.
    cells = [_cell(record, "answer", columns) for record in records]
    most_are_marked = sum(isinstance(cell, str) and _marked(cell) is not None for cell in cells) * 2 > len(cells)

    def row_of(record: Mapping) -> dict:
        cell = _cell(record, "answer", columns)
        is_prose = isinstance(cell, str) and parsing.number(cell) is None
        return as_row(record, columns=columns, must_mark=most_are_marked and is_prose)

    return read(records, row_of, where=where)


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
    if "instruction" in record and "problem" not in (columns or {}) and asked == record["instruction"]:
        problem = "\n\n".join([problem, *filter(None, [record.get("input")])])
    answer = _cell(record, "answer", columns)
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
    names = {str(name).strip().lower(): name for name in record}
    known = {"problem": PROBLEM, "answer": ANSWER, "working": WORKING}[which]
    cells = [record[names[name]] for name in known if name in names]
    if which == "answer" and cells and "reward_model" in names:
        cells[0] = cells[0].get("ground_truth") if isinstance(cells[0], Mapping) else None
        cells = cells[1:] if cells[0] is None else cells
    cell = cells[0] if cells else None
    return cell.tolist() if hasattr(cell, "tolist") else cell  # numpy's


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
    """The answer in a cell as text: 72 of 72.0, and of a list that holds nothing else."""
    if isinstance(cell, list | tuple) and len(cell) == 1:
        cell = cell[0]["content"] if isinstance(cell[0], Mapping) and "content" in cell[0] else cell[0]
    if isinstance(cell, numbers.Real) and not isinstance(cell, bool) and math.isfinite(cell):
        return str(int(cell)) if cell == int(cell) and abs(cell) < 2**53 else str(cell)
    if isinstance(cell, numbers.Real | list | tuple | Mapping) and not isinstance(cell, bool):
        raise ValueError(f"has no answer that is a number or text (got {str(cell):.40})")
    if cell is None or not str(cell).strip():
        raise ValueError("has no answer")
    return str(cell).strip()


def _marked(text: str) -> tuple[str, str] | None:
    """(working, answer) of `working #### answer` or of a text with a box, the last of each; None without a mark.

    >>> _marked(r"So it is \\boxed{\\frac{2}{3}}."), _marked("72")
    (('So it is \\\\boxed{\\\\frac{2}{3}}.', '\\\\frac{2}{3}'), None)
    """
    before, mark, answer = text.rpartition("####")
    if mark and answer.strip() and "\n" not in answer.strip():
        answer = answer.strip()
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
