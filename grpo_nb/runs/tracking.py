"""A run: its folder, metrics.jsonl always, SwanLab offline by default, a live table in the notebook.

The JSONL file is the source of every figure: one line per logged step, on the disk before the next one starts, so that
a killed kernel loses nothing.
"""

import contextlib
import json
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import profiles
from grpo_nb.runs import callbacks, files, swanlab

outputs_dir = profiles.outputs_dir
MODES = ("off", "offline", "online")
RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"),
}  # by Windows
LONGEST = 100  # bytes of a run's name: Windows allows 260 characters for a whole path
SCHEMA = 1  # of a line of metrics.jsonl: {"schema", "step", and the metrics under TRL's names}


class Run:
    """One training run: its folder, the callbacks that fill it, and what they wrote.

    Args:
        name: folder below `outputs_dir()/<profile>/`, also the SwanLab experiment; letters, digits, '-', '_' and '.'.
        profile: from `profiles.current()`.
        mode: SwanLab "off", "offline" or "online"; None reads GRPO_NB_TRACK, else "offline". Online needs the secret
            SWANLAB_API_KEY and falls back to offline without it.
        live: a `callbacks.Callback` that shows how far it is, in place of the live table.
    """

    def __init__(
        self,
        name: str,
        profile: SimpleNamespace,
        *,
        mode: str | None = None,
        live: callbacks.Callback | None = None,
    ):
        if not _is_folder_name(name):
            raise ValueError(
                f"a run's name must be letters, digits, '-', '_' and '.', at most {LONGEST} bytes, with no '.' at its "
                f"end and none of Windows' own names (got {name!r:.120}). Try 'grpo-seed0'."
            )
        mode = mode or profiles.setting("GRPO_NB_TRACK") or "offline"
        if mode not in MODES:
            raise ValueError(f"the tracking mode must be one of {', '.join(MODES)} (got {mode!r}). Try 'offline'.")
        self.name, self.profile, self.mode, self.live = name, profile, mode, live
        self.folder = (outputs_dir() / profile.name / name).absolute()  # a later chdir does not move the run
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except (OSError, UnicodeEncodeError) as error:  # the second: of a system whose names are ASCII
            raise OSError(
                f"the folder of a run must be writable (got {getattr(error, 'strerror', error)} for {self.folder}). "
                "Set GRPO_NB_OUTPUTS to a short path, of your own, on a disk with room."
            ) from error
        listed = [path.name for path in self.folder.parent.iterdir()]
        if name not in listed and (others := [other for other in listed if other.casefold() == name.casefold()]):
            raise ValueError(
                "on this disk a run's name must differ from others by more than upper case "
                f"(got {name!r} beside {others[0]!r}). Try {name + '-2'!r}."
            )
        if self.metrics_path.is_dir():
            self.rows()  # says so, before a model loads

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def callbacks(self) -> list:
        """Trainer callbacks: the JSONL writer, the live view, and SwanLab's follower of the JSONL if there is one."""
        follower = [swanlab.Follower(self.folder, self.mode)] if self.mode != "off" else []
        return [JsonlWriter(self.metrics_path), self.live or callbacks.LiveTable(title=self.name), *follower]

    def rows(self) -> list[dict]:
        """The logged metrics so far, one dict per step, TRL's names."""
        return read_jsonl(self.metrics_path)

    def save_summary(self, summary: dict) -> Path:
        """Write `summary.json` (held-out accuracy before and after, …) beside the metrics, whole or not at all."""
        return files.write_text(self.folder / "summary.json", json.dumps(summary, indent=1))


def read_jsonl(path: Path) -> list[dict]:
    """Every complete line of a metrics file; a half line at the end (a killed run) is left out.

    Raises: ValueError if it is no such file, or if a line was written in a newer layout than this package reads.
    """
    try:
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8-sig").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} must be a file of JSON lines (got {type(error).__name__}: {error}). Move it away."
        ) from error
    rows = [_parsed(line, f"line {number} of {path}") for number, line in enumerate(lines, 1) if line.strip()]
    newest = max((row.get("schema", 1) for row in rows), default=SCHEMA)
    if newest > SCHEMA:
        raise ValueError(
            f"{path.name} must be of schema {SCHEMA} or older (got schema {newest}). Update grpo_nb to read it."
        )
    return [{key: value for key, value in row.items() if key != "schema"} for row in rows]


def _parsed(line: str, place: str) -> dict:
    with contextlib.suppress(ValueError, RecursionError):
        row = json.loads(line)
        if isinstance(row, dict) and type(row.get("step")) is int and isinstance(row.get("schema", 1), int):
            return row
    raise ValueError(
        f'{place} must be a JSON object with a whole "step", as a run writes it (got {line[:60]!r}). '
        "Delete that line, or move the file away."
    )


def _is_folder_name(name: str) -> bool:
    """Whether a folder of this name can be made on Linux, macOS and Windows, and copied from one to the other."""
    return (
        isinstance(name, str)
        and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        and ".." not in name
        and not name.endswith(".")
        and name.split(".")[0].lower() not in RESERVED
        and len(name.encode()) <= LONGEST
    )


class JsonlWriter(callbacks.Callback):
    """Append each log to `path`, one JSON object per line, on the disk before the next step; NaN and infinity are null.

    A run that starts anew keeps its predecessor as `metrics.previous.jsonl`. One that resumes after step k begins with
    the lines up to k, as its checkpoint remembers them, and takes the steps after k again.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        remembered = [_row(log["step"], log) for log in state.log_history if "train_runtime" not in log]
        try:
            found = read_jsonl(self.path)
        except ValueError:  # torn somewhere: kept for a human to look at
            found = [{}]
        if found and (not remembered or found[: len(remembered)] != remembered):
            files.rename(self.path, self.path.with_name("metrics.previous.jsonl"))
        if not remembered:
            (self.path.parent / "summary.json").unlink(missing_ok=True)  # of the predecessor
        files.write_text(self.path, "".join(_line(row) + "\n" for row in remembered))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "train_runtime" in logs or not state.is_world_process_zero:
            return  # nothing, the closing summary (no step), or another process's copy
        files.append_line(self.path, _line(_row(state.global_step, logs)))


def _row(step: int, log: dict) -> dict:
    return {"step": step, **{key: _json_number(value) for key, value in log.items() if key != "step"}}


def _line(row: dict) -> str:
    return json.dumps({"schema": SCHEMA, **row})


def _json_number(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
