"""Writing a whole file so that a crash leaves the old one or the new one, never a part. Nothing here knows a format."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path

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
    # Short, so that a name of the greatest length still has a temporary one; `.tmp` is no file that a web UI lists.
    temporary = path.parent / f"{_TEMPORARY[0]}{secrets.token_hex(8)}{_TEMPORARY[1]}"
    try:
        try:
            _write_new(temporary, data)
            (_replace if overwrite else _move_to_free_name)(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        message = f"{path.name} exists already."
        raise StorageError(message, hint="Choose another name, or allow overwriting.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _plain_error(path, error) from error
    _flush_folder(path.parent)


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


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
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


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Rename that raises FileExistsError instead of overwriting, without a moment between the look and the rename."""
    if _WINDOWS:  # its rename never overwrites
        temporary.rename(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _reserve_and_replace(temporary, path)


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


def _plain_error(path: Path, error: OSError | ValueError) -> StorageError:
    code = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
    reason, hint = _PLAIN_WORDS.get(code, (f"the system says: {error}", "Try another folder."))
    return StorageError(
        f"{path.name!r} cannot be written: {reason}.", hint=f"{hint} The folder is {str(path.parent)!r}."
    )
