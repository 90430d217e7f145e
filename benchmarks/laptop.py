"""The runs that notebook 14 shows, made by the notebook itself: `python -m benchmarks.laptop [NAME…]`.

Each executes notebook 14 from the top in the profile laptop, with other knobs, and writes what it saved into
notebooks/runs/laptop.json. One takes some ten minutes on two quiet cores; a run that is there already is not made
again: to have it anew, delete its line.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from benchmarks import machine
from grpo_nb.runs import files, fingerprints, tracking
from tools import publish

NOTEBOOK = publish.ROOT / "notebooks" / "14_real_model.ipynb"
RECORD = publish.ROOT / "notebooks" / "runs" / "laptop.json"
KNOBS = "14-knobs"  # the cell that holds them
LOGGED = ("step", "reward", "reward_std", "entropy", "grad_norm", "kl", "frac_reward_zero_std", "step_time")
LOGGED += ("completions/mean_length", "rewards/verified/mean", "rewards/is_near/mean", "rewards/is_one_line/mean")

# What to call it → the knobs that differ from the notebook's.
RUNS: dict[str, dict] = {
    "seed 0": {},
    "seed 1": {"SEED": 1},
    "seed 2": {"SEED": 2},
    "a tenth of the learning rate": {"CHANGES": {"learning_rate": 2e-5}},
    "ten times the learning rate": {"CHANGES": {"learning_rate": 2e-3}},
    "a constant learning rate": {"CHANGES": {"lr_scheduler_type": "constant"}},
    "half the batch": {"CHANGES": {"per_device_train_batch_size": 32}},
    "a penalty of 0.04": {"CHANGES": {"beta": 0.04}},
    "50 rows": {"ROWS": 50},
    "rank 2": {"RANK": 2},
    "rank 64": {"RANK": 64},
}


def made(knobs: dict, outputs: Path) -> dict:
    """What the notebook saves when it is executed with these knobs, with its curves and its memory.

    Args:
        outputs: GRPO_NB_OUTPUTS, where the model is unpacked once.
    Raises: RuntimeError if a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = next(cell for cell in notebook["cells"] if cell["id"] == KNOBS)
    cell["source"] += "".join(f"\n{name} = {value!r}" for name, value in knobs.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NOTEBOOK.name
        nbformat.write(notebook, path)
        env = {"GRPO_NB_PROFILE": "laptop", "GRPO_NB_OUTPUTS": str(outputs), "GRPO_NB_TRACK": "off"}
        outcome = publish.execute(path, {**os.environ, **env})
    if outcome.failure:
        raise RuntimeError(outcome.failure)
    run = outputs / "laptop" / "real_model"
    rows = [row for row in tracking.read_jsonl(run / "metrics.jsonl") if "reward" in row]
    return {
        **json.loads((run / "summary.json").read_text(encoding="utf8")),
        "rows": [{key: short(row[key]) for key in LOGGED if row.get(key) is not None} for row in rows],
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def short(value: float) -> float:
    """Four digits of a number: enough for a curve."""
    return float(f"{value:.4g}")


def note(name: str, run: dict) -> None:
    """Write a run into the record, one line a run, in the order of `RUNS`."""
    record = json.loads(RECORD.read_text(encoding="utf8")) if RECORD.is_file() else {"runs": []}
    made_of = {"date": datetime.date.today().isoformat(), "machine": machine.described()}
    run = {"name": name, **run, **made_of, "versions": fingerprints.versions()}
    runs = {one["name"]: one for one in record["runs"]} | {name: run}
    lines = ",\n".join(json.dumps(runs[each], separators=(",", ":")) for each in RUNS if each in runs)
    files.write_text(RECORD, f'{{"runs": [\n{lines}\n]}}\n')


def main(*names: str) -> None:
    """Make these runs, or all that are missing, each in a process of its own, so that its memory is its own."""
    if len(names) == 1:
        note(names[0], made(RUNS[names[0]], publish.ROOT / "build" / "laptop"))
        return
    there = json.loads(RECORD.read_text(encoding="utf8"))["runs"] if RECORD.is_file() else []
    for name in names or [name for name in RUNS if name not in {one["name"] for one in there}]:
        print(name, flush=True)
        subprocess.run([sys.executable, "-m", "benchmarks.laptop", name], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
