"""Trainer callbacks: the shape that they have here, the live table in the notebook, and completions to read.

A `Callback` answers every event of a `transformers.TrainerCallback` without being one: transformers stays unimported
until a trainer is made. One event is ours: `on_stop(error)`, sent by `train.resume_or_start` when a run ends by an
exception.
"""

from grpo_nb.rewards import contract, parsing

SHOWN = 200  # characters of a completion
LIVE_COLUMNS = (
    "step",
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "eval_reward",
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


class SumFromZero(Callback):
    """Lets the losses after a log count alone: `Trainer` takes their sum from itself, and NaN - NaN is no 0."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}) and hasattr(self.trainer, "_tr_loss"):
            self.trainer._tr_loss.zero_()


class LiveTable(Callback):
    """One HTML output that follows the run: progress, the last steps with TRL's metric names, the reward so far."""

    def __init__(self, title: str = "", *, every: int = 5, last: int = 6):
        self.title, self.every, self.last, self.rows = title, every, last, []
        self.handle = self.state = None

    def on_train_begin(self, args, state, control, **kwargs):
        from IPython import get_ipython

        from grpo_nb import plots

        self.rows, self.handle = [], None
        for log in state.log_history:
            self._add(log)
        if get_ipython() is not None:
            from IPython.display import HTML, display

            self.handle = display(
                HTML(f"<p>{plots.safe_text(self.title)}: waiting for the first step…</p>"), display_id=True
            )
            self._draw(state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "train_runtime" in logs:
            return
        self._add({"step": state.global_step, **logs})
        self.state = state
        if len(self.rows) % self.every == 0:
            self._draw(state)

    def _add(self, log: dict):
        """A log as a row; an evaluation's goes into the row of its step, the closing summary into none."""
        if "train_runtime" in log:
            return
        if self.rows and self.rows[-1]["step"] == log["step"]:
            log = {**self.rows.pop(), **log}
        self.rows.append(log)

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


class Samples(Callback):
    """Prints the best and the worst completion of one prompt every few steps: what was asked, said and read from it.

    Args:
        watch: the `guards.Watch` of the run; it remembers the batch that was scored last.
        every: steps.
    """

    def __init__(self, watch, every: int):
        self.watch, self.every = watch, every

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.every == 0 and self.watch.latest:
            print(f"step {state.global_step} · {samples(self.watch.latest, args.num_generations)}")


def samples(batch: dict, group: int) -> str:
    """The best and the worst completion of a batch's first prompt, a line each, as plain text; one line if they agree.

    Args:
        batch: `guards.Watch.latest`.
        group: completions of a prompt.

    >>> texts = ["<end_working_out><SOLUTION>2</SOLUTION>", chr(27) + "[2J three"]
    >>> scores = {"f": [1.5, 0.0], "g": [1.0, None]}
    >>> print(samples({"prompts": ["1+1?"] * 2, "answer": ["2"] * 2, "completions": texts, "scores": scores}, 2))
    question '1+1?' · answer '2'
      rewards 1.5, 1 · extracted '2' · response '<end_working_out><SOLUTION>2</SOLUTION>'
      rewards 0, none · extracted None · response '\\x1b[2J three'
    """
    prompt, answers = batch["prompts"][0], batch["answer"]
    question = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    lines = [
        f"question {contract.shown(question, SHOWN)}" + (f" · answer {contract.shown(answers[0])}" if answers else "")
    ]
    scored = [*zip(batch["completions"][:group], zip(*batch["scores"].values(), strict=True), strict=False)]
    ranked = sorted(scored, key=lambda pair: -sum(score or 0.0 for score in pair[1]))
    for completion, scores in ranked[:1] if ranked[0] == ranked[-1] else (ranked[0], ranked[-1]):
        text = parsing.text(completion)
        paid = ", ".join("none" if score is None else f"{score:.4g}" for score in scores)
        extracted, response = contract.shown(parsing.solution(text)), contract.shown(text, SHOWN)
        lines.append(f"  rewards {paid} · extracted {extracted} · response {response}")
    return "\n".join(lines)
