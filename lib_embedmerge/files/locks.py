"""Locks between processes: who holds one is alive, for the system lets go of it when a process ends, however it ends.

`try_lock` locks an open file, which tells others that the file is in use. `folders_locked` keeps two programs from
changing files of one folder at once; it is a courtesy among programs of this kind, so whoever overwrites something
also proves that it is what was read. Network disks that know no locks let everybody pass.
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
"""Seconds that a change of a folder waits for another program's, which takes far less than one."""

_PAUSE = 0.01
_HELD_BY_OTHERS = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}


class _Held(threading.local):
    """Folders that this thread has locked: how many times."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}


_held = _Held()


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed. False where another process, or another opening of the file in this one,
    has it locked; None where the disk knows no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            # Not lockf, whose locks a process loses when it closes any other opening of the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD_BY_OTHERS else None
    return True


_LOCKED_BYTE = 1 << 30
"""Which byte of a file is locked on Windows, where nobody may read a locked one: far behind the last."""


@contextlib.contextmanager
def folders_locked(folders: Iterable[Path], patience: float = PATIENCE) -> Iterator[None]:
    """Hold these folders, which need not exist, against other programs; within one thread also inside of itself.

    patience: seconds to wait for other programs. StorageError where one has a folder for longer.
    """
    # In one order everywhere, so that no two wait for one another.
    wanted = sorted({os.path.realpath(_existing(folder)) for folder in folders})
    with contextlib.ExitStack() as stack:
        for folder in wanted:
            stack.enter_context(_folder_locked(folder, patience))
        yield


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next((one for one in (folder, *folder.parents) if one.is_dir()), folder)


@contextlib.contextmanager
def _folder_locked(folder: str, patience: float) -> Iterator[None]:
    counts = _held.counts
    descriptor = None if folder in counts else _lock(folder, patience)
    counts[folder] = counts.get(folder, 0) + 1
    try:
        yield
    finally:
        counts[folder] -= 1
        if not counts[folder]:
            del counts[folder]
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: str, patience: float) -> int | None:
    """What holds the lock until it is closed; None where there can be none."""
    deadline = time.monotonic() + patience
    try:
        descriptor = _opened(folder)
    except OSError:  # a folder that is not there, or that may not be read: what comes will say so
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


def _opened(folder: str) -> int:
    """The folder itself, opened; on Windows, which opens none, a file of its own for each among the temporary ones."""
    if sys.platform != "win32":
        return os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    digest = hashlib.sha256(os.path.normcase(folder).encode("utf-8", "surrogatepass")).hexdigest()
    return os.open(Path(tempfile.gettempdir(), f"embedmerge-{digest[:24]}.lock"), os.O_RDWR | os.O_CREAT)
