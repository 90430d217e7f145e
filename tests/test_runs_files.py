"""A final name never stands on something half written."""

import os
from pathlib import Path

import pytest

from grpo_nb.runs import files


def test_a_failed_write_leaves_the_older_folder(tmp_path):
    final = tmp_path / "adapter"
    with files.replacing(final) as draft:
        (draft / "weights").write_text("old")
    with pytest.raises(OSError, match="disk full"):
        with files.replacing(final) as draft:
            (draft / "weights").write_text("new")
            raise OSError("disk full")
    assert (final / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_crash_between_the_renames_leaves_both_versions(tmp_path, monkeypatch):
    final, rename = tmp_path / "adapter", Path.rename
    with files.replacing(final) as draft:
        (draft / "weights").write_text("old")

    def crash(self, target):
        if self.name.endswith(".tmp"):
            raise SystemExit("killed")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(SystemExit), files.replacing(final) as draft:
        (draft / "weights").write_text("new")
    found = {path.name: (path / "weights").read_text() for path in tmp_path.iterdir()}
    assert found == {"adapter.old": "old", "adapter.tmp": "new"}


def test_a_second_write_replaces_the_whole_folder(tmp_path):
    for name in ("first", "second"):
        with files.replacing(tmp_path / "adapter") as draft:
            (draft / name).write_text("")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["second"]


def test_write_text_replaces(tmp_path):
    for text in ("old", "new"):
        files.write_text(tmp_path / "summary.json", text)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("summary.json", "new")]


def test_a_failed_figure_leaves_the_older_one(tmp_path):
    files.write_text(tmp_path / "curve.svg", "old")
    with pytest.raises(KeyboardInterrupt):
        with files.replacing_file(tmp_path / "curve.svg") as draft:
            draft.write_text("half of the n")
            raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("curve.svg", "old")]


def test_lines_are_appended_whole(tmp_path):
    for line in ("first", "second"):
        files.append_line(tmp_path / "metrics.jsonl", line)
    assert (tmp_path / "metrics.jsonl").read_text() == "first\nsecond\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to name a handle")
def test_everything_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """A rename that reaches the disk before the bytes do would leave an empty file under the final name."""
    order, fsync, replace, rename = [], os.fsync, Path.replace, Path.rename

    def synced(handle):
        order.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(("name", to.name)), replace(self, to))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (order.append(("name", to.name)), rename(self, to))[1])
    files.write_text(tmp_path / "seal.json", "{}")
    assert order == [("sync", "seal.tmp.json"), ("name", "seal.json"), ("sync", tmp_path.name)]
    order.clear()
    with files.replacing(tmp_path / "adapter") as draft:
        (draft / "weights").write_text("1")
    assert order == [("sync", "weights"), ("sync", "adapter.tmp"), ("name", "adapter"), ("sync", tmp_path.name)]
