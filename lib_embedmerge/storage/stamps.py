"""What tells whether a file has been changed since it was looked at."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""


def stamp(path: Path) -> Stamp | None:
    """That of a file as it is now; None where it is gone or cannot be asked."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return stat.st_size, stat.st_mtime_ns
