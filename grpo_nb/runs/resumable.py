"""From which steps a run can go on, and whether its checkpoints fall there.

An optimizer step in the middle of a generation batch cannot be resumed (its completions are in no checkpoint), nor one
in the middle of a line of the log (half of its sum is in none). `args` is always the trainer's config, or a namespace
with the same names: preflight asks before there is a trainer.
"""

import itertools
import math
from collections.abc import Iterator


def generation_cycle(args) -> int:
    """Optimizer steps after which a generation batch is used up; a checkpoint in between would lose its completions.

    A generation batch feeds steps_per_generation × num_iterations micro-steps, and an optimizer step takes
    gradient_accumulation_steps of them.
    """
    micro_steps = getattr(args, "steps_per_generation", 1) * getattr(args, "num_iterations", 1)
    return micro_steps // math.gcd(micro_steps, args.gradient_accumulation_steps)


def can_cut(args, step: int, *, updates_per_epoch: int) -> bool:
    """Whether a run that is cut after `step` can be resumed: no generation half used, no line of the log half summed.

    Args:
        updates_per_epoch: optimizer steps per epoch; the cycle starts anew with each epoch.
    """
    return (step % updates_per_epoch) % generation_cycle(args) == 0 and step % _log_cycle(args) == 0


def next_cut(args, step: int, *, updates_per_epoch: int) -> int:
    """The first step after `step` from which a run can go on; there always is one, at the latest an epoch's end."""
    while not can_cut(args, step := step + 1, updates_per_epoch=updates_per_epoch):
        pass
    return step


def updates_per_epoch(args, dataloader) -> int:
    """Optimizer steps of one epoch; the last one may have fewer micro-steps."""
    return -(-len(dataloader) // args.gradient_accumulation_steps)


def max_steps(args, *, updates_per_epoch: int) -> int:
    """Optimizer steps of a whole run, as the trainer counts them."""
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * updates_per_epoch)


def steps_between_saves(args, *, max_steps: int, updates_per_epoch: int) -> int | None:
    """Optimizer steps from one checkpoint to the next; None if there are none."""
    if args.save_strategy == "no":
        return None
    if args.save_strategy == "epoch":
        return max(1, updates_per_epoch)
    return math.ceil(args.save_steps * max_steps) if args.save_steps < 1 else int(args.save_steps)


def check_resumable(args) -> None:
    """Refuse settings with which a resumed run would not be the run that was cut.

    Args:
        args: the trainer's config.
    Raises: ValueError naming the setting and what to do.
    """
    logs, saves = (str(getattr(name, "value", name)) for name in (args.logging_strategy, args.save_strategy))
    if logs == "epoch":
        raise ValueError(
            "logging_strategy must be 'steps' or 'no': a run that is cut in an epoch would log half of it "
            "(got 'epoch'). Try logging_strategy = 'steps' and logging_steps = 1."
        )
    if _log_cycle(args) < 1 or (saves == "steps" and args.save_steps < 1):
        raise ValueError(
            "logging_steps and save_steps must be whole numbers of steps where a run is to be resumed (got "
            f"{args.logging_steps} and {args.save_steps}). Try logging_steps = 1 and save_steps = "
            f"{generation_cycle(args) * max(1, 10 // generation_cycle(args))}."
        )
    unit, steps = _unit(args), args.save_steps
    if saves not in ("steps", "no"):
        raise ValueError(
            "save_strategy must be 'steps', so that there is a checkpoint to resume from, or 'no' "
            f"(got {saves!r}). Try save_strategy = 'steps' and save_steps = {unit * max(1, 10 // unit)}."
        )
    if saves == "steps" and steps % unit:
        raise ValueError(
            f"save_steps must be a multiple of {unit}: a generation of completions and a line of the log end there "
            f"(got {steps}). Try save_steps = {next(_multiples_near(steps, unit))}."
        )
    if args.save_only_model:
        raise ValueError(
            "save_only_model must be False: without optimizer and random state a resumed run takes another path "
            "(got True). Drop it, and save disk with save_total_limit=2."
        )
    if args.world_size > 1:
        raise ValueError(
            f"a resumable run must be one process (got {args.world_size}): each process would seal before the others "
            "have saved. Train in one go with trainer.train()."
        )


def check_saves(args, *, max_steps: int, updates_per_epoch: int) -> None:
    """Refuse checkpoints in the middle of a generation, where an epoch does not end together with one.

    Args:
        args: as for `check_resumable`; where they do not save at steps, nothing is refused.
        max_steps: of the whole run; the checkpoint at its end may fall anywhere.
    Raises: ValueError with the nearest save_steps that fits.
    """
    if args.save_strategy != "steps":
        return
    sizes = {"max_steps": max_steps, "updates_per_epoch": updates_per_epoch}
    every = steps_between_saves(args, **sizes)
    off = _first_off(args, every, **sizes)
    if off is not None:
        nearest = next(n for n in _multiples_near(every, _unit(args)) if _first_off(args, n, **sizes) is None)
        raise ValueError(
            f"a checkpoint must fall where a generation of completions ends (got save_steps = {every}, and step {off} "
            f"is none: an epoch has {updates_per_epoch} steps, a generation {generation_cycle(args)}). "
            f"Try save_steps = {nearest}."
        )


def _log_cycle(args) -> int:
    """Optimizer steps that a line of the log sums; 1 where none is written."""
    return int(args.logging_steps) if args.logging_strategy == "steps" else 1


def _unit(args) -> int:
    """Optimizer steps after which a generation and a line of the log end together."""
    return math.lcm(generation_cycle(args), _log_cycle(args))


def _first_off(args, every: int, *, max_steps: int, updates_per_epoch: int) -> int | None:
    """The first checkpoint before the end from which a run could not go on; None if there is none."""
    period = math.lcm(every, updates_per_epoch, _log_cycle(args))  # from there on everything repeats
    saves = range(every, min(max_steps, period + 1), every)
    return next((step for step in saves if not can_cut(args, step, updates_per_epoch=updates_per_epoch)), None)


def _multiples_near(number: int, unit: int) -> Iterator[int]:
    """Multiples of `unit`, the nearest to `number` first, without end."""
    middle = round(number / unit)
    for distance in itertools.count():
        yield from (unit * k for k in sorted({middle - distance, middle + distance}) if k >= 1)
