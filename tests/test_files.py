"""A final name never stands on something half written."""

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


def test_a_second_write_replaces_the_whole_folder(tmp_path):
    for name in ("first", "second"):
        with files.replacing(tmp_path / "adapter") as draft:
            (draft / name).write_text("")
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["second"]


def test_write_text_replaces(tmp_path):
    for text in ("old", "new"):
        files.write_text(tmp_path / "summary.json", text)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("summary.json", "new")]
