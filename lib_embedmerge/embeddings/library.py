"""A folder of embeddings, and how a text finds the ones that it names. One file alone is embedding.py's matter."""

from __future__ import annotations

import difflib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from lib_embedmerge.core.endings import LISTED, PICTURE, SUFFIXES
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.embeddings.by_vectors import FilesByVectors, is_used_embedding
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.interrupted import clean_up, is_leftover
from lib_embedmerge.embeddings.names import is_passed_over
from lib_embedmerge.embeddings.pictures import Pictures
from lib_embedmerge.embeddings.tag import UsedEmbedding
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.stamps import Stamp, read_stamp

_SETTLED = 2_000_000_000
"""Nanoseconds within which some disks give two changes one time; FAT counts in steps of two seconds."""


@dataclass
class _Index:
    """What a scan found. lengths: first token id -> the numbers of tokens of names that begin with it, falling.
    files: each one in order -> why texts do not find it, None where they do.
    folders: each one looked through -> its modification time, None where that was too fresh to tell a later change.
    leftovers: what programs that move or write files have there for as long as they do.
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

    The folder is looked through at the first question, and again only at `refresh` or `refresh_if_changed`; a file is
    read when it is first loaded, and again where it has changed. Several threads may ask at once: each question is
    answered from one look at the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], tokenizer: Tokenizer) -> None:
        """StorageError where the folder does not exist."""
        self.folder = Path(folder)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._found: _Index | None = None
        self._loaded: dict[Path, tuple[Stamp, Embedding]] = {}
        self._by_vectors = FilesByVectors()
        self._pictures = Pictures()
        self._check_folder()

    @property
    def state(self) -> object:
        """Another object after each look at the folder."""
        return self._index

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the folder: names that stand there twice, folders that cannot be read."""
        return tuple(self._index.warnings)

    def names(self) -> tuple[str, ...]:
        """All names that can be loaded, in alphabetical order."""
        return tuple(sorted(self._index.paths, key=lambda name: (name.casefold(), name)))

    def files(self) -> Mapping[Path, str | None]:
        """Every embedding file in order, and for one that texts do not find the reason, as a sentence."""
        return MappingProxyType(self._index.files)

    def path(self, name: str) -> Path:
        """The file of a name, found as `load` finds it. StorageError where there is none."""
        index = self._index
        if name in index.paths:
            return index.paths[name]
        # As in a prompt, where upper case and spacing make no difference.
        if found := index.by_ids.get(tuple(self._tokenizer.encode(name))):
            return index.paths[found]
        near = difflib.get_close_matches(name[:200], index.paths, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Looked in {quote(self.folder)}."
        raise StorageError(f"There is no embedding {quote(name)}.", hint=hint)

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name whose tokens stand at ids[position:], with its number of tokens.

        The rule of A1111's EmbeddingDatabase.find_embedding_at_position.
        """
        if not 0 <= position < len(ids):
            return None
        index = self._index
        for length in index.lengths.get(ids[position], ()):
            name = index.by_ids.get(tuple(ids[position : position + length]))
            if name is not None:
                # A slice that the end cuts short can be a shorter name, which then has that many tokens.
                return name, min(length, len(ids) - position)
        return None

    def load(self, name: str) -> Embedding:
        """The embedding of that name, read once for each state of its file. StorageError where it cannot be used."""
        return self._load(self.path(name))

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> Embedding | None:
        """As core.ports.EmbeddingNames. The first time, files of as many vectors are read for it (by_vectors.py)."""
        used = UsedEmbedding(sha256, count=count)
        path = self._by_vectors.find(self._index.files, used, frozenset(encoders))
        try:
            embedding = self._load(path) if path else None
        except StorageError:  # gone since the folder was looked through
            return None
        return embedding if embedding and is_used_embedding(embedding, used) else None

    def _load(self, path: Path) -> Embedding:
        as_now = read_stamp(path)
        if as_now is None:
            raise StorageError(f"{quote(path.name)} can no longer be read.", hint="Refresh the list of embeddings.")
        known = self._loaded.get(path)
        if known is not None and known[0] == as_now:
            return known[1]
        embedding = load_embedding(path)
        with self._lock:
            # Two threads may have read it; all go on with one.
            known = self._loaded.get(path)
            if known is None or known[0] != as_now:
                known = self._loaded[path] = (as_now, embedding)
        return known[1]

    def refresh(self) -> None:
        """Look through the folder again at the next question. StorageError where it is gone."""
        self._check_folder()
        with self._lock:  # a scan that began before this must not be taken for a later one
            self._found = None

    def refresh_if_changed(self) -> None:
        """The same where a folder has gained, lost or renamed something since it was looked through; else a few calls
        of the file system, one for each folder. StorageError where the folder is gone."""
        found = self._found
        if found is not None and any(time is None or _modified(path) != time for path, time in found.folders.items()):
            self.refresh()

    @property
    def _index(self) -> _Index:
        found = self._found  # read once: another thread may refresh in between
        if found is not None:
            return found
        with self._lock:
            if self._found is None:
                self._found = self._scan()
                paths = set(self._found.paths.values())
                self._loaded = {path: known for path, known in self._loaded.items() if path in paths}
            return self._found

    def _check_folder(self) -> None:
        try:
            is_folder = self.folder.is_dir()
        except OSError:
            is_folder = False
        if not is_folder:
            message = f"The embeddings folder does not exist: {quote(self.folder)}."
            raise StorageError(message, hint="Create it, or choose another folder.")

    def _scan(self) -> _Index:
        """What lies in the folder, after what killed programs have left half done in it is done (interrupted.py)."""
        index = self._look()
        if not index.leftovers:
            return index
        order = clean_up(index.leftovers)
        if order.is_changed:
            index = self._look()
        index.warnings += order.warnings
        index.folders.update(dict.fromkeys(map(os.fspath, order.in_use)))
        return index

    def _look(self) -> _Index:
        index = _Index()
        found = list(_files(self.folder, index))
        called = self._pictures.names([path for path in found if path.suffix.lower() == PICTURE])
        called |= {path: path.stem for path in found if path.suffix.lower() != PICTURE}
        for path in sorted(called, key=_order):
            self._add(index, path, called[path])
        for ids in index.by_ids:
            index.lengths.setdefault(ids[0], []).append(len(ids))
        index.lengths = {first: sorted(set(sizes), reverse=True) for first, sizes in index.lengths.items()}
        return index

    def _add(self, index: _Index, path: Path, name: str) -> None:
        index.files[path] = reason = self._named(index, path, name)
        if reason:
            index.warnings.append(f"{quote(find_place(self.folder, path))} {reason}")

    def _named(self, index: _Index, path: Path, name: str) -> str | None:
        """Give the file its name among the others; why texts will not find it, where they will not."""
        if name in index.paths:
            return f"is ignored: {quote(name)} is the name of {quote(find_place(self.folder, index.paths[name]))}."
        ids = tuple(self._tokenizer.encode(name))
        if not ids:
            return "is ignored: its name does not work in a prompt."
        index.paths[name] = path
        if ids in index.by_ids:
            other = find_place(self.folder, index.paths[index.by_ids[ids]])
            return f"does not work in a prompt: {quote(name)} is read the same as {quote(other)}."
        index.by_ids[ids] = name
        return None


def _files(folder: Path, index: _Index) -> Iterator[Path]:
    """Embedding files in the folder and below. Links to folders are followed, as web UIs do, each folder once."""

    def unreadable(error: OSError) -> None:
        place = Path(error.filename).name if error.filename else folder.name
        index.warnings.append(f"The folder {quote(place)} cannot be read: {describe_disk_fault(error)}.")

    seen = set()
    # Before they are listed, so that what comes in between is a change.
    _note_time(index, os.fspath(folder))
    for parent, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back up would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _note_time(index, os.path.join(parent, name))  # noqa: PTH118 -- as os.walk names it
        index.leftovers += (Path(parent, name) for name in files if is_leftover(name))
        yield from (Path(parent, name) for name in files if _is_embedding(name))


def _note_time(index: _Index, folder: str) -> None:
    modified = _modified(folder)
    is_fresh = modified is not None and abs(time.time_ns() - modified) < _SETTLED
    index.folders[folder] = None if is_fresh else modified


def _modified(folder: str) -> int | None:
    """A folder's modification time in nanoseconds, None where it is gone."""
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 -- on each keystroke
    except OSError:
        return None


def _is_embedding(name: str) -> bool:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 -- of thousands of names; a Path for each takes ten times as long
    return suffix.lower() in LISTED and not is_passed_over(stem)


def _order(path: Path) -> tuple[bool, str, str, int, str]:
    place = LISTED.index(path.suffix.lower())
    # Pictures come after all others: they are kept beside what was trained, and often of an earlier step.
    return place == len(SUFFIXES), str(path.parent), path.stem, place, path.name


def find_place(folder: Path, path: Path) -> str:
    """A file of a folder or below it, by its place there, for people: with / on every system."""
    return path.relative_to(folder).as_posix()
