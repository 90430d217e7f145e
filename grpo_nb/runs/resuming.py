"""Where a run goes on from, and what stands in its way: another run's checkpoint, a full disk, a forgetful sampler."""

import math
import os
import shutil
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path

from grpo_nb.runs import callbacks, checkpoints, disk_room, files, fingerprints, resumable, stopping, tracking


def lock(folder: Path):
    """The lock file beside a trainer's folder, held."""
    return files.lock(
        folder.with_name(folder.name + ".lock"),
        busy=f"a run must have one trainer at a time (got another one that trains in {folder}). Stop it, whatever "
        "notebook or terminal it is in, or give this run another name.",
    )


def train(trainer, sealer: checkpoints.Sealer, stopper: stopping.Stopper, *, fresh: bool):
    """Train on from the newest checkpoint that is whole, or from the beginning; see `train.resume_or_start`.

    Args:
        sealer: the trainer's, from `checkpoints.sealer_of`.
        stopper: ends the run early, at a step from which it can go on.
        fresh: begin anew whatever is there.
    Returns: `transformers.trainer_utils.TrainOutput`.
    """
    folder = Path(trainer.args.output_dir)
    resumable.check_resumable(trainer.args)
    sealer.note_settings(trainer.args)
    found, seal = (None, {}) if fresh else to_resume(folder, sealer.fingerprint)
    sealer.check_trainer(trainer, found)
    if found is None:
        set_all_aside(folder)
    elif is_finished(seal):
        return load_finished(trainer, found)
    else:
        set_threads(seal["machine"])
        print(goes_on(found, seal))
        restore_token_count(trainer, found)
    helpers = [stopper, Restorer(found)] if found else [stopper]
    for helper in helpers:
        trainer.add_callback(helper)
    evaluates_first = trainer.args.eval_on_start
    trainer.args.eval_on_start = evaluates_first and found is None  # transformers would, wherever a run goes on
    try:
        with stopper.catching_interrupts():
            result = trainer.train(resume_from_checkpoint=str(found) if found else None)
    except BaseException as error:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, callbacks.Callback):
                callback.on_stop(error)
        if isinstance(error, Exception):
            remove_unsealed(folder)
            if trouble := disk_trouble(error, folder, sealer.step):
                raise trouble from error
        raise
    finally:
        trainer.args.eval_on_start = evaluates_first
        for helper in helpers:
            trainer.remove_callback(helper)
    stopper.finish(trainer.state)
    return result


def to_resume(trainer_folder: Path, fingerprint: dict) -> tuple[Path | None, dict]:
    """The checkpoint from which a run with this fingerprint goes on, and its seal; (None, {}) if it starts anew.

    Where it starts anew although another run was finished here, this is printed.

    Raises: ValueError if the newest one belongs to an unfinished run that was not equal, naming every difference, or
    only the two versions of grpo_nb if that is one of them: everything else may follow from it.
    """
    found, seal = checkpoints.newest(trainer_folder)
    if found is None:
        return None, {}
    written, ours = (content.get("version", {}).get("grpo_nb") for content in (seal["fingerprint"], fingerprint))
    if seal["schema"] != checkpoints.SCHEMA:
        raise ValueError(
            f"{found.name} must have a seal of schema {checkpoints.SCHEMA} (got schema {seal['schema']}, written by "
            f"grpo_nb {written}; this is grpo_nb {ours}). Install grpo_nb {written} to go on, or start anew with "
            "train.resume_or_start(trainer, fresh=True)."
        )
    changed = fingerprints.differences(seal["fingerprint"], fingerprint)
    if written != ours:
        changed = [f"version grpo_nb: {written} → {ours}"]
    if changed and is_finished(seal):
        print(
            f"Changed since the finished run ({'; '.join(changed)}): it is kept as trainer.previous, a new one starts."
        )
        return None, {}
    if written != ours:
        raise ValueError(
            f"a run must be finished by the version of grpo_nb that began it (got {found.name} of {seal['max_steps']} "
            f"steps, written by grpo_nb {written}; this is grpo_nb {ours}). Install grpo_nb {written} to go on, or "
            "start anew with train.resume_or_start(trainer, fresh=True)."
        )
    if changed:
        raise ValueError(
            f"a run can only be resumed as the run that it was (since {found.name} of {seal['max_steps']} steps, "
            f"changed: {'; '.join(changed)}). Restore that, or start anew with "
            "train.resume_or_start(trainer, fresh=True)."
        )
    return found, seal


def is_finished(seal: dict) -> bool:
    """Whether a checkpoint is the last one of its run."""
    return seal["step"] >= seal["max_steps"]


def set_threads(machine: dict) -> None:
    """Give torch the number of threads with which the run began, if this machine has them: sums depend on it."""
    import torch

    if machine["threads"] <= (os.cpu_count() or 1):
        torch.set_num_threads(machine["threads"])


