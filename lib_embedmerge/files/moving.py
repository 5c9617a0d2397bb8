"""Move several files together: all or none, never over an existing file, and across disks if need be.

atomic_file.py moves one file. embeddings/editing.py knows which files belong together and what they are called.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib_embedmerge.errors import StorageError, TakenError, quote
from lib_embedmerge.files.atomic_file import copy_to_free_name, make_folder, move_to_free_name
from lib_embedmerge.files.disk_faults import make_disk_error

Move = tuple[Path, Path]
"""(present path of a file, its new path)."""


def move_all(moves: Sequence[Move]) -> None:
    """Move all of these files, and create the folders that they go to. Links themselves are moved, not their targets.

    StorageError if a new name is taken, if two files would get the same name, or if the disk refuses. Then all files
    are back at their old paths; if the disk refuses even that, the message lists where the others are.
    """
    check_clashes(moves)
    moved: list[Move] = []
    copied: list[Move] = []  # to another disk; the old files stay until all new ones are there
    try:
        for old, new in moves:
            make_folder(new.parent)
            with _storage_errors(old, new):
                (moved if _try_rename(old, new) else copied).append((old, new))
        while copied:
            old, new = copied[0]
            with _storage_errors(old, new):
                old.unlink()
            moved.append(copied.pop(0))
    except StorageError as fault:
        if left := _put_back(moved, copied):
            message = f"{fault.message} Not everything could be put back: {', '.join(map(str, left))}."
            raise StorageError(message, hint=fault.hint) from fault
        raise


def move_one(old: Path, new: Path) -> None:
    """Move one file to a free name, across disks if need be. StorageError if the name is taken or the disk refuses."""
    with _storage_errors(old, new):
        if not _try_rename(old, new):
            old.unlink()


def check_clashes(moves: Sequence[Move]) -> None:
    """Raise StorageError if a new name is taken or two files would get the same name."""
    by_new_name: dict[str, Move] = {}
    for move in moves:
        old, new = move
        if os.path.lexists(new) and not _is_one_entry(old, new):
            raise _make_taken_error(new)
        first = by_new_name.setdefault(_without_case(new), move)
        # If the old names differ only in case, the disk can hold new names that differ only in case.
        if first is not move and (first[1] == new or _without_case(first[0]) != _without_case(old)):
            message = f"{quote(first[0].name)} and {quote(old.name)} would both be called {quote(new.name)}."
            raise StorageError(message, hint="Choose another name.")


def _without_case(path: Path) -> str:
    return str(path).casefold()


def _is_one_entry(old: Path, new: Path) -> bool:
    """Whether `old` and `new` are one entry of the folder, whose names differ only in case.

    A link to the file, or another hard link of it, is an entry of its own.
    """
    try:
        same = os.path.samestat(old.lstat(), new.lstat())
        return same and all(entry.name != new.name for entry in new.parent.iterdir())
    except OSError:
        return False


def _try_rename(old: Path, new: Path) -> bool:
    """Rename a file and return True; if `new` is on another disk, copy it there instead and return False."""
    if _is_one_entry(old, new):
        old.rename(new)
        return True
    try:
        move_to_free_name(old, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_to_free_name(old, new)
        return False
    return True


def _put_back(moved: Sequence[Move], copied: Sequence[Move]) -> list[Path]:
    """Undo moves and copies; the present paths of the files that could not be moved back."""
    left = [new for old, new in reversed(moved) if not _try_put_back(old, new)]
    for _, new in copied:
        with contextlib.suppress(OSError):  # the old file is still there
            new.unlink()
    return left


def _try_put_back(old: Path, new: Path) -> bool:
    """Move one file back from `new` to `old`; whether that succeeded."""
    try:
        if not _try_rename(new, old):
            new.unlink()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _storage_errors(old: Path, new: Path) -> Iterator[None]:
    """Turn every OSError of the `with` block, which moves `old` to `new`, into a StorageError."""
    try:
        yield
    except FileExistsError as error:
        raise _make_taken_error(new) from error
    except OSError as error:
        if not os.path.lexists(old):
            raise StorageError(f"{quote(old.name)} no longer exists.", hint="Refresh the list.") from error
        raise make_disk_error(old, error, "moved") from error


def _make_taken_error(path: Path) -> TakenError:
    return TakenError(f"{path.name} already exists.", hint="Choose another name, or move that file away.")
