"""Embedding files changed without touching their vectors: other notes, another name, away into the trash and back.

A file's sidecars (previews, descriptions) go where it goes. The trash is a folder inside the embeddings folder, so that
moving there is mostly a rename on one disk; what lies in it ends in `.trash`, which no web UI takes for an embedding.
How several files move at once is moving.py's matter, how metadata are changed rewriting.py's. All that is moved is
written down first (journal.py), so that what is cut short is finished or taken back at the next look (interrupted.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lib_embedmerge.core.endings import SIDECARS, SUFFIXES
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.interrupted import are_same, clean_up_folder, remove_empty_folders
from lib_embedmerge.embeddings.journal import DELETE, RENAME, TRASH, TRASHED, UNDO, journaled
from lib_embedmerge.embeddings.metadata import apply_changes, edit_metadata, read_own_metadata, rename_in_metadata
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag_writing import check_size, check_text
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.moving import Move, check_clashes, move_all

__all__ = [
    "TRASH",
    "Deleted",
    "check_notes",
    "delete",
    "edit_metadata",
    "edit_notes",
    "list_deletions",
    "rename",
    "restore_deleted",
]

_ID = "%Y%m%d-%H%M%S-%f"
"""How deletions are told apart, and put in order."""


@dataclass(frozen=True)
class Deleted:
    """What one deletion moved into the trash. id: by which it is undone.  date: ISO 8601.
    files: by their places in the embeddings folder, sidecars too."""

    id: str
    date: str
    files: tuple[str, ...]


def edit_notes(path: Path, notes: str) -> None:
    """Set the user's own notes; empty ones are taken out. StorageError as `rewriting.edit_metadata`."""
    check_text(notes, "notes")
    clean_up_folder(path.parent)
    edit_metadata(path, _as_metadata(notes))


def check_notes(path: Path, notes: str) -> None:
    """The same StorageError without setting them, by the file's header alone; the disk may still refuse."""
    check_text(notes, "notes")
    check_size(apply_changes(read_own_metadata(path), _as_metadata(notes)))


def _as_metadata(notes: str) -> dict[str, str]:
    return {keys.NOTES: notes.strip()}


