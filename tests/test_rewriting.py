"""Metadata written over only the file that was read: what other programs do meanwhile is not lost."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from killing import exit_code
from safetensors.torch import save_file
from test_editing import embedding, files, payload, texts

from lib_embedmerge.embeddings import metadata
from lib_embedmerge.embeddings.editing import edit_notes, rename_embedding
from lib_embedmerge.embeddings.metadata import edit_metadata, rewrite_metadata
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.locks import lock_folders

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="other programs are forks of this one")

TIMEOUT = 60


def meanwhile(monkeypatch: pytest.MonkeyPatch, *doings: Callable[[], object]) -> None:
    """Have another program, which knows no locks, do something each time that a file was read to be written over."""
    left, real = list(doings), metadata.encode_with_metadata

    def read(path: Path, metadata: Mapping[str, str]) -> bytes:
        data = real(path, metadata)
        if left:
            left.pop(0)()
        return data

    monkeypatch.setattr(metadata, "encode_with_metadata", read)


def test_another_embedding_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes go to the one that has the name when they are written, and neither is lost."""
    path, other = embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "other1.safetensors")
    payloads = payload(path), payload(other)

    def swap() -> None:
        path.rename(tmp_path / "away1.safetensors")
        other.rename(path)

    meanwhile(monkeypatch, swap)
    edit_notes(path, "soft")
    assert files(tmp_path) == {"mine1.safetensors", "away1.safetensors"}
    assert (payload(tmp_path / "away1.safetensors"), payload(path)) == payloads
    assert texts(path)["embedmerge.notes"] == "soft"
    assert "embedmerge.notes" not in texts(tmp_path / "away1.safetensors")


def test_it_is_renamed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    before = path.read_bytes()
    meanwhile(monkeypatch, lambda: path.rename(tmp_path / "away1.safetensors"))
    with pytest.raises(StorageError, match=r"'mine1\.safetensors' no longer exists"):
        edit_notes(path, "soft")
    assert files(tmp_path) == {"away1.safetensors"}
    assert (tmp_path / "away1.safetensors").read_bytes() == before


def test_other_texts_are_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedding(tmp_path / "mine1.safetensors")

    def write() -> None:
        save_file({"clip_l": torch.ones(1, 768)}, path, {"author": "they"})

    meanwhile(monkeypatch, write)
    edit_metadata(path, {"embedmerge.notes": "soft"})
    assert texts(path) == {"author": "they", "embedmerge.notes": "soft"}


def test_it_is_changed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    times = iter(range(1, 1000))
    meanwhile(monkeypatch, *[lambda: os.utime(path, (1, next(times)))] * 100)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="was changed by another program again and again"):
        edit_notes(path, "soft")
    assert path.read_bytes() == before
    assert files(tmp_path) == {"mine1.safetensors"}


def test_what_is_half_written_when_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    whole = path.read_bytes()
    real, calls = metadata.read_header, []

    def read(file: Path) -> object:
        calls.append(file)
        if len(calls) == 2:  # after the look at what kind of file it is
            path.write_bytes(whole[:40])
            try:
                return real(file)
            finally:
                path.write_bytes(whole)
        return real(file)

    monkeypatch.setattr(metadata, "read_header", read)
    rewrite_metadata(path, dict)
    rewrite_metadata(path, lambda metadata: {**metadata, "embedmerge.notes": "soft"})
    assert texts(path)["embedmerge.notes"] == "soft"
    assert len(calls) == 3


def test_programs_wait_for_one_another(tmp_path: Path) -> None:
    """And threads of one program; what one does inside of its own turn does not wait for itself."""
    path, turn, done = embedding(tmp_path / "mine1.safetensors"), threading.Event(), []

    def note() -> None:
        turn.wait(TIMEOUT)
        edit_notes(path, "second")
        done.append("second")

    thread = threading.Thread(target=note)
    thread.start()
    with lock_folders([tmp_path, tmp_path / "not" / "there"]):
        turn.set()
        time.sleep(0.2)
        edit_notes(path, "first")
        done.append("first")
    thread.join(TIMEOUT)
    assert done == ["first", "second"]
    assert texts(path)["embedmerge.notes"] == "second"


def test_a_folder_that_stays_locked_is_told(tmp_path: Path) -> None:
    faults: list[StorageError] = []

    def wait() -> None:
        try:
            with lock_folders([tmp_path], patience=0.1):
                pass
        except StorageError as fault:
            faults.append(fault)

    with lock_folders([tmp_path]):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(TIMEOUT)
    assert "Another program is changing files in the folder" in faults[0].message


def forked(work: Callable[[random.Random], object], seed: int, seconds: float) -> int:
    """Another program that does this again and again; faults of ours are its way of life, others end it."""
    child = os.fork()
    if child == 0:
        code, chance, end = 1, random.Random(seed), time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                with contextlib.suppress(StorageError):
                    work(chance)
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.crash
@needs_fork
def test_notes_and_renames_by_several_programs_lose_nothing(tmp_path: Path) -> None:
    """Ten embeddings take each other's names while notes are written to whatever has a name."""
    count, names = 10, [f"name{number:02}x" for number in range(14)]
    payloads = {payload(embedding(tmp_path / f"{name}.safetensors")) for name in names[:count]}

    def note(chance: random.Random) -> None:
        edit_notes(tmp_path / f"{chance.choice(names)}.safetensors", f"note {chance.random()}")

    def give_a_name(chance: random.Random) -> None:
        rename_embedding(tmp_path / f"{chance.choice(names)}.safetensors", chance.choice(names))

    children = [forked(work, seed, 4) for seed, work in enumerate((note, note, give_a_name, give_a_name))]
    codes = [exit_code(child) for child in children]
    assert codes == [0] * len(children)
    found = sorted(tmp_path.iterdir())
    assert len(found) == count, found
    assert {payload(path) for path in found} == payloads
