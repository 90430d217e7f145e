"""Files and folders that are there whole or not at all: written under a temporary name, then renamed."""

import contextlib
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
    older = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(older, ignore_errors=True)
        path.rename(older)  # a crash between the two renames leaves both versions on the disk
    draft.rename(path)
    shutil.rmtree(older, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf8")
    draft.replace(path)
    return path