def rename(path: Path, name: str, variants: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Give an embedding another name, its sidecars along; the new paths, its own first.

    variants: those made from it for other models (recipes/rebuild.py), whose names begin with its own, and go along.
    Where metadata call them by the old name they get the new one. StorageError where a name cannot be a file's, or is
    taken, or the disk refuses; everything is as it was then.
    """
    names = _new_names(path, name, variants)
    folder = _common_folder(names)
    clean_up_folder(folder)
    with lock_folders(_folders(names)):
        moves = [
            (file, file.with_name(new + file.name[len(one.stem) :]))
            for one, new in names.items()
            for file in _with_sidecars(one, names)
            if new != one.stem
        ]
        if moves:
            with _moving(folder, RENAME, moves):
                _call_all_anew(names, moves)
    return tuple(one.with_name(new + one.suffix) for one, new in names.items())


@contextlib.contextmanager
def _moving(folder: Path, kind: str, moves: Sequence[Move]) -> Iterator[None]:
    """Move files, with the folder's journal kept until what follows is done too. What cannot be taken back at once is
    taken back at the next look."""
    check_clashes(moves)
    try:
        with journaled(folder, kind, moves):
            move_all(moves)
            yield
    except BaseException:
        clean_up_folder(folder)
        raise


def _call_all_anew(names: Mapping[Path, str], moves: Sequence[Move]) -> None:
    """Have the metadata of what was renamed say so. StorageError where one cannot; all is as it was then."""
    base = next(iter(names))
    texts_before: dict[Path, Mapping[str, str]] = {}
    try:
        for one, name in names.items():
            new = one.with_name(name + one.suffix)
            texts_before[new] = rename_in_metadata(new, {one.stem: name}, {base.stem: names[base]})
    except StorageError:
        for new, texts in texts_before.items():
            with contextlib.suppress(StorageError):
                edit_metadata(new, texts)
        move_all([(new, old) for old, new in moves])
        raise


def _common_folder(paths: Iterable[Path]) -> Path:
    """The folder that all these files lie in or below. StorageError where there is none."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError as error:  # on drives of their own
        message = "The embedding and its variants lie on different drives, so they cannot be renamed together."
        raise StorageError(message, hint="Move them into one folder first.") from error


def _folders(paths: Iterable[Path]) -> set[Path]:
    """Those of the files, and those of the files that links among them lead to."""
    return {folder for path in paths for folder in (path.parent, path.resolve().parent)}


def _new_names(path: Path, name: str, variants: Sequence[Path]) -> dict[Path, str]:
    """What an embedding and its variants would be called. StorageError where one cannot be."""
    if error := find_name_error(name):
        raise StorageError(error, hint="Choose another name.")
    names = {path: name, **{one: name + one.stem[len(path.stem) :] for one in variants}}
    for one, new in names.items():
        if error := find_name_error(new):
            message = f"{quote(one.stem)} is renamed too, and cannot be called {quote(new)}: {error}"
            raise StorageError(message, hint="Choose a shorter name.")
    return names


def delete(folder: Path, paths: Sequence[Path]) -> Deleted:
    """Move embeddings of a folder, sidecars along, into its trash. StorageError where the disk refuses: none is moved
    then."""
    clean_up_folder(folder)
    with lock_folders([folder, *_folders(paths)]):
        files = dict.fromkeys(file for path in paths for file in _with_sidecars(path, paths))
        moved = datetime.now().astimezone()
        kept = Deleted(
            moved.strftime(_ID),
            moved.isoformat(timespec="seconds"),
            tuple(file.relative_to(folder).as_posix() for file in files),
        )
        with _moving(folder, DELETE, [(folder / file, _trashed(folder, kept.id, file)) for file in kept.files]):
            pass
    return kept


def list_deletions(folder: Path) -> list[Deleted]:
    """What lies in a folder's trash, newest first."""
    clean_up_folder(folder)
    return _deletions(folder)


def _deletions(folder: Path) -> list[Deleted]:
    try:
        places = sorted((folder / TRASH).iterdir(), reverse=True)
    except OSError:  # no trash yet
        return []
    return [one for place in places if (one := _deleted(place)) is not None]


def restore_deleted(folder: Path, deletion: str) -> tuple[Path, ...]:
    """Put what a deletion moved back to its places; these. StorageError where it is not in the trash, or something has
    taken a place: nothing is moved then."""
    clean_up_folder(folder)
    with lock_folders([folder]):
        kept = next((one for one in _deletions(folder) if one.id == deletion), None)
        if kept is None:
            raise StorageError(
                "These files are no longer in the trash.", hint=f"The trash is the folder {quote(folder / TRASH)}."
            )
        places = tuple(folder / file for file in kept.files)
        with lock_folders(place.parent for place in places):
            moves = [(_trashed(folder, kept.id, file), folder / file) for file in kept.files]
            with _moving(folder, UNDO, [move for move in moves if not _is_back_already(*move)]):
                remove_empty_folders(folder / TRASH / kept.id)
    return places


def _is_back_already(old: Path, new: Path) -> bool:
    """Whether a file of the trash lies in its place as well, which version 0.1.0 could leave so; it is in the trash no
    more then."""
    try:
        if not os.path.lexists(new) or not are_same(old, new):
            return False
        old.unlink()
    except OSError:
        return False
    return True


def _trashed(folder: Path, deletion: str, file: str) -> Path:
    return folder / TRASH / deletion / (file + TRASHED)


def _deleted(place: Path) -> Deleted | None:
    """What a folder of the trash holds, where it is one of ours and not empty."""
    try:
        moved = datetime.strptime(place.name, _ID).astimezone()
    except ValueError:
        return None
    files = sorted(
        Path(parent, name).relative_to(place).as_posix().removesuffix(TRASHED)
        for parent, _, names in os.walk(place)
        for name in names
        if name.endswith(TRASHED)
    )
    return Deleted(place.name, moved.isoformat(timespec="seconds"), tuple(files)) if files else None


def _with_sidecars(path: Path, moving: Collection[Path]) -> Iterable[Path]:
    """The file, and what belongs to it alone: what stands beside two files of one name stays with the other, unless
    that one is moving as well."""
    named_alike = (path.with_name(path.stem + suffix) for suffix in SUFFIXES if suffix != path.suffix.lower())
    shared = any(one.exists() and one not in moving for one in named_alike)
    beside = [] if shared else [path.with_name(path.stem + suffix) for suffix in SIDECARS]
    return dict.fromkeys([path, *(one for one in beside if one.is_file())])  # a picture can hold the embedding itself
