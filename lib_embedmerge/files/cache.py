"""What was once measured about big files, kept between runs: facts by path, size and modification time.

One JSON file in the user's cache folder. Nothing here may fail anything: a cache that is broken or cannot be written
is an empty one.
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
"""What the demo's checkpoint is called, in `demo_folder`."""


def demo_folder() -> Path:
    """Where the demo's checkpoint and embedding lie: in the cache folder, which can be deleted at any time."""
    return cache_folder() / "demo"


def cache_folder() -> Path:
    """The folder for what can be made again: EMBEDMERGE_CACHE, else `embedmerge` where the system keeps caches."""
    if chosen := os.environ.get("EMBEDMERGE_CACHE"):
        return Path(chosen)
    return _system_caches(sys.platform, os.environ) / "embedmerge"


def _system_caches(platform: str, environment: Mapping[str, str]) -> Path:
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG specification: a relative path there is to be ignored.
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".cache"


class FileFacts:
    """Facts about files, or groups of files, that hold as long as none of them changes."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where the cache lies; None means cache_folder(), asked anew at each use."""
        self._folder = folder

    def get(self, paths: Sequence[Path]) -> dict[str, object] | None:
        """What `put` kept for these very files as they are now, else None."""
        stamps = _stamps(paths)
        entry = self._read().get(_key(paths))
        if stamps is None or not isinstance(entry, dict) or entry.get("stamp") != stamps:
            return None
        value = entry.get("value")
        return value if isinstance(value, dict) else None

    def put(self, paths: Sequence[Path], value: Mapping[str, object]) -> None:
        """Keep a JSON-able value for these files as they are now. Other processes' entries stay."""
        stamps = _stamps(paths)
        if stamps is None:
            return
        entries = self._read()
        entries.pop(_key(paths), None)  # put last: the first ones are the oldest
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


def _stamps(paths: Sequence[Path]) -> list[list[int]] | None:
    """Those of all files, as JSON has them; None where one cannot be asked."""
    stamps = [read_stamp(path) for path in paths]
    return [list(one) for one in stamps if one] if all(stamps) else None
