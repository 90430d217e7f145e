"""A run: JSONL always, SwanLab offline by default, a live table in the notebook.

The JSONL file is the source of every figure: one line per logged step, flushed at once, so that a killed kernel loses
nothing. SwanLab is a guest: it is imported late, asks no question, and whatever it raises stays with it.
"""

import functools
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import files, models, plots

MODES = ("off", "offline", "online")
LIVE_COLUMNS = (
    "step",
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "completions/mean_length",
    "entropy",
    "grad_norm",
    "loss",
)


def outputs_dir() -> Path:
    """Folder for everything that runs write: GRPO_NB_OUTPUTS, or `outputs` beside the notebook."""
    return Path(os.environ.get("GRPO_NB_OUTPUTS") or "outputs")


class Run:
    """One training run: its folder, the callbacks that fill it, and what they wrote.

    Args:
        name: folder below `outputs_dir()/<profile>/`, also the SwanLab experiment; letters, digits, '-', '_' and '.'.
        profile: from `profiles.current()`.
        mode: SwanLab "off", "offline" or "online"; None reads GRPO_NB_TRACK, else "offline". Online needs the secret
            SWANLAB_API_KEY and falls back to offline without it.
    """

    def __init__(self, name: str, profile: SimpleNamespace, *, mode: str | None = None):
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or ".." in name:
            raise ValueError(
                f"a run's name must be letters, digits, '-', '_' and '.' (got {name!r}). Try 'grpo-seed0'."
            )
        mode = mode or os.environ.get("GRPO_NB_TRACK") or "offline"
        if mode not in MODES:
            raise ValueError(f"the tracking mode must be one of {', '.join(MODES)} (got {mode!r}). Try 'offline'.")
        self.name, self.profile, self.mode = name, profile, mode
        self.folder = outputs_dir() / profile.name / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def callbacks(self) -> list:
        """Listeners for a trainer: the JSONL writer, the live table, and SwanLab if it can be had."""
        models.prepare(self.profile)  # SwanLab's callback imports transformers
        swanlab = [] if self.mode == "off" else _swanlab_callbacks(self)
        return [JsonlWriter(self.metrics_path), LiveTable(title=self.name), *swanlab]

    def rows(self) -> list[dict]:
        """The logged metrics so far, one dict per step, TRL's names."""
        return read_jsonl(self.metrics_path)

    def save_summary(self, summary: dict) -> Path:
        """Write `summary.json` (held-out accuracy before and after, …) beside the metrics, whole or not at all."""
        return files.write_text(self.folder / "summary.json", json.dumps(summary, indent=1))


def read_jsonl(path: Path) -> list[dict]:
    """Every complete line of a metrics file; a half line at the end (a killed run) is left out."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf8").split("\n")[:-1]]


class Listener:
    """A trainer callback by shape, not by inheritance: transformers stays unimported until a trainer is made."""

    def __getattr__(self, name: str):
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


class JsonlWriter(Listener):
    """Append each log to `path`, one JSON object per line, NaN and infinity as null.

    A run that starts anew keeps its predecessor as `metrics.previous.jsonl`; one that resumes goes on in the same file.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step > 0:
            return
        if self.path.exists() and self.path.stat().st_size:
            self.path.replace(self.path.with_name("metrics.previous.jsonl"))
        (self.path.parent / "summary.json").unlink(missing_ok=True)  # it told of the predecessor
        self.path.touch()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "train_runtime" in logs or not state.is_world_process_zero:
            return  # nothing, the closing summary (no step), or another process's copy
        row = {"step": state.global_step, **{key: _json_number(value) for key, value in logs.items()}}
        with self.path.open("a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")


def _json_number(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


class LiveTable(Listener):
    """One HTML output that follows the run: progress, the last steps with TRL's metric names, the reward so far."""

    def __init__(self, title: str = "", *, every: int = 5, last: int = 6):
        self.title, self.every, self.last, self.rows, self.handle = title, every, last, [], None

    def on_train_begin(self, args, state, control, **kwargs):
        from IPython import get_ipython

        self.rows, self.handle = [], None
        if get_ipython() is not None:
            from IPython.display import HTML, display

            self.handle = display(
                HTML(f"<p>{plots.safe_text(self.title)}: waiting for the first step…</p>"), display_id=True
            )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "train_runtime" in logs:
            return
        self.rows.append({"step": state.global_step, **logs})
        if len(self.rows) % self.every == 0:
            self._draw(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._draw(state)

    def _draw(self, state):
        if self.handle is None or not self.rows:
            return
        from IPython.display import HTML

        columns = [name for name in LIVE_COLUMNS if any(name in row for row in self.rows)]
        recent = [{name: row.get(name, "") for name in columns} for row in self.rows[-self.last :]]
        done = f"{plots.safe_text(self.title)}: step {state.global_step} of {state.max_steps}"
        bar = f'<progress aria-label="{done}" value="{state.global_step}" max="{state.max_steps}"></progress>'
        self.handle.update(HTML(f"<p>{bar} {done}</p>{plots.table(recent)}"))


def secret(name: str) -> str | None:
    """A secret from the environment, Colab's or Kaggle's store; None where there is none. Never asks, never prints."""
    if os.environ.get(name):
        return os.environ[name]
    for look_up in (_colab_secret, _kaggle_secret):
        try:
            if value := look_up(name):
                return value
        except Exception:  # the stores raise half a dozen types for "not there", "not allowed" and "no answer"
            continue
    return None


def _colab_secret(name: str) -> str:
    from google.colab import userdata

    return userdata.get(name)


def _kaggle_secret(name: str) -> str:
    from kaggle_secrets import UserSecretsClient

    return UserSecretsClient().get_secret(name)


class Guest(Listener):
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


def _swanlab_callbacks(run: Run) -> list:
    """SwanLab's own callback, or nothing if the package is absent or cannot be imported."""
    key = secret("SWANLAB_API_KEY") if run.mode == "online" else None
    if run.mode == "online" and key is None:
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
        log_dir = str(run.folder / "swanlog")
        callback = SwanLabCallback(project="grpo_nb", experiment_name=run.name, mode=mode, log_dir=log_dir)
        return [Guest(callback, close=swanlab.finish)]
    except Exception as error:  # absent, or a protobuf of the wrong age: both are reasons to go without
        print(f"SwanLab is not used ({type(error).__name__}); metrics.jsonl is written all the same.")
        return []
