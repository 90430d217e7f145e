"""A final name never stands on something half written."""

import errno
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from grpo_nb.runs import files


def test_a_failed_write_leaves_the_older_folder(tmp_path):
    final = tmp_path / "adapter"
    with files.replacing(final) as draft:
        (draft / "weights").write_text("old", encoding="utf8")
    with pytest.raises(OSError, match="disk full"):
        with files.replacing(final) as draft:
            (draft / "weights").write_text("new", encoding="utf8")
            raise OSError("disk full")
    assert (final / "weights").read_text(encoding="utf8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_crash_between_the_renames_leaves_both_versions(tmp_path, monkeypatch):
    final, replace = tmp_path / "adapter", Path.replace
    with files.replacing(final) as draft:
        (draft / "weights").write_text("old", encoding="utf8")

    def crash(self, target):
        if self.name.endswith(".tmp"):
            raise SystemExit("killed")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(SystemExit), files.replacing(final) as draft:
        (draft / "weights").write_text("new", encoding="utf8")
    found = {path.name: (path / "weights").read_text(encoding="utf8") for path in tmp_path.iterdir()}
    assert found == {"adapter.old": "old", "adapter.tmp": "new"}


def test_a_second_write_replaces_the_whole_folder(tmp_path):
    for name in ("first", "second"):
        with files.replacing(tmp_path / "adapter") as draft:
            (draft / name).write_text("", encoding="utf8")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["second"]


def test_write_text_replaces(tmp_path):
    for text in ("old", "new"):
        files.write_text(tmp_path / "summary.json", text)
    assert [(p.name, p.read_text(encoding="utf8")) for p in tmp_path.iterdir()] == [("summary.json", "new")]


def test_a_failed_figure_leaves_the_older_one(tmp_path):
    files.write_text(tmp_path / "curve.svg", "old")
    with pytest.raises(KeyboardInterrupt):
        with files.replacing_file(tmp_path / "curve.svg") as draft:
            draft.write_text("half of the n", encoding="utf8")
            raise KeyboardInterrupt
    assert [(path.name, path.read_text(encoding="utf8")) for path in tmp_path.iterdir()] == [("curve.svg", "old")]


def test_lines_are_appended_whole(tmp_path):
    for line in ("first", "second"):
        files.append_line(tmp_path / "metrics.jsonl", line)
    assert (tmp_path / "metrics.jsonl").read_text(encoding="utf8") == "first\nsecond\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to name a handle")
def test_everything_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """A rename that reaches the disk before the bytes do would leave an empty file under the final name."""
    order, fsync, replace = [], os.fsync, Path.replace

    def synced(handle):
        order.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(("name", to.name)), replace(self, to))[1])
    files.write_text(tmp_path / "seal.json", "{}")
    assert order == [("sync", "seal.tmp.json"), ("name", "seal.json"), ("sync", tmp_path.name)]
    order.clear()
    with files.replacing(tmp_path / "adapter") as draft:
        (draft / "weights").write_text("1", encoding="utf8")
    assert order == [("sync", "weights"), ("sync", "adapter.tmp"), ("name", "adapter"), ("sync", tmp_path.name)]


# Network drives and Windows, as they answer.
@pytest.fixture
def disk_that_does_not_sync(monkeypatch):
    """Makes every sync of a folder, or of a file, end with this error."""
    fsync = os.fsync
    files._warn_of.cache_clear()

    def refuse(number: int, *, folders: bool):
        def synced(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode) == folders:
                raise OSError(number, os.strerror(number))
            return fsync(handle)

        monkeypatch.setattr(os, "fsync", synced)

    return refuse


def write_all(folder: Path) -> dict[str, str]:
    """Every way to write, twice each; what there is then."""
    for text in ("old", "new"):
        files.write_text(folder / "summary.json", text)
        files.append_line(folder / "metrics.jsonl", text)
        with files.replacing(folder / "adapter") as draft:
            (draft / "weights").write_text(text, encoding="utf8")
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf8") for path in folder.rglob("*.*")} | {
        "weights": (folder / "adapter" / "weights").read_text(encoding="utf8")
    }


WRITTEN = {"summary.json": "new", "metrics.jsonl": "old\nnew\n", "weights": "new"}


