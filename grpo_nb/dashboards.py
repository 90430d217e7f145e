"""SwanLab as a guest of the run: imported late, asked nothing, and whatever it raises stays with it."""

import functools
import os
from pathlib import Path

from grpo_nb import credentials, listeners


class Guest(listeners.Listener):
    """SwanLab's callback in quarantine: its greetings are swallowed, and if it raises, the run goes on without it.

    Args:
        callback: a trainer callback of someone else's.
        close: called after training, to end the tracker's own run.
    """

    def __init__(self, callback, close=lambda: None):
        self.callback, self.close, self.failure = callback, close, None

    def __getattr__(self, name: str):
        if not name.startswith("on_"):
            raise AttributeError(name)
        return functools.partial(self._guarded, getattr(self.callback, name, lambda *args, **kwargs: None))

    def on_train_end(self, *args, **kwargs):
        self._guarded(self.callback.on_train_end, *args, **kwargs)
        self._guarded(self.close)

    def _guarded(self, call, *args, **kwargs):
        from IPython.utils.capture import capture_output

        if self.failure is not None:
            return
        try:
            with capture_output():  # banners with absolute paths
                call(*args, **kwargs)
        except Exception as error:  # a tracker's trouble of any kind must not end a training run
            self.failure = error
            print(f"SwanLab stopped ({type(error).__name__}); the run goes on and metrics.jsonl is complete.")


def guests(name: str, folder: Path, mode: str) -> list[listeners.Listener]:
    """Listeners for a trainer that log to SwanLab, or none if the mode is "off" or the package cannot be used.

    Args:
        name: of the SwanLab experiment.
        folder: where SwanLab's offline files go.
        mode: "off", "offline" or "online".
    """
    if mode == "off":
        return []
    key = credentials.secret("SWANLAB_API_KEY") if mode == "online" else None
    if mode == "online" and key is None:
        print("SwanLab stays offline: no SWANLAB_API_KEY among the secrets.")
    for setting in ("GIT", "REQUIREMENTS", "RUNTIME"):  # facts about the host that a lesson's run need not keep
        os.environ.setdefault(f"SWANLAB_PROBE_{setting}", "false")
    os.environ.setdefault("SWANLAB_TERMINAL_PROXY_TYPE", "none")
    try:
        import swanlab
        from swanlab.integration.transformers import SwanLabCallback

        if key is not None:
            swanlab.login(api_key=key, save=False)
        mode = "online" if key is not None else "offline"
        callback = SwanLabCallback(project="grpo_nb", experiment_name=name, mode=mode, log_dir=str(folder))
        return [Guest(callback, close=swanlab.finish)]
    except Exception as error:  # absent, or a protobuf of the wrong age: both are reasons to go without
        print(f"SwanLab is not used ({type(error).__name__}); metrics.jsonl is written all the same.")
        return []
