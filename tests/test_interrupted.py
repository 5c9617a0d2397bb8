"""Programs that are killed while they rename, delete, bring back or edit: all or nothing, whoever looks next."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from killing import killed_at
from test_editing import contents, embedding, other_disk, payload, texts

from lib_embedmerge.storage import journal
from lib_embedmerge.storage.atomic_file import write_atomically
from lib_embedmerge.storage.editing import TRASH, delete, deletions, edit_notes, rename, undelete
from lib_embedmerge.storage.interrupted import put_folder_in_order
from lib_embedmerge.storage.library import EmbeddingFolder
from lib_embedmerge.storage.locks import try_lock
from lib_embedmerge.tokenizer import clip_tokenizer

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a killed process is a fork of this one")

NAMED = {"modelspec.trigger_phrase": "mine1", "modelspec.title": "mine1"}
VARIANT = {"modelspec.trigger_phrase": "mine1-pony", "embedmerge.variant_of": "mine1"}


def filled(folder: Path) -> None:
    """An embedding with a picture and a description, its variant in a folder below, and one that nothing is done to."""
    embedding(folder / "mine1.safetensors", **NAMED)
    embedding(folder / "sub" / "mine1-pony.safetensors", **VARIANT)
    for name in ("mine1.preview.png", "mine1.txt", "sub/mine1-pony.png"):
        (folder / name).write_bytes(name.encode())
    embedding(folder / "stay1.safetensors", **{"modelspec.title": "stay1"})


def rename_it(folder: Path) -> None:
    rename(folder / "mine1.safetensors", "yours1", [folder / "sub" / "mine1-pony.safetensors"])


def delete_it(folder: Path) -> None:
    delete(folder, [folder / "mine1.safetensors", folder / "sub" / "mine1-pony.safetensors"])


def bring_back(folder: Path) -> None:
    undelete(folder, deletions(folder)[0].id)


def note_it(folder: Path) -> None:
    edit_notes(folder / "mine1.safetensors", "soft")


WORK: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "rename": (lambda _: None, rename_it),
    "delete": (lambda _: None, delete_it),
    "undo": (delete_it, bring_back),
    "notes": (lambda _: None, note_it),
}


def look(folder: Path) -> EmbeddingFolder:
    library = EmbeddingFolder(folder, clip_tokenizer())
    library.names()
    return library


def state(folder: Path) -> dict[str, bytes]:
    """Every file, a deletion's under any name: it is called by the moment."""
    return {
        "/".join("id" if part[:2] == "20" else part for part in Path(name).parts): content
        for name, content in contents(folder).items()
    }


def check_all_or_nothing(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    found = state(folder)
    assert set(found) in (set(before), set(after)), sorted(found)
    assert found in (before, after), [name for name in found if found[name] not in (before.get(name), after.get(name))]
    for deleted in deletions(folder):
        undelete(folder, deleted.id)
        assert not any(name.startswith(TRASH) for name in contents(folder))


@needs_fork
@pytest.mark.parametrize("disks", ["one disk", "two disks"])
@pytest.mark.parametrize("name", WORK)
def test_killed_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, disks: str) -> None:
    """Whatever a killed program has done, the next look at the folder finds all of it done, or none; and where looking
    is cut short as well, the one after that."""
    prepare, work = WORK[name]
    original = tmp_path / "original"
    filled(original)
    prepare(original)
    before = state(original)
    shutil.copytree(original, tmp_path / "done", symlinks=True)
    work(tmp_path / "done")
    after = state(tmp_path / "done")
    assert before != after
    folder = tmp_path / "killed"
    if disks == "two disks":
        other_disk(monkeypatch, folder / "sub")
    counts = []
    for step in itertools.count():
        for looks in (None, 0, 2, 5, 9):
            shutil.copytree(original, folder, symlinks=True)
            was_killed = killed_at(step, lambda: work(folder), folder)
            if looks is not None:
                killed_at(looks, lambda: look(folder), folder)
            assert look(folder).notes == ()
            check_all_or_nothing(folder, before, after)
            shutil.rmtree(folder)
        counts.append(was_killed)
        if not was_killed:
            break
    assert len(counts) > 8 if name != "notes" else 3, counts