@pytest.mark.parametrize("name", ["EACCES", "EBADF", "EPERM", "EISDIR"])
def test_a_disk_that_syncs_files_only_is_written_to(name, disk_that_does_not_sync, tmp_path):
    disk_that_does_not_sync(getattr(errno, name), folders=True)
    assert write_all(tmp_path) == WRITTEN


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_a_disk_that_does_not_sync_is_written_to_with_a_warning(name, folders, disk_that_does_not_sync, tmp_path):
    disk_that_does_not_sync(getattr(errno, name), folders=folders)
    with pytest.warns(UserWarning, match="does not say when something is written") as said:
        assert write_all(tmp_path) == WRITTEN
    assert len(said) == 1


@pytest.mark.parametrize(("name", "folders"), [("ENOSPC", True), ("EIO", True), ("EIO", False), ("EACCES", False)])
def test_a_disk_that_fails_is_not_gone_on_without(name, folders, disk_that_does_not_sync, tmp_path):
    disk_that_does_not_sync(getattr(errno, name), folders=folders)
    with pytest.raises(OSError, match=re.escape(os.strerror(getattr(errno, name)))):
        files.write_text(tmp_path / "summary.json", "text")


def refusing(times: int, winerror: int | None, monkeypatch) -> list:
    """Lets that many renames fail, as on Windows where somebody reads the file; returns the list of all tries."""
    tried, replace = [], Path.replace

    def renamed(self, target):
        tried.append(target.name)
        if len(tried) <= times:
            error = PermissionError(errno.EACCES, "held open")
            error.winerror = winerror
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", renamed)
    return tried


def test_a_file_that_somebody_reads_on_windows_is_replaced_when_he_is_done(tmp_path, monkeypatch):
    tried = refusing(2, 32, monkeypatch)
    files.write_text(tmp_path / "summary.json", "new")
    assert tried == ["summary.json"] * 3 and (tmp_path / "summary.json").read_text(encoding="utf8") == "new"


@pytest.mark.parametrize(("winerror", "tries"), [(32, 5), (None, 1)])
def test_a_file_that_may_not_be_replaced_says_so(winerror, tries, tmp_path, monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    tried = refusing(99, winerror, monkeypatch)
    with pytest.raises(PermissionError, match="held open"):
        files.write_text(tmp_path / "summary.json", "new")
    assert len(tried) == tries and list(tmp_path.iterdir()) == []


# Locks.
@pytest.mark.parametrize("name", ["EOPNOTSUPP", "ENOTSUP", "ENOSYS", "ENOLCK", "EINVAL"])
def test_on_a_disk_without_locks_a_file_stands_for_one(name, disk_without_locks, tmp_path):
    """It goes with its holder; one that died is found out, unless that was on another machine."""
    disk_without_locks(getattr(errno, name))
    path = tmp_path / "trainer.lock"
    with pytest.warns(UserWarning, match="has no locks .*trainer.lock stands for one"):
        with files.lock(path, busy="busy."), pytest.raises(ValueError, match="busy. If its machine is lost, delete"):
            files.lock(path, busy="busy.")
        assert list(tmp_path.iterdir()) == []
        for left in ("", f"{2**22 + 1}\n{socket.gethostname()}\n"):  # by a disk with locks; by a process that is gone
            path.write_text(left, encoding="utf8")
            with files.lock(path, busy="busy."):
                pass
        path.write_text("1\na-machine-of-yesterday\n", encoding="utf8")
        with pytest.raises(ValueError, match="busy. If its machine is lost, delete .*trainer.lock.$"):
            files.lock(path, busy="busy.")
        path.unlink()  # as it was told
        with files.lock(path, busy="busy."):
            pass


def test_a_dead_ones_file_is_found_out_where_names_cannot_be_exchanged(disk_without_locks, tmp_path, monkeypatch):
    """NFS and SMB have no rename that exchanges two files: filelock takes one look more."""
    from filelock import _soft

    monkeypatch.setattr(_soft, "exchange_supported", lambda: False)
    disk_without_locks(errno.EOPNOTSUPP)
    (tmp_path / "trainer.lock").write_text(f"{2**22 + 1}\n{socket.gethostname()}\n", encoding="utf8")
    with pytest.warns(UserWarning, match="has no locks"), files.lock(tmp_path / "trainer.lock", busy="busy."):
        pass


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "trainer.lock").mkdir()
    with pytest.raises(OSError, match=r"able to lock .*directory.*trainer.lock\)\. Set GRPO_NB_OUTPUTS to a folder of"):
        files.lock(tmp_path / "trainer.lock", busy="busy.")
    (tmp_path / "file").write_text("", encoding="utf8")
    with pytest.raises(OSError, match=r"able to lock .*file.*trainer.lock\)\. Set GRPO_NB_OUTPUTS"):
        files.lock(tmp_path / "file" / "trainer.lock", busy="busy.")
