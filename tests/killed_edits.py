"""A program for test_interrupted.py: renames, deletions, their undoing and notes, killed at random moments.

Each is done by a process of its own (a fork, which has torch already), killed with SIGKILL while it works. After each
kill somebody looks at the folder, as the tab and `list` do, and then everything has to be there, whole and in one
place, and every deletion has to come back.

    python killed_edits.py FOLDER KILLS SEED     # prints what it found, as JSON; fails where something was not right
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from killing import exit_code
from safetensors import safe_open
from safetensors.torch import save_file

from lib_embedmerge.embeddings.editing import (
    TRASH,
    delete_embeddings,
    edit_notes,
    list_deletions,
    rename_embedding,
    restore_deleted,
)
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.recipes.rebuild import find_variants
from lib_embedmerge.tokenizer import clip_tokenizer

COUNT = 5
"""Embeddings, each with a variant in a folder below and sidecars of both."""

SIDECARS = (".png", ".preview.png", ".txt", ".civitai.info", ".json")
ATTEMPTS = 40
NAMES = ("red", "green", "blue")
"""What embeddings are called in turn, each with its number."""


@dataclass
class Folder:
    """The embeddings, and what is known of them. payloads: number -> what its file and its variant's hold."""

    path: Path
    payloads: dict[int, tuple[bytes, bytes]]

    def name(self, number: int) -> str | None:
        """What an embedding is called now; None while it is in the trash."""
        return next(
            (name for one in NAMES if (self.path / f"{(name := one + str(number))}.safetensors").exists()), None
        )


