"""Journals of moves of several files. A journal is written before the moves begin, so that interrupted.py can finish or
undo them if the program is killed.

A journal is a file `.embedmerge-*.journal` in the folder that contains all the files or their folders: a line of JSON,
and after it the line `back` if the moves are being undone. The program that moves the files keeps it locked meanwhile.
A folder can come from anywhere, so journals are not trusted: only moves that editing.py makes are valid, a rename, a
deletion or its undoing, within the folder, of files that belong to embeddings.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from lib_embedmerge.core.endings import SIDECARS, SUFFIXES
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.atomic_file import flush_folder
from lib_embedmerge.files.disk_faults import explain_fault
from lib_embedmerge.files.locks import try_lock
from lib_embedmerge.files.moving import Move
from lib_embedmerge.files.stamps import Stamp, read_link_identity

RENAME, DELETE, UNDO = "rename", "delete", "undo"
"""Kinds of operations."""

TRASH, TRASH_SUFFIX = ".embedmerge-trash", ".trash"
"""Name of the trash folder in an embeddings folder, and the ending of the files in it."""

_NAME = (".embedmerge-", ".journal")
_DELETION = re.compile(r"\d{8}-\d{6}-\d{6}")
_BACK = b"back\n"
_MAX_BYTES = 32 << 20
_ABANDONED_AFTER = 3600
"""Seconds after which a journal on a disk without locks counts as abandoned."""
_WINDOWS = os.name == "nt"


class InvalidJournalError(StorageError):
    """A journal with moves that EmbedMerge would not make."""


@dataclass(frozen=True)
class Operation:
    """The moves in a journal.

    kind: RENAME, DELETE or UNDO.  moves: (old path, new path).  stamps: of each file before it was moved.
    is_back: whether the moves were being undone.
    """

    kind: str
    moves: tuple[Move, ...]
    stamps: tuple[Stamp, ...]
    is_back: bool = False


def is_journal(name: str) -> bool:
    """Whether a file of this name is a journal."""
    return name.startswith(_NAME[0]) and name.endswith(_NAME[1])


@contextlib.contextmanager
def keep_journal(folder: Path, kind: str, moves: Sequence[Move]) -> Iterator[None]:
    """Keep a journal of these moves while the `with` block makes them.

    folder: contains all the files or their folders.  kind: RENAME, DELETE or UNDO.
    If the block raises and files stay moved, the journal stays and says that the moves are to be undone.
    StorageError if the journal cannot be written, or if a file does not exist.
    """
    path, file = _write_journal(folder, kind, moves)
    with file:
        try:
            yield
        except BaseException:
            if any(os.path.lexists(new) or not os.path.lexists(old) for old, new in moves):
                _append_back(file)
            else:
                remove_journal(path, file)
            raise
        for changed in {path.parent for move in moves for path in move}:
            flush_folder(changed)
        remove_journal(path, file)


def _append_back(file: BinaryIO) -> None:
    """Note in a journal that its moves are to be undone. Errors of the disk are ignored."""
    with contextlib.suppress(OSError):
        file.write(_BACK)
        file.flush()
        os.fsync(file.fileno())


def _write_journal(folder: Path, kind: str, moves: Sequence[Move]) -> tuple[Path, BinaryIO]:
    """Write a journal to the disk; its path and the open, locked file. StorageError as in `keep_journal`."""
    stamps = [read_link_identity(old) for old, _ in moves]
    missing = [old.name for (old, _), stamp in zip(moves, stamps, strict=True) if stamp is None]
    if missing:
        raise StorageError(f"{quote(missing[0])} no longer exists.", hint="Refresh the list.")
    entries = [
        [old.relative_to(folder).as_posix(), new.relative_to(folder).as_posix(), *stamp[2:]]
        for (old, new), stamp in zip(moves, stamps, strict=True)
        if stamp is not None
    ]
    path, file = _create_journal(folder)
    try:
        number = os.fstat(file.fileno()).st_ino
        content = {"embedmerge": 1, "kind": kind, "number": number, "moves": entries}
        file.write(json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        remove_journal(path, file)
        raise _describe_write_fault(folder, error) from error
    flush_folder(folder)
    return path, file


def _describe_write_fault(folder: Path, error: OSError) -> StorageError:
    """The error for a journal that cannot be written."""
    why, hint = explain_fault(error)
    message = f"Nothing was moved, because EmbedMerge cannot write into the folder {quote(folder.name)}: {why}."
    return StorageError(message, hint=hint)


def _create_journal(folder: Path) -> tuple[Path, BinaryIO]:
    """Create a new journal, empty and locked. StorageError if that is not possible."""
    while True:
        path = folder / f"{_NAME[0]}{os.urandom(8).hex()}{_NAME[1]}"
        try:
            file = path.open("xb")
        except OSError as error:
            raise _describe_write_fault(folder, error) from error
        # Another program may have found it before it was locked, and removed it as an incomplete one.
        if try_lock(file.fileno()) is not False and os.path.lexists(path):
            return path, file
        file.close()


def remove_journal(path: Path, file: BinaryIO) -> None:
    """Close and remove a journal whose moves are over. If it cannot be removed, it is emptied, which means the same."""
    with contextlib.suppress(OSError):
        file.truncate(0)
    if _WINDOWS:  # which cannot remove open files
        file.close()
    with contextlib.suppress(OSError):
        path.unlink()
    file.close()


class JournalInUseError(StorageError):
    """A journal that a running program uses."""


def open_abandoned_journal(path: Path) -> BinaryIO | None:
    """Open and lock a journal that no running program uses; None if it cannot be opened or is not a regular file.

    InUseError if a running program uses it.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "r+b")
    except OSError:
        return None
    locked = try_lock(file.fileno())
    age = time.time() - os.fstat(file.fileno()).st_mtime
    if os.path.lexists(path) and (locked or (locked is None and age > _ABANDONED_AFTER)):
        return file
    file.close()
    if locked is False:
        raise JournalInUseError(f"{quote(path.name)} is in use.")
    return None


