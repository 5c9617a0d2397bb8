"""What killed programs have left in a folder: moves half done, which are finished or taken back, and temporary files.

Whoever looks at a folder calls this first. What a running program is about to do is left alone. Moves are finished;
where another file has taken a place meanwhile they are taken back. Nothing is overwritten, and no file is removed but
one of two that are the same.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib_embedmerge.embeddings.journal import (
    RENAME,
    TRASH,
    InUseError,
    Operation,
    UnbelievableError,
    is_journal,
    open_abandoned,
    read_journal,
    remove_journal,
)
from lib_embedmerge.embeddings.metadata import rename_in_metadata
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.atomic_file import is_temporary, make_folder, remove_abandoned_files, remove_if_abandoned
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.moving import move_one
from lib_embedmerge.files.stamps import Stamp, read_link_identity

_AHEAD, _DONE, _HALF, _TAKEN, _GONE = "ahead", "done", "half", "taken", "gone"


@dataclass
class CleanupResult:
    """What became of a folder's leftovers. is_changed: whether files are now where they were not.
    warnings: what a person should know, one sentence each.  in_use: folders in which something is going on."""

    is_changed: bool = False
    warnings: list[str] = field(default_factory=list)
    in_use: set[Path] = field(default_factory=set)


def is_leftover(name: str) -> bool:
    """Whether a file of that name is one that `clean_up` looks at."""
    return name.startswith(".embedmerge-") and (is_journal(name) or is_temporary(name))


def clean_up_folder(folder: Path) -> CleanupResult:
    """Do so with all that lies in a folder itself, not below."""
    try:
        left = sorted(folder / name for name in os.listdir(folder) if is_leftover(name))  # noqa: PTH208 -- names alone
    except (OSError, ValueError):  # what comes next will say so
        left = []
    return clean_up(left)


def clean_up(leftovers: Iterable[Path]) -> CleanupResult:
    """Finish or take back what these journals tell of, and remove these temporary files, where nobody is at work on
    them. Never raises for what a disk refuses: it is tried again at the next look."""
    order = CleanupResult()
    for path in leftovers:
        if is_journal(path.name):
            _settle(path, order)
        else:
            remove_if_abandoned(path)
            order.is_changed |= not os.path.lexists(path)
    return order


def _settle(path: Path, order: CleanupResult) -> None:
    try:
        file = open_abandoned(path)
    except InUseError:
        order.in_use.add(path.parent)
        return
    if file is None:
        return
    with file:
        try:
            operation = read_journal(path, file)
            if operation:
                _settle_operation(operation, order)
        except UnbelievableError as error:
            order.warnings.append(f"{error.message} {error.hint}")
        except (OSError, StorageError) as error:  # a full disk, a folder that somebody is at work in: later
            why = f"{describe_disk_fault(error)}." if isinstance(error, OSError) else error.message
            order.warnings.append(f"An interrupted change could not be finished yet: {why}")
            order.in_use.add(path.parent)
        else:
            remove_journal(path, file)
            order.is_changed = True


def _settle_operation(operation: Operation, order: CleanupResult) -> None:
    """StorageError where it has to be tried again."""
    folders = {place.parent for move in operation.moves for place in move}
    with lock_folders(folders, patience=0):
        for folder in folders:  # copies from another disk, in the trash too, which no look at a library goes through
            remove_abandoned_files(folder)
        states = [_state(*move, one) for move, one in zip(operation.moves, operation.stamps, strict=True)]
        if operation.is_back or _TAKEN in states:
            _take_back(operation, states, order)
        else:
            _finish(operation, states)
        for place in {deletion for move in operation.moves for one in move if (deletion := _in_trash(one))}:
            remove_empty_folders(place)


def _state(old: Path, new: Path, before: Stamp) -> str:
    """How far one move has come. before: of the file, when it was to be moved."""
    there = read_link_identity(old)
    if not os.path.lexists(new):  # what somebody has written to the old one since goes along
        return _AHEAD if there else _GONE
    if old.name != new.name and old.name.casefold() == new.name.casefold() and old.parent == new.parent:
        listed = set(os.listdir(old.parent))  # noqa: PTH208 -- names alone
        if not {old.name, new.name} <= listed:  # one file, whose name differs in capitals
            return _DONE if new.name in listed else _AHEAD
    if there is None or there[2:] != before:  # nobody's, or another file that has taken the name
        return _DONE
    return _HALF if _is_empty(new) or are_same(old, new) else _TAKEN


def _is_empty(new: Path) -> bool:
    """Whether it is the file that keeps a place free, on disks where nothing else does."""
    return new.is_file() and not new.is_symlink() and new.stat().st_size == 0


def are_same(old: Path, new: Path) -> bool:
    """Whether both are one file, or the second a copy of the first."""
    if os.path.samestat(old.lstat(), new.lstat()):
        return True
    if old.is_symlink() or new.is_symlink():
        return old.is_symlink() and new.is_symlink() and old.readlink() == new.readlink()
    return new.is_file() and old.is_file() and filecmp.cmp(old, new, shallow=False)


def _finish(operation: Operation, states: list[str]) -> None:
    for (old, new), state in zip(operation.moves, states, strict=True):
        if state == _HALF and are_same(old, new):
            old.unlink()
        elif state in (_AHEAD, _HALF):
            if state == _HALF:
                new.unlink()  # an empty one
            make_folder(new.parent)
            move_one(old, new)
    if operation.kind == RENAME:
        base_old, base_new = operation.moves[0]
        for (old, new), state in zip(operation.moves, states, strict=True):
            if state != _GONE:
                rename_in_metadata(new, {old.stem: new.stem}, {base_old.stem: base_new.stem})


def _take_back(operation: Operation, states: list[str], order: CleanupResult) -> None:
    for (old, new), state in zip(operation.moves, states, strict=True):
        if state == _HALF:
            new.unlink()
        elif state == _DONE and os.path.lexists(old) and read_link_identity(old) != read_link_identity(new):
            order.warnings.append(f"{quote(new.name)} could not get its old name {quote(old.name)} back.")
        elif state == _DONE:
            make_folder(old.parent)
            move_one(new, old)
    if operation.kind == RENAME:
        base_old, base_new = operation.moves[0]
        for (old, new), state in zip(operation.moves, states, strict=True):
            if state == _DONE:
                rename_in_metadata(old, {new.stem: old.stem}, {base_new.stem: base_old.stem})


def _in_trash(place: Path) -> Path | None:
    """The folder of the deletion that a place in the trash belongs to."""
    if TRASH not in place.parts:
        return None
    depth = place.parts.index(TRASH) + 2
    return Path(*place.parts[:depth]) if len(place.parts) > depth else None


def remove_empty_folders(folder: Path) -> None:
    """Remove the folder and those below it, as far as they hold nothing."""
    with contextlib.suppress(OSError):
        for parent, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