def prepare(path: Path) -> Folder:
    payloads = {}
    for number in range(COUNT):
        base, name = f"{NAMES[0]}{number}", f"{NAMES[0]}{number}-pony"
        for file, own, more in (
            (path / f"{base}.safetensors", base, {}),
            (path / "sub" / f"{name}.safetensors", name, {"embedmerge.variant_of": base}),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            vectors = {"clip_g": torch.randn(60, 1280), "clip_l": torch.randn(60, 768)}
            save_file(vectors, file, {"modelspec.title": own, "modelspec.trigger_phrase": own, **more})
            for suffix in SIDECARS:
                file.with_suffix("").with_name(own + suffix).write_bytes(f"{number} {suffix}".encode())
        payloads[number] = (payload(path / f"{base}.safetensors"), payload(path / "sub" / f"{name}.safetensors"))
    return Folder(path, payloads)


def payload(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def check(folder: Folder) -> None:
    """Look at the folder, and find every embedding in one place, with all that belongs to it, under one name."""
    library = EmbeddingFolder(folder.path, clip_tokenizer())
    files = set(library.files())
    assert library.warnings == (), library.warnings
    kept = list_deletions(folder.path)
    left = [one for one in folder.path.rglob(".embedmerge-*") if one.name != TRASH]
    assert not left, f"left: {left}"
    trashed = {file for one in kept for file in one.files}
    assert len(trashed) == sum(len(one.files) for one in kept), "one place is in the trash twice"
    for number, (own, of_variant) in folder.payloads.items():
        there = [name for one in NAMES for name in [f"{one}{number}"] if _is_somewhere(folder.path, name, trashed)]
        assert len(there) == 1, f"embedding {number} is called {there}"
        name = there[0]
        places = [f"{name}.safetensors", f"sub/{name}-pony.safetensors"]
        places += [f"{stem}{suffix}" for stem in (name, f"sub/{name}-pony") for suffix in SIDECARS]
        is_trashed = {place in trashed for place in places}
        assert len(is_trashed) == 1, f"{name} is split between folder and trash"
        for place in places:
            assert (folder.path / place).exists() != (place in trashed), f"{place} is there twice, or not at all"
        if not is_trashed.pop():
            assert {folder.path / place for place in places[:2]} <= files
            _check_files(folder.path, name, own, of_variant)


def _is_somewhere(folder: Path, name: str, trashed: set[str]) -> bool:
    places = (f"{name}.safetensors", f"sub/{name}-pony.safetensors", f"{name}.txt", f"sub/{name}-pony.txt")
    return any(place in trashed or (folder / place).exists() for place in places)


def _check_files(folder: Path, name: str, own: bytes, of_variant: bytes) -> None:
    base, variant = folder / f"{name}.safetensors", folder / "sub" / f"{name}-pony.safetensors"
    assert payload(base) == own, f"{name} has other vectors"
    assert payload(variant) == of_variant, f"the variant of {name} has other vectors"
    assert texts(base)["modelspec.title"] == texts(base)["modelspec.trigger_phrase"] == name, "an old name inside"
    assert texts(variant)["embedmerge.variant_of"] == name, "the variant of another name"
    assert texts(variant)["modelspec.title"] == f"{name}-pony", "an old name inside a variant"
    assert texts(base).get("embedmerge.notes", "old") in ("old", f"of {folder.name}"), "torn notes"


def texts(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def choose(folder: Folder, kind: str, chance: random.Random) -> Callable[[], object] | None:
    """Something of that kind to do with the folder as it is; None where there is nothing."""
    there = {number: name for number in folder.payloads if (name := folder.name(number))}
    kept = list_deletions(folder.path)
    if kind == "undo":
        return (lambda: restore_deleted(folder.path, kept[0].id)) if kept else None
    if not there:
        return None
    if kind == "rename":
        number, name = chance.choice(sorted(there.items()))
        new = NAMES[(NAMES.index(name.rstrip("0123456789")) + 1) % len(NAMES)] + str(number)
        path, files = folder.path / f"{name}.safetensors", sorted(folder.path.rglob("*.safetensors"))
        return lambda: rename_embedding(path, new, find_variants(name, files))
    paths = [folder.path / f"{name}.safetensors" for name in there.values()]
    if kind == "notes":
        text = "" if chance.random() < 0.3 else f"of {folder.path.name}"
        return lambda: [edit_notes(path, text) for path in paths]
    variants = [path.parent / "sub" / f"{path.stem}-pony.safetensors" for path in paths]
    return lambda: delete_embeddings(folder.path, [*paths, *variants])


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- a fork must not go on as its parent
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return child


def kill(work: Callable[[], object], moment: float) -> bool:
    """Do it, and kill that after so many seconds; whether it was still at work then."""
    child = forked(work)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    code = exit_code(child)
    assert code in (0, -signal.SIGKILL), "the work failed by itself"
    return code != 0


def main(path: Path, kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # threads do not outlive a fork
    folder, chance = prepare(path / "embeddings"), random.Random(seed)
    takes = dict.fromkeys(("rename", "delete", "undo", "notes"), 0.05)
    hits, middle, attempts = dict.fromkeys(takes, 0), dict.fromkeys(takes, 0), 0
    while sum(hits.values()) < kills:
        attempts += 1
        assert attempts < ATTEMPTS * kills, f"only {hits} kills came while something was done"
        kind = min(hits, key=lambda one: (hits[one], chance.random()))
        work = choose(folder, kind, chance)
        if work is None:  # all is in the trash, or nothing
            deletions = list_deletions(folder.path)
            for deletion in deletions:
                restore_deleted(folder.path, deletion.id)
            if not deletions:
                delete = choose(folder, "delete", chance)
                assert delete is not None
                delete()
            check(folder)
            continue
        before = sorted(folder.path.rglob("*"))
        was_at_work = kill(work, chance.uniform(0, takes[kind]))
        hits[kind] += was_at_work
        middle[kind] += was_at_work and sorted(folder.path.rglob("*")) != before
        takes[kind] *= 1.05 if was_at_work else 0.9
        check(folder)
    for one in list_deletions(folder.path):
        restore_deleted(folder.path, one.id)
    check(folder)
    assert all(folder.name(number) for number in folder.payloads)
    print(json.dumps({"kills": hits, "middle": middle, "attempts": attempts}))  # noqa: T201 -- to the test


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
