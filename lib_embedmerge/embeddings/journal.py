"""What is written down before several files are moved, so that a program that is killed meanwhile leaves nothing half
done: interrupted.py finishes it, or takes it back, the next time that somebody looks at the folder.

A journal is a file `.embedmerge-*.journal` in the folder that all the files lie in or below: a line of JSON, and after
it the line `back` where the moves are being undone. Its owner holds it locked as long as the moves go on. It is data
from a folder, which can come from anywhere: it is believed only where it tells of a rename, a deletion or its undoing
as editing.py makes them, within the folder, of kinds of files that go with embeddings.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
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

TRASH, TRASHED = ".embedmerge-trash", ".trash"

_NAME = (".embedmerge-", ".journal")
_DELETION = re.compile(r"\d{8}-\d{6}-\d{6}")
_BACK = b"back\n"
_LARGEST = 32 << 20
_ABANDONED = 3600
_WINDOWS = os.name == "nt"


class UnbelievableError(StorageError):
    """A journal that no program of this kind has written."""


@dataclass(frozen=True)
class Operation:
    """Moves that belong together. kind: one of the constants above.  stamps: of each file before it was moved.
    is_back: whether they were being undone."""

    kind: str
    moves: tuple[Move, ...]
    stamps: tuple[Stamp, ...]
    is_back: bool = False


def is_journal(name: str) -> bool:
    """Whether a file of that name is a journal."""
    return name.startswith(_NAME[0]) and name.endswith(_NAME[1])


@contextlib.contextmanager
def journaled(folder: Path, kind: str, moves: Sequence[Move]) -> Iterator[None]:
    """Have it written down what is moved, as long as that goes on. folder: all files lie in it or below.

    What ends with an exception and leaves files moved is to be taken back. StorageError where nothing can be written
    there, or a file is gone.
    """
    path, file = _begun(folder, kind, moves)
    with file:
        try:
            yield
        except BaseException:
            if any(os.path.lexists(new) or not os.path.lexists(old) for old, new in moves):
                _append_back(file)
            else:
                remove_journal(path, file)
            raise
        for place in {place.parent for move in moves for place in move}:
            flush_folder(place)
        remove_journal(path, file)


def _append_back(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):
        file.write(_BACK)
        file.flush()
        os.fsync(file.fileno())


def _begun(folder: Path, kind: str, moves: Sequence[Move]) -> tuple[Path, BinaryIO]:
    stamps = [read_link_identity(old) for old, _ in moves]
    gone = [old.name for (old, _), one in zip(moves, stamps, strict=True) if one is None]
    if gone:
        raise StorageError(f"{quote(gone[0])} no longer exists.", hint="Refresh the list.")
    entries = [
        [old.relative_to(folder).as_posix(), new.relative_to(folder).as_posix(), *one[2:]]
        for (old, new), one in zip(moves, stamps, strict=True)
        if one is not None
    ]
    path, file = _created(folder)
    try:
        number = os.fstat(file.fileno()).st_ino
        content = {"embedmerge": 1, "kind": kind, "number": number, "moves": entries}
        file.write(json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        remove_journal(path, file)
        raise _not_written(folder, error) from error
    flush_folder(folder)
    return path, file


def _not_written(folder: Path, error: OSError) -> StorageError:
    why, hint = explain_fault(error)
    message = f"Nothing was moved, because EmbedMerge cannot write into the folder {quote(folder.name)}: {why}."
    return StorageError(message, hint=hint)


def _created(folder: Path) -> tuple[Path, BinaryIO]:
    """A new journal, empty and locked."""
    while True:
        path = folder / f"{_NAME[0]}{secrets.token_hex(8)}{_NAME[1]}"
        try:
            file = path.open("xb")
        except OSError as error:
            raise _not_written(folder, error) from error
        # Somebody who looks at the folder may have come upon it before it was locked, and have taken it for a torn one.
        if try_lock(file.fileno()) is not False and os.path.lexists(path):
            return path, file
        file.close()


def remove_journal(path: Path, file: BinaryIO) -> None:
    """Remove one whose moves are over, and close it. Where that cannot be, it is emptied, which means the same."""
    with contextlib.suppress(OSError):
        file.truncate(0)
    if _WINDOWS:  # which removes none that is open
        file.close()
    with contextlib.suppress(OSError):
        path.unlink()
    file.close()


class InUseError(StorageError):
    """A journal whose owner is at work."""


def open_abandoned(path: Path) -> BinaryIO | None:
    """A journal whose owner is gone, opened and locked; None where it cannot be opened. InUseError where the owner is
    at work. Only regular files are opened: anything may have the name."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "r+b")
    except OSError:
        return None
    locked = try_lock(file.fileno())
    age = time.time() - os.fstat(file.fileno()).st_mtime
    if os.path.lexists(path) and (locked or (locked is None and age > _ABANDONED)):
        return file
    file.close()
    if locked is False:
        raise InUseError(f"{quote(path.name)} is in use.")
    return None


