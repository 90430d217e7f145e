"""Which completion trains when, and on which process? The schedule of a run from six integers, and what changes it."""

from fractions import Fraction

from matplotlib.figure import Figure

from grpo_nb import batchflow, plots
from grpo_nb.explorers.panel import Choice, Number, Panel


def compute(*, num_prompts: int = 32, steps_per_generation: int = 0, **settings) -> batchflow.Plan:
    """`batchflow.plan` of these settings.

    Args:
        steps_per_generation: 0 for not set: then it is gradient_accumulation_steps.
        settings: the other arguments of `batchflow.plan`.
    Raises: ValueError where `plan` refuses.
    """
    return batchflow.plan(num_prompts, steps_per_generation=steps_per_generation or None, **settings)


def figure(plan: batchflow.Plan, frame=plots.frame) -> Figure:
    """The first generation rounds as a timetable: two, and more where they are short."""
    return plots.plot_batch_flow(plan, generations=max(2, 8 // (plan.steps_per_generation * plan.num_iterations)))


def caption(plan: batchflow.Plan) -> str:
    """The totals of the run, and what else the plan notes."""
    stalest = max(step.staleness for step in plan.micro_steps)
    on = f"on each of {plan.num_processes} processes" if plan.num_processes > 1 else "on 1 process"
    return " ".join(
        [
            f"A generation round samples {_many(plan.generation_batch_size, 'completion')} "
            f"({_many(plan.unique_prompts, 'prompt')} × {plan.num_generations}) for "
            f"{_many(plan.steps_per_generation, 'micro-step')} of "
            f"{_many(plan.per_device_train_batch_size, 'completion')} {on}"
            + f", all of it {plan.num_iterations} times" * (plan.num_iterations > 1)
            + ".",
            f"An optimizer step trains on {plan.completions_per_update} completions; a round makes "
            f"{_many(plan.optimizer_steps_per_generation, 'optimizer step')}, with samples "
            + (f"up to {_many(stalest, 'step')} old" if stalest else "that are never old")
            + f", and TRL stores {'the' if plan.needs_old_logps else 'no'} old log-probs.",
            f"An epoch has {_many(plan.num_prompts // plan.unique_prompts, 'round')} and "
            f"{_many(plan.optimizer_steps, 'optimizer step')}, and drops {plan.prompts_dropped} of "
            f"{_many(plan.num_prompts, 'prompt')}.",
            *plan.notes,
        ]
    )


def explorer() -> Panel:
    """Controls: the six integers (`steps_per_generation` 0: not set), `num_iterations`, `shuffle`, and the backend."""

    controls = {
        "num_prompts": Number(32, 4, 512, 1),
        "per_device_train_batch_size": Number(4, 1, 16, 1),
        "num_generations": Number(4, 2, 16, 1),
        "gradient_accumulation_steps": Number(2, 1, 16, 1),
        "steps_per_generation": Number(4, 0, 16, 1),
        "num_processes": Number(1, 1, 8, 1),
        "num_iterations": Number(1, 1, 4, 1),
        "shuffle": Choice(False, (False, True)),
        "backend": Choice("trl", ("trl", "unsloth")),
    }
    first = _batch(8, 3, 3, 2, 4)
    presets = {
        "Example one: two updates a round": first,
        "Example two: one update a round": _batch(8, 3, 3, 4, 4),
        "Example three: groups cross micro-steps": _batch(6, 3, 4, 4, 4),
        "Example four: two groups a micro-step": _batch(8, 6, 3, 2, 2),
        "Example one as it is run: shuffled": {**first, "shuffle": True},
        "TRL's defaults": {**_batch(8, 8, 8, 1, 0), "shuffle": True},
        "two processes share a round": {**_batch(24, 3, 2, 4, 0), "num_processes": 2},
        "replay: every round twice": {**first, "num_iterations": 2},
        "Unsloth makes the batch one group": {**_batch(8, 6, 4, 1, 0), "backend": "unsloth"},
    }
    return Panel((compute, figure, caption), controls, presets, rare=("num_iterations", "shuffle", "backend"))


def _batch(prompts: int, device: int, group: int, accumulation: int, steps: int) -> dict:
    return {
        "num_prompts": prompts,
        "per_device_train_batch_size": device,
        "num_generations": group,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": steps,
    }


def _many(number: int | Fraction, name: str) -> str:
    """
    >>> _many(2, "prompt"), _many(1, "prompt"), _many(Fraction(1, 2), "step")
    ('2 prompts', '1 prompt', '1/2 step')
    """
    return f"{number} {name}{'s' * (number > 1)}"
