"""Make a picture the one that web UIs show for an embedding. The picture that they showed before goes to the trash."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from lib_embedmerge.core.endings import PREVIEWS
from lib_embedmerge.embeddings.editing import Deletion, delete_files, restore_deleted
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.atomic_file import PendingFile, flush_folder

_ENDING = ".preview.png"
"""What web UIs write themselves."""

_SHOWN_FIRST = PREVIEWS[: PREVIEWS.index(_ENDING) + 1]
"""Endings of the pictures that web UIs would show instead of a new one, and of the new one."""


def write_preview(folder: Path, path: Path, picture: bytes, embeddings: Collection[Path]) -> Deletion | None:
    """Write `name.preview.png` beside an embedding, whole or not at all. Gives the deletion of the old picture, if any.

    folder: has the embedding in it or in a subfolder; its trash gets the old picture.
    picture: a PNG.  embeddings: all files that the library lists, since a picture can be an embedding itself.
    StorageError if the embedding is gone, if an embedding would have to make room, or if the disk refuses; then nothing
    is changed.
    """
    if path.suffix.lower() in PREVIEWS:
        raise StorageError(f"{quote(path.name)} is a picture itself, which web UIs show for it.")
    if not path.is_file():
        raise StorageError(f"{quote(path.name)} no longer exists.", hint="Refresh the list.")
    old = [shown for ending in _SHOWN_FIRST if (shown := path.with_name(path.stem + ending)).is_file()]
    if other := next((shown for shown in old if shown in embeddings), None):
        message = (
            f"{quote(other.name)} is an embedding itself, which web UIs show as the picture of {quote(path.stem)}."
        )
        raise StorageError(message, hint="Rename one of the two.")
    # The new file is on the disk before the old one moves, so that a full disk changes nothing.
    with PendingFile(path.with_name(path.stem + _ENDING), picture, overwrite=False) as pending:
        pending.flush()
        deletion = delete_files(folder, old) if old else None
        try:
            pending.move()
        except StorageError:
            if deletion is not None:
                with contextlib.suppress(StorageError):  # it is in the trash, where the user finds it
                    restore_deleted(folder, deletion.id)
            raise
    flush_folder(path.parent)
    return deletion
