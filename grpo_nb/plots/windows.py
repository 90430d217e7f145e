"""What of a plan of `batchflow` fits into one readable picture, and the same in words."""

from dataclasses import dataclass, replace

from grpo_nb import batchflow
from grpo_nb.plots.palette import WIDE

SIZE = 11  # points, of the numbers: read at half the size too
LETTER, MARGIN = 0.091, 0.075  # inches: a letter or digit of that size at most, and the room beside it
LEFT, RIGHT, EDGE, NOTE = 1.05, 0.1, 0.06, 0.24  # inches: beside the rows, above and below them, for what is left out
BAND, LEAST, MOST, WIDEST = 0.24, 0.18, 0.26, 1.15  # inches: height of a band; of a cell; width of a cell
TALL = 5.6  # inches, of the figure of more than two processes
GAP = 0.4  # columns between generation rounds
LANE = 0.6  # rows between processes
PROCESSES = 4  # drawn at most


@dataclass(frozen=True)
class Window:
    """What of a plan is drawn.

    Fields:
        steps: the micro-steps; `processes` and `rows` (completions of each) are how many.
    """

    plan: batchflow.Plan
    steps: tuple[batchflow.MicroStep, ...]
    processes: int
    rows: int

    @property
    def bands(self) -> list[str]:
        """Names of the rows above the cells."""
        return ["generation", *["replay"] * (self.plan.num_iterations > 1), "optimizer"]

    @property
    def feet(self) -> dict[str, list[int]]:
        """The rows below the cells: name → a number for each micro-step."""
        staleness = [step.staleness for step in self.steps]
        return ({"staleness": staleness} if any(staleness) else {}) | {"micro-step": [step.step for step in self.steps]}

    @property
    def cells(self) -> int:
        """How many completions are drawn."""
        return len(self.steps) * self.processes * self.rows

    @property
    def columns(self) -> float:
        """Width of all cells, in columns."""
        return self.left(self.steps[-1]) + 1

    @property
    def lines(self) -> float:
        """Height of all cells, in rows."""
        return self.top(self.processes - 1) + self.rows

    @property
    def left_out(self) -> str:
        """What is not drawn, in words; empty if everything is."""
        plan, told = self.plan, []
        for drawn, of, name in [
            (len(self.steps), len(plan.micro_steps), "micro-steps"),
            (self.processes, plan.num_processes, "processes"),
            (self.rows, plan.per_device_train_batch_size, "completions of each"),
        ]:
            if drawn < of:
                told.append(f"{drawn} of {of} {name}")
        return "drawn: " + ", ".join(told) if told else ""

    def left(self, step: batchflow.MicroStep) -> float:
        """Where the cells of a micro-step begin, in columns."""
        return step.step + GAP * step.generation

    def top(self, process: int) -> float:
        """Where the cells of a process begin, in rows."""
        return process * (self.rows + LANE)


def window_of(plan: batchflow.Plan, *, generations: int, most: int | None = None) -> Window:
    """As many whole generation rounds, processes and completions as can be read; of a very long round its beginning.

    Args:
        most: micro-steps at most.
    Raises: ValueError for less than one round.
    """
    if generations < 1:
        raise ValueError(f"generations must be at least 1 (got {generations}). Try generations = 2.")
    width = LETTER * len(str(plan.num_prompts - 1)) + MARGIN
    room = min((WIDE[0] - LEFT - RIGHT) / width, most or float("inf"))  # columns
    in_round = plan.steps_per_generation * plan.num_iterations
    whole = min(generations, int((room + GAP) // (in_round + GAP)))
    processes = min(plan.num_processes, PROCESSES)
    window = Window(plan, plan.micro_steps[: whole * in_round or int(room)], processes, 1)
    height = tallest(window) - around(replace(window, rows=0))  # with room to say what is left out
    rows = int((height / LEAST - LANE * (processes - 1)) // processes)
    return replace(window, rows=min(plan.per_device_train_batch_size, rows))


def tell_batch_flow(plan: batchflow.Plan, *, generations: int = 2) -> str:
    """What `plot_batch_flow` draws, in words: an alt text.

    >>> from grpo_nb import batchflow
    >>> tell_batch_flow(batchflow.plan(2, per_device_train_batch_size=2, num_generations=2, shuffle=False))
    'Round 0, 1 prompt × 2 completions. Micro-step 0: 0 0, then optimizer step 0. Round 1. Micro-step 1: 1 1, then \
optimizer step 1.'
    """
    return tell(window_of(plan, generations=generations))


def tell(window: Window) -> str:
    """The cells and lines of a window in words."""
    told, before = [], None
    for step in window.steps:
        if step.generation != before:
            told.append(f"Round {step.generation}{'' if before is not None else ', ' + size(window.plan)}.")
        before = step.generation
        notes = [f"{name} {getattr(step, name)}" for name in ("replay", "staleness") if getattr(step, name)]
        noted = f" ({', '.join(notes)})" if notes else ""
        parts = [" ".join(map(str, part[: window.rows])) for part in step.slices[: window.processes]]
        if len(parts) > 1:
            parts = [f"{part} on process {process}" for process, part in enumerate(parts)]
        then = "" if step.optimizer_update is None else f", then optimizer step {step.optimizer_update}"
        told.append(f"Micro-step {step.step}{noted}: {'; '.join(parts)}{then}.")
    return " ".join(told) + (f" ({window.left_out[0].upper()}{window.left_out[1:]}.)" if window.left_out else "")


def tallest(window: Window) -> float:
    """Inches that a figure may be high."""
    return WIDE[1] if window.processes <= 2 else TALL


def around(window: Window) -> float:
    """Inches above and below the cells."""
    return 2 * EDGE + BAND * (len(window.bands) + len(window.feet)) + NOTE * bool(window.left_out)


def size(plan: batchflow.Plan) -> str:
    """Prompts and completions of a generation round, in words."""
    return f"{plan.unique_prompts} prompt{'s' * (plan.unique_prompts > 1)} × {plan.num_generations} completions"
