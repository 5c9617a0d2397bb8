"""Changes to embedding files that keep their vectors: new notes, renaming, deletion into the trash, and undoing it.

A file's sidecars (previews, descriptions) are moved with it. The trash is a folder inside the embeddings folder, so
that moving a file there is mostly a rename on one disk. Files in the trash end in `.trash`, so no web UI takes them for
embeddings. files/moving.py moves several files at once, and metadata.py changes metadata. A journal lists all moves
before they begin (journal.py), so interrupted ones are finished or undone the next time that somebody uses the folder
(interrupted.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lib_embedmerge.core.endings import SIDECARS, SUFFIXES
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.interrupted import clean_up_folder, is_same_or_copy, remove_empty_folders
from lib_embedmerge.embeddings.journal import DELETE, RENAME, TRASH, TRASH_SUFFIX, UNDO, keep_journal
from lib_embedmerge.embeddings.metadata import (
    apply_changes,
    edit_metadata,
    read_own_metadata,
    rename_in_metadata,
    rewrite_metadata,
)
from lib_embedmerge.embeddings.model_notes import ModelNote, change_model_note
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag_writing import check_size, check_text
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.moving import Move, check_clashes, move_all

__all__ = [
    "TRASH",
    "Deletion",
    "check_notes",
    "delete_embeddings",
    "delete_files",
    "edit_metadata",
    "edit_model_note",
    "edit_notes",
    "list_deletions",
    "rename_embedding",
    "restore_deleted",
]

_ID = "%Y%m%d-%H%M%S-%f"
"""Format of the id of a deletion, by which deletions are sorted: the local time with microseconds."""


@dataclass(frozen=True)
class Deletion:
    """A deletion whose files are in the trash.

    id: identifies it, to undo it.  date: ISO 8601.
    files: their paths in the embeddings folder with `/` on every system, sidecars included.
    """

    id: str
    date: str
    files: tuple[str, ...]


def edit_notes(path: Path, notes: str) -> None:
    """Set the user's notes in an embedding's file; empty notes are removed. StorageError as in `edit_metadata`."""
    check_text(notes, "notes")
    clean_up_folder(path.parent)
    edit_metadata(path, _make_changes(notes))


def check_notes(path: Path, notes: str) -> None:
    """Raise the StorageError that `edit_notes` would raise. Reads only the header, so writing may still fail."""
    check_text(notes, "notes")
    check_size(apply_changes(read_own_metadata(path), _make_changes(notes)))


def edit_model_note(path: Path, facts: ModelFacts, note: ModelNote) -> None:
    """Set what the user noted about an embedding on a model. StorageError as in `edit_metadata`, or for a bad value."""
    check_text(note.text, "note")
    read_own_metadata(path)
    clean_up_folder(path.parent)
    rewrite_metadata(path, lambda metadata: change_model_note(metadata, facts, note))


def _make_changes(notes: str) -> dict[str, str]:
    """The change of metadata that sets these notes."""
    return {keys.NOTES: notes.strip()}


def rename_embedding(path: Path, name: str, variants: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Rename an embedding with its sidecars and variants, and return the new paths, that of the embedding first.

    The new name replaces the old one in metadata too.
    variants: the files made from it for other models (recipes/rebuild.py), whose names begin with its name.
    StorageError if a name cannot be that of a file or is in use, or if the disk refuses; then nothing is changed.
    """
    names = _choose_new_names(path, name, variants)
    folder = _find_common_folder(names)
    clean_up_folder(folder)
    with lock_folders(_list_folders(names)):
        moves = [
            (file, file.with_name(new + file.name[len(old.stem) :]))
            for old, new in names.items()
            for file in _add_sidecars(old, names)
            if new != old.stem
        ]
        if moves:
            with _move_with_journal(folder, RENAME, moves):
                _rename_in_all_metadata(names, moves)
    return tuple(old.with_name(new + old.suffix) for old, new in names.items())


@contextlib.contextmanager
def _move_with_journal(folder: Path, kind: str, moves: Sequence[Move]) -> Iterator[None]:
    """Move files, and keep a journal of the moves in `folder` until the `with` block is done.

    If the block raises, the moves are undone, now or the next time that somebody uses the folder.
    kind: RENAME, DELETE or UNDO.  StorageError as in `keep_journal` and `files.moving.move_all`.
    """
    check_clashes(moves)
    try:
        with keep_journal(folder, kind, moves):
            move_all(moves)
            yield
    except BaseException:
        clean_up_folder(folder)
        raise


def _rename_in_all_metadata(names: Mapping[Path, str], moves: Sequence[Move]) -> None:
    """Replace old names by new ones in the metadata of files that were moved.

    names: old path -> new name, that of the embedding first, then variants.
    StorageError if a file cannot be written; then all metadata and moves are undone.
    """
    base = next(iter(names))
    texts_before: dict[Path, Mapping[str, str]] = {}
    try:
        for old, name in names.items():
            new = old.with_name(name + old.suffix)
            texts_before[new] = rename_in_metadata(new, {old.stem: name}, {base.stem: names[base]})
    except StorageError:
        for new, texts in texts_before.items():
            with contextlib.suppress(StorageError):
                edit_metadata(new, texts)
        move_all([(new, old) for old, new in moves])
        raise


