"""Stamps and identities of files, which show whether a file was changed or replaced after it was read."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

Identity = tuple[int, int, int, int]
"""Device number, inode number, size in bytes and modification time in nanoseconds of a file."""


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


def _make_identity(stat: os.stat_result) -> Identity:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
