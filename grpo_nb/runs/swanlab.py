"""metrics.jsonl → SwanLab, in a process of its own: what SwanLab hangs on, raises or leaves running, it does there.

`python -m grpo_nb.runs.swanlab RUN` sends the curve of a run, and follows it while it trains; the trainer callback,
`Follower`, starts the same command. If online fails, another process starts offline, from the first step. SwanLab gets
no console, git, package list, host name, working directory or command line, and little of the environment (`child`);
its folder holds the curve, a few settings, the processor's name, and its own path.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from grpo_nb.runs import callbacks

START_S = 30.0  # for the import, the login and the start of SwanLab's run; by itself it tries a login for 75 s
ORPHAN_S = 60.0  # for the finish when the trainer died and nobody waits
LOOK_S = 0.5  # between two looks at metrics.jsonl
LATE = 124  # exit status of a process whose time was up, as `timeout` has it
FALLBACK = {"online": "offline", "offline": "off"}
KEPT = (
    *("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME", "USERPROFILE", "TEMP", "TMP", "TMPDIR"),
    *("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
)
QUIET = {f"SWANLAB_PROBE_{fact}": "false" for fact in ("CONDA", "GIT", "REQUIREMENTS", "RUNTIME", "SWANLAB")} | {
    "SWANLAB_TERMINAL_PROXY_TYPE": "none",
    "SWANLAB_INTERACTIVE": "false",
    "SWANLAB_DEBUG": "false",  # its debug log quotes keys
}


class Follower(callbacks.Callback):
    """The trainer callback: starts the process with the training, looks after it at every log, ends it at the end.

    Args:
        folder: of the run; metrics.jsonl lies in it, SwanLab's files go to its folder `swanlog`.
        mode: "offline" or "online"; online needs the secret SWANLAB_API_KEY.
    """

    end_s = 18.0  # all that SwanLab may take after the last step, in both modes together
    online_s = 9.0  # of these, what a server that does not answer may take

    def __init__(self, folder: Path, mode: str):
        self.folder, self.first_mode, self.settings = Path(folder), mode, {}
        self.mode, self.process, self.errors = None, None, []  # mode None: there is no training

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        if self.process is not None:  # of a training that nobody ended: once its pipe is closed, it ends by itself
            self.process.stdin.close()
        self.errors, self.settings = [], settings(getattr(args, "to_dict", dict)())
        self.start(self.first_mode)

    def on_log(self, args, state, control, **kwargs):
        if self.process is not None and self.process.poll() is not None:
            self._close()
            self.start(FALLBACK[self.mode])

    def on_train_end(self, args, state, control, **kwargs):
        self.on_stop(None)

    def on_stop(self, error):
        """End the process, in the fallback mode if need be, and say once what failed; `error` ended the training."""
        deadline = time.monotonic() + self.end_s
        while self.process is not None:
            left = max(deadline - time.monotonic(), 0.0)
            seconds = min(left, self.online_s) if self.mode == "online" else left
            self._send({"error": None if error is None else type(error).__name__, "seconds": seconds})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            if self._close():
                break
            self.start(FALLBACK[self.mode])
        if self.errors and self.mode is not None:
            faults = ", ".join(dict.fromkeys(self.errors))
            print(f"SwanLab ended {self.mode} and metrics.jsonl is complete: {faults}.")
        self.mode, self.process = None, None

    def start(self, mode: str):
        """Start a process in this mode, or in its fallback if that is impossible; "off" starts none."""
        self.mode, self.process, key = mode, None, api_key() if mode == "online" else None
        if mode == "off":
            return
        if mode == "online" and key is None:
            self.errors.append("login failed (no SWANLAB_API_KEY among the secrets)")
            return self.start(FALLBACK[mode])
        try:
            self.process = child(self.folder, mode)
        except Exception as error:  # no process, for whatever reason: one to go without, not one to stop for
            self.errors.append(f"start failed ({type(error).__name__})")
            return self.start(FALLBACK[mode])
        self._send({"key": key, "settings": self.settings})

    def _send(self, message: dict):
        with contextlib.suppress(OSError, ValueError):  # the process is gone: `_close` finds out why
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def _close(self) -> bool:
        """Kill the process if it has not ended, and note what failed in it; whether SwanLab has the whole curve."""
        is_late = self.process.poll() in (None, LATE)
        self.process.kill()
        with self.process as process:
            text = process.stdout.read(1 << 16).decode()  # not up to its end: a fork of SwanLab's may hold it open
        lines = text.split("\n")[:-1]
        errors = [line for line in lines if " failed " in line]
        if "end" not in lines:
            call = ["start", *(line for line in lines if line not in errors)][-1]
            errors.append(f"{call} failed ({'TimeoutError' if is_late else f'exit code {process.returncode}'})")
        self.errors += errors
        return not errors


def child(folder: Path, mode: str) -> subprocess.Popen:
    """The process, with this one's import path and next to nothing of its environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.upper().endswith("_PROXY") or name.startswith("SWANLAB_")
        if name != "SWANLAB_API_KEY"  # it goes through the pipe
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "grpo_nb.runs.swanlab", str(folder.resolve()), "--mode", mode, "--child"],
        env={**kept, **QUIET, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt of the notebook is not for it
        bufsize=0,  # what could not be written is not kept, to fail again when the pipe is closed
    )


