"""Files opened for reading, the one way that every reader takes: regular files and links to them, and nothing else.

A named pipe blocks whoever opens it, and a device may do worse, whatever their names end in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.storage.disk_faults import disk_reason

_OTHERS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
)


def open_regular(path: Path) -> FileIO:
    """The file without a buffer, which would read past the bytes asked for. Never waits for anyone.

    StorageError where it does not exist, is no regular file, or cannot be opened.
    """
    check_regular(path)
    try:
        file = FileIO(os.fspath(path), "rb", opener=_without_waiting)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):  # another one has taken its place meanwhile
        file.close()
        raise _not_regular(path, mode)
    return file


def check_regular(path: Path) -> int:
    """The size in bytes of a regular file, which is not opened. StorageError as `open_regular`."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise _not_regular(path, found.st_mode)
    return found.st_size


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))


def _not_opened(path: Path, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{quote(path.name)} does not exist.", hint=f"Looked for {quote(path)}.")
    reason = disk_reason(error) if isinstance(error, OSError) else "its name holds a NUL character"
    return StorageError(f"{quote(path.name)} cannot be opened: {reason}.")


def _not_regular(path: Path, mode: int) -> StorageError:
    said = next((said for test, said in _OTHERS if test(mode)), "is a device")
    return StorageError(f"{quote(path.name)} {said}, not a file.", hint="Name a file.")
