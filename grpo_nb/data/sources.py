"""The name of a task or data set, or a path → rows."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from grpo_nb import profiles
from grpo_nb.batchflow import limits
from grpo_nb.data import files, gym, tables
from grpo_nb.data.addition import addition
from grpo_nb.data.rows import split_rows, steps
from grpo_nb.rewards import parsing

# Hub address, configuration and split names; the folder under GRPO_NB_DATA carries the key's name.
SOURCES = {
    "gsm8k": {"path": "openai/gsm8k", "name": "main", "train": "train", "held_out": "test"},
    "dapo_math": {"path": "open-r1/DAPO-Math-17k-Processed", "name": "en", "train": "train", "held_out": None},
    "open_math_reasoning": {"path": "unsloth/OpenMathReasoning-mini", "name": None, "train": "cot", "held_out": None},
    "gsm8k_sample": {"path": None, "name": None, "train": "train", "held_out": None},  # beside this file: 100 rows, MIT
}
OWN = {"name": None, "train": "train", "held_out": "test"}  # of a folder of your own


def load_task(task: dict, *, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Rows to train on and held-out rows that share no problem with them.

    Args:
        task: a profile's `task` dict: `name` (addition, gym, a public data set, or the path of a table of your own,
            with its `columns` if need be), `num_train`, `num_held_out`; for addition `digits` and `slip_rate`; for gym
            `gym`, a task of reasoning-gym, its `options` and `question` (`gym.problems`); for others perhaps
            `most_steps`, which keeps the easier rows: those whose working has no more steps.
        seed: picks the problems and the demonstrator's slips.
    Returns: (train, held_out), lists of rows {"problem": str, "answer": str, "working": str}, of gym with "entry".
    Raises: ValueError if the task is unknown or has too few problems; ImportError for gym without reasoning-gym.
    """
    sizes = {"num_train": task["num_train"], "num_held_out": task["num_held_out"]}
    if task["name"] == "addition":
        return addition(**sizes, digits=task["digits"], slip_rate=task["slip_rate"], seed=seed)
    if task["name"] == "gym":
        how = {key: task[key] for key in ("options", "question") if key in task}
        return gym.problems(task.get("gym"), **sizes, **how, seed=seed)
    rows = load_rows(task["name"], columns=task.get("columns"))
    if "most_steps" in task:
        rows = _of_few_steps(rows, task["most_steps"], where=task["name"])
    return split_rows(rows, **sizes, seed=seed)


def _of_few_steps(rows: list[dict], most: int, *, where: str) -> list[dict]:
    limits.check_whole(most_steps=most)
    few = [row for row in rows if 0 < steps(row["working"]) <= most]
    if not few:
        raise ValueError(
            f"most_steps needs rows whose working has at most {most} steps (got none among {len(rows)} of {where}). "
            "Raise it, or leave it out."
        )
    return few


def is_available(name: str, local_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load_rows(name)` finds the data set in a local folder, with no need of the Hub."""
    return bool(files.files_in(_folder(name, local_dir), SOURCES.get(name, {}).get("name")))


def load_rows(
    name: str | os.PathLike,
    *,
    split: str = "train",
    local_dir: str | os.PathLike | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[dict]:
    """Rows of a public data set, or of a table of your own.

    Args:
        name: "gsm8k", "dapo_math" or "open_math_reasoning", or the path of a file, or of a folder of them;
            "gsm8k_sample" is every 88th row of all of GSM8K, and part of this package.
        split: "train", or "held_out" where there is one (gsm8k, and a folder with files named test*).
        local_dir: folder with the public data set's files; default GRPO_NB_DATA/<name>, then the Hub.
        columns: which of your columns is the "problem", the "answer", the "working", where the contract above does not
            know their names.
    Returns: rows {"problem", "answer", "working"}; only rows whose answer is a number for open_math_reasoning.
    Raises: ValueError for an unknown data set or split, or files that cannot be read; ConnectionError without the Hub.
    """
    name = str(name)
    place = _folder(name, local_dir) if name in SOURCES else Path(name).expanduser()
    if place is not None and not place.exists() and (name not in SOURCES or local_dir is not None):
        raise ValueError(
            f"the data set must be one of {', '.join(SOURCES)}, or a file or folder that exists (got "
            f"{str(local_dir or name)!r}). Look at the path; addition is `addition(...)`."
        )
    records = _records(name, SOURCES.get(name, OWN), split, place)
    if name in READERS:
        return tables.read(records, READERS[name], where=name)
    return tables.as_rows(records, columns=columns, where=Path(name).name)


def _records(name: str, source: dict, split: str, place: Path | None) -> list[dict]:
    """What one split holds: a file, the files of a folder, or what the Hub has."""
    is_file = place is not None and place.is_file()
    if not source.get(split) or (is_file and split != "train"):
        raise ValueError(f"{name} has no {split!r} split. Use split='train' and split_rows.")
    if place is None or not place.exists():
        return _from_hub(name, source, split)
    found = [place] if is_file else files.of_split(place, source, split)
    return [record for file in found for record in files.read_file(file)]


def _folder(name: str, local_dir: str | os.PathLike | None) -> Path | None:
    """Where a public data set lies on this machine, if somewhere at all."""
    if local_dir is not None:
        return Path(local_dir).expanduser()
    if name == "gsm8k_sample":
        return Path(__file__).parent / name
    home = profiles.folder_named("GRPO_NB_DATA")
    return home and home / name


def _from_hub(name, source: dict, split: str) -> list[dict]:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(source["path"], source["name"], split=source[split]).to_list()
    except ConnectionError as error:
        raise ConnectionError(
            f"{name} must be in a local folder, or the Hub within reach (got no GRPO_NB_DATA with a folder {name}, and "
            f"{error}). Put its files, such as {source['train']}.jsonl, into that folder."
        ) from error


def _gsm8k_row(record: Mapping) -> dict:
    return tables.as_row(record, must_mark=True)


def _dapo_math_row(record: Mapping) -> dict:
    """Without the lines around each problem of the original that ask for another layout than ours."""
    row = tables.as_row(record)
    parts = row["problem"].split("\n\n")
    parts = parts[1:] if parts[0].startswith("Solve the following math problem step by step.") else parts
    parts = parts[:-1] if parts[-1].startswith("Remember to put your answer on its own line") else parts
    return {**row, "problem": "\n\n".join(parts), "working": ""}


def _open_math_reasoning_row(record: Mapping) -> dict:
    row = tables.as_row(record)
    if parsing.number(row["answer"]) is None:
        raise ValueError(f"has the answer {row['answer']!r:.40}, which is no number")
    return row


READERS: dict[str, Callable[[Mapping], dict]] = {
    "gsm8k": _gsm8k_row,
    "dapo_math": _dapo_math_row,
    "open_math_reasoning": _open_math_reasoning_row,
    "gsm8k_sample": _gsm8k_row,
}
