"""A cache of what was read from the files of one folder, kept between runs. A value is valid for one state of its file.

The cache of a folder is one file in the user's cache folder. Nothing here raises: a cache that is damaged, or was made
by another version of the program, counts as empty, and one that cannot be written stays as it is. Several programs may
use one cache at once; what the last of them writes stays.

A value is only kept if its file was not changed in the seconds before it was read. Otherwise a later change could give
the file the same time and size. On Windows, which tells no time that programs cannot set, a program that changes a file
in place and then sets the old time is not noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as _quote
from pathlib import Path
from typing import NamedTuple

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import remove_abandoned_files, write_atomically
from lib_embedmerge.files.cache import cache_folder
from lib_embedmerge.files.stamps import State, is_settled, read_state

_SCHEMA = "embedmerge-folder-cache 1"
_NAME = ("folder-", ".cache")
_SHARE_OF_CHANGES = 50
"""The file is written again when more than one entry in so many has changed: reading a few files takes less time."""

_LONGEST = 32_768
"""Most characters of a value that is kept, so that no folder makes a cache of gigabytes."""

_KEPT_FOR = 30 * 86_400
"""Seconds for which the cache of a folder is kept after its last use."""
_MOST_FOLDERS = 40
"""Caches that are kept: of each folder one of headers and one of sidecars."""
_DAY = 86_400


class Value(NamedTuple):
    """What was read from a file, as texts. common: what many files have equal; it is stored once.  own: the rest."""

    common: str
    own: str


class FolderCache:
    """Values about the files of a folder. Use an object for one pass over the files, then call `save`."""

    def __init__(self, folder: Path, makers: Iterable[Path], kind: str = "") -> None:
        """kind: of the values; each kind has a cache of its own.

        makers: the modules of the program that make the values. If one changes, the cache counts as empty; if one
        cannot be looked at, as in a zip file, nothing is kept."""
        self._began = time.time_ns()
        self._folder = os.path.realpath(folder)
        self._head = _hash_makers(self._folder, makers)
        identity = os.path.normcase(self._folder) + ("\n" + kind if kind else "")
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        self._place = cache_folder() / "folders" / f"{_NAME[0]}{digest[:24]}{_NAME[1]}"
        self._commons, self._lines = self._read()
        self._kept: dict[str, str] = {}
        self._changes = 0
        self._new_commons: dict[str, int] = {common: index for index, common in enumerate(self._commons)}
        self._missed: tuple[str, State | None] = ("", None)

    def get(self, path: str) -> tuple[State | None, Value | None]:
        """The state of a file, None if it cannot be looked at, and the value that was kept for exactly this state."""
        state = read_state(path)
        key = _quote(path)
        line = self._lines.get(key)
        if state is not None and line is not None:
            stated, _, rest = line.partition(" ")
            index, _, own = rest.partition(" ")
            if stated == _write_state(state) and index.isdecimal() and int(index) < len(self._commons):
                self._kept[key] = line
                return state, Value(self._commons[int(index)], own)
        self._missed = path, state
        return state, None

    def put(self, path: str, value: Value) -> None:
        """Keep a value that was read from a file after `get` did not find one, unless the file may have changed, or the
        value is very long."""
        missed, state = self._missed
        if len(value.common) + len(value.own) > _LONGEST:
            return
        if missed != path or state is None or not is_settled(state, self._began) or read_state(path) != state:
            return
        index = self._new_commons.setdefault(value.common, len(self._new_commons))
        self._kept[_quote(path)] = f"{_write_state(state)} {index} {value.own}"
        self._changes += 1

    def drop(self, path: str) -> None:
        """Forget the value that `get` gave for a file, because it could not be understood."""
        self._kept.pop(_quote(path), None)

    def save(self) -> None:
        """Write the values of all files that were asked for since this object was made, if enough of them are new.

        Values of files that were not asked for are left out, because these files are gone.
        """
        gone = len(self._lines.keys() - self._kept.keys())
        if self._head is None or max(self._changes, gone) * _SHARE_OF_CHANGES <= len(self._kept):
            return
        used = sorted({int(line.split(" ", 2)[1]) for line in self._kept.values()})
        commons = list(self._new_commons)
        renumbered = {old: new for new, old in enumerate(used)}
        lines = [str(len(used)), *(commons[old] for old in used)]
        for key, line in self._kept.items():
            stated, index, own = line.split(" ", 2)
            lines += key, f"{stated} {renumbered[int(index)]} {own}"
        with contextlib.suppress(OSError, ValueError, StorageError):
            body = "\n".join(lines).encode("ascii")
            data = f"{self._head} {hashlib.sha256(body).hexdigest()}\n".encode("ascii") + body
            self._place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._place, data, overwrite=True, durable=False)
            _tidy(self._place.parent)

    def _read(self) -> tuple[list[str], dict[str, str]]:
        """The common parts, and the line of each file; empty if the cache is missing, damaged or of other makers."""
        if self._head is None:
            return [], {}
        try:
            head, _, body = self._place.read_bytes().partition(b"\n")
            if head.decode("ascii") != f"{self._head} {hashlib.sha256(body).hexdigest()}":
                return [], {}
            lines = body.decode("ascii").split("\n")
            start = 1 + int(lines[0])
            with contextlib.suppress(OSError):
                if time.time() - self._place.stat().st_mtime > _DAY:  # so that `_tidy` sees that it is in use
                    os.utime(self._place)
        except (OSError, ValueError):
            return [], {}
        return lines[1:start], dict(zip(lines[start::2], lines[start + 1 :: 2], strict=False))


def _write_state(state: State) -> str:
    size, modified, number, changed = state
    return f"{size},{modified},{number},{changed}"


def _hash_makers(folder: str, makers: Iterable[Path]) -> str | None:
    """The beginning of a cache file, which changes with the folder and with each module; None if one cannot be read."""
    states = [(path.name, read_state(path)) for path in sorted(makers)]
    if not states or any(state is None for _, state in states):
        return None
    digest = hashlib.sha256(json.dumps([folder, states]).encode("ascii")).hexdigest()
    return f"{_SCHEMA} {digest}"


def _tidy(folder: Path) -> None:
    """Remove caches that were not used for long, all but the newest few, and what killed programs have left."""
    remove_abandoned_files(folder)
    used = sorted(((path.stat().st_mtime, path) for path in folder.glob("*".join(_NAME))), reverse=True)
    for number, (last, path) in enumerate(used):
        if number >= _MOST_FOLDERS or time.time() - last > _KEPT_FOR:
            path.unlink(missing_ok=True)
