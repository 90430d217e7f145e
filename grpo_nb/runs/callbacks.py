"""Trainer callbacks: the shape that they have here, and the live table in the notebook.

A `Callback` answers every event of a `transformers.TrainerCallback` without being one: transformers stays unimported
until a trainer is made. One event is ours: `on_stop(error)`, sent by `train.resume_or_start` when a run ends by an
exception.
"""

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


class Callback:
    """A trainer callback by shape, not by inheritance: transformers stays unimported until a trainer is made."""

    def __getattr__(self, name: str):
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


class LiveTable(Callback):
    """One HTML output that follows the run: progress, the last steps with TRL's metric names, the reward so far."""

    def __init__(self, title: str = "", *, every: int = 5, last: int = 6):
        self.title, self.every, self.last, self.rows = title, every, last, []
        self.handle = self.state = None

    def on_train_begin(self, args, state, control, **kwargs):
        from IPython import get_ipython

        from grpo_nb import plots

        self.rows, self.handle = [log for log in state.log_history if "train_runtime" not in log], None
        if get_ipython() is not None:
            from IPython.display import HTML, display

            self.handle = display(
                HTML(f"<p>{plots.safe_text(self.title)}: waiting for the first step…</p>"), display_id=True
            )
            self._draw(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "train_runtime" in logs:
            return
        self.rows.append({"step": state.global_step, **logs})
        self.state = state
        if len(self.rows) % self.every == 0:
            self._draw(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._draw(state)

    def on_stop(self, error):
        self._draw(self.state)

    def _draw(self, state):
        if self.handle is None or not self.rows or state is None:
            return
        from IPython.display import HTML

        from grpo_nb import plots

        columns = [name for name in LIVE_COLUMNS if any(name in row for row in self.rows)]
        recent = [{name: row.get(name, "") for name in columns} for row in self.rows[-self.last :]]
        done = f"{plots.safe_text(self.title)}: step {state.global_step} of {state.max_steps}"
        bar = f'<progress aria-label="{done}" value="{state.global_step}" max="{state.max_steps}"></progress>'
        self.handle.update(HTML(f"<p>{bar} {done}</p>{plots.table(recent)}"))
