"""The names of embeddings in the pictures of a folder. Each picture is read once for each state of its file.

Most pictures beside embeddings are previews without one, and there may be thousands. picture_file.py reads a picture.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lib_embedmerge.embeddings.embedding_file import open_embedding_file
from lib_embedmerge.embeddings.picture_file import has_embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.file_kinds import read_file_start
from lib_embedmerge.files.stamps import Stamp, read_stamp


class PictureNames:
    """A cache of the names of embeddings in pictures. Not for several threads at once."""

    def __init__(self) -> None:
        self._names: dict[Path, tuple[Stamp, str | None]] = {}

    def names(self, paths: Collection[Path]) -> dict[Path, str]:
        """Picture -> name of the embedding as in web UIs, for the pictures that contain one.

        Forgets all pictures that are not in `paths`.
        """
        self._names = {path: self._names[path] for path in paths if path in self._names}
        return {path: name for path in paths if (name := self._find_name(path)) is not None}

    def _find_name(self, path: Path) -> str | None:
        """The name of the embedding in a picture; None if it contains none or cannot be read."""
        stamp = read_stamp(path)
        if stamp is None:
            return None
        cached = self._names.get(path)
        if cached is None or cached[0] != stamp:
            cached = self._names[path] = stamp, _read_name(path)
        return cached[1]


def _read_name(path: Path) -> str | None:
    """The name of the embedding in a picture, read from its file; None if it contains none."""
    try:
        if not has_embedding(path, read_file_start(path).kind):
            return None
    except StorageError:  # incomplete or damaged, which does not matter for a preview
        return None
    try:
        return open_embedding_file(path).name
    except StorageError:  # it contains an embedding that is damaged; loading it raises the error
        return path.stem
