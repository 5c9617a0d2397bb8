"""Programs that are killed while they rename, delete, bring back or edit: all or nothing, whoever looks next."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from killing import killed_at
from test_editing import contents, embedding, other_disk, texts
from test_moving import without_capitals

from lib_embedmerge.embeddings import journal
from lib_embedmerge.embeddings.editing import (
    TRASH,
    delete_embeddings,
    edit_metadata,
    edit_notes,
    list_deletions,
    rename_embedding,
    restore_deleted,
)
from lib_embedmerge.embeddings.interrupted import clean_up_folder
from lib_embedmerge.embeddings.journal import RENAME
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import atomic_file, locks
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.locks import try_lock
from lib_embedmerge.files.stamps import read_link_identity
from lib_embedmerge.tokenizer import clip_tokenizer

ROOT = Path(__file__).parents[1]

__all__ = ["without_capitals"]  # a fixture

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
    rename_embedding(folder / "mine1.safetensors", "yours1", [folder / "sub" / "mine1-pony.safetensors"])


def delete_it(folder: Path) -> None:
    delete_embeddings(folder, [folder / "mine1.safetensors", folder / "sub" / "mine1-pony.safetensors"])


def bring_back(folder: Path) -> None:
    restore_deleted(folder, list_deletions(folder)[0].id)


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
    for deleted in list_deletions(folder):
        restore_deleted(folder, deleted.id)
        assert not any(name.startswith(TRASH) for name in contents(folder))


@pytest.mark.crash
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
        for looks in (None, step % 10):
            shutil.copytree(original, folder, symlinks=True)
            was_killed = killed_at(step, lambda: work(folder), folder)
            if looks is not None:
                killed_at(looks, lambda: look(folder), folder)
            assert look(folder).warnings == ()
            check_all_or_nothing(folder, before, after)
            shutil.rmtree(folder)
        counts.append(was_killed)
        if not was_killed:
            break
    assert len(counts) > (3 if name == "notes" else 8)


@pytest.mark.crash
@needs_fork
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """EMBEDMERGE_KILLS: how often."""
    kills = os.environ.get("EMBEDMERGE_KILLS", "60")
    program = [sys.executable, str(ROOT / "tests" / "killed_edits.py"), str(tmp_path), kills, "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    limit = 120 + 2 * int(kills)
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment, timeout=limit)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(told["kills"].values()) == int(kills)
    # Of one kind of edit alone, that could fail by chance; other tests kill renaming and deleting at every step.
    assert any(told["middle"].values()), "no kill came after the first change and before the last"


def cut_short(folder: Path, work: Callable[[Path], None], step: int) -> None:
    """Have the work killed at the first step from this one on at which some of its files, and not all, are moved."""
    original = folder.with_name("original")
    shutil.copytree(folder, original)
    for at in itertools.count(step):
        assert killed_at(at, lambda: work(folder), folder), "it was never in the middle"
        journals = list(folder.glob(".embedmerge-*.journal"))
        if journals and not (folder / "mine1.safetensors").exists() and (folder / "mine1.txt").exists():
            return
        shutil.rmtree(folder)
        shutil.copytree(original, folder)


@pytest.mark.crash
@needs_fork
@pytest.mark.parametrize("work", [rename_it, delete_it], ids=["rename", "delete"])
def test_what_takes_a_place_meanwhile_has_all_taken_back(tmp_path: Path, work: Callable[[Path], None]) -> None:
    folder = tmp_path / "embeddings"
    filled(folder)
    before = state(folder)
    cut_short(folder, work, 0)
    moved = next(path for path in folder.rglob("*.safetensors*") if path.name.startswith(("yours1.", "mine1.")))
    place = moved.with_name(moved.name.replace("safetensors", "txt"))
    place.write_bytes(b"theirs")
    assert look(folder).warnings == ()
    assert place.read_bytes() == b"theirs"
    place.unlink()
    assert state(folder) == before


@pytest.mark.crash
@needs_fork
def test_a_new_file_of_the_old_name_stays(tmp_path: Path) -> None:
    """A web UI saved one where the name had become free: what was moved is elsewhere, so the rest follows it."""
    filled(tmp_path / "embeddings")
    folder = tmp_path / "embeddings"
    cut_short(folder, rename_it, 0)
    (folder / "mine1.safetensors").write_bytes(b"theirs")
    assert look(folder).warnings == ()
    assert (folder / "mine1.safetensors").read_bytes() == b"theirs"
    assert texts(folder / "yours1.safetensors")["modelspec.title"] == "yours1"
    assert (folder / "yours1.txt").read_bytes() == b"mine1.txt"


@pytest.mark.crash
@needs_fork
@pytest.mark.parametrize(
    "how", [clean_up_folder, list_deletions, lambda folder: edit_notes(folder / "stay1.safetensors", "soft"), look]
)
def test_everybody_who_comes_by_finishes_it(tmp_path: Path, how: Callable[[Path], object]) -> None:
    folder = tmp_path / "embeddings"
    filled(folder)
    cut_short(folder, delete_it, 0)
    how(folder)
    assert {path.name for path in folder.rglob("*.safetensors")} == {"stay1.safetensors"}
    assert len(list_deletions(folder)[0].files) == 5


@pytest.mark.crash
@needs_fork
def test_what_is_killed_after_a_look_is_finished_at_the_next(tmp_path: Path) -> None:
    """The folder looks unchanged then; the journal that a running program held says that it is not to be trusted."""
    folder = tmp_path / "embeddings"
    filled(folder)
    cut_short(folder, rename_it, 0)
    (path,) = folder.glob(".embedmerge-*.journal")
    with path.open("rb") as file:
        assert try_lock(file.fileno())
        library = look(folder)
        assert "mine1" not in library.names()
        assert (folder / "mine1.txt").exists()
    library.refresh_if_changed()
    assert (library.names(), library.warnings) == (("stay1", "yours1", "yours1-pony"), ())
    assert not (folder / "mine1.txt").exists()


@pytest.mark.crash
@needs_fork
def test_a_disk_that_refuses_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "embeddings"
    filled(folder)
    cut_short(folder, rename_it, 0)
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        patch.setattr(os, "link", refuse)
        library = look(folder)
    assert "could not be finished yet" in library.warnings[0]
    assert "read-only" in library.warnings[0]
    library.refresh_if_changed()
    assert library.warnings == ()
    assert "yours1" in library.names()


def test_what_version_0_1_0_left_in_two_places_comes_back(tmp_path: Path) -> None:
    """Killed between the two names that a file has for a moment: it said for ever that the place was taken."""
    filled(tmp_path)
    before = state(tmp_path)
    delete_it(tmp_path)
    (deleted,) = list_deletions(tmp_path)
    (tmp_path / "mine1.txt").hardlink_to(tmp_path / TRASH / deleted.id / "mine1.txt.trash")
    restore_deleted(tmp_path, deleted.id)
    assert state(tmp_path) == before


@pytest.mark.crash
@needs_fork
def test_an_empty_file_that_kept_a_place_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On disks without hard links one keeps the new name free for a moment."""
    folder = tmp_path / "embeddings"
    filled(folder)
    before = state(folder)

    def without_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", without_links)
    for step in itertools.count():
        was_killed = killed_at(step, lambda: rename_it(folder), folder)
        assert look(folder).warnings == ()
        assert len(state(folder)) == len(before)
        assert all(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if (folder / "yours1.safetensors").exists():
            assert texts(folder / "yours1.safetensors")["modelspec.title"] == "yours1"
            rename_embedding(folder / "yours1.safetensors", "mine1", [folder / "sub" / "yours1-pony.safetensors"])
        assert set(state(folder)) == set(before)
        if not was_killed:
            break


def leave(folder: Path, kind: str, *moves: tuple[str, str], is_back: bool = False) -> None:
    """A journal as a killed program leaves it."""
    path, file = journal._write_journal(folder, kind, [(folder / old, folder / new) for old, new in moves])
    if is_back:
        file.write(b"back\n")
    file.close()
    assert path.exists()


def test_what_somebody_wrote_meanwhile_goes_along(tmp_path: Path) -> None:
    filled(tmp_path)
    leave(tmp_path, RENAME, ("mine1.safetensors", "yours1.safetensors"), ("mine1.txt", "yours1.txt"))
    (tmp_path / "mine1.txt").rename(tmp_path / "yours1.txt")
    embedding(tmp_path / "mine1.safetensors", **NAMED, written="since")
    assert look(tmp_path).warnings == ()
    assert texts(tmp_path / "yours1.safetensors")["written"] == "since"
    assert texts(tmp_path / "yours1.safetensors")["modelspec.title"] == "yours1"
    assert not (tmp_path / "mine1.safetensors").exists()


def test_what_is_gone_is_nobodys(tmp_path: Path) -> None:
    filled(tmp_path)
    leave(tmp_path, RENAME, ("mine1.safetensors", "yours1.safetensors"), ("mine1.txt", "yours1.txt"))
    (tmp_path / "mine1.safetensors").unlink()
    assert look(tmp_path).warnings == ()
    assert (tmp_path / "yours1.txt").exists()


def test_what_was_being_taken_back_is_taken_back(tmp_path: Path) -> None:
    filled(tmp_path)
    before = state(tmp_path)
    moves = [("mine1.safetensors", "yours1.safetensors"), ("mine1.txt", "yours1.txt")]
    leave(tmp_path, RENAME, *moves, is_back=True)
    (tmp_path / "mine1.safetensors").rename(tmp_path / "yours1.safetensors")
    edit_metadata(tmp_path / "yours1.safetensors", dict.fromkeys(NAMED, "yours1"))
    (tmp_path / "yours1.txt").hardlink_to(tmp_path / "mine1.txt")
    assert look(tmp_path).warnings == ()
    assert set(state(tmp_path)) == set(before)
    assert texts(tmp_path / "mine1.safetensors")["modelspec.title"] == "mine1"


def test_what_cannot_be_taken_back_is_told(tmp_path: Path) -> None:
    filled(tmp_path)
    leave(tmp_path, RENAME, ("mine1.txt", "yours1.txt"), is_back=True)
    (tmp_path / "mine1.txt").rename(tmp_path / "yours1.txt")
    (tmp_path / "mine1.txt").write_bytes(b"theirs")
    assert look(tmp_path).warnings == ("'yours1.txt' could not get its old name 'mine1.txt' back.",)
    assert (tmp_path / "yours1.txt").read_bytes() == b"mine1.txt"
    assert (tmp_path / "mine1.txt").read_bytes() == b"theirs"
    assert look(tmp_path).warnings == ()


def test_a_link_that_was_copied_to_another_disk(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "link1.txt").symlink_to("far")
    (tmp_path / "other1.txt").symlink_to("elsewhere")
    leave(tmp_path, RENAME, ("link1.txt", "link2.txt"))
    leave(tmp_path, RENAME, ("other1.txt", "other2.txt"))
    (tmp_path / "link2.txt").symlink_to("far")
    (tmp_path / "other2.txt").symlink_to("else")
    assert look(tmp_path).warnings == ()
    assert os.path.lexists(tmp_path / "link2.txt")
    assert not os.path.lexists(tmp_path / "link1.txt")
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("other")} == {"other1.txt", "other2.txt"}