def read_journal(path: Path, file: BinaryIO) -> Operation | None:
    """The operation in an open journal.

    None if it is incomplete, so that nothing was moved yet, or empty, so that the moves are over.
    InvalidJournalError if its moves are not valid.
    """
    content = file.read(_MAX_BYTES + 1)
    line, newline, rest = content.partition(b"\n")
    if len(content) <= _MAX_BYTES and not newline:
        return None
    try:
        fields = json.loads(line)
        is_valid = isinstance(fields, dict) and fields["embedmerge"] == 1 and len(content) <= _MAX_BYTES
        entries = [(str(old), str(new), int(size), int(time_ns)) for old, new, size, time_ns in fields["moves"]]
        kind, number = str(fields["kind"]), int(fields["number"])
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid or not all(_is_valid_move(kind, old, new) for old, new, _, _ in entries):
        raise _make_invalid_error(path)
    moves = tuple((path.parent / old, path.parent / new) for old, new, _, _ in entries)
    if number != os.fstat(file.fileno()).st_ino and not all(_is_below(path.parent, move) for move in moves):
        # It was not written in this folder but copied with it; then symbolic links could lead anywhere.
        raise _make_invalid_error(path)
    return Operation(kind, moves, tuple((size, time_ns) for _, _, size, time_ns in entries), rest == _BACK)


def _make_invalid_error(path: Path) -> InvalidJournalError:
    """The error for a journal with moves that are not valid."""
    message = f"{quote(path.name)} lists moves that EmbedMerge would not make, so nothing was moved."
    return InvalidJournalError(message, hint="Delete that file.")


def _is_valid_move(kind: str, old: str, new: str) -> bool:
    """Whether editing.py makes such a move. old, new: paths in the folder with `/`."""
    if not _is_relative_path(old) or not _is_relative_path(new):
        return False
    if kind == RENAME:
        return _is_valid_rename(PurePath(old), PurePath(new))
    if kind == DELETE:
        return _is_valid_deletion(PurePath(old), PurePath(new))
    return kind == UNDO and _is_valid_deletion(PurePath(new), PurePath(old))


def _is_relative_path(text: str) -> bool:
    """Whether a text is a plain path below a folder on this system, without `..`, drive or stream."""
    path = PurePath(text)
    is_plain = bool(path.parts) and not path.anchor and ".." not in path.parts and path.as_posix() == text
    return is_plain and "\0" not in text and not (_WINDOWS and ":" in text)


def _is_valid_rename(old: PurePath, new: PurePath) -> bool:
    """Whether a move gives a file of an embedding another name in its folder, with the same ending."""
    names = (old.name.lower(), new.name.lower())
    has_same_ending = any(all(name.endswith(suffix) for name in names) for suffix in (*SUFFIXES, *SIDECARS))
    return old.parent == new.parent and has_same_ending and not any(name.startswith(".") for name in names)


def _is_valid_deletion(old: PurePath, new: PurePath) -> bool:
    """Whether a move brings a file of an embedding to its path in the trash."""
    if len(new.parts) < 3 or new.parts[0] != TRASH or not _DELETION.fullmatch(new.parts[1]):
        return False
    is_of_embedding = old.name.lower().endswith((*SUFFIXES, *SIDECARS)) and not old.name.startswith(".")
    return is_of_embedding and PurePath(*new.parts[2:]) == old.with_name(old.name + TRASH_SUFFIX)


def _is_below(folder: Path, move: Move) -> bool:
    """Whether both paths of a move are below `folder` when symbolic links are followed."""
    real = Path(os.path.realpath(folder))
    return all(Path(os.path.realpath(path.parent)).is_relative_to(real) for path in move)
