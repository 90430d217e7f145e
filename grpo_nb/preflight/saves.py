"""Checkpoints: whether a run could go on from them. `resumable` has the rules; a trainer asks them again."""

from types import SimpleNamespace

from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import keys, processes
from grpo_nb.runs import resumable


def check_saves(settings: dict, config_class: type, *, updates: int | None = None) -> None:
    """Refuse checkpoints from which no run could go on; without any at steps, or with several processes, none is to.

    Args:
        settings: keys of `config_class`, as `values` left them.
        config_class: `trl.GRPOConfig` or `SFTConfig`.
        updates: optimizer steps of one epoch; None: nobody has counted the rows yet, or they are not ours to count.
    Raises: ValueError with the nearest values from which one could.
    """
    full = {**keys.completed(settings, config_class), "world_size": processes.launched()}
    if "num_generations" in full:
        full |= {
            arithmetic.STEPS: arithmetic.batch_numbers(settings, num_processes=full["world_size"])[arithmetic.STEPS]
        }
    args = SimpleNamespace(**full)
    if args.save_strategy != "steps" or args.world_size > 1:
        return
    resumable.check_resumable(args)
    if updates is not None:
        resumable.check_saves(
            args, max_steps=resumable.max_steps(args, updates_per_epoch=updates), updates_per_epoch=updates
        )
