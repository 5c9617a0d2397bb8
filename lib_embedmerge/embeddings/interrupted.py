"""Cleaning up a folder after programs that were killed: half-done moves and temporary files.

It is called before a folder is read or changed. Moves of running programs are left alone. Interrupted moves are
finished, or undone if another file has a new path meanwhile. Nothing is overwritten, and a file is removed only if
another one is equal to it.
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
    InvalidJournalError,
    JournalInUseError,
    Operation,
    is_journal,
    open_abandoned_journal,
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

_NOT_BEGUN, _DONE, _HALF_DONE, _PATH_TAKEN, _GONE = "ahead", "done", "half", "taken", "gone"
"""How far a move has come: the file is at the old path, at the new path, or at both; another file has the new path; or
the file is at neither."""


@dataclass
class CleanupResult:
    """The result of cleaning up.

    is_changed: whether files were moved or removed.  warnings: what a user should know, one sentence each.
    in_use: folders in which moves are going on, or could not be settled yet.
    """

    is_changed: bool = False
    warnings: list[str] = field(default_factory=list)
    in_use: set[Path] = field(default_factory=set)


def is_leftover(name: str) -> bool:
    """Whether a file of this name is a journal or a temporary file, which `clean_up_leftovers` takes."""
    return name.startswith(".embedmerge-") and (is_journal(name) or is_temporary(name))


def clean_up_folder(folder: Path) -> CleanupResult:
    """Call `clean_up_leftovers` with the journals and temporary files in a folder, not in its subfolders."""
    try:
        leftovers = sorted(folder / name for name in os.listdir(folder) if is_leftover(name))  # noqa: PTH208 -- names alone
    except (OSError, ValueError):  # the next access to the folder will report it
        leftovers = []
    return clean_up_leftovers(leftovers)


def clean_up_leftovers(leftovers: Iterable[Path]) -> CleanupResult:
    """Finish or undo the moves in journals, and remove temporary files, unless a running program uses them.

    leftovers: paths of such files.  What the disk refuses becomes a warning and is tried again the next time.
    """
    result = CleanupResult()
    for path in leftovers:
        if is_journal(path.name):
            _clean_up_journal(path, result)
        else:
            remove_if_abandoned(path)
            result.is_changed |= not os.path.lexists(path)
    return result


def _clean_up_journal(path: Path, result: CleanupResult) -> None:
    """Settle the moves in one journal and remove it. Adds to `result`."""
    try:
        file = open_abandoned_journal(path)
    except JournalInUseError:
        result.in_use.add(path.parent)
        return
    if file is None:
        return
    with file:
        try:
            operation = read_journal(path, file)
            if operation:
                _settle_moves(operation, result)
        except InvalidJournalError as error:
            result.warnings.append(f"{error.message} {error.hint}")
        except (OSError, StorageError) as error:  # a full disk or a folder in use: try again later
            why = f"{describe_disk_fault(error)}." if isinstance(error, OSError) else error.message
            result.warnings.append(f"An interrupted change could not be finished yet: {why}")
            result.in_use.add(path.parent)
        else:
            remove_journal(path, file)
            result.is_changed = True


def _settle_moves(operation: Operation, result: CleanupResult) -> None:
    """Finish or undo the moves of a journal. OSError or StorageError if that has to be tried again."""
    folders = {path.parent for move in operation.moves for path in move}
    with lock_folders(folders, patience=0):
        for folder in folders:  # copies from another disk; nothing else cleans up the trash
            remove_abandoned_files(folder)
        states = [_find_state(*move, stamp) for move, stamp in zip(operation.moves, operation.stamps, strict=True)]
        if operation.is_back or _PATH_TAKEN in states:
            _undo(operation, states, result)
        else:
            _finish(operation, states)
        paths = (path for move in operation.moves for path in move)
        for deletion in {deletion for path in paths if (deletion := _find_deletion_folder(path))}:
            remove_empty_folders(deletion)


def _find_state(old: Path, new: Path, before: Stamp) -> str:
    """How far a move has come. before: the stamp of the file before it was moved."""
    old_identity = read_link_identity(old)
    if not os.path.lexists(new):  # whatever is at the old path now is moved
        return _NOT_BEGUN if old_identity else _GONE
    if old.name != new.name and old.name.casefold() == new.name.casefold() and old.parent == new.parent:
        listed = set(os.listdir(old.parent))  # noqa: PTH208 -- names alone
        if not {old.name, new.name} <= listed:  # one file, because the disk ignores upper case
            return _DONE if new.name in listed else _NOT_BEGUN
    if old_identity is None or old_identity[2:] != before:  # nothing, or another file with the old name
        return _DONE
    return _HALF_DONE if _is_empty(new) or is_same_or_copy(old, new) else _PATH_TAKEN


def _is_empty(new: Path) -> bool:
    """Whether a file is the empty one that reserves a path on some disks while a file is moved there."""
    return new.is_file() and not new.is_symlink() and new.stat().st_size == 0


def is_same_or_copy(old: Path, new: Path) -> bool:
    """Whether both paths lead to one file, or the second is a copy of the first."""
    if os.path.samestat(old.lstat(), new.lstat()):
        return True
    if old.is_symlink() or new.is_symlink():
        return old.is_symlink() and new.is_symlink() and old.readlink() == new.readlink()
    return new.is_file() and old.is_file() and filecmp.cmp(old, new, shallow=False)


def _finish(operation: Operation, states: list[str]) -> None:
    """Do all moves that are not done yet, and then rename in metadata. states: of each move."""
    for (old, new), state in zip(operation.moves, states, strict=True):
        if state == _HALF_DONE and is_same_or_copy(old, new):
            old.unlink()
        elif state in (_NOT_BEGUN, _HALF_DONE):
            if state == _HALF_DONE:
                new.unlink()  # the empty file that reserves the path
            make_folder(new.parent)
            move_one(old, new)
    if operation.kind == RENAME:
        base_old, base_new = operation.moves[0]
        for (old, new), state in zip(operation.moves, states, strict=True):
            if state != _GONE:
                rename_in_metadata(new, {old.stem: new.stem}, {base_old.stem: base_new.stem})


def _undo(operation: Operation, states: list[str], result: CleanupResult) -> None:
    """Undo all moves that are done, and rename back in metadata. Adds warnings to `result`."""
    for (old, new), state in zip(operation.moves, states, strict=True):
        if state == _HALF_DONE:
            new.unlink()
        elif state == _DONE and os.path.lexists(old) and read_link_identity(old) != read_link_identity(new):
            result.warnings.append(f"{quote(new.name)} could not get its old name {quote(old.name)} back.")
        elif state == _DONE:
            make_folder(old.parent)
            move_one(new, old)
    if operation.kind == RENAME:
        base_old, base_new = operation.moves[0]
        for (old, new), state in zip(operation.moves, states, strict=True):
            if state == _DONE:
                rename_in_metadata(old, {new.stem: old.stem}, {base_new.stem: base_old.stem})


def _find_deletion_folder(path: Path) -> Path | None:
    """The folder of the deletion that a path in the trash belongs to; None for other paths."""
    if TRASH not in path.parts:
        return None
    depth = path.parts.index(TRASH) + 2
    return Path(*path.parts[:depth]) if len(path.parts) > depth else None


def remove_empty_folders(folder: Path) -> None:
    """Remove a folder and its subfolders as far as they are empty. Errors of the disk are ignored."""
    with contextlib.suppress(OSError):
        for parent, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