def settings(config: dict) -> dict:
    """The settings that a dashboard compares runs by: numbers and a few names, no path and no token.

    >>> settings({"learning_rate": 1e-3, "loss_type": "dapo", "output_dir": "/home/me", "hub_token": "hf_x"})
    {'learning_rate': 0.001, 'loss_type': 'dapo'}
    """
    names = ("loss_type", "lr_scheduler_type", "optim", "importance_sampling_level", "scale_rewards")
    return {key: value for key, value in config.items() if isinstance(value, int | float) or key in names}


def api_key() -> str | None:
    """The secret SWANLAB_API_KEY of the environment, Colab or Kaggle, without the white space of pasting, or None.

    Never asks, never prints.
    """
    places = (
        lambda name: os.environ[name],
        lambda name: importlib.import_module("google.colab.userdata").get(name),
        lambda name: importlib.import_module("kaggle_secrets").UserSecretsClient().get_secret(name),
    )
    for look_up in places:
        with contextlib.suppress(Exception):  # half a dozen types for "not there", "not allowed" and "no answer"
            if key := look_up("SWANLAB_API_KEY").strip():
                return key
    return None


class Report(logging.NullHandler):
    """What the process tells the callback: a line for each call that begins, one for each kind of failure.

    A log handler, because SwanLab swallows errors inside it and names them in its own log only; a `NullHandler`,
    because SwanLab removes all others from that log when a run ends.
    """

    def __init__(self, stream: int):
        super().__init__()
        self.stream, self.lines = stream, []

    def say(self, line: str):
        if line not in self.lines:  # a thousand rows that fail alike are one line: nobody empties the pipe meanwhile
            self.lines.append(line)
            with contextlib.suppress(OSError):  # the trainer was killed
                os.write(self.stream, line.encode() + b"\n")

    def call(self, name: str, function, /, *args, **kwargs):
        """What `function` returns; None if it raised, which is said and ends nothing."""
        self.say(name)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.say(f"{name} failed ({type(error).__name__})")

    def has_failed(self) -> bool:
        return any(" failed " in line for line in self.lines)

    def handle(self, record):
        if record.levelno >= logging.ERROR:
            self.say("delivery failed (see SwanLab's debug.log)")

    def leave(self):
        """End the process at once, past SwanLab's exit hooks: they wait for its server for ever."""
        self.say("end")
        os._exit(0)