def _find_common_folder(paths: Iterable[Path]) -> Path:
    """The folder that contains all these files or their folders. StorageError if they are on different drives."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError as error:  # on different drives of Windows
        message = "The embedding and its versions for other models are on different drives: they keep their names."
        raise StorageError(message, hint="Move them into one folder first.") from error


def _list_folders(paths: Iterable[Path]) -> set[Path]:
    """The folders of these files, and of the files that symbolic links among them point to."""
    return {folder for path in paths for folder in (path.parent, path.resolve().parent)}


def _choose_new_names(path: Path, name: str, variants: Sequence[Path]) -> dict[Path, str]:
    """Path -> new name, for an embedding and its variants. StorageError if a name cannot be that of a file."""
    if error := find_name_error(name):
        raise StorageError(error, hint="Choose another name.")
    names = {path: name, **{variant: name + variant.stem[len(path.stem) :] for variant in variants}}
    for old, new in names.items():
        if error := find_name_error(new):
            message = f"{quote(old.stem)} is renamed too, and cannot be called {quote(new)}: {error}"
            raise StorageError(message, hint="Choose a shorter name.")
    return names


def delete_embeddings(folder: Path, paths: Sequence[Path]) -> Deletion:
    """Move embeddings of a folder with their sidecars into its trash.

    StorageError if the disk refuses; then nothing is moved.
    """
    clean_up_folder(folder)
    with lock_folders([folder, *_list_folders(paths)]):
        return _move_to_trash(folder, dict.fromkeys(file for path in paths for file in _add_sidecars(path, paths)))


def delete_files(folder: Path, files: Sequence[Path]) -> Deletion:
    """Move files of a folder into its trash, without any sidecars. StorageError as for `delete_embeddings`."""
    clean_up_folder(folder)
    with lock_folders([folder, *_list_folders(files)]):
        return _move_to_trash(folder, files)


def _move_to_trash(folder: Path, files: Iterable[Path]) -> Deletion:
    now = datetime.now().astimezone()
    places = tuple(file.relative_to(folder).as_posix() for file in files)
    deletion = Deletion(now.strftime(_ID), now.isoformat(timespec="seconds"), places)
    moves = [(folder / place, _find_trash_path(folder, deletion.id, place)) for place in places]
    with _move_with_journal(folder, DELETE, moves):
        pass
    return deletion


def list_deletions(folder: Path) -> list[Deletion]:
    """The deletions in a folder's trash, newest first."""
    clean_up_folder(folder)
    return _read_trash(folder)


def _read_trash(folder: Path) -> list[Deletion]:
    """The deletions in a folder's trash, newest first. Does not clean up first."""
    try:
        folders = sorted((folder / TRASH).iterdir(), reverse=True)
    except OSError:  # no trash yet
        return []
    return [deletion for inside in folders if (deletion := _read_deletion(inside)) is not None]


def restore_deleted(folder: Path, deletion: str) -> tuple[Path, ...]:
    """Move the files of a deletion back, and return their paths.

    deletion: its id.  StorageError if it is not in the trash, or if a path is in use; then nothing is moved.
    """
    clean_up_folder(folder)
    with lock_folders([folder]):
        deleted = next((kept for kept in _read_trash(folder) if kept.id == deletion), None)
        if deleted is None:
            raise StorageError(
                "These files are no longer in the trash.", hint=f"The trash is the folder {quote(folder / TRASH)}."
            )
        paths = tuple(folder / file for file in deleted.files)
        with lock_folders(path.parent for path in paths):
            moves = [(_find_trash_path(folder, deleted.id, file), folder / file) for file in deleted.files]
            with _move_with_journal(folder, UNDO, [move for move in moves if not _remove_if_restored(*move)]):
                remove_empty_folders(folder / TRASH / deleted.id)
    return paths


def _remove_if_restored(old: Path, new: Path) -> bool:
    """Remove a file from the trash if the same file is at its old path already, as version 0.1.0 could leave it.

    old: in the trash.  new: its path before the deletion.  True if it was removed.
    """
    try:
        if not os.path.lexists(new) or not is_same_or_copy(old, new):
            return False
        old.unlink()
    except OSError:
        return False
    return True


def _find_trash_path(folder: Path, deletion: str, file: str) -> Path:
    """The path of a deleted file in the trash. file: its path in the embeddings folder."""
    return folder / TRASH / deletion / (file + TRASH_SUFFIX)


def _read_deletion(folder: Path) -> Deletion | None:
    """The deletion in a folder of the trash; None if it is empty or EmbedMerge did not make it."""
    try:
        date = datetime.strptime(folder.name, _ID).astimezone()
    except ValueError:
        return None
    files = sorted(
        Path(parent, name).relative_to(folder).as_posix().removesuffix(TRASH_SUFFIX)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.endswith(TRASH_SUFFIX)
    )
    return Deletion(folder.name, date.isoformat(timespec="seconds"), tuple(files)) if files else None


def _add_sidecars(path: Path, moving: Collection[Path]) -> Iterable[Path]:
    """The file and its sidecars.

    If another embedding has the same name with another ending, and is not in `moving`, the sidecars stay with that one.
    """
    named_alike = (path.with_name(path.stem + suffix) for suffix in SUFFIXES if suffix != path.suffix.lower())
    is_shared = any(other.exists() and other not in moving for other in named_alike)
    sidecars = [] if is_shared else [path.with_name(path.stem + suffix) for suffix in SIDECARS]
    return dict.fromkeys([path, *(sidecar for sidecar in sidecars if sidecar.is_file())])  # `path` can be a picture