def read_journal(path: Path, file: BinaryIO) -> Operation | None:
    """What an open journal tells of; None where it is not whole, so that nothing was moved yet, or empty, so that all
    is over. UnbelievableError where nobody would have written it here."""
    content = file.read(_LARGEST + 1)
    line, whole, rest = content.partition(b"\n")
    if len(content) <= _LARGEST and not whole:
        return None
    try:
        told = json.loads(line)
        believed = isinstance(told, dict) and told["embedmerge"] == 1 and len(content) <= _LARGEST
        entries = [(str(old), str(new), int(size), int(time_ns)) for old, new, size, time_ns in told["moves"]]
        kind, number = str(told["kind"]), int(told["number"])
    except (ValueError, KeyError, TypeError, RecursionError):
        believed = False
    if not believed or not all(_is_believable(kind, old, new) for old, new, _, _ in entries):
        raise _unbelievable(path)
    moves = tuple((path.parent / old, path.parent / new) for old, new, _, _ in entries)
    if number != os.fstat(file.fileno()).st_ino and not all(_lies_below(path.parent, move) for move in moves):
        # It was not written here, but came with the folder; links in that could lead anywhere.
        raise _unbelievable(path)
    return Operation(kind, moves, tuple((size, time_ns) for _, _, size, time_ns in entries), rest == _BACK)


def _unbelievable(path: Path) -> UnbelievableError:
    message = f"{quote(path.name)} lists moves that EmbedMerge would not make, so nothing was moved."
    return UnbelievableError(message, hint="Delete that file.")


def _is_believable(kind: str, old: str, new: str) -> bool:
    """Whether editing.py would move a file so."""
    if not _is_place(old) or not _is_place(new):
        return False
    if kind == RENAME:
        return _is_renaming(PurePath(old), PurePath(new))
    if kind == DELETE:
        return _is_trashing(PurePath(old), PurePath(new))
    return kind == UNDO and _is_trashing(PurePath(new), PurePath(old))


def _is_place(text: str) -> bool:
    """Whether it is a place below a folder and nothing more, on this system."""
    place = PurePath(text)
    is_plain = bool(place.parts) and not place.anchor and ".." not in place.parts and place.as_posix() == text
    return is_plain and "\0" not in text and not (_WINDOWS and ":" in text)


def _is_renaming(old: PurePath, new: PurePath) -> bool:
    names = (old.name.lower(), new.name.lower())
    known = any(all(name.endswith(suffix) for name in names) for suffix in (*SUFFIXES, *SIDECARS))
    return old.parent == new.parent and known and not any(name.startswith(".") for name in names)


def _is_trashing(old: PurePath, new: PurePath) -> bool:
    if len(new.parts) < 3 or new.parts[0] != TRASH or not _DELETION.fullmatch(new.parts[1]):
        return False
    known = old.name.lower().endswith((*SUFFIXES, *SIDECARS)) and not old.name.startswith(".")
    return known and PurePath(*new.parts[2:]) == old.with_name(old.name + TRASHED)


def _lies_below(folder: Path, move: Move) -> bool:
    real = Path(os.path.realpath(folder))
    return all(Path(os.path.realpath(place.parent)).is_relative_to(real) for place in move)
