"""A checkpoint with a seal: which one a run goes on from, and when it must not.

A trainer writes the files of a checkpoint one after the other, so a kill in between leaves a folder that looks like a
checkpoint and is none; transformers then stops with a riddle, or goes on with a fresh optimizer and says nothing. Here
the last file written is `seal.json`, with the size and the hash of all others: no seal, or one that does not fit, and
the checkpoint before it is taken.
"""

import hashlib
import json
import math
import os
import re
import shutil
import warnings
from pathlib import Path

from grpo_nb.runs import callbacks, files, fingerprints

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
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
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
            folder.rename(aside)
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
        epoch = updates_per_epoch(args, train_dataloader)
        saves = range(args.save_steps, state.max_steps, args.save_steps) if args.save_strategy == "steps" else ()
        off = [step for step in saves if not can_cut(args, step, updates_per_epoch=epoch)]
        if off:
            fitting = [n for n in range(1, state.max_steps) if _all_fit(args, n, state.max_steps, epoch)]
            nearest = min(fitting, key=lambda n: abs(n - args.save_steps), default=state.max_steps)
            raise ValueError(
                f"a checkpoint must fall where a generation of completions ends (step {off[0]} does not: an epoch has "
                f"{epoch} steps, a generation {generation_cycle(args)}). Try save_steps={nearest}."
            )
        _check_room(Path(args.output_dir), model, self.keep or len(saves) + 1)

    def on_save(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        seal(folder, step=state.global_step, max_steps=state.max_steps, fingerprint=self.fingerprint)
        self.step = state.global_step
        if self.keep:
            for older in all_checkpoints(Path(args.output_dir))[: -self.keep]:
                shutil.rmtree(older, ignore_errors=True)


def _all_fit(args, every: int, last: int, epoch: int) -> bool:
    return all(can_cut(args, step, updates_per_epoch=epoch) for step in range(every, last, every))


def _check_room(folder: Path, model, kept: int) -> None:
    """Refuse to start where the checkpoints will not fit: weights and two moments of what is trained, and 16 MiB."""
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed = (3 * trained + 2**24) * (kept + 1)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the disk must have room for {kept + 1} checkpoints of about {needed // (kept + 1) >> 20} MiB "
            f"(got {free >> 20} MiB free). Make room, or set GRPO_NB_OUTPUTS to a folder on another disk."
        )


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
    return (step % updates_per_epoch) % generation_cycle(args) == 0 and step % int(args.logging_steps) == 0


def updates_per_epoch(args, dataloader) -> int:
    """Optimizer steps of one epoch; the last one may have fewer micro-steps."""
    return -(-len(dataloader) // args.gradient_accumulation_steps)


def check_resumable(args) -> None:
    """Refuse settings with which a resumed run would not be the run that was cut.

    Args:
        args: the trainer's config.
    Raises: ValueError naming the setting and what to do.
    """
    if min(args.logging_steps, args.save_steps) < 1:
        raise ValueError(
            "logging_steps and save_steps must be whole numbers of steps where a run is to be resumed (got "
            f"{args.logging_steps} and {args.save_steps}). Try logging_steps=1, save_steps=10."
        )
    every, steps = math.lcm(generation_cycle(args), int(args.logging_steps)), args.save_steps
    saves = str(getattr(args.save_strategy, "value", args.save_strategy))
    if saves != "steps":
        raise ValueError(
            f"save_strategy must be 'steps', so that there is a checkpoint to resume from (got {saves!r}). "
            f"Try save_strategy='steps', save_steps={every * max(1, 10 // every)}."
        )
    if steps % every:
        nearest = max(1, round(steps / every)) * every
        raise ValueError(
            f"save_steps must be a multiple of {every}: a generation of completions and a line of the log end there "
            f"(got {steps}). Try save_steps={nearest}."
        )
    if args.save_only_model:
        raise ValueError(
            "save_only_model must be False: without optimizer and random state a resumed run takes another path "
            "(got True). Drop it, and save disk with save_total_limit=2."
        )
    if getattr(args, "sync_ref_model", False):
        raise ValueError(
            "sync_ref_model must be False: the moving reference's weights are in no checkpoint (got True). "
            "Drop it, or train in one go with trainer.train()."
        )
    if args.world_size > 1:
        raise ValueError(
            f"a resumable run must be one process (got {args.world_size}): each process would seal before the others "
            "have saved. Train in one go with trainer.train()."
        )
