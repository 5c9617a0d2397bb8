"""Embeddings told by their vectors: whether one is the one that a recipe was made with, and which of many files is.

A name and a file's other bytes may have changed meanwhile. What names a library has is library.py's knowledge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import NamedEmbedding
from lib_embedmerge.embeddings.embedding import hash_vectors, load_embedding, open_embedding
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.stamps import Stamp, read_stamp

_T = TypeVar("_T")

_HEADED, _OTHERS = "files with a header", "files without"
"""The latter have to be read even to see how many vectors they have, so they are the last to be looked into."""


def is_used_embedding(embedding: NamedEmbedding, used: UsedEmbedding) -> bool:
    """Whether it is the embedding that a recipe was made with."""
    if hash_vectors(embedding.vectors) == used.hash:
        return True
    path = embedding.path if used.count is None else None
    return path is not None and _hash_of_file(path) == used.hash


class FilesByVectors:
    """The files of a library by their vectors. Several threads may ask at once.

    Headers tell which files have as many vectors as the one that is looked for; these are read, once for each state.
    """

    def __init__(self) -> None:
        self._shapes = _Once(_shape_of)
        self._vectors = _Once(_hash_of_vectors)
        self._files = _Once(_hash_of_file)
        self._look = _Look(())

    def find(self, files: Collection[Path], used: UsedEmbedding, encoders: frozenset[str]) -> Path | None:
        """The file of the embedding that a recipe was made with, for these text encoders at least; None for none.

        files: where to look; another object after each change of the folder.
        """
        look = self._look
        if look.files is not files:
            look = self._look = _Look(files)
            for once in (self._shapes, self._vectors, self._files):
                once.keep(files)
        hashes = [self._vectors] if used.count else [self._vectors, self._files]
        for of in (_HEADED, _OTHERS):
            for group in self._groups(look, of) if used.hash else ():
                if encoders <= group.encoders and used.count in (None, group.count):
                    for once in hashes:
                        if path := group.path(used.hash, once):
                            return path
        return None

    def _groups(self, look: _Look, of: str) -> Iterable[_Group]:
        groups = look.groups.get(of)
        if groups is None:
            by_shape: dict[tuple[frozenset[str], int], _Group] = {}
            for path in look.files:
                is_headed = path.suffix.lower() == SUFFIX
                shape = self._shapes.of(path) if is_headed == (of == _HEADED) else None
                if shape is not None:
                    by_shape.setdefault(shape, _Group(*shape)).files.append(path)
            groups = look.groups[of] = list(by_shape.values())
        return groups


class _Once(Generic[_T]):
    """What there is to find out of files, found once for each state of them. None where a file cannot be used."""

    def __init__(self, find: Callable[[Path], _T | None]) -> None:
        self._find = find
        self._known: dict[Path, tuple[Stamp, _T | None]] = {}

    def of(self, path: Path) -> _T | None:
        as_now = read_stamp(path)
        if as_now is None:
            return None
        known = self._known.get(path)
        if known is None or known[0] != as_now:
            known = self._known[path] = as_now, self._find(path)
        return known[1]

    def keep(self, files: Collection[Path]) -> None:
        """Forget all others."""
        wanted = set(files)
        self._known = {path: known for path, known in self._known.items() if path in wanted}


@dataclass
class _Look:
    """One look at a folder. groups: of _HEADED and of _OTHERS, once asked for."""

    files: Collection[Path]
    groups: dict[str, list[_Group]] = field(default_factory=dict)


@dataclass
class _Group:
    """Files for the same text encoders and of as many vectors. found: by hash, once asked for."""

    encoders: frozenset[str]
    count: int
    files: list[Path] = field(default_factory=list)
    found: dict[_Once[str], dict[str, Path]] = field(default_factory=dict)

    def path(self, sha256: str, hashes: _Once[str]) -> Path | None:
        found = self.found.get(hashes)
        if found is None:
            found = self.found[hashes] = {digest: path for path in self.files if (digest := hashes.of(path))}
        return found.get(sha256)


def _shape_of(path: Path) -> tuple[frozenset[str], int] | None:
    try:
        found = open_embedding(path)
    except StorageError:
        return None
    return frozenset(found.architecture.encoders), found.count


def _hash_of_vectors(path: Path) -> str | None:
    try:
        return hash_vectors(load_embedding(path).vectors)
    except StorageError:
        return None


def _hash_of_file(path: Path) -> str | None:
    try:
        with open_regular(path) as file:
            return hashlib.sha256(file.readall()).hexdigest()
    except (OSError, StorageError):
        return None
