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
from lib_embedmerge.files.disk_faults import describe_disk_fault

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
        file = open(path, "rb", buffering=0, opener=_open_regular)  # noqa: SIM115 -- Path.open takes no opener
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
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


def _open_regular(path: str, flags: int) -> int:
    """The number of an open file. StorageError where another thing has taken the place of the file that was there."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise _not_regular(Path(path), mode)
    return number


def _not_opened(path: Path, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{quote(path.name)} does not exist.", hint=f"Looked for {quote(path)}.")
    reason = describe_disk_fault(error) if isinstance(error, OSError) else "its name holds a NUL character"
    return StorageError(f"{quote(path.name)} cannot be opened: {reason}.")


def _not_regular(path: Path, mode: int) -> StorageError:
    said = next((said for test, said in _OTHERS if test(mode)), "is a device")
    return StorageError(f"{quote(path.name)} {said}, not a file.", hint="Name a file.")