def goes_on(found: Path, seal: dict) -> str:
    """The sentence that says from where a run goes on, and what is different about this machine, if anything is."""
    other = fingerprints.differences({"": seal["machine"]}, {"": fingerprints.machine()})
    where = f", on another machine ({'; '.join(map(str.strip, other))}): the last bits may differ" if other else ""
    return f"Goes on from {found.name} of {seal['max_steps']} steps{where}."


def load_finished(trainer, folder: Path):
    """Put the last checkpoint's weights, state and metrics into a trainer, without training."""
    from transformers.trainer_callback import TrainerState
    from transformers.trainer_utils import TrainOutput

    trainer._load_from_checkpoint(str(folder))  # transformers has no public name for this
    load_adapter(trainer.model, folder)
    trainer.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, (tracking.JsonlWriter, callbacks.LiveTable)):
            callback.on_train_begin(trainer.args, trainer.state, trainer.control)
    steps = trainer.state.global_step
    print(
        "Nothing was trained: this run was finished before, with the same settings, rows and rewards. "
        f"Step {steps} of {steps} is loaded; train.resume_or_start(trainer, fresh=True) trains it anew."
    )
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return TrainOutput(steps, losses[-1] if losses else math.nan, {})


def remove_unsealed(trainer_folder: Path) -> None:
    """Remove a checkpoint that could not be finished: it is worth nothing, and takes the room that is missing."""
    for path in checkpoints.all_checkpoints(trainer_folder):
        if not (path / checkpoints.SEAL).exists():
            shutil.rmtree(path, ignore_errors=True)


def disk_trouble(error: Exception, trainer_folder: Path, sealed: int | None) -> OSError | None:
    """The clean sentence for an error that came from a full or read-only disk; None for any other error."""
    if not _is_from_disk(error, trainer_folder.parent):
        return None
    free = disk_room.free_bytes(trainer_folder) // disk_room.MIB
    kept = f"checkpoint-{sealed} is whole; the run goes on from it" if sealed else "no checkpoint was sealed yet"
    return OSError(
        f"the disk must take what the run writes (got {type(error).__name__}: {str(error)[:200]}; {free} MiB are "
        f"free). Make room and run again: {kept}."
    )


def set_all_aside(trainer_folder: Path) -> None:
    """Move the checkpoints of an earlier run to `<name>.previous`, in place of those that lie there already."""
    found = [*checkpoints.all_checkpoints(trainer_folder), *trainer_folder.glob("damaged-checkpoint-*")]
    if not found:
        return
    previous = trainer_folder.with_name(trainer_folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    for path in found:
        files.rename(path, previous / path.name)


def restore_token_count(trainer, folder: Path) -> None:
    """Let TRL's `SFTTrainer`, which counts `num_tokens` outside of the trainer's state, go on counting."""
    from transformers.trainer_callback import TrainerState

    counts = [log["num_tokens"] for log in TrainerState.load_from_json(str(folder / "trainer_state.json")).log_history
              if "num_tokens" in log]  # fmt: skip
    if counts and hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = counts[-1]


class Restorer(callbacks.Callback):
    """Gives a resumed run what transformers leaves out, and says nothing about, when it resumes.

    1. The trained adapter, where the checkpoint also holds TRL's reference adapter (beta above 0): of a folder with
       adapters in subfolders, transformers loads the subfolders only, and training goes on with an untrained adapter.
    2. The order of the rows: TRL's `RepeatSampler` draws that of each epoch from one generator, which no checkpoint
       keeps. A run resumed in its third epoch would see the order of the first one again.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        import torch

        load_adapter(model, self.folder)
        sampler = getattr(getattr(train_dataloader, "batch_sampler", None), "sampler", None)
        if type(sampler).__name__ != "RepeatSampler" or not sampler.shuffle:
            return  # accelerate's own samplers are seeded by epoch
        for _ in range(state.global_step // resumable.updates_per_epoch(args, train_dataloader)):
            torch.randperm(sampler.num_samples, generator=sampler.generator)


def load_adapter(model, folder: Path) -> None:
    """Copy the adapter of a checkpoint into the active one of a PEFT model; leave any other model as it is."""
    if not (folder / "adapter_config.json").exists():
        return
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"), adapter_name=model.active_adapter)


def _is_from_disk(error: Exception, run_folder: Path) -> bool:
    """Whether the disk is full, or something of this run may not be written, in the words of Python, Rust or torch."""
    if any(words in str(error) for words in ("No space left", "PytorchStreamWriter", "inline_container")):
        return True
    if not isinstance(error, OSError):
        return False
    ours = str(error.filename or "").startswith(str(run_folder))
    return error.errno in (ENOSPC, EDQUOT, EFBIG) or (error.errno in (EROFS, EACCES) and ours)
