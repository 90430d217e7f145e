"""kill -9 at random moments and inside saves: what is resumed ends as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import survival

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ten_runs_killed_three_times_each(tmp_path):
    """In a process of its own, for it forks: one thread, no pytest inside."""
    found = tmp_path / "survival.json"
    command = [sys.executable, "-m", "benchmarks.survival", "10", str(found)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    record = json.loads(found.read_text(encoding="utf8"))
    assert record["runs"] == record["same_weights"] == record["same_lines"] == 10
    assert record["kills"] == 30 and record["kills_inside_a_save"] >= 10
    assert record["steps_logged"] == list(range(1, survival.STEPS + 1))
    assert record["different_weights_between_cases"] == len(survival.CASES), "each case trains something of its own"


def test_the_record_holds_a_hundred_runs():
    record = json.loads((survival.RESULTS / "survival.json").read_text(encoding="utf8"))
    assert record["runs"] >= 100 and record["kills"] == survival.KILLS * record["runs"]
    assert record["same_weights"] == record["same_lines"] == record["runs"]
    assert record["cases"].keys() == survival.CASES.keys()
