"""Writing, moving and copying a whole file so that a crash leaves the old one or the new one, never a part, and nothing
is overwritten unasked. Nothing here knows a format; several files moved together are moving.py's matter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lib_embedmerge.errors import StorageError, TakenError, quote
from lib_embedmerge.files.disk_faults import describe_fault, make_disk_error
from lib_embedmerge.files.locks import try_lock
from lib_embedmerge.files.stamps import Identity, read_identity

_WINDOWS = os.name == "nt"

_TEMPORARY = (".embedmerge-", ".tmp")

_LOCKED = "locked-"
"""What the names of those go on with that are locked as long as they are in use. Version 0.1.0 locked none."""

_ABANDONED = 3600
"""Seconds after which a temporary file can be nobody's any more, where no lock tells."""

_FRESH = 60 if _WINDOWS else 0
"""Seconds for which a temporary file is left alone at least: Windows moves no file that is still open, and locked."""

_ATTEMPTS = 100

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.EACCES}
"""What file systems without hard links (exFAT, some network shares) answer to os.link."""


class ChangedError(StorageError):
    """A file that is not the one any more that was read, so that it is not overwritten."""


def write_atomically(path: Path, data: bytes, *, overwrite: bool, seen: Identity | None = None) -> None:
    """Put `data` at `path`, whole or not at all: a temporary file beside it, flushed to the disk, takes its name.

    Without `overwrite` an existing file stays as it is: TakenError, also where it appears between a look and the
    rename.
    seen: what `stamps.identity` said of the file that is to be overwritten when it was read. Where another file lies
    there by now, or none, nothing is written: ChangedError.
    Raises StorageError, in one plain sentence, for everything that the file system refuses.
    """
    try:
        with _temporary(path.parent) as (temporary, file):
            file.write(data)
            _finish(file)
            if seen is not None and read_identity(path) != seen:
                raise ChangedError(f"{quote(path.name)} was changed meanwhile.", hint="Look at it, then try again.")
            (_replace if overwrite else move_to_free_name)(temporary, path)
    except FileExistsError as error:
        message = f"{path.name} exists already."
        raise TakenError(message, hint="Choose another name, or allow overwriting.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise make_disk_error(path, error, "written") from error
    flush_folder(path.parent)


def move_to_free_name(old: Path, new: Path) -> None:
    """Rename that raises FileExistsError instead of overwriting, without a moment between the look and the rename.

    A link is moved itself. OSError where the disk refuses, with EXDEV where the new place is on another one.
    """
    if _WINDOWS:  # its rename never overwrites
        old.rename(new)
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _reserve_and_replace(old, new)
        return
    try:
        old.unlink()
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def copy_to_free_name(old: Path, new: Path) -> None:
    """Copy a file with its times, whole or not at all, and flushed to the disk. A link is copied itself.

    OSError where the disk refuses, FileExistsError where there is such a file.
    """
    if old.is_symlink():
        temporary = _temporary_beside(new.parent)
        try:
            temporary.symlink_to(old.readlink())
            move_to_free_name(temporary, new)
        finally:
            temporary.unlink(missing_ok=True)
    else:
        with old.open("rb") as source, _temporary(new.parent) as (temporary, target):
            shutil.copyfileobj(source, target, 1 << 20)
            _finish(target)
            move_to_free_name(temporary, new)
    with contextlib.suppress(OSError):  # not before: a temporary file of an old date is swept away
        shutil.copystat(old, new, follow_symlinks=False)
    flush_folder(new.parent)


def sweep(folder: Path) -> None:
    """Remove what saves that were killed have left in a folder, and nothing that a running program is about to move;
    what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_TEMPORARY[0]}*{_TEMPORARY[1]}"):
            remove_abandoned(left)


def is_temporary(name: str) -> bool:
    """Whether a file of that name is one that `sweep` looks at."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def remove_abandoned(temporary: Path) -> None:
    """Remove one temporary file, unless a running program has it in use."""
    with contextlib.suppress(OSError):
        found = temporary.lstat()
        age = time.time() - found.st_mtime
        if not stat.S_ISREG(found.st_mode):  # a link, which nobody can lock
            if age > _ABANDONED and stat.S_ISLNK(found.st_mode):
                temporary.unlink()
        elif age >= _FRESH:
            _remove_unlocked(temporary, age)


def _remove_unlocked(temporary: Path, age: float) -> None:
    descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        locked = try_lock(descriptor)
        if locked and not temporary.name.startswith(_TEMPORARY[0] + _LOCKED):
            locked = None
        is_nobodys = age > _ABANDONED if locked is None else locked
        if is_nobodys and not _WINDOWS:  # while it is locked, so that nobody takes it up meanwhile
            temporary.unlink()
    finally:
        os.close(descriptor)
    if is_nobodys and _WINDOWS:
        temporary.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing. StorageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why, hint = describe_fault(error)
        raise StorageError(f"The folder {quote(folder)} cannot be made: {why}.", hint=hint) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new temporary file in a folder, known to others as one in use; removed at the end, if it is still there."""
    path, file = _new_temporary(folder)
    try:
        yield path, file
    finally:
        file.close()
        path.unlink(missing_ok=True)


def _new_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    for _ in range(_ATTEMPTS):
        path = _temporary_beside(folder)
        file = path.open("xb")
        # One that sweeps may have come upon it before it was locked.
        if try_lock(file.fileno()) is not False and os.path.lexists(path):
            return path, file
        file.close()
        path.unlink(missing_ok=True)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _temporary_beside(folder: Path) -> Path:
    # Short, so that a name of the greatest length still has a temporary one; `.tmp` is no file that a web UI lists.
    return folder / f"{_TEMPORARY[0]}{_LOCKED}{secrets.token_hex(8)}{_TEMPORARY[1]}"


def _finish(file: BinaryIO) -> None:
    """Everything on the disk, and the file ready to be moved: Windows moves none that is open."""
    file.flush()
    os.fsync(file.fileno())
    if _WINDOWS:
        file.close()


def _replace(temporary: Path, path: Path) -> None:
    """os.replace; on Windows a virus scanner may hold a fresh file for a moment, so a refusal is tried again."""
    pauses = (0.02, 0.1, 0.3) if _WINDOWS else ()
    if not any(_replaced_or_held(temporary, path, pause) for pause in pauses):
        temporary.replace(path)


def _replaced_or_held(temporary: Path, path: Path, pause: float) -> bool:
    try:
        temporary.replace(path)
    except PermissionError:
        time.sleep(pause)
        return False
    return True


def _reserve_and_replace(temporary: Path, path: Path) -> None:
    """Without hard links: an empty file reserves the name first. A crash in between leaves that, which loaders skip."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        temporary.replace(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Make the rename itself durable where the system lets a folder be flushed; the file is whole either way."""
    if _WINDOWS:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
