"""Where a run goes on from, and what stands in its way: another run's checkpoint, a full disk, a forgetful sampler."""

import math
import shutil
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path

from grpo_nb import checkpoints, fingerprints, listeners, tracking


def to_resume(trainer_folder: Path, fingerprint: dict) -> tuple[Path | None, bool]:
    """The checkpoint from which a run with this fingerprint goes on (None: it starts anew), and whether it is its last.

    Raises: ValueError if the newest one belongs to an unfinished run that was not equal, naming every difference.
    """
    found, content = checkpoints.newest(trainer_folder)
    if found is None:
        return None, False
    is_finished = content["step"] >= content["max_steps"]
    changed = fingerprints.differences(content["fingerprint"], fingerprint)
    if changed and is_finished:
        return None, False
    if changed:
        raise ValueError(
            f"a run can only be resumed as the run that it was (since {found.name} of {content['max_steps']} steps, "
            f"changed: {'; '.join(changed)}). Restore that, or start anew with fresh=True."
        )
    if content["machine"] != fingerprints.machine():
        other = fingerprints.differences({"machine": content["machine"]}, {"machine": fingerprints.machine()})
        print(f"Resumed elsewhere ({'; '.join(other)}): the curve goes on, its last bits may differ.")
    return found, is_finished


def load_finished(trainer, folder: Path):
    """Put the last checkpoint's weights, state and metrics into a trainer, without training."""
    from transformers.trainer_callback import TrainerState
    from transformers.trainer_utils import TrainOutput

    trainer._load_from_checkpoint(str(folder))  # transformers has no public name for this
    load_adapter(trainer.model, folder)
    trainer.state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    for writer in trainer.callback_handler.callbacks:
        if isinstance(writer, tracking.JsonlWriter):
            writer.on_train_begin(trainer.args, trainer.state, trainer.control)
    steps = trainer.state.global_step
    print(f"This run was finished before: step {steps} of {steps} is loaded. fresh=True trains it anew.")
    return TrainOutput(steps, trainer.state.log_history[-1].get("loss", math.nan), {})


def disk_trouble(error: BaseException, trainer_folder: Path, sealed: int | None) -> OSError | None:
    """The clean sentence for an error that came from a full or read-only disk; None for any other error.

    A checkpoint that could not be finished is removed: it is worth nothing, and takes the room that is missing.
    """
    broken = [path for path in checkpoints.all_checkpoints(trainer_folder) if not (path / checkpoints.SEAL).exists()]
    if not isinstance(error, Exception) or not (broken or _is_from_disk(error, trainer_folder.parent)):
        return None
    for path in broken:
        shutil.rmtree(path, ignore_errors=True)
    free = shutil.disk_usage(_existing(trainer_folder)).free >> 20
    kept = f"checkpoint-{sealed} is whole; the run goes on from it" if sealed else "no checkpoint was sealed yet"
    return OSError(
        f"the disk must take what the run writes (got {type(error).__name__}: {str(error)[:200]}; {free} MiB are "
        f"free). Make room and run again: {kept}."
    )


def set_all_aside(trainer_folder: Path) -> None:
    """Rename the folder of an earlier run to `<name>.previous`, in place of one that has that name already."""
    if not trainer_folder.exists() or not any(trainer_folder.iterdir()):
        return
    previous = trainer_folder.with_name(trainer_folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    trainer_folder.rename(previous)


class Restorer(listeners.Listener):
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
        for _ in range(state.global_step // checkpoints.updates_per_epoch(args, train_dataloader)):
            torch.randperm(sampler.num_samples, generator=sampler.generator)


def load_adapter(model, folder: Path) -> None:
    """Copy the adapter of a checkpoint into the active one of a PEFT model; leave any other model as it is."""
    if not (folder / "adapter_config.json").exists():
        return
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"), adapter_name=model.active_adapter)


def _is_from_disk(error: Exception, run_folder: Path) -> bool:
    """Whether the disk is full, or something of this run may not be written."""
    if not isinstance(error, OSError):
        return False
    ours = str(error.filename or "").startswith(str(run_folder))
    return error.errno in (ENOSPC, EDQUOT, EFBIG) or (error.errno in (EROFS, EACCES) and ours)


def _existing(folder: Path) -> Path:
    return next(path for path in [folder, *folder.parents] if path.exists())
