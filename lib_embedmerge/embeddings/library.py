"""The embeddings of one or more folders, and the search for those that a text names. embedding.py reads files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from lib_embedmerge.core.endings import LISTED, PICTURE
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.embeddings.by_vectors import VectorSearch, is_used_embedding
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.interrupted import clean_up_leftovers, is_leftover
from lib_embedmerge.embeddings.names import is_ignored_file
from lib_embedmerge.embeddings.pictures import PictureNames
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.errors import StorageError, find_close_names, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.stamps import Stamp, read_stamp

_TIME_STEP = 2_000_000_000
"""Nanoseconds in which two changes can get the same time. FAT stores times in steps of two seconds."""

_RANKS = {suffix: rank for rank, suffix in enumerate(LISTED)}
_PICTURE_RANK = LISTED.index(PICTURE)


@dataclass
class _Index:
    """The result of a scan of the folder.

    paths: name -> file.  by_ids: token ids of a name -> name.
    lengths: first token id -> numbers of tokens of the names that begin with it, largest first.
    files: file -> why texts do not find it, or None if they do; in order.  warnings: one sentence each.
    folders: folder -> its modification time; None if it is so recent that a later change could have the same time.
    leftovers: journals and temporary files of programs that move or write files.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    by_ids: dict[tuple[int, ...], str] = field(default_factory=dict)
    lengths: dict[int, list[int]] = field(default_factory=dict)
    files: dict[Path, str | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    folders: dict[str, int | None] = field(default_factory=dict)
    leftovers: list[Path] = field(default_factory=list)


class EmbeddingFolder:
    """The embeddings of a folder and its subfolders by name (core.ports.EmbeddingNames).

    folders: the folder, and others that belong to the library; if two have one name, the first has it.
    The folder is scanned when it is first needed, and again only after `refresh` or `refresh_if_changed`. A file is
    read when it is first loaded, and again if it has changed. Several threads may use an object at once; each call
    uses the result of one scan.
    """

    def __init__(self, folder: str | os.PathLike[str], tokenizer: Tokenizer, more: Iterable[Path] = ()) -> None:
        """more: other folders, which need not exist.  StorageError if `folder` does not."""
        self.folder = Path(folder)
        self.folders = (self.folder, *more)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._current_index: _Index | None = None
        self._loaded: dict[Path, tuple[Stamp, Embedding]] = {}
        self._by_vectors = VectorSearch()
        self._pictures = PictureNames()
        self._ids: dict[str, tuple[int, ...]] = {}  # token ids of each name in the last scan
        self._check_folder()

    @property
    def state(self) -> object:
        """The identity of the last scan: each scan of the folder gives another object."""
        return self._index

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the folder: names that occur twice, subfolders that cannot be read."""
        return tuple(self._index.warnings)

    def find_top_folder(self, path: Path) -> Path:
        """The folder of the library in which a file is, in it or in a subfolder."""
        return next((folder for folder in self.folders if path.is_relative_to(folder)), self.folder)

    def names(self) -> tuple[str, ...]:
        """All names that can be loaded, in alphabetical order."""
        return tuple(sorted(self._index.paths, key=lambda name: (name.casefold(), name)))

    def files(self) -> Mapping[Path, str | None]:
        """Embedding file -> why texts do not find it, as the end of a sentence, or None if they do. In order."""
        return MappingProxyType(self._index.files)

    def path(self, name: str) -> Path:
        """The file of the embedding that `load` would load. StorageError if there is none."""
        index = self._index
        if name in index.paths:
            return index.paths[name]
        # As in a prompt, where upper case and spacing make no difference.
        if same_tokens := index.by_ids.get(tuple(self._tokenizer.encode(name))):
            return index.paths[same_tokens]
        near = find_close_names(name[:200], index.paths, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Looked in {quote(self.folder)}."
        raise StorageError(f"There is no embedding {quote(name)}.", hint=hint)

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name whose tokens begin at ids[position], and its number of tokens; None if there is none.

        This is the rule of A1111's EmbeddingDatabase.find_embedding_at_position.
        """
        if not 0 <= position < len(ids):
            return None
        index = self._index
        for length in index.lengths.get(ids[position], ()):
            name = index.by_ids.get(tuple(ids[position : position + length]))
            if name is not None:
                # At the end of `ids` the slice is shorter than `length`, and can still be a shorter name.
                return name, min(length, len(ids) - position)
        return None

    def load(self, name: str) -> Embedding:
        """The embedding of a name. Reads its file once for each state of it. StorageError if it cannot be used."""
        return self._load(self.path(name))

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> Embedding | None:
        """As in core.ports.EmbeddingNames. The first time this reads all files with that number of vectors.

        sha256: from `hash_vectors`.  count: number of vectors; None if not known.  encoders: keys of encoders.
        """
        used = UsedEmbedding(sha256, count=count)
        path = self._by_vectors.find(self._index.files, used, frozenset(encoders))
        try:
            embedding = self._load(path) if path else None
        except StorageError:  # the file was removed after the scan
            return None
        return embedding if embedding and is_used_embedding(embedding, used) else None

    def _load(self, path: Path) -> Embedding:
        """The embedding in a file, read once for each state of it. StorageError if it cannot be used."""
        stamp = read_stamp(path)
        if stamp is None:
            raise StorageError(f"{quote(path.name)} can no longer be read.", hint="Refresh the list of embeddings.")
        loaded = self._loaded.get(path)
        if loaded is not None and loaded[0] == stamp:
            return loaded[1]
        embedding = load_embedding(path)
        with self._lock:
            # Two threads may have read it; both return the same object.
            loaded = self._loaded.get(path)
            if loaded is None or loaded[0] != stamp:
                loaded = self._loaded[path] = (stamp, embedding)
        return loaded[1]

    def refresh(self) -> None:
        """Scan the folder again when it is next needed. StorageError if it no longer exists."""
        self._check_folder()
        with self._lock:  # a scan that began before this call must not count as a later one
            self._current_index = None

    def refresh_if_changed(self) -> None:
        """Call `refresh` if files were added, removed or renamed in a folder after the scan.

        Otherwise this takes one call of the file system for each folder. StorageError if the folder no longer exists.
        """
        index = self._current_index
        if index is None:
            return
        if any(time is None or _read_modification_time(path) != time for path, time in index.folders.items()):
            self.refresh()

    @property
    def _index(self) -> _Index:
        """The result of the last scan; scans the folder if there is none."""
        index = self._current_index  # read once: another thread may refresh in between
        if index is not None:
            return index
        with self._lock:
            if self._current_index is None:
                self._current_index = self._scan()
                paths = set(self._current_index.paths.values())
                self._loaded = {path: loaded for path, loaded in self._loaded.items() if path in paths}
            return self._current_index

    def _check_folder(self) -> None:
        """StorageError if the folder does not exist."""
        try:
            is_folder = self.folder.is_dir()
        except OSError:
            is_folder = False
        if not is_folder:
            message = f"The embeddings folder does not exist: {quote(self.folder)}."
            raise StorageError(message, hint="Create it, or choose another folder.")

    def _scan(self) -> _Index:
        """Scan the folder, and clean up after killed programs (interrupted.py)."""
        index = self._list_files()
        if not index.leftovers:
            return index
        cleanup = clean_up_leftovers(index.leftovers)
        if cleanup.is_changed:
            index = self._list_files()
        index.warnings += cleanup.warnings
        index.folders.update(dict.fromkeys(map(os.fspath, cleanup.in_use)))
        return index

    def _list_files(self) -> _Index:
        """Scan the folder without cleaning up."""
        index = _Index()
        seen: set[str] = set()
        found_files = sorted(found for place, _ in enumerate(self.folders) for found in self._walk(place, index, seen))
        files = [(found, Path(found.folder, found.name)) for found in found_files]
        in_pictures = self._pictures.names([path for found, path in files if found.is_picture])
        for found, path in files:
            if (name := in_pictures.get(path) if found.is_picture else found.stem) is not None:
                self._add_file(index, path, name)
        for ids in index.by_ids:
            index.lengths.setdefault(ids[0], []).append(len(ids))
        index.lengths = {first: sorted(set(sizes), reverse=True) for first, sizes in index.lengths.items()}
        self._ids = {name: self._ids[name] for name in index.paths}
        return index

    def _walk(self, place: int, index: _Index, seen: set[str]) -> Iterator[_Found]:
        """All embedding files in a folder and its subfolders. Adds folders, leftovers and warnings to `index`.

        place: of the folder in `folders`.  seen: the folders that were listed; those of this call are added.
        Links to folders are followed, as web UIs do. Each folder is listed once.
        """

        folder = self.folders[place]

        def warn_of_folder(error: OSError) -> None:
            """Add a warning about a folder that cannot be listed."""
            name = Path(error.filename).name if error.filename else folder.name
            index.warnings.append(f"The folder {quote(name)} cannot be read: {describe_disk_fault(error)}.")

        if place and not folder.is_dir():  # the program that has the folders does not mind either
            return
        # Before the folder is listed, so that files that are added meanwhile count as a change.
        _add_folder(index, os.fspath(folder))
        for parent, folders, files in os.walk(folder, onerror=warn_of_folder, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:  # a link to a parent would never end
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:
                _add_folder(index, os.path.join(parent, name))  # noqa: PTH118 -- as os.walk names it
            index.leftovers += (Path(parent, name) for name in files if is_leftover(name))
            yield from (found for name in files if (found := _find_embedding(place, parent, name)))

    def _add_file(self, index: _Index, path: Path, name: str) -> None:
        """Add a file to the index, with a warning if texts do not find it."""
        index.files[path] = reason = self._add_name(index, path, name)
        if reason:
            index.warnings.append(f"{quote(find_relative_path(self.folder, path))} {reason}")

    def _add_name(self, index: _Index, path: Path, name: str) -> str | None:
        """Add the name of a file to the index. Returns why texts do not find it, or None if they do."""
        if name in index.paths:
            return (
                f"is ignored: {quote(name)} is the name of {quote(find_relative_path(self.folder, index.paths[name]))}."
            )
        ids = self._ids[name] = self._ids.get(name) or tuple(self._tokenizer.encode(name))
        if not ids:
            return "is ignored: its name does not work in a prompt."
        index.paths[name] = path
        if ids in index.by_ids:
            other = find_relative_path(self.folder, index.paths[index.by_ids[ids]])
            return f"does not work in a prompt: {quote(name)} is read the same as {quote(other)}."
        index.by_ids[ids] = name
        return None


class _Found(NamedTuple):
    """A file that may contain an embedding. They are sorted by these fields: of two with one name, the first gets it.

    is_picture: pictures come after all other files, because they lie beside trained embeddings and often are of an
        earlier step.  place: index of the library's folder.  folder, name: its path, as texts.  rank: of its ending.
    """

    is_picture: bool
    place: int
    folder: str
    stem: str
    rank: int
    name: str


def _add_folder(index: _Index, folder: str) -> None:
    """Add a folder with its modification time to the index."""
    modified = _read_modification_time(folder)
    is_recent = modified is not None and abs(time.time_ns() - modified) < _TIME_STEP
    index.folders[folder] = None if is_recent else modified


def _read_modification_time(folder: str) -> int | None:
    """The modification time of a folder in nanoseconds; None if it does not exist."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 -- fast, for each keystroke
    except OSError:
        return None


def _find_embedding(place: int, folder: str, name: str) -> _Found | None:
    """The file as one that may contain an embedding; None if a file of this name cannot. place: as in _Found."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 -- of thousands of names; a Path for each takes ten times as long
    rank = _RANKS.get(suffix.lower())
    if rank is None or is_ignored_file(stem):
        return None
    return _Found(rank == _PICTURE_RANK, place, folder, stem, rank, name)


def find_relative_path(folder: Path, path: Path) -> str:
    """The path of a file relative to a folder, for people: with `/` on every system; the whole path if outside it."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
