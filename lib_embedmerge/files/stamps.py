"""What tells whether a file has been changed, or another one put in its place, since it was looked at."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

Identity = tuple[int, int, int, int]
"""The disk, the file's number on it, its size in bytes, its modification time in nanoseconds."""


def read_stamp(path: Path) -> Stamp | None:
    """Size and modification time of a file, links followed; None where it does not exist or cannot be asked."""
    found = read_identity(path)
    return found[2:] if found else None


def read_identity(path: Path) -> Identity | None:
    """Which file lies there, and in which state, links followed; None where there is none or it cannot be asked."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return _of(stat)


def read_own_identity(path: Path) -> Identity | None:
    """The same of a link itself."""
    try:
        stat = path.lstat()
    except (OSError, ValueError):
        return None
    return _of(stat)


def _of(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
