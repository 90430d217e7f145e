"""SwanLab as a guest of the run: another process mirrors metrics.jsonl, so nothing that it does can reach the training.

The ladder is online → offline → off. A rung that fails is followed by the next, which mirrors the curve from its first
step. SwanLab gets no console, git, package list, host name, working directory or command line, and none of the
environment but what `KEPT` names; its folder holds the curve, a few settings, the processor's name, and its own path.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from grpo_nb.runs import callbacks, credentials

END_S = 18.0  # all that SwanLab may take after the last step, on all rungs together
ONLINE_S = 9.0  # of these, what a server that does not answer may take
KEPT = (
    *("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME", "USERPROFILE", "TEMP", "TMP", "TMPDIR"),
    *("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
)
NOT_KEPT = ("SWANLAB_API_KEY", "SWANLAB_DEBUG")  # the key goes through a pipe; SwanLab's debug log quotes keys
QUIET = {f"SWANLAB_PROBE_{fact}": "false" for fact in ("CONDA", "GIT", "REQUIREMENTS", "RUNTIME", "SWANLAB")} | {
    "SWANLAB_TERMINAL_PROXY_TYPE": "none",
    "SWANLAB_INTERACTIVE": "false",
}


class Guest(callbacks.Callback):
    """Starts the mirror with the training, looks after it at every log, and ends it with the training.

    Args:
        name: of the SwanLab experiment.
        folder: where SwanLab's files go; metrics.jsonl lies beside it.
        mode: "offline" or "online".
    """

    def __init__(self, name: str, folder: Path, mode: str):
        self.name, self.folder, self.mode = name, Path(folder), mode
        self.process, self.rung, self.rungs, self.failed, self.config = None, None, [], Counter(), {}

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        if self.process is not None:  # of a training that nobody ended: once its pipe is closed, it ends by itself
            self.process.stdin.close()
        self.rungs, self.failed = ["online", "offline"] if self.mode == "online" else ["offline"], Counter()
        self.config = settings(getattr(args, "to_dict", dict)())
        self._climb_down()

    def on_log(self, args, state, control, **kwargs):
        if self.process is not None and self.process.poll() is not None:
            self._is_whole()
            self._climb_down()

    def on_train_end(self, args, state, control, **kwargs):
        self.on_stop(None)

    def on_stop(self, error):
        """End the mirror, on a lower rung if need be, and say once what failed.

        Args:
            error: what ended the training; None if it ran to its end.
        """
        if self.rung is None:
            return
        deadline = time.monotonic() + END_S
        while self.process is not None:
            left = deadline - time.monotonic()
            self._end(error, min(left, ONLINE_S) if self.rungs else left)
            if self._is_whole():
                break
            self._climb_down()
        rung, self.rung, self.process = self.rung, None, None
        if self.failed:
            faults = ", ".join(fault(call, kind, times) for (call, kind), times in self.failed.items())
            print(f"SwanLab ended {rung} and metrics.jsonl is complete: {faults}.")

    def _climb_down(self):
        """Start the mirror on the next rung on which that is possible; SwanLab is off if there is none."""
        self.process, self.rung = None, "off"
        while self.rungs and self.process is None:
            rung = self.rungs.pop(0)
            key = credentials.secret("SWANLAB_API_KEY") if rung == "online" else None
            if rung == "online" and key is None:
                self.failed["login", "no SWANLAB_API_KEY among the secrets"] += 1
                continue
            try:
                self.process = mirror(self.folder)
            except Exception as error:  # no process, for whatever reason: one to go without, not one to stop
                self.failed["start", type(error).__name__] += 1
                continue
            self.rung = rung
            files = {
                "metrics": str(self.folder.parent.resolve() / "metrics.jsonl"),
                "folder": str(self.folder.resolve()),
            }
            self._say({"mode": rung, "key": key, "name": self.name, "config": self.config, **files})

    def _say(self, words: dict):
        try:
            self.process.stdin.write(json.dumps(words).encode() + b"\n")
        except (OSError, ValueError):  # it is gone, or the pipe to it is closed: what it left behind tells
            pass

    def _end(self, error: BaseException | None, seconds: float):
        self._say({"error": type(error).__name__ if error is not None else None, "seconds": seconds})
        try:
            self.process.wait(seconds + 0.5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.process.kill()  # nothing, if it has ended
            self.process.wait()

    def _is_whole(self) -> bool:
        """Whether a mirror that has ended left the whole curve; what failed in it is added to the count."""
        with self.process as process:
            words = process.stdout.read()
        if not words:  # killed, or out by a way of SwanLab's own
            self.failed["mirror", f"exit code {self.process.returncode}"] += 1
        for call, kind, times in json.loads(words or "[]"):
            self.failed[call, kind] += times
        return words == b"[]"


def fault(call: str, kind: str, times: int) -> str:
    """A call that failed, in words.

    >>> fault("log", "ConnectionError", 3), fault("init", "OSError", 1)
    ('log failed 3 times (ConnectionError)', 'init failed once (OSError)')
    """
    return f"{call} failed {'once' if times == 1 else f'{times} times'} ({kind})"


def guests(name: str, folder: Path, mode: str) -> list[callbacks.Callback]:
    """Listeners for a trainer that mirror its metrics.jsonl in SwanLab; none if the mode is "off".

    Args:
        name: of the SwanLab experiment.
        folder: where SwanLab's files go; metrics.jsonl lies beside it.
        mode: "off", "offline" or "online"; online needs the secret SWANLAB_API_KEY.
    """
    return [] if mode == "off" else [Guest(name, folder, mode)]


def mirror(folder: Path) -> subprocess.Popen:
    """A process that waits for its task, with this one's import path and next to nothing of its environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.upper().endswith("_PROXY") or name.startswith("SWANLAB_")
        if name not in NOT_KEPT
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "grpo_nb.runs.mirror"],
        env={**QUIET, **kept, "PYTHONPATH": path},
        cwd=folder.parent,  # SwanLab reads .env and swanlab.yaml where it starts
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
