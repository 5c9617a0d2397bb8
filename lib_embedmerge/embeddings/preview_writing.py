"""Make pictures those that web UIs show for embeddings. The pictures that they showed before go to the trash."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lib_embedmerge.core.endings import PREVIEWS
from lib_embedmerge.embeddings.editing import Deletion, delete_files, list_deletions, restore_deleted
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.atomic_file import PendingFile, flush_folder
from lib_embedmerge.files.disk_faults import make_disk_error

_ENDING = ".preview.png"
"""What web UIs write themselves."""

_SHOWN_FIRST = PREVIEWS[: PREVIEWS.index(_ENDING) + 1]
"""Endings of the pictures that web UIs would show instead of a new one, and of the new one."""


class WrittenPreviews(NamedTuple):
    """What became of new pictures.

    deletion: of the old pictures, None if there were none.  faults: embedding -> why its picture was not written.
    """

    deletion: Deletion | None
    faults: dict[Path, StorageError]


def write_previews(folder: Path, pictures: Mapping[Path, Path], embeddings: Collection[Path]) -> WrittenPreviews:
    """Write `name.preview.png` beside embeddings. All old pictures are one deletion, so that one click restores them.

    folder: has the embeddings in it or in subfolders; its trash gets the old pictures.
    pictures: embedding -> a file with its picture, a PNG.
    embeddings: all files that the library lists, since a picture can be an embedding itself.
    StorageError if the disk refuses when the pictures take their places; then nothing is changed. What concerns one
    picture becomes a fault: the embedding is gone, an embedding would have to make room, the disk is full.
    """
    pending: dict[Path, PendingFile] = {}
    faults: dict[Path, StorageError] = {}
    old: list[Path] = []
    # The new files are on the disk before the old ones move, so that a full disk changes nothing.
    with contextlib.ExitStack() as stack:
        for path, picture in pictures.items():
            try:
                in_the_way = _find_old(path, embeddings, pending)
                file = stack.enter_context(PendingFile(_name_preview(path), _read_picture(picture), overwrite=False))
                file.flush()
            except StorageError as error:
                faults[path] = error
                continue
            pending[path] = file
            old += in_the_way
        deletion = delete_files(folder, old) if old else None
        _move_all(folder, list(pending.values()), deletion)
    for parent in {path.parent for path in pending}:
        flush_folder(parent)
    return WrittenPreviews(deletion, faults)


def restore_with_previews(folder: Path, deletion: str, embeddings: Collection[Path]) -> tuple[Path, ...]:
    """Move the files of a deletion back, and return their paths. Pictures that replaced them go to the trash instead.

    Only pictures of embeddings that exist are exchanged like this.
    deletion: its id.  embeddings: all files that the library lists.
    StorageError as for `embeddings.editing.restore_deleted`; then nothing is changed.
    """
    deleted = next((each for each in list_deletions(folder) if each.id == deletion), None)
    replacing = _find_replacing(folder, deleted.files, embeddings) if deleted else []
    exchanged = delete_files(folder, replacing) if replacing else None
    try:
        return restore_deleted(folder, deletion)
    except StorageError:
        _put_back(folder, exchanged)
        raise


def _name_preview(path: Path) -> Path:
    return path.with_name(path.stem + _ENDING)


def _find_old(path: Path, embeddings: Collection[Path], others: Collection[Path]) -> list[Path]:
    """The pictures that have to make room for the one of an embedding. StorageError if it cannot have one.

    others: embeddings that get a picture at the same time.
    """
    if path.suffix.lower() in PREVIEWS:
        raise StorageError(f"{quote(path.name)} is a picture itself, which web UIs show for it.")
    if not path.is_file():
        raise StorageError(f"{quote(path.name)} no longer exists.", hint="Refresh the list.")
    if other := next((each for each in others if _name_preview(each) == _name_preview(path)), None):
        message = f"{quote(path.name)} has the name of {quote(other.name)}, so web UIs show one picture for both."
        raise StorageError(message, hint="Keep the picture of one of them.")
    old = [shown for ending in _SHOWN_FIRST if (shown := path.with_name(path.stem + ending)).is_file()]
    if listed := next((shown for shown in old if shown in embeddings), None):
        message = (
            f"{quote(listed.name)} is an embedding itself, which web UIs show as the picture of {quote(path.stem)}."
        )
        raise StorageError(message, hint="Rename one of the two.")
    return old


def _move_all(folder: Path, pending: Sequence[PendingFile], deletion: Deletion | None) -> None:
    """Move new pictures to their places. StorageError if one cannot be moved; then the old ones are back.

    deletion: of the old pictures.
    """
    moved: list[Path] = []
    try:
        for file in pending:
            file.move()
            moved.append(file.path)
    except StorageError:
        for path in moved:
            with contextlib.suppress(OSError):
                path.unlink()
        _put_back(folder, deletion)
        raise


def _put_back(folder: Path, deletion: Deletion | None) -> None:
    if deletion is not None:
        with contextlib.suppress(StorageError):  # then the files are in the trash, where the user finds them
            restore_deleted(folder, deletion.id)


def _find_replacing(folder: Path, deleted: Sequence[str], embeddings: Collection[Path]) -> list[Path]:
    """The pictures that web UIs show instead of deleted ones. Empty if other files were deleted too.

    deleted: paths in the folder with `/`.
    """
    stems = {(path.parent, path.stem) for path in embeddings}
    replacing: dict[Path, None] = {}
    for place in map(PurePosixPath, deleted):
        ending = next((ending for ending in reversed(_SHOWN_FIRST) if place.name.endswith(ending)), None)
        if ending is None:
            return []
        parent, stem = folder / place.parent, place.name.removesuffix(ending)
        if (parent, stem) in stems:
            shown = [parent / (stem + shown) for shown in _SHOWN_FIRST]
            replacing |= dict.fromkeys(path for path in shown if path.is_file() and path not in embeddings)
    return list(replacing)


def _read_picture(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise make_disk_error(picture, error, "read") from error
