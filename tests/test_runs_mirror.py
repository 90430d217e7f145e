"""What the mirror reads, sends and counts; what it does as a process is tested with `dashboards`, which starts it."""

import io
import json
import logging
import subprocess
import sys

import pytest

from grpo_nb.runs import mirror


def test_rows_are_read_once_and_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes('{"step": 1, "größe": 2}\n{"step": 2}\n{"st'.encode())
    rows, offset = mirror.new_rows(path, 0)
    assert rows == [{"step": 1, "größe": 2}, {"step": 2}]
    assert mirror.new_rows(path, offset) == ([], offset)
    with path.open("a") as file:
        file.write('ep": 3}\n')
    assert mirror.new_rows(path, offset)[0] == [{"step": 3}]


def test_only_numbers_are_points():
    row = {"schema": 1, "step": 2, "reward": 1, "loss": 0.5, "kl": None, "note": "text", "tokens": [1]}
    assert mirror.scalars(row) == {"train/reward": 1, "train/loss": 0.5}


def test_a_call_that_raises_is_counted_by_name_and_type():
    report = mirror.Report(io.StringIO())

    def log(error):
        raise error

    for error in (OSError(), OSError(), ValueError()):
        assert report.call("log", log, error) is None
    assert report.call("finish", lambda: 7) == 7
    assert report.failed == {("log", "OSError"): 2, ("log", "ValueError"): 1}
    with pytest.raises(KeyboardInterrupt):
        report.call("log", log, KeyboardInterrupt())


def test_leaving_reports_and_skips_the_exit_hooks():
    code = """
import atexit, sys, threading
from grpo_nb.runs import mirror
atexit.register(print, "a hook that would wait for ever")
report = mirror.Report(sys.stdout)
report.failed["log", "OSError"] = 2
report.current = "finish"
threads = [threading.Thread(target=report.leave, kwargs={"late": True}) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [["log", "OSError", 2], ["finish", "TimeoutError", 1]]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_start_that_takes_too_long_ends_the_mirror_while_training_goes_on(tmp_path):
    package = tmp_path / "swanlab"
    package.mkdir()
    (package / "__init__.py").write_text("import time\ndef init(**kwargs): time.sleep(1000)\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from grpo_nb.runs import mirror; {{}}; mirror.main()"
    command = [sys.executable, "-c", code.format("mirror.START_S = 1.0")]
    task = {"mode": "offline", "key": None, "name": "x", "config": {}, "metrics": "x", "folder": "x"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()  # and the pipe stays open: training is not over
        assert json.loads(process.stdout.read()) == [["init", "TimeoutError", 1]]


def test_errors_that_swanlab_keeps_to_its_log_are_counted():
    report, log = mirror.Report(io.StringIO()), logging.getLogger("grpo_nb.test_mirror")
    log.addHandler(mirror.Grumbles(report.failed))
    log.propagate = False
    log.warning("retry #1")
    log.error("POST -> 403")
    assert report.failed == {("delivery", "named in its debug.log"): 1}


def test_the_mirror_imports_the_stdlib_only():
    code = "import sys; old = set(sys.modules); from grpo_nb.runs import mirror; print(*set(sys.modules) - old)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.split(".")[0] for name in seen.split()} <= {*sys.stdlib_module_names, "grpo_nb"}
