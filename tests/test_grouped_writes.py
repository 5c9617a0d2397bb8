"""Files that are flushed to the disk together: each is whole at any moment, and a fault of one leaves the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from lib_embedmerge.errors import StorageError, TakenError
from lib_embedmerge.files import atomic_file, grouped_writes
from lib_embedmerge.files.atomic_file import ChangedError, write_atomically
from lib_embedmerge.files.grouped_writes import WriteGroup
from lib_embedmerge.files.stamps import read_identity

ROOT = Path(__file__).parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_in_their_places_after_the_end_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "old").write_bytes(b"old")
    wanted = {"old": b"new", "one": b"1", "sub/two": b"22", "empty": b""}
    with WriteGroup() as group:
        for place, data in wanted.items():
            group.add(tmp_path / place, data, overwrite=place == "old")
        assert {place: data for place, data in contents(tmp_path).items() if ".tmp" not in place} == {"old": b"old"}
        assert group.finish() == [None] * 4
        assert contents(tmp_path) == wanted
    assert contents(tmp_path) == wanted


def test_without_the_end_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), WriteGroup() as group:
        group.add(tmp_path / "old", b"new", overwrite=True)
        group.add(tmp_path / "one", b"1", overwrite=False)
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"old": b"old"}


def test_an_empty_group() -> None:
    with WriteGroup() as group:
        assert group.finish() == []


def test_no_file_takes_its_place_before_it_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folders are flushed after the last file is at its place, each once."""
    steps: list[str] = []
    flush, flush_folder = atomic_file._flush, atomic_file.flush_folder

    def note_flush(file: BinaryIO) -> None:
        assert Path(file.name).stat().st_size == 5, "it was flushed before it was written"
        flush(file)
        steps.append("flushed")

    def note_folder(folder: Path) -> None:
        assert len(list(folder.glob("file*"))) == 9
        flush_folder(folder)
        steps.append(folder.name)

    for module, name in ((atomic_file, "_replace"), (atomic_file, "move_to_free_name")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda old, new, real=real: (steps.append("moved"), real(old, new))[1])
    monkeypatch.setattr(atomic_file, "_flush", note_flush)
    monkeypatch.setattr(grouped_writes, "flush_folder", note_folder)
    with WriteGroup() as group:
        for number in range(18):
            folder = tmp_path / ("a" if number % 2 else "b")
            folder.mkdir(exist_ok=True)
            group.add(folder / f"file{number}", b"12345", overwrite=number % 3 == 0)
        assert steps == []
        group.finish()
    assert steps == ["flushed"] * 18 + ["moved"] * 18 + ["b", "a"]


def test_one_that_is_taken_changed_or_refused_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_bytes(b"of somebody else")
    (tmp_path / "changed").write_bytes(b"seen")
    seen = read_identity(tmp_path / "changed")
    flush = atomic_file._flush

    def refuse_big(file: BinaryIO) -> None:
        if Path(file.name).stat().st_size > 3:
            raise OSError(28, "No space left on device")
        flush(file)

    monkeypatch.setattr(atomic_file, "_flush", refuse_big)
    with WriteGroup() as group:
        group.add(tmp_path / "one", b"1", overwrite=False)
        group.add(tmp_path / "taken", b"2", overwrite=False)
        group.add(tmp_path / "changed", b"3", overwrite=True, seen=seen)
        group.add(tmp_path / "big", b"four", overwrite=False)
        group.add(tmp_path / "five", b"5", overwrite=True)
        write_atomically(tmp_path / "changed", b"new", overwrite=True)
        faults = group.finish()
    assert [type(fault) for fault in faults] == [type(None), TakenError, ChangedError, StorageError, type(None)]
    assert "disk is full" in str(faults[3])
    assert contents(tmp_path) == {"one": b"1", "taken": b"of somebody else", "changed": b"new", "five": b"5"}


def test_one_that_cannot_be_written_at_all(tmp_path: Path) -> None:
    with WriteGroup() as group:
        group.add(tmp_path / "one", b"1", overwrite=False)
        with pytest.raises(StorageError, match="folder does not exist"):
            group.add(tmp_path / "none" / "two", b"2", overwrite=False)
        assert group.finish() == [None]
    assert contents(tmp_path) == {"one": b"1"}


@pytest.mark.crash
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each kill needs a process that has imported all already")
def test_groups_killed_in_the_middle_50_times(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "tests" / "killed_groups.py"), str(tmp_path / "files"), "50", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["middle"] == 50
    assert found["left"] > 0, "no kill came while files were written"
