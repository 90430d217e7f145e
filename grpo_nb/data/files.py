"""A file or a folder → records: which tables there are, of which split, and what is in them."""

import csv
import glob
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}
CARDS = {"dataset_info", "dataset_infos", "dataset_dict", "state"}  # what `datasets` writes beside the rows
_BLANKS = re.compile(r"\s*")


def _ending(file: Path) -> str:
    """The ending that says how to read a file, ".json.gz" of `train.json.gz`; "" of what is no table."""
    name = file.name.lower()
    return next((kind + packed for kind in FORMATS for packed in ("", ".gz") if name.endswith(kind + packed)), "")


def files_in(folder: Path | None, configuration: str | None) -> list[Path]:
    """The tables below a folder; those of one configuration only, where it has a folder of its own."""
    if folder is None:
        return []
    folder = folder / configuration if configuration and (folder / configuration).is_dir() else folder
    found = (file for file in folder.rglob("*") if _ending(file) and file.stem not in CARDS and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def of_split(folder: Path, source: dict, split: str) -> list[Path]:
    """The files of one split, by the words of their names; files that name no split are training rows."""
    files = files_in(folder, source["name"])
    words = {file: {*re.split("[^a-z]+", file.relative_to(folder).as_posix().lower())} for file in files}
    mine = [file for file in files if source[split] in words[file] and not words[file] & SPLITS - {source[split]}]
    if not mine and split == "train":
        mine = [file for file in files if not words[file] & SPLITS - {"train"}]
    if len({_ending(file) for file in mine}) != 1:
        here = ", ".join(file.name for file in (files or sorted(folder.iterdir()))[:9]) or "an empty folder"
        raise ValueError(
            f"the {split} files must be of one kind ({', '.join(FORMATS)}) and named {source[split]}* "
            f"(got {here}). Rename them, or move the others away."
        )
    return mine


def read_file(path: str | os.PathLike) -> list[dict]:
    """The records of one file: JSON (an array, or lines), Parquet, CSV or TSV; .gz is unpacked.

    Cells are as the file has them: those of CSV are text, a number of JSON is a number.

    Raises: ValueError if the file holds no rows, or something else than its name says.
    """
    file = Path(path)
    try:
        records = _records_of(file)
    except (ValueError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        with file.open("rb") as opened:
            head = opened.read(40).decode("ascii", "backslashreplace")
        raise ValueError(
            f"{file.name} must be a table in UTF-8 of the kind that its name says (got {type(error).__name__}: "
            f"{' '.join(str(error).split()):.120}, in a file that begins with {head!r}). Write it again, for example "
            "as JSON lines; where Git LFS has left its pointer, run git lfs pull."
        ) from error
    if not records or not all(isinstance(record, Mapping) for record in records):
        wrong = next((type(record).__name__ for record in records if not isinstance(record, Mapping)), "none")
        raise ValueError(
            f'{file.name} must hold rows with named columns (got {wrong}). Write {{"problem": …, "answer": …}} in each.'
        )
    return records


def _records_of(file: Path) -> list:
    ending = _ending(file)
    if not ending:
        raise ValueError(f"a name that ends in none of {', '.join(FORMATS)}, or .gz after it")
    if ending == ".parquet":
        import datasets

        return list(datasets.load_dataset("parquet", data_files=glob.escape(str(file)), split="train", streaming=True))
    with (gzip.open if ending.endswith(".gz") else open)(file, "rt", encoding="utf-8-sig", newline="") as opened:
        text = opened.read()
    return _csv_records(text) if ending.startswith((".csv", ".tsv")) else _json_records(text)


def _csv_records(text: str) -> list:
    """The rows of a table with a header, its cells as text; the header says which of , ; and tab separates them.

    >>> _csv_records('problem;answer\\n"1;2?";3')
    [{'problem': '1;2?', 'answer': '3'}]
    """
    separator = max(",;\t", key=text.partition("\n")[0].count)
    records = list(csv.DictReader(io.StringIO(text), delimiter=separator))
    for number, record in enumerate(records):
        if any(more := record.pop(None, [])):
            raise ValueError(f"row {number} with {more[0]!r:.20} after its last column: quote cells with {separator!r}")
    return records


def _json_records(text: str) -> list:
    """The rows of JSON text: an array, an array under the one key "data", or values one after the other.

    >>> _json_records('[{"a": 1}, {"a": 2}]'), _json_records('{"a": 1} {"a": 2}'), _json_records('{"data": [{"a": 1}]}')
    ([{'a': 1}, {'a': 2}], [{'a': 1}, {'a': 2}], [{'a': 1}])
    """
    decoder, records, end = json.JSONDecoder(), [], len(text.rstrip())
    at = _BLANKS.match(text).end()
    while at < end:  # the decoder's errors name the line of the file
        value, at = decoder.raw_decode(text, at)
        records += value if isinstance(value, list) else [value]
        at = _BLANKS.match(text, at).end()
    if len(records) == 1 and isinstance(records[0], Mapping):
        lists = [records[0][key] for key in ("data", "train", "rows", "examples") if key in records[0]]
        records = lists[0] if lists and isinstance(lists[0], list) else records
    return records
