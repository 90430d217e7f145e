"""A final name never stands on something half written."""

from pathlib import Path

import pytest

from grpo_nb import files


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
