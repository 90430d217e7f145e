"""metrics.jsonl → SwanLab, in a process of its own: `python -m grpo_nb.runs.mirror`, started and ended by `dashboards`.

Standard input: one line saying what to mirror and where, later one line saying that training is over; if the trainer
dies, its end of the pipe closes and that says it too. Standard output: on the way out, the list of the calls that
failed; if it is empty, SwanLab has the whole curve.

Whatever SwanLab hangs on, raises, prints or leaves running, it does here. Nothing but it and the stdlib is imported.
"""

import importlib
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

START_S = 30.0  # for the import, the login and the start of the run; SwanLab by itself tries a login for 75 s
ORPHAN_S = 60.0  # for the finish when the trainer died and nobody waits
LOOK_S = 0.5  # between two looks at metrics.jsonl


class Report:
    """The calls that failed, by name and type of error, and the one way out of the process.

    Args:
        out: text stream to the trainer's process.
    """

    def __init__(self, out):
        self.out, self.failed, self.current, self.door = out, Counter(), "import", threading.Lock()

    def call(self, name: str, function, /, *args, **kwargs):
        """What `function` returns; None if it raised, which is counted."""
        self.current = name
        try:
            return function(*args, **kwargs)
        except Exception as error:  # a tracker's trouble of any kind is counted and ends nothing
            self.failed[name, type(error).__name__] += 1

    def leave(self, *, late: bool = False):
        """Write the report and end the process at once, past SwanLab's exit hooks: they wait for its server for ever.

        Args:
            late: time is up, so the call that runs now has failed too.
        """
        self.door.acquire()  # never given back: whoever comes second finds the process gone
        if late:
            self.failed[self.current, "TimeoutError"] += 1
        self.out.write(json.dumps([[call, kind, times] for (call, kind), times in list(self.failed.items())]))
        self.out.flush()
        os._exit(0)


class Grumbles(logging.NullHandler):
    """Counts what SwanLab swallows: errors inside it surface in its own log only.

    A `NullHandler`, because SwanLab removes all others from that log when a run ends.
    """

    def __init__(self, failed: Counter):
        super().__init__()
        self.failed = failed

    def handle(self, record):
        if record.levelno >= logging.ERROR:
            self.failed["delivery", "named in its debug.log"] += 1


def new_rows(path: Path, offset: int) -> tuple[list[dict], int]:
    """The complete lines of a JSONL file from a byte offset on, and the offset behind them.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> _ = path.write_text('{"step": 1}\\n{"step": 2')
    >>> new_rows(path, 0)
    ([{'step': 1}], 12)
    """
    with path.open("rb") as file:
        file.seek(offset)
        lines = file.read().split(b"\n")[:-1]
    return [json.loads(line) for line in lines], offset + sum(len(line) + 1 for line in lines)


def scalars(row: dict) -> dict[str, float]:
    """What of a row is a point of a curve, under the names that SwanLab's own callback gives it.

    >>> scalars({"schema": 1, "step": 3, "reward": 0.5, "kl": None})
    {'train/reward': 0.5}
    """
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
    return {f"train/{key}": value for key, value in numbers.items() if key not in ("schema", "step")}


def begin(task: dict, report: Report):
    """SwanLab with a run that has begun, or no return: without one the process ends."""
    limit = threading.Timer(START_S, report.leave, kwargs={"late": True})
    limit.daemon = True
    limit.start()
    swanlab = report.call("import", importlib.import_module, "swanlab")
    if task["key"] and not report.failed:
        report.call("login", swanlab.login, api_key=task["key"], save=False)
    if not report.failed:
        names = {"project": "grpo_nb", "name": task["name"]}
        report.call("init", swanlab.init, mode=task["mode"], log_dir=task["folder"], config=task["config"], **names)
    if report.failed:
        report.leave()
    limit.cancel()
    logging.getLogger("swanlab.internal").addHandler(Grumbles(report.failed))
    return swanlab


def await_end(over: threading.Event, end: dict, report: Report):
    """Wait for the line that ends the training, then give the rest of the process the seconds that it allows."""
    try:
        end.update(json.loads(sys.stdin.readline()))
    except ValueError:  # nothing, or half a line: the trainer died
        end.update(error="EOFError", seconds=ORPHAN_S)
    over.set()
    time.sleep(end["seconds"])
    report.leave(late=True)


def main():
    """Mirror one run, from the line with the task to the exit."""
    report = Report(os.fdopen(os.dup(1), "w"))
    for stream in (1, 2):  # banners with absolute paths
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    task, over, end = json.loads(sys.stdin.readline()), threading.Event(), {}
    threading.Thread(target=await_end, args=(over, end, report), daemon=True).start()
    swanlab, path, offset, is_last = begin(task, report), Path(task["metrics"]), 0, False
    while not is_last:
        is_last = over.wait(LOOK_S)  # asked before the look: what was written before the end is seen
        rows, offset = report.call("read", new_rows, path, offset) or ([], offset)
        for row in rows:
            if points := scalars(row):
                report.call("log", swanlab.log, points, step=row["step"])
    state = {None: "success", "KeyboardInterrupt": "aborted"}.get(end["error"], "crashed")
    report.call("finish", swanlab.finish, state=state, error=end["error"])
    report.leave()


if __name__ == "__main__":
    main()
