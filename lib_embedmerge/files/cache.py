"""A cache of facts that were measured about big files, kept between runs by path, size and modification time.

The cache is one JSON file in the user's cache folder. It never raises: a damaged cache counts as empty, and a cache
that cannot be written stays as it is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.stamps import read_stamp

_FILE_NAME = "file-facts.json"
_MAX_ENTRIES = 2000
_SCHEMA = 1


DEMO_CHECKPOINT = "embedmerge-demo.safetensors"
"""File name of the demo checkpoint, which is in `demo_folder()`."""


def demo_folder() -> Path:
    """The folder of the demo checkpoint and embedding, inside the cache folder, which can be deleted at any time."""
    return cache_folder() / "demo"


def cache_folder() -> Path:
    """The cache folder: EMBEDMERGE_CACHE if it is set, else `embedmerge` in the system's folder for caches."""
    if chosen := os.environ.get("EMBEDMERGE_CACHE"):
        return Path(chosen)
    return _find_system_cache(sys.platform, os.environ) / "embedmerge"


def _find_system_cache(platform: str, environment: Mapping[str, str]) -> Path:
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG specification says to ignore a relative path.
    xdg = Path(environment.get("XDG_CACHE_HOME", ""))
    return xdg if xdg.is_absolute() else Path.home() / ".cache"


class FileFacts:
    """Facts about files, or about groups of files, that are valid until one of the files changes."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: the folder of the cache file; None means cache_folder(), looked up again at each use."""
        self._folder = folder

    def get(self, paths: Sequence[Path]) -> dict[str, object] | None:
        """The value that `put` stored for these files, or None if there is none or one of the files has changed."""
        stamps = _read_stamps(paths)
        entry = self._read().get(_key(paths))
        if stamps is None or not isinstance(entry, dict) or entry.get("stamp") != stamps:
            return None
        value = entry.get("value")
        return value if isinstance(value, dict) else None

    def put(self, paths: Sequence[Path], value: Mapping[str, object]) -> None:
        """Store a value for these files in their present state. The value must be plain JSON data.

        Entries of other processes are kept; above 2,000 entries the oldest are dropped.
        """
        stamps = _read_stamps(paths)
        if stamps is None:
            return
        entries = self._read()
        entries.pop(_key(paths), None)  # a new entry goes to the end: the oldest come first
        entries[_key(paths)] = {"stamp": stamps, "value": dict(value)}
        for key in list(entries)[: max(0, len(entries) - _MAX_ENTRIES)]:
            del entries[key]
        data = json.dumps({"schema": _SCHEMA, "files": entries}, indent=1).encode("utf-8")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, data, overwrite=True)
        except (OSError, ValueError, StorageError):
            return

    @property
    def _path(self) -> Path:
        return (self._folder or cache_folder()) / _FILE_NAME

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
            return {}
        entries = content.get("files")
        return entries if isinstance(entries, dict) else {}


def _key(paths: Sequence[Path]) -> str:
    return "\n".join(os.path.realpath(path) for path in paths)


def _read_stamps(paths: Sequence[Path]) -> list[list[int]] | None:
    """[size in bytes, modification time in nanoseconds] of each file; None if one of them cannot be read."""
    stamps = [read_stamp(path) for path in paths]
    return [list(stamp) for stamp in stamps if stamp] if all(stamps) else None
