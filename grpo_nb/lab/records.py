"""Arms that were trained before the series was published: `experiments.json`, found beside the notebooks.

An arm is taken from there if just that was asked for: settings, task, start, rewards and seed. The record says with
which versions and on what machine it was trained. It holds no path and no name of a machine.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from grpo_nb import profiles
from grpo_nb.lab import training
from grpo_nb.runs import files

NAME, SCHEMA = "experiments.json", 1
POINTS = 50  # of a curve, at most
COMMON = ("date", "versions", "machine")  # of many arms


def path(name: str = NAME) -> Path | None:
    """A record: in the folder that GRPO_NB_RECORDS names, in `runs` here, or in the checkout; None where none is."""
    named = profiles.folder_named("GRPO_NB_RECORDS")
    checkout = Path(__file__).parents[2] / "notebooks" / "runs"
    places = [named] if named else [Path("runs"), checkout]
    return next((place / name for place in places if (place / name).is_file()), None)


def recorded(name: str) -> list[dict]:
    """Whole runs of a notebook, trained before the series was published: what each saved; [] where there is no record.

    Args:
        name: of the record, `<name>.json`, which `benchmarks/<name>.py` writes.
    Raises: ValueError if it cannot be read.
    """
    there = path(f"{name}.json")
    try:
        return [] if there is None else list(json.loads(there.read_text(encoding="utf8"))["runs"])
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        advice = "Restore the file, or move it away: the notebook then shows your own run alone."
        raise ValueError(
            f"{there.name} must be a record of runs (got {type(error).__name__}: {error}). {advice}"
        ) from error


def find(asked: str) -> training.Measured | None:
    """What was recorded of an arm with a seed, by `arms.Arm.asked`; None if nothing was.

    Raises: ValueError if the record cannot be read.
    """
    there = path()
    found = None if there is None else _read(there, there.stat().st_mtime_ns).get(asked)
    if found is not None and not found.is_whole:
        raise ValueError(_damaged(there, f"an arm, {asked}, of which something is missing or no number"))
    return found


@functools.lru_cache(maxsize=2)
def _read(there: Path, changed: int) -> dict[str, training.Measured]:
    return read(there)


def read(there: Path) -> dict[str, training.Measured]:
    """Every arm of a record, by what was asked for.

    Raises: ValueError if it is none, or one of a newer schema.
    """
    try:
        record = json.loads(there.read_text(encoding="utf8"))
        if record["schema"] > SCHEMA:
            raise ValueError(f"it is of schema {record['schema']}, this grpo_nb reads {SCHEMA}")
        return {
            asked: _unpacked(arm, {key: batch[key] for key in COMMON})
            for batch in record["batches"]
            for asked, arm in batch["arms"].items()
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(_damaged(there, f"{type(error).__name__}: {error}")) from error


def _damaged(there: Path, got: str) -> str:
    advice = "Restore the file, or move it away: arms are then trained."
    return f"{there.name} must be a record of arms (got {got}). {advice}"


def add(there: Path, label: str, asked: str, found: training.Measured) -> None:
    """Write an arm with a seed into a record, in place of one that was asked for alike.

    Args:
        label: for a human reader.
        asked: of `arms.Arm.asked`.
    """
    record = json.loads(there.read_text(encoding="utf8")) if there.is_file() else {"schema": SCHEMA, "batches": []}
    common = {key: getattr(found, key) for key in COMMON}
    for batch in record["batches"]:
        batch["arms"].pop(asked, None)
    batch = next((b for b in record["batches"] if {key: b[key] for key in COMMON} == common), None)
    if batch is None:
        record["batches"].append(batch := {**common, "arms": {}})
    batch["arms"][asked] = {"arm": label, **_packed(found)}
    record["batches"] = [batch for batch in record["batches"] if batch["arms"]]
    there.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(there, _lines(record))


def _lines(record: dict) -> str:
    """JSON with a line for each arm: small, and a change shows as a line."""
    batches = []
    for batch in record["batches"]:
        arms = ",\n".join(
            f"{json.dumps(a)}:{json.dumps(arm, separators=(',', ':'))}" for a, arm in batch["arms"].items()
        )
        batches.append(json.dumps({key: batch[key] for key in COMMON})[:-1] + f', "arms": {{\n{arms}\n}}}}')
    return f'{{"schema": {record["schema"]}, "batches": [\n' + ",\n".join(batches) + "\n]}\n"


def _packed(found: training.Measured) -> dict:
    """An arm in few bytes: a list for each metric, and a digit for each prompt: how many of its samples are right."""
    rows = [row for row in found.rows if row.get("reward") is not None]
    span = -(-len(rows) // POINTS)  # of a long run the means of so many steps
    blocks = [rows[i : i + span] for i in range(0, len(rows), span or 1)]
    kept = [key for key in training.KEPT if any(row.get(key) is not None for row in rows)]
    return {
        "steps": [block[-1]["step"] for block in blocks],
        "curves": {key: [_short(_mean(row.get(key) for row in block)) for block in blocks] for key in kept},
        "samples": found.samples,
        "shares": {key: _digits(shares, found.samples) for key, shares in found.shares.items()},
        "other": {key: _short(value) for key, value in found.other.items()},
        "tokens": found.tokens,
        "seconds": found.seconds,
        "stopped": found.stopped,
    }


def _digits(shares: list[float], samples: int) -> str:
    """How many of the samples of each prompt, a digit each.

    >>> _digits([0.0, 0.5, 1.0], 4)
    '024'
    """
    return "".join(str(round(share * samples)) for share in shares)


def _unpacked(arm: dict, common: dict) -> training.Measured:
    curves = zip(*arm["curves"].values(), strict=True)
    rows = [{"step": s, **dict(zip(arm["curves"], v, strict=True))} for s, v in zip(arm["steps"], curves, strict=True)]
    shares = {key: [int(digit) / arm["samples"] for digit in digits] for key, digits in arm["shares"].items()}
    plain = {key: arm[key] for key in ("samples", "other", "tokens", "seconds", "stopped")}
    return training.Measured(source="recorded", rows=rows, shares=shares, **plain, **common)


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _short(value: float | None) -> float | None:
    return value if value is None else float(f"{value:.4g}")
