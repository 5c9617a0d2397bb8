"""Identification of embeddings by their vectors: whether an embedding is the one that a recipe was made with, and which
file of a library contains that one.

An embedding keeps its vectors when its file gets another name or other metadata. library.py finds embeddings by name.
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

_WITH_HEADER, _WITHOUT_HEADER = "files with a header", "files without"
"""Files without a header must be read whole to count their vectors, so they are searched last."""


def is_used_embedding(embedding: NamedEmbedding, used: UsedEmbedding) -> bool:
    """Whether `embedding` is the one that a recipe was made with.

    used: what the recipe's tag says of that one. A tag without a count may have the hash of the file, so then that is
    compared too.
    """
    if hash_vectors(embedding.vectors) == used.hash:
        return True
    path = embedding.path if used.count is None else None
    return path is not None and _hash_file(path) == used.hash


class VectorSearch:
    """A search for files of a library by their vectors. Several threads may use it at once.

    Only files with the right number of vectors are read, once for each state of the file. Headers tell that number.
    """

    def __init__(self) -> None:
        self._shapes = _FileCache(_find_shape)
        self._vectors = _FileCache(_hash_vectors_in_file)
        self._files = _FileCache(_hash_file)
        self._file_groups = _FileGroups(())

    def find(self, files: Collection[Path], used: UsedEmbedding, encoders: frozenset[str]) -> Path | None:
        """The file of the embedding that a recipe was made with, or None if there is none.

        files: the files to search. It must be another object after each change of the folder.
        encoders: keys of text encoders for which the embedding must have vectors.
        """
        file_groups = self._file_groups
        if file_groups.files is not files:
            file_groups = self._file_groups = _FileGroups(files)
            for cache in (self._shapes, self._vectors, self._files):
                cache.forget_others(files)
        hashes = [self._vectors] if used.count else [self._vectors, self._files]
        for kind in (_WITH_HEADER, _WITHOUT_HEADER):
            for group in self._find_groups(file_groups, kind) if used.hash else ():
                if encoders <= group.encoders and used.count in (None, group.count):
                    for cache in hashes:
                        if path := group.find(used.hash, cache):
                            return path
        return None

    def _find_groups(self, file_groups: _FileGroups, kind: str) -> Iterable[_Group]:
        """The files with or without a header, grouped by text encoders and number of vectors."""
        groups = file_groups.groups.get(kind)
        if groups is None:
            by_shape: dict[tuple[frozenset[str], int], _Group] = {}
            for path in file_groups.files:
                has_header = path.suffix.lower() == SUFFIX
                shape = self._shapes.get(path) if has_header == (kind == _WITH_HEADER) else None
                if shape is not None:
                    by_shape.setdefault(shape, _Group(*shape)).files.append(path)
            groups = file_groups.groups[kind] = list(by_shape.values())
        return groups


class _FileCache(Generic[_T]):
    """The results of a function of files, which is called once for each state of a file.

    find: the function; it returns None if a file cannot be used.
    """

    def __init__(self, find: Callable[[Path], _T | None]) -> None:
        self._find = find
        self._results: dict[Path, tuple[Stamp, _T | None]] = {}

    def get(self, path: Path) -> _T | None:
        """The result for a file, or None if the file cannot be used."""
        stamp = read_stamp(path)
        if stamp is None:
            return None
        result = self._results.get(path)
        if result is None or result[0] != stamp:
            result = self._results[path] = stamp, self._find(path)
        return result[1]

    def forget_others(self, files: Collection[Path]) -> None:
        """Forget the results for all files but these."""
        wanted = set(files)
        self._results = {path: result for path, result in self._results.items() if path in wanted}


@dataclass
class _FileGroups:
    """The files of a folder at one moment, in groups.

    groups: _WITH_HEADER or _WITHOUT_HEADER -> groups, as far as they were needed.
    """

    files: Collection[Path]
    groups: dict[str, list[_Group]] = field(default_factory=dict)


@dataclass
class _Group:
    """Files of embeddings for the same text encoders with the same number of vectors.

    by_hash: a cache of hashes -> files by these hashes, as far as they were needed.
    """

    encoders: frozenset[str]
    count: int
    files: list[Path] = field(default_factory=list)
    by_hash: dict[_FileCache[str], dict[str, Path]] = field(default_factory=dict)

    def find(self, sha256: str, hashes: _FileCache[str]) -> Path | None:
        """The file with this hash in `hashes`, or None."""
        by_hash = self.by_hash.get(hashes)
        if by_hash is None:
            by_hash = self.by_hash[hashes] = {digest: path for path in self.files if (digest := hashes.get(path))}
        return by_hash.get(sha256)


def _find_shape(path: Path) -> tuple[frozenset[str], int] | None:
    """The text encoders and the number of vectors of the embedding in a file; None if it cannot be used."""
    try:
        embedding = open_embedding(path)
    except StorageError:
        return None
    return frozenset(embedding.architecture.encoders), embedding.count


def _hash_vectors_in_file(path: Path) -> str | None:
    """`hash_vectors` of the embedding in a file; None if it cannot be used."""
    try:
        return hash_vectors(load_embedding(path).vectors)
    except StorageError:
        return None


def _hash_file(path: Path) -> str | None:
    """sha256 hex of a file's bytes; None if it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.sha256(file.readall()).hexdigest()
    except (OSError, StorageError):
        return None
