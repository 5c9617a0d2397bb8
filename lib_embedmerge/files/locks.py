"""Locks between processes. The system releases a lock when its process ends, however it ends, so the holder of a lock
is always alive.

`try_lock` locks an open file, which tells other programs that the file is in use. `lock_folders` keeps two programs
from changing files of one folder at once. Only programs that ask for the lock respect it, so whoever overwrites a file
also checks that it is still the file that was read. On network disks without locks nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote

PATIENCE = 30.0
"""Seconds to wait for another program that has a folder locked, normally for far less than a second."""

_PAUSE = 0.01
_HELD_BY_OTHERS = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}


class _HeldFolders(threading.local):
    """How many times this thread has locked each folder."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}


_held = _HeldFolders()


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file, given by its file descriptor, until it is closed. True if it is locked now.

    False if another process has it locked, or this process through another descriptor; None if the disk has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            # Not lockf: a process loses its lockf locks when it closes any other descriptor of the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD_BY_OTHERS else None
    return True


_LOCKED_BYTE = 1 << 30
"""Offset of the byte that is locked on Windows: far after the end of the file, because a locked byte cannot be read."""


@contextlib.contextmanager
def lock_folders(folders: Iterable[Path], patience: float = PATIENCE) -> Iterator[None]:
    """Keep other programs that use this lock from changing files in these folders while inside the `with` block.

    The folders need not exist. A thread may lock a folder again inside the block.
    patience: seconds to wait for other programs. StorageError if one of them has a folder locked for longer.
    """
    # Every program locks in the same order, so that no two wait for each other.
    wanted = sorted({os.path.realpath(_find_existing(folder)) for folder in folders})
    with contextlib.ExitStack() as stack:
        for folder in wanted:
            stack.enter_context(_lock_folder(folder, patience))
        yield


def _find_existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next((parent for parent in (folder, *folder.parents) if parent.is_dir()), folder)


@contextlib.contextmanager
def _lock_folder(folder: str, patience: float) -> Iterator[None]:
    counts = _held.counts
    descriptor = None if folder in counts else _acquire(folder, patience)
    counts[folder] = counts.get(folder, 0) + 1
    try:
        yield
    finally:
        counts[folder] -= 1
        if not counts[folder]:
            del counts[folder]
        if descriptor is not None:
            os.close(descriptor)


def _acquire(folder: str, patience: float) -> int | None:
    """Lock a folder; the file descriptor that holds the lock until it is closed, or None if it cannot be locked.

    StorageError if another program has the folder locked for longer than `patience` seconds.
    """
    deadline = time.monotonic() + patience
    try:
        descriptor = _open_for_locking(folder)
    except OSError:  # the folder is missing or not readable, which the next access will report
        return None
    while (locked := try_lock(descriptor)) is False:
        if time.monotonic() > deadline:
            os.close(descriptor)
            message = f"Another program is changing files in the folder {quote(folder)}."
            raise StorageError(message, hint="Wait until it is done, then try again.")
        time.sleep(_PAUSE)
    if locked is None:
        os.close(descriptor)
        return None
    return descriptor


def _open_for_locking(folder: str) -> int:
    """A file descriptor to lock a folder by: of the folder itself, or on Windows, where folders cannot be opened, of a
    file in the system's temporary folder that is named after it."""
    if sys.platform != "win32":
        return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    digest = hashlib.sha256(os.path.normcase(folder).encode("utf-8", "surrogatepass")).hexdigest()
    return os.open(Path(tempfile.gettempdir(), f"embedmerge-{digest[:24]}.lock"), os.O_RDWR | os.O_CREAT)
