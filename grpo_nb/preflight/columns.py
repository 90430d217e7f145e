"""Rows and columns: that they are there, filled, and of one kind."""

from collections.abc import Callable, Sequence

from grpo_nb.data import tables
from grpo_nb.data.tables import short
from grpo_nb.rewards import answers, contract, parsing

ALIASES = {"prompt": tables.PROBLEM, "answer": tables.ANSWER[1:]}  # the first is no name, but holds one of them
MEDIA = ("image", "images")  # where a row has one of them, TRL's GRPOTrainer turns its prompt into typed parts


def check_columns(rows: Sequence[dict], needed: Sequence[str], *, why: str) -> None:
    """Refuse rows that lack a column, before anything expensive starts."""
    if len(rows) == 0:
        raise ValueError(
            f"{why} must have at least one row to train on (got none). Look at the filter that the rows went through."
        )
    missing = [name for name in needed if name not in rows[0]]
    if missing:
        renamed = [f"{old} to {new}" for new in missing for old in ALIASES.get(new, ()) if old in rows[0]]
        is_ours, is_readable = {"problem", "answer"} <= rows[0].keys(), tables.is_readable(rows[0])
        table = "rows" if is_ours else "data.as_rows(rows)"
        if "entry" in missing:
            advice = 'Take rows of data.load_task({"name": "gym", …}), through data.grpo_rows, or another reward.'
        elif "working" in missing and is_readable:
            advice = "Pass data.as_rows(rows), whose working may be empty."
        elif is_ours or (is_readable and ("prompt" in missing or missing == ["answer"] and not renamed)):
            advice = f"Pass data.grpo_rows({table}), or for SFT data.sft_rows({table})."
        elif missing[0] in ALIASES["answer"] and "answer" in rows[0]:
            advice = "Name the parameter answer, or add the column."
        else:
            advice = f"Rename {' and '.join(renamed)}." if renamed else "Look at where the rows come from."
        raise ValueError(
            f"{why} needs the column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))} "
            f"(got {', '.join(map(repr, rows[0]))}). {advice}"
        )


def check_media(rows: Sequence[dict]) -> None:
    """Refuse columns that TRL reads as pictures, None too; where all `images` are empty lists, it lets them be."""
    taken = [name for name in MEDIA if name in rows[0]]
    if taken == ["images"] and all(isinstance(row.get("images"), list) and not row["images"] for row in rows):
        return
    if taken:
        raise ValueError(
            f"no column may be called {' or '.join(MEDIA)}, for TRL puts its cells into the prompt, None too (got "
            f"{', '.join(taken)}). Drop it: [{{k: v for k, v in row.items() if k != {taken[0]!r}}} for row in rows]."
        )


def check_truths(rows: Sequence[dict], rewards: Sequence[Callable]) -> dict[str, int]:
    """Refuse true answers that no completion can match, where a reward of this package reads them.

    Returns: `text_answers`: how many of them are no number, so that `check_numbers` has nothing to say; {} where no
    such reward is in use.
    Raises: ValueError with the number of them, and the first.
    """
    used = [contract.unwrapped(reward) for reward in rewards]
    if not (answers.check_answer in used or answers.check_numbers in used) or not isinstance(
        rows[0].get("answer"), str
    ):
        return {}
    truths = [row["answer"] for row in rows]
    is_text = [not _is_number(truth) for truth in truths]
    if answers.check_answer in used:
        what, keep, can_match = "a number or one short line", "rewards.can_match(row['answer'])", answers.can_match
    else:
        what, keep = "a number, all that check_numbers reads", "rewards.parsing.number(row['answer']) is not None"
        can_match = _is_number
    odd = [number for number, truth in enumerate(truths) if is_text[number] and not can_match(truth)]
    if odd:
        some = ", ".join(f"row {number} {short(truths[number])}" for number in odd[:3])
        hides = all(tables.is_readable(rows[n]) and can_match(tables.as_row(rows[n])["answer"]) for n in odd)
        advice = "Pass data.grpo_rows(data.as_rows(rows))" if hides else f"Keep [row for row in rows if {keep}]"
        raise ValueError(
            f"column 'answer' must hold what a completion can match: {what} (got {len(odd)} of {len(rows)} that "
            f"none can: {some}). {advice}."
        )
    return {"text_answers": sum(is_text)}


def _is_number(truth: str) -> bool:
    return parsing.number(truth) is not None


def check_filled(rows: Sequence[dict], names: Sequence[str], *, why: str) -> None:
    """Refuse a column that is empty, of another kind, or unreadable in some row.

    Args:
        names: columns that are read, each known to be in `rows[0]`.
        why: who reads them.
    """
    for name in names:
        first: type | None = None
        for number, row in enumerate(rows):
            value = row.get(name)
            if value is None or value != value:  # NaN, which is how pandas says None
                raise ValueError(
                    f"row {number}, column {name!r}, must have what {why} reads there (got {value}). "
                    f"Fill it in, drop the row, or write {name}=None in the reward if it can do without."
                )
            kind = float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)
            first = first or kind
            if kind is not first:
                raise ValueError(
                    f"column {name!r} must hold one kind of value (got {rows[0][name]!r} in row 0 and {value!r} in "
                    f"row {number}). Make all of them text: str(row[{name!r}])."
                )
            if isinstance(value, str):
                check_readable(value, number, name)


def check_readable(text: str, number: int, column: str) -> None:
    """Refuse text that was decoded wrongly on its way here: a byte order mark, half of a surrogate pair."""
    if text.isascii():
        return
    if "\ufeff" in text:
        raise ValueError(
            f"row {number}, column {column!r}, must be clean text (got a byte order mark, U+FEFF, in {short(text)}). "
            'Open the file with encoding="utf-8-sig".'
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"row {number}, column {column!r}, must be valid Unicode (got half of a surrogate pair, "
            f"U+{ord(text[error.start]):04X}, at character {error.start}). Read the file again with "
            'encoding="utf-8", and without errors="surrogateescape".'
        ) from None
