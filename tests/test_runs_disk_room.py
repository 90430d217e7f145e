"""Room for checkpoints: what they take, by hand, and one refusal for preflight and for a run that begins."""

import types

import pytest

from grpo_nb.runs import disk_room

MIB = 2**20


def test_a_checkpoint_by_hand():
    """1000 numbers in 32 bits, two moments of each, a tokenizer of 10 words, and a MiB of small files."""
    assert disk_room.checkpoint_bytes(4 * 1000, vocabulary=10) == 12_000 + 1000 + MIB


@pytest.mark.parametrize(
    ("max_steps", "every", "keep", "many"),
    [(24, 8, None, 3), (24, 10, None, 3), (24, 1, 2, 3), (24, 24, 2, 1), (5, 10, None, 1), (24, None, 2, 0)],
)
def test_checkpoints_at_once(max_steps, every, keep, many):
    assert disk_room.checkpoints_at_once(max_steps=max_steps, every=every, keep=keep) == many


@pytest.mark.parametrize(
    ("free", "many", "advice"),
    [
        (164, 3, "Free some room"),
        (163, 10, "Free some room"),
        (400, 10, r"Try save_total_limit = 2, or free some room"),
    ],
)
def test_the_refusal_says_what_is_free_what_is_needed_and_what_fits(free, many, advice, tmp_path, monkeypatch):
    """64 MiB are left for metrics: with 400 free, three checkpoints of 100 fit, two and the one being written."""
    monkeypatch.setattr(disk_room, "free_bytes", lambda folder: free * MIB)
    needed = many * 100 + 64
    with pytest.raises(
        ValueError,
        match=rf"must hold {many} checkpoints of 100 MiB .*\(got {free} MiB free, {needed} MiB needed\)\. {advice}",
    ):
        disk_room.check_room(tmp_path, size=100 * MIB, many=many)
    monkeypatch.setattr(disk_room, "free_bytes", lambda folder: needed * MIB)
    disk_room.check_room(tmp_path, size=100 * MIB, many=many)


def test_with_no_checkpoint_there_is_nothing_to_refuse(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_room, "free_bytes", lambda folder: 0)
    disk_room.check_room(tmp_path, size=100 * MIB, many=0)


def test_a_folder_that_is_not_there_yet_has_the_disk_of_its_parents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        disk_room.free_bytes(tmp_path / "not" / "yet") > 0 and disk_room.free_bytes(tmp_path.__class__("not/yet")) > 0
    )


@pytest.mark.parametrize("answer", [OSError(38, "Function not implemented"), types.SimpleNamespace(total=0, free=0)])
def test_a_drive_that_does_not_say_how_large_it_is_is_written_to(answer, tmp_path, monkeypatch):
    def usage(folder):
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(disk_room.shutil, "disk_usage", usage)
    disk_room.check_room(tmp_path, size=10 * MIB, many=3)
