"""Several files moved together: all or none, never over another one, to another disk too.

One file is atomic_file.py's matter; which ones belong together, and what they are called, editing.py's.
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
"""Where a file lies, and where it goes."""


def move_all(moves: Sequence[Move]) -> None:
    """Move these files, making the folders that they go to; links are moved themselves.

    StorageError where a new name is taken, two would get one, or the disk refuses: all lie where they lay then. Should
    the disk refuse that, too, the message says where they are.
    """
    check_clashes(moves)
    moved: list[Move] = []
    copied: list[Move] = []  # to another disk; the old ones are there until every new one is
    try:
        for old, new in moves:
            make_folder(new.parent)
            with _in_words(old, new):
                (moved if _moved(old, new) else copied).append((old, new))
        while copied:
            old, new = copied[0]
            with _in_words(old, new):
                old.unlink()
            moved.append(copied.pop(0))
    except StorageError as fault:
        if left := _put_back(moved, copied):
            message = f"{fault.message} Not everything could be put back: {', '.join(map(str, left))}."
            raise StorageError(message, hint=fault.hint) from fault
        raise


def move_one(old: Path, new: Path) -> None:
    """Move one file to a free name, to another disk too. StorageError where the name is taken or the disk refuses."""
    with _in_words(old, new):
        if not _moved(old, new):
            old.unlink()


def check_clashes(moves: Sequence[Move]) -> None:
    """StorageError where a new name is taken, or two get one."""
    known: dict[str, Move] = {}
    for move in moves:
        old, new = move
        if os.path.lexists(new) and not _is_one_entry(old, new):
            raise _taken(new)
        first = known.setdefault(_without_case(new), move)
        # Two that are told apart by capitals only lie on a disk that can do so.
        if first is not move and (first[1] == new or _without_case(first[0]) != _without_case(old)):
            message = f"{quote(first[0].name)} and {quote(old.name)} would both be {quote(new.name)}."
            raise StorageError(message, hint="Choose another name.")


def _without_case(path: Path) -> str:
    return str(path).casefold()


def _is_one_entry(old: Path, new: Path) -> bool:
    """Whether a name leads to a file because the disk takes it for the file's own, in other capitals.

    A link to the file, or another name that it has, stands in the folder by itself.
    """
    try:
        same = os.path.samestat(old.lstat(), new.lstat())
        return same and all(one.name != new.name for one in new.parent.iterdir())
    except OSError:
        return False


def _moved(old: Path, new: Path) -> bool:
    """Rename a file; where the new place is on another disk copy it there, and say so by False."""
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
    """Undo what was done; the files that could not be put back, where they lie now."""
    left = [new for old, new in reversed(moved) if not _is_back(old, new)]
    for _, new in copied:
        with contextlib.suppress(OSError):  # the old one is still there
            new.unlink()
    return left


def _is_back(old: Path, new: Path) -> bool:
    """Put one file back; whether it could be."""
    try:
        if not _moved(new, old):
            new.unlink()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _in_words(old: Path, new: Path) -> Iterator[None]:
    """StorageError in place of OSError."""
    try:
        yield
    except FileExistsError as error:
        raise _taken(new) from error
    except OSError as error:
        if not os.path.lexists(old):
            raise StorageError(f"{quote(old.name)} is not there any more.", hint="Refresh the list.") from error
        raise make_disk_error(old, error, "moved") from error


def _taken(path: Path) -> TakenError:
    return TakenError(f"{path.name} exists already.", hint="Choose another name, or move that file away.")
