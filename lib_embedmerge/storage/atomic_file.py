"""Writing, moving and copying a whole file so that a crash leaves the old one or the new one, never a part, and nothing
is overwritten unasked. Nothing here knows a format; several files moved together are moving.py's matter.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import BinaryIO

from lib_embedmerge.errors import StorageError

_WINDOWS = os.name == "nt"

_TEMPORARY = (".embedmerge-", ".tmp")

_ABANDONED = 3600
"""Seconds after which a temporary file can be nobody's any more."""

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.EACCES}
"""What file systems without hard links (exFAT, some network shares) answer to os.link."""

_PLAIN_WORDS = {
    errno.ENOENT: ("the folder does not exist", "Create the folder first."),
    errno.ENOTDIR: ("part of its path is a file, not a folder", "Choose another folder."),
    errno.EISDIR: ("a folder has that name", "Choose another name."),
    errno.ENOTEMPTY: ("a folder has that name", "Choose another name."),
    errno.EACCES: ("it is not permitted, or another program has the file open", "Close other programs that use it."),
    errno.EPERM: ("it is not permitted", "Choose a folder that you may write to."),
    errno.EROFS: ("the disk is read-only", "Choose a folder that you may write to."),
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another disk."),
    errno.EDQUOT: ("your share of the disk is full", "Free some space, or choose another disk."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter name."),
    errno.EINVAL: ("the name has characters that this disk does not take", "Choose another name."),
    errno.EBUSY: ("another program has the file open", "Close other programs that use it."),
}


def write_atomically(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Put `data` at `path`, whole or not at all: a temporary file beside it, flushed to the disk, takes its name.

    Without `overwrite` an existing file stays as it is, also where it appears between a look and the rename.
    Raises StorageError, in one plain sentence, for everything that the file system refuses.
    """
    temporary = _temporary_beside(path)
    try:
        try:
            _write_new(temporary, data)
            (_replace if overwrite else move_to_free_name)(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        message = f"{path.name} exists already."
        raise StorageError(message, hint="Choose another name, or allow overwriting.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise plain_error(path, error, "written") from error
    _flush_folder(path.parent)


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
    temporary = _temporary_beside(new)
    try:
        if old.is_symlink():
            temporary.symlink_to(old.readlink())
        else:
            with old.open("rb") as source, temporary.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                _flush(target)
        move_to_free_name(temporary, new)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not before: a temporary file of an old date is swept away
        shutil.copystat(old, new, follow_symlinks=False)
    _flush_folder(new.parent)


def sweep(folder: Path) -> None:
    """Remove what saves that were killed have left in a folder; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_TEMPORARY[0]}*{_TEMPORARY[1]}"):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing. StorageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        message = f"The folder {str(folder)!a} cannot be made: {error}."
        raise StorageError(message, hint="Choose a folder that you may write to.") from error


def plain_error(path: Path, error: OSError | ValueError, verb: str) -> StorageError:
    """What the file system refuses, in one plain sentence: that the file cannot be `written`, `moved`, ..."""
    code = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
    reason, hint = _PLAIN_WORDS.get(code, (f"the system says: {error}", "Try another folder."))
    return StorageError(
        f"{path.name!r} cannot be {verb}: {reason}.", hint=f"{hint} The folder is {str(path.parent)!r}."
    )


def _temporary_beside(path: Path) -> Path:
    # Short, so that a name of the greatest length still has a temporary one; `.tmp` is no file that a web UI lists.
    return path.parent / f"{_TEMPORARY[0]}{secrets.token_hex(8)}{_TEMPORARY[1]}"


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        _flush(file)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


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


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable where the system lets a folder be flushed; the file is whole either way."""
    if _WINDOWS:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
