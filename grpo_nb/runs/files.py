"""Files and folders that are there whole or not at all: written under a temporary name, synced, then renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


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
    path = Path(path)
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
        path.rename(older)  # a crash between the two renames leaves both versions on the disk
    draft.rename(path)
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
        draft.replace(path)
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
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when every file below the folder, and the folder's own list of them, is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle on a folder; a rename there is written through
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
