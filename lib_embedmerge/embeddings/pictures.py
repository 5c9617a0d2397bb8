"""Which pictures of a folder hold embeddings, and what those are called: each is looked into once for each state.

Most pictures beside embeddings are previews, and there may be thousands. What is in one is picture_file.py's matter.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lib_embedmerge.embeddings.embedding_file import open_embedding_file
from lib_embedmerge.embeddings.picture_file import holds_embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.file_kinds import read_file_start
from lib_embedmerge.files.stamps import Stamp, read_stamp


class Pictures:
    """The pictures of a folder as far as they were looked into. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Stamp, str | None]] = {}

    def names(self, paths: Collection[Path]) -> dict[Path, str]:
        """What the embeddings in these pictures are called, as web UIs call them, for those that hold one. Others that
        were asked for before are forgotten."""
        self._known = {path: self._known[path] for path in paths if path in self._known}
        return {path: name for path in paths if (name := self._name(path)) is not None}

    def _name(self, path: Path) -> str | None:
        as_now = read_stamp(path)
        if as_now is None:
            return None
        known = self._known.get(path)
        if known is None or known[0] != as_now:
            known = self._known[path] = as_now, _name_in(path)
        return known[1]


def _name_in(path: Path) -> str | None:
    try:
        if not holds_embedding(path, read_file_start(path).kind):
            return None
    except StorageError:  # cut off or damaged, which is nobody's fault in a preview
        return None
    try:
        return open_embedding_file(path).name
    except StorageError:  # it does hold one; whoever loads it is told what is wrong
        return path.stem