def follow(folder: Path, mode: str):
    """The process: send every row of metrics.jsonl, and those that come until a line on standard input says the end."""
    source, report = os.fdopen(os.dup(0), encoding="utf8"), Report(os.dup(1))
    for stream in (0, 1, 2):  # no question gets an answer; banners hold absolute paths
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    task, over, end = json.loads(source.readline()), threading.Event(), {}
    threading.Thread(target=await_end, args=(source, over, end), daemon=True).start()
    library, sent, is_last = begin(folder, mode, task, report), 0, False
    while not is_last:
        is_last = over.wait(LOOK_S)  # asked before the look: what was written before the end is seen
        text = report.call("log", (folder / "metrics.jsonl").read_bytes) or b""
        lines = text.split(b"\n")[sent:-1]  # the last is empty, or half a line
        for line in lines:
            report.call("log", log_row, library, line)
        sent += len(lines)
    state = {None: "success", "KeyboardInterrupt": "aborted"}.get(end["error"], "crashed")
    report.call("finish", library.finish, state=state, error=end["error"])
    report.leave()


def begin(folder: Path, mode: str, task: dict, report: Report):
    """The library `swanlab` with a run that has begun, or no return: without one the process ends."""
    limit = threading.Timer(START_S, os._exit, [LATE])
    limit.daemon = True
    limit.start()
    here = Path(__file__).resolve().parent  # on the path, it would make `import swanlab` find this file
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    os.chdir(folder)  # SwanLab reads .env and swanlab.yaml where it starts
    library = report.call("import", importlib.import_module, "swanlab")
    if task["key"] and not report.has_failed():
        report.call("login", library.login, api_key=task["key"], save=False)
    if not report.has_failed():
        names = {"project": "grpo_nb", "name": folder.name, "log_dir": str(folder / "swanlog")}
        report.call("init", library.init, mode=mode, config=task["settings"], **names)
    if report.has_failed():
        report.leave()
    limit.cancel()
    logging.getLogger("swanlab.internal").addHandler(report)
    return library


def log_row(library, line: bytes):
    """Give SwanLab the numbers of a line of metrics.jsonl, under the names of its own callback for transformers."""
    row = json.loads(line)
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
    if curve := {named(key): value for key, value in numbers.items() if key not in ("schema", "step")}:
        library.log(curve, step=row["step"])


def named(key: str) -> str:
    """A metric's name in SwanLab, as `transformers.integrations` writes it.

    >>> named("reward"), named("eval_reward")
    ('train/reward', 'eval/reward')
    """
    return f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}"


def await_end(source, over: threading.Event, end: dict):
    """Wait for the line that ends the training, then give the rest of the process the seconds that it allows."""
    try:
        end.update(json.loads(source.readline()))
    except ValueError:  # nothing, or half a line: the trainer died
        end.update(error="EOFError", seconds=ORPHAN_S)
    over.set()
    time.sleep(end["seconds"])
    os._exit(LATE)


def main():
    """The command by hand: until no trainer holds a lock in the run's folder, or until Ctrl-C."""
    what = "Send the curve of a run to SwanLab, and follow it while the run trains."
    parser = argparse.ArgumentParser(prog="python -m grpo_nb.runs.swanlab", description=what)
    parser.add_argument("run", type=Path, help="the run's folder, with its metrics.jsonl")
    parser.add_argument("--mode", choices=FALLBACK, default="offline", help="online needs the secret SWANLAB_API_KEY")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return follow(options.run, options.mode)
    options.run = options.run.expanduser()
    metrics = options.run / "metrics.jsonl"
    if not (os.path.isfile(metrics) and os.access(metrics, os.R_OK)):
        parser.error(f"a run's folder must hold a metrics.jsonl to read (got {options.run}). Try one below outputs.")
    from grpo_nb.runs import files

    follower, error = Follower(options.run, options.mode), None
    follower.end_s, follower.online_s = 1200.0, 600.0  # a long curve takes long, and a person can interrupt
    follower.start(options.mode)
    try:
        for path in options.run.glob("*.lock"):
            with files.lock(path, busy=f"{options.run} trains: followed until it ends.", wait=True):
                pass
    except KeyboardInterrupt as interrupt:
        error = interrupt
    except OSError:
        print(f"Whether {options.run} trains cannot be seen (another user's?): its curve is sent as it is now.")
    follower.on_stop(error)
    if not follower.errors:
        print(f"SwanLab has the curve of {options.run}, {options.mode}, in its folder swanlog.")
    sys.exit(bool(follower.errors))


if __name__ == "__main__":
    main()
