"""A checkpoint with a seal: which one a run goes on from, and when it must not.

A trainer writes the files of a checkpoint one after the other, so a kill in between leaves a folder that looks like a
checkpoint and is none; transformers then stops with a riddle, or goes on with a fresh optimizer and says nothing. Here
the last file written is `seal.json`, with the size and the hash of all others: no seal, or one that does not fit, and
the checkpoint before it is taken.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from pathlib import Path

from grpo_nb.runs import callbacks, disk_room, files, fingerprints, resumable

SEAL = "seal.json"
SCHEMA = 1


def seal(folder: Path, *, step: int, max_steps: int, fingerprint: dict) -> Path:
    """Write `seal.json` into a complete checkpoint, after everything else in it has reached the disk.

    Args:
        step: optimizer steps taken so far; `max_steps` of the whole run.
        fingerprint: of the run, from `fingerprints.fingerprint`.
    """
    files.sync_folder(folder)
    content = {
        "schema": SCHEMA,
        "step": step,
        "max_steps": max_steps,
        "files": {name: _size_and_hash(folder / name) for name in _names(folder)},
        "fingerprint": fingerprint,
        "machine": fingerprints.machine(),
    }
    return files.write_text(folder / SEAL, json.dumps({**content, "sha256": _hash_of(content)}, indent=1))


def read_seal(folder: Path) -> dict:
    """The seal of a checkpoint, once every file that it names has been compared with it.

    Raises: ValueError saying what is damaged.
    """
    try:
        content = json.loads((folder / SEAL).read_text(encoding="utf8"))
        written = content.pop("sha256")
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{SEAL} cannot be read ({type(error).__name__})") from error
    if written != _hash_of(content):
        raise ValueError(f"{SEAL} is not what was written")
    for name, expected in content["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if _size_and_hash(folder / name) != expected:
            raise ValueError(f"{name} is not what was sealed")
    return content


def newest(trainer_folder: Path) -> tuple[Path | None, dict]:
    """The newest checkpoint whose seal fits, and the seal; (None, {}) where there is none.

    Newer ones that are damaged are set aside as `damaged-checkpoint-<step>`, with one warning for all of them.
    """
    damaged, found, content = [], None, {}
    for folder in all_checkpoints(trainer_folder)[::-1]:
        try:
            content, found = read_seal(folder), folder
            break
        except ValueError as error:
            damaged.append(f"{folder.name} ({error})")
            aside = folder.with_name("damaged-" + folder.name)
            shutil.rmtree(aside, ignore_errors=True)
            files.rename(folder, aside)
    if damaged:
        goes_on = f"the run goes on from {found.name}" if found else "no other is left: the run starts at its beginning"
        warnings.warn(f"Damaged and set aside: {', '.join(damaged)}; {goes_on}.", stacklevel=3)
    return found, content


def all_checkpoints(trainer_folder: Path) -> list[Path]:
    """Every folder named `checkpoint-<step>`, the oldest first."""
    named = {re.fullmatch(r"checkpoint-(\d+)", path.name): path for path in trainer_folder.glob("checkpoint-*")}
    return [path for match, path in sorted((int(m[1]), path) for m, path in named.items() if m) if path.is_dir()]


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != SEAL)


def _hash_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _size_and_hash(path: Path) -> dict:
    with path.open("rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class Sealer(callbacks.Callback):
    """Seals every checkpoint right after the trainer has written it, then removes the oldest ones.

    The trainer itself must not remove any: it goes by the files' times, and before the new one is sealed.

    Args:
        fingerprint: of the run.
        keep: sealed checkpoints that stay; None keeps all.
    Attributes:
        step: of the newest checkpoint that this run has sealed; None before the first.
    """

    def __init__(self, fingerprint: dict, keep: int | None = None):
        self.fingerprint, self.keep = fingerprint, keep
        self.step, self.is_broken = None, False

    def note_settings(self, args) -> None:
        """Let the settings count as they are now: they may have been changed since the trainer was made."""
        self.fingerprint = {**self.fingerprint, "setting": fingerprints.settings(args)}

    def check_trainer(self, trainer, found: Path | None) -> None:
        """Refuse a trainer whose state is not that of the checkpoint (or the beginning) from which it shall go on."""
        if self.is_broken or (found is None and trainer.state.global_step):
            raise ValueError(
                "the trainer must be new, or one that stopped at a checkpoint (got one that "
                f"{'broke off within a step' if self.is_broken else 'has trained already'}). "
                "Make a new one: run the cell with train.grpo_trainer again."
            )

    def on_stop(self, error):
        self.is_broken = True

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        self.step = state.global_step or None
        sizes = {"max_steps": state.max_steps, "updates_per_epoch": resumable.updates_per_epoch(args, train_dataloader)}
        resumable.check_saves(args, **sizes)
        every = resumable.steps_between_saves(args, **sizes)
        many = disk_room.checkpoints_at_once(max_steps=state.max_steps, every=every, keep=self.keep)
        trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
        vocabulary = getattr(getattr(model, "config", None), "vocab_size", 0)
        size = disk_room.checkpoint_bytes(trained, vocabulary=vocabulary)
        disk_room.check_room(Path(args.output_dir), size=size, many=many)

    def on_save(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        seal(folder, step=state.global_step, max_steps=state.max_steps, fingerprint=self.fingerprint)
        self.step = state.global_step
        if self.keep:
            for older in all_checkpoints(Path(args.output_dir))[: -self.keep]:
                shutil.rmtree(older, ignore_errors=True)


def sealer_of(trainer) -> Sealer:
    """The sealer among a trainer's callbacks.

    Raises: ValueError if there is none: the trainer, if it is one, was made elsewhere.
    """
    callbacks_of = getattr(getattr(trainer, "callback_handler", None), "callbacks", ())
    for callback in callbacks_of:
        if isinstance(callback, Sealer):
            return callback
    raise ValueError(
        "resume_or_start needs a trainer from train.grpo_trainer or train.sft_trainer, which seal their checkpoints "
        f"(got {type(trainer).__name__} without that). Make it there, or call trainer.train()."
    )
