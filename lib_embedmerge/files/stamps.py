"""Stamps and identities of files, which show whether a file was changed or replaced after it was read."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

Identity = tuple[int, int, int, int]
"""Device number, inode number, size in bytes and modification time in nanoseconds of a file."""

State = tuple[int, int, int, int]
"""Size in bytes, modification time in nanoseconds and inode number of a file, and the time of its last change of any
kind, which no program can set; on Windows, which does not tell that time, the number of the volume."""

_WINDOWS = os.name == "nt"

_CLOCK_STEP = 5_000_000_000
"""Nanoseconds in which two changes can get the same time: FAT stores times in steps of two seconds, and the clock of a
server may be a little late."""


def read_stamp(path: Path) -> Stamp | None:
    """Size and modification time of the file that `path` leads to, or None if it does not exist or cannot be read."""
    identity = read_identity(path)
    return identity[2:] if identity else None


def read_identity(path: Path) -> Identity | None:
    """Identity of the file that `path` leads to, links followed, or None if it does not exist or cannot be read."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return _make_identity(stat)


def read_link_identity(path: Path) -> Identity | None:
    """Identity of the file or link at `path` itself, links not followed, or None if it cannot be read."""
    try:
        stat = path.lstat()
    except (OSError, ValueError):
        return None
    return _make_identity(stat)


def read_state(path: str | os.PathLike[str]) -> State | None:
    """What shows whether the file at `path` was changed or replaced, links followed; None if it cannot be read."""
    try:
        stat = os.stat(path)  # noqa: PTH116 -- of thousands of files
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev if _WINDOWS else stat.st_ctime_ns


def is_settled(state: State, now: int) -> bool:
    """Whether every change of a file from now on gives it another state, because its last change is long enough ago.

    now: the time in nanoseconds, from before the state was read. A file whose time is in the future is never settled.
    """
    changed = state[1] if _WINDOWS else max(state[1], state[3])
    return changed < now - _CLOCK_STEP


def _make_identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