@pytest.mark.usefixtures("without_capitals")
@pytest.mark.parametrize("is_moved", [True, False])
def test_other_capitals_on_a_disk_that_knows_none(tmp_path: Path, is_moved: bool) -> None:
    (tmp_path / "mine1.txt").write_bytes(b"x")
    (tmp_path / "mine1.png").write_bytes(b"y")
    leave(tmp_path, RENAME, ("mine1.txt", "Mine1.txt"), ("mine1.png", "Mine1.png"))
    if is_moved:
        (tmp_path / "mine1.txt").rename(tmp_path / "Mine1.txt")
    clean_up_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"Mine1.png", "Mine1.txt"}


def test_a_folder_that_nothing_can_be_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is moved that is not written down."""
    filled(tmp_path)
    before = contents(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"Nothing was moved, because EmbedMerge cannot write .* the disk is full"):
        rename_it(tmp_path)
    assert contents(tmp_path) == before


def test_drives_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", refuse)
    with pytest.raises(StorageError, match="different drives"):
        rename_embedding(embedding(tmp_path / "mine1.safetensors"), "yours1")


def believable(**changes: object) -> dict[str, object]:
    moves = [["mine1.safetensors", "yours1.safetensors", 1, 1]]
    return {"embedmerge": 1, "kind": "rename", "number": 1, "moves": moves, **changes}


def moves(*pairs: tuple[str, str]) -> list[list[object]]:
    return [[old, new, 1, 1] for old, new in pairs]


ID = "20261123-101112-000001"
HOSTILE: dict[str, object] = {
    "no object": [1],
    "no moves": {"embedmerge": 1, "kind": "rename", "number": 1},
    "another version": believable(embedmerge=2),
    "another kind": believable(kind="remove"),
    "numbers that are none": believable(moves=[["mine1.txt", "yours1.txt", "x", None]]),
    "above": believable(moves=moves(("../victim.safetensors", "../mine1.safetensors"))),
    "above from below": believable(moves=moves(("sub/../../victim.safetensors", "sub/../../x.safetensors"))),
    "a root": believable(moves=moves(("/victim.safetensors", "/x.safetensors"))),
    "into another folder": believable(moves=moves(("mine1.safetensors", "sub/yours1.safetensors"))),
    "another kind of file": believable(moves=moves(("mine1.safetensors", "mine1.py"))),
    "a kind that is nobody's": believable(moves=moves(("start.sh", "start.txt.sh"))),
    "a hidden file": believable(moves=moves((".mine1.txt", "yours1.txt"))),
    "becoming hidden": believable(moves=moves(("mine1.safetensors", ".mine1.safetensors"))),
    "a deletion to elsewhere": believable(
        kind="delete", moves=moves(("mine1.safetensors", "sub/mine1.safetensors.trash"))
    ),
    "a trash that is none": believable(
        kind="delete", moves=moves(("mine1.safetensors", f"{TRASH}/../mine1.safetensors.trash"))
    ),
    "a deletion under another name": believable(
        kind="delete", moves=moves(("mine1.safetensors", f"{TRASH}/{ID}/yours1.safetensors.trash"))
    ),
    "an undoing to elsewhere": believable(
        kind="undo", moves=moves((f"{TRASH}/{ID}/mine1.safetensors.trash", "sub/mine1.safetensors"))
    ),
    "a NUL": believable(moves=moves(("mine1.safetensors", "a\0b.safetensors"))),
    "two places, one bad": believable(
        moves=moves(("mine1.safetensors", "yours1.safetensors"), ("../victim.safetensors", "../x.safetensors"))
    ),
    "nesting": json.loads("[" * 900 + "]" * 900),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_journals(tmp_path: Path, name: str) -> None:
    """A folder can come from anywhere, with a journal in it."""
    folder = tmp_path / "embeddings"
    filled(folder)
    embedding(tmp_path / "victim.safetensors")
    (folder / ".mine1.txt").write_bytes(b"hidden")
    for path in tmp_path.rglob("*"):
        os.utime(path, ns=(1, 1))
    told = HOSTILE[name]
    if isinstance(told, dict):
        for entry in told.get("moves", []):  # so that only what is wrong with it keeps it from being believed
            if len(entry) == 4 and entry[2] == 1 and "\0" not in entry[0] and (folder / entry[0]).exists():
                entry[2] = (folder / entry[0]).stat().st_size
    (folder / ".embedmerge-00.journal").write_text(json.dumps(told) + "\n", encoding="ascii")
    before = contents(tmp_path)
    assert "moves that EmbedMerge would not make" in look(folder).warnings[0]
    assert contents(tmp_path) == before


def test_a_journal_that_comes_with_links(tmp_path: Path) -> None:
    """Within the folder by its words, outside by a link that came along."""
    folder = tmp_path / "embeddings"
    filled(folder)
    victim = embedding(tmp_path / "victims" / "victim1.safetensors")
    (folder / "linked").symlink_to(tmp_path / "victims", target_is_directory=True)
    identity = read_link_identity(victim)
    assert identity is not None
    told = believable(moves=[["linked/victim1.safetensors", "linked/yours1.safetensors", *identity[2:]]])
    (folder / ".embedmerge-00.journal").write_text(json.dumps(told) + "\n", encoding="ascii")
    assert "moves that EmbedMerge would not make" in look(folder).warnings[0]
    assert victim.exists()


@pytest.mark.crash
@needs_fork
def test_files_in_folders_that_are_linked_are_put_in_order_too(tmp_path: Path) -> None:
    """There the journal was written where it lies."""
    folder, far = tmp_path / "embeddings", tmp_path / "far"
    folder.mkdir()
    filled(far)
    (folder / "linked").symlink_to(far, target_is_directory=True)
    paths = [folder / "linked" / "mine1.safetensors", folder / "linked" / "stay1.safetensors"]
    for step in range(4, 12):
        killed_at(step, lambda: delete_embeddings(folder, paths), tmp_path)
        assert look(folder).warnings == ()
        assert len({(folder / TRASH).is_dir() and bool(list_deletions(folder)), not paths[0].exists()}) == 1
        for one in list_deletions(folder):
            restore_deleted(folder, one.id)


@pytest.mark.parametrize("content", [b"", b"{", b'{"embedmerge":1,"kind":"rename"'], ids=["empty", "torn", "cut"])
def test_a_journal_that_is_not_whole_was_never_acted_on(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path)
    before = contents(tmp_path)
    (tmp_path / ".embedmerge-00.journal").write_bytes(content)
    assert look(tmp_path).warnings == ()
    assert contents(tmp_path) == before


def test_a_journal_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_MAX_BYTES", 100)
    (tmp_path / ".embedmerge-00.journal").write_bytes(b"x" * 200)
    assert "moves that EmbedMerge would not make" in look(tmp_path).warnings[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there is no such thing on this system")
@pytest.mark.parametrize("name", [".embedmerge-00.journal", ".embedmerge-00.tmp", ".embedmerge-locked-00.tmp"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    os.utime(tmp_path / name, (1, 1))
    (tmp_path / name.replace("00", "01")).symlink_to(tmp_path / name)
    look(tmp_path)
    assert (tmp_path / name).exists()


def test_temporary_files_of_the_dead_are_swept_at_a_look(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".embedmerge-00.tmp", tmp_path / "sub" / ".embedmerge-01.tmp"
    dead, used = tmp_path / "sub" / ".embedmerge-locked-02.tmp", tmp_path / ".embedmerge-locked-03.tmp"
    fresh.parent.mkdir()
    for path in (old, fresh, dead, used):
        path.write_bytes(b"half")
    for path in (old, used, dead):
        os.utime(path, (1, 1))
    with used.open("rb") as file:
        assert try_lock(file.fileno())
        look(tmp_path)
        assert [path.exists() for path in (old, fresh, dead, used)] == [False, True, False, True]
    look(tmp_path)
    assert not used.exists()


def test_no_save_loses_its_temporary_file_to_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look between any two steps of a save."""
    real = atomic_file._flush

    def finish(file: BinaryIO) -> None:
        look(tmp_path)
        real(file)
        look(tmp_path)

    monkeypatch.setattr(atomic_file, "_flush", finish)
    write_atomically(tmp_path / "x.txt", b"whole", overwrite=False)
    assert contents(tmp_path) == {"x.txt": b"whole"}


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age tells there."""
    for module in (atomic_file, journal):
        monkeypatch.setattr(module, "try_lock", lambda _: None)
    monkeypatch.setattr(locks, "try_lock", lambda _: None)
    filled(tmp_path)
    rename_it(tmp_path)
    left = [tmp_path / ".embedmerge-00.journal", tmp_path / ".embedmerge-locked-00.tmp"]
    for path in left:
        path.write_bytes(b"")
    assert look(tmp_path).warnings == ()
    assert all(path.exists() for path in left)
    for path in left:
        os.utime(path, (1, 1))
    look(tmp_path)
    assert not any(path.exists() for path in left)
