"""Files and folders that are there whole or not at all: written under a temporary name, synced, then renamed; locks.

Network drives lack some of it. A run goes on without, and a warning says what that costs.
"""

import contextlib
import functools
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from errno import EACCES, EBADF, EINVAL, EISDIR, ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM
from pathlib import Path

NOT_OFFERED = (ENOSYS, ENOTSUP, EOPNOTSUPP, EINVAL, ENOLCK)  # a disk that has no locks, or does not sync
HELD_OPEN = (5, 32)  # Windows: somebody reads the file (a search index, a virus scanner)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A draft folder beside `path` that takes its name, and the place of an older one, if the block ends well.

    >>> import tempfile
    >>> final = Path(tempfile.mkdtemp()) / "adapter"
    >>> with replacing(final) as draft:
    ...     _ = (draft / "weights").write_text("1")
    >>> [file.name for file in final.iterdir()], draft.exists()
    (['weights'], False)
    """
    path = Path(path).expanduser()
    draft = path.with_name(path.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(draft)
    older = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(older, ignore_errors=True)
        rename(path, older)  # a crash between the two renames leaves both versions on the disk
    rename(draft, path)
    _sync(path.parent)
    shutil.rmtree(older, ignore_errors=True)


@contextlib.contextmanager
def replacing_file(path: str | Path) -> Iterator[Path]:
    """A draft file beside `path`, of the same suffix, that takes its name and place if the block ends well."""
    path = Path(path)
    draft = path.with_name(f"{path.stem}.tmp{path.suffix}")
    try:
        yield draft
        _sync(draft)
        rename(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    with replacing_file(path) as draft:
        draft.write_text(text, encoding="utf8")
    return Path(path)


def append_line(path: str | Path, line: str) -> None:
    """Append one line and return when it is on the disk, not merely on its way there."""
    with Path(path).open("a", encoding="utf8") as file:
        file.write(line + "\n")
        file.flush()
        _fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when every file below the folder, and the folder's own list of them, is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle on a folder; a rename there is written through
    try:
        handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
        try:
            _fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (EACCES, EBADF, EISDIR, EPERM):  # some drives sync files only
            raise


def _fsync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        _warn_of(os.fstat(handle).st_dev)


@functools.cache  # once a disk: every step writes a line
def _warn_of(disk: int) -> None:
    warnings.warn(
        "This disk does not say when something is written (a network drive?): after a power cut, the newest "
        "checkpoint may be damaged, and the run goes on from the one before.",
        stacklevel=2,
    )


def rename(path: Path, target: Path) -> None:
    """`path.replace(target)`; where Windows refuses because somebody reads the file, again for a second."""
    for wait_s in (0.01, 0.1, 0.3, 0.6, None):
        try:
            path.replace(target)
            return
        except PermissionError as error:
            if wait_s is None or getattr(error, "winerror", None) not in HELD_OPEN:
                raise
            time.sleep(wait_s)


def lock(path: Path, *, busy: str, wait: bool = False):
    """A lock file, held until it is released or the process ends, however it ends.

    On a disk without locks a file that is there stands for one, with a warning; it stays if its machine is lost.

    Args:
        busy: what to say where another process holds it: raised, or with `wait` printed once.
    Returns: a context manager that holds it already.
    Raises: ValueError if it is held elsewhere; OSError if the file cannot be written.
    """
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path) if _has_locks(path.parent) else _file_for_a_lock(path)
        try:
            return held.acquire(timeout=0.5 if isinstance(held, filelock.SoftFileLock) else 0)  # a dead one's goes
        except filelock.Timeout as error:
            if isinstance(held, filelock.SoftFileLock):
                busy += f" If its machine is lost, delete {path}."
            if not wait:
                raise ValueError(busy) from error
        print(busy, flush=True)
        return held.acquire(timeout=-1)
    except (OSError, NotImplementedError) as error:
        raise OSError(
            f"a run must be able to lock a file beside its checkpoints (got {error!r} for {path}). "
            "Set GRPO_NB_OUTPUTS to a folder of your own, on a local disk."
        ) from error


def _has_locks(folder: Path) -> bool:
    """Whether a disk has locks, tried on another file: a lock file on which that failed would look like a held one."""
    import filelock

    with tempfile.TemporaryDirectory(dir=folder) as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock's, where it takes a file for a lock by itself
        tried = filelock.FileLock(Path(place) / "lock")
        try:
            with tried:
                return not isinstance(tried, filelock.SoftFileLock)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            return False


def _file_for_a_lock(path: Path):
    import filelock

    warnings.warn(
        f"The disk under {path.parent} has no locks (a network drive?): {path.name} stands for one.", stacklevel=3
    )
    if _is_empty(path):  # left from a disk with locks, unless it is being written just now
        time.sleep(0.2)
        if _is_empty(path):
            path.unlink()
    return filelock.SoftFileLock(path)


def _is_empty(path: Path) -> bool:
    return path.exists() and not path.stat().st_size
