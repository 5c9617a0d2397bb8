"""Open a file for reading: a regular file or a link to one, and nothing else. Every reader opens files here.

A named pipe blocks the program that opens it, and a device may do worse, whatever their names end in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault

_NOT_FILES: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISSOCK, "is a socket"),
)


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading. It has no buffer, so only the bytes that are asked for are read. Never blocks.

    StorageError if it does not exist, is not a regular file, or cannot be opened.
    """
    check_regular(path)
    try:
        file = open(path, "rb", buffering=0, opener=_open_if_regular)  # noqa: SIM115 -- Path.open takes no opener
    except (OSError, ValueError) as error:
        raise _make_open_error(path, error) from error
    return file


def check_regular(path: Path) -> int:
    """The size in bytes of a regular file, without opening it.

    StorageError if it does not exist, is not a regular file, or cannot be looked at.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _make_open_error(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise _make_kind_error(path, status.st_mode)
    return status.st_size


def _open_if_regular(path: str, flags: int) -> int:
    """A file descriptor, as the `opener` of open(). StorageError if the path is no longer a regular file."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _make_kind_error(Path(path), mode)
    return descriptor


def _make_open_error(path: Path, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{quote(path.name)} does not exist.", hint=f"Looked for {quote(path)}.")
    reason = describe_disk_fault(error) if isinstance(error, OSError) else "its name contains an invalid character"
    return StorageError(f"{quote(path.name)} cannot be opened: {reason}.")


def _make_kind_error(path: Path, mode: int) -> StorageError:
    description = next((description for test, description in _NOT_FILES if test(mode)), "is a device")
    return StorageError(f"{quote(path.name)} {description}, not a file.", hint="Choose a file.")
