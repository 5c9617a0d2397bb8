"""Write, move or copy one whole file. A crash leaves the old file or the new one, never a part of it, and no file is
overwritten unless the caller asks for it. Nothing here knows a format. moving.py moves several files together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lib_embedmerge.errors import StorageError, TakenError, quote
from lib_embedmerge.files.disk_faults import explain_fault, make_disk_error
from lib_embedmerge.files.locks import try_lock
from lib_embedmerge.files.stamps import Identity, read_identity

_WINDOWS = os.name == "nt"

_TEMPORARY = (".embedmerge-", ".tmp")

_LOCKED_MARK = "locked-"
"""Follows the prefix in the name of a temporary file that is locked while it is in use. Version 0.1.0 locked none."""

_ABANDONED_AFTER = 3600
"""Age in seconds at which a temporary file counts as abandoned if no lock can show whether it is in use."""

_MINIMUM_AGE = 60 if _WINDOWS else 0
"""Age in seconds below which a temporary file is never removed. On Windows a file must be closed, and so unlocked,
before it can be moved."""

_ATTEMPTS = 100

_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.EACCES}
"""Error numbers of os.link on file systems without hard links (exFAT, some network shares)."""


class ChangedError(StorageError):
    """A file changed after it was read, so it is not overwritten."""


Content = bytes | Sequence[bytes | memoryview]
"""The content of a file, whole or in parts that follow one another."""


def write_atomically(
    path: Path, data: Content, *, overwrite: bool, seen: Identity | None = None, durable: bool = True
) -> None:
    """Write `data` to `path`, whole or not at all: a temporary file in the same folder is flushed to the disk, then
    renamed to `path`.

    overwrite: whether an existing file may be replaced. If not, TakenError is raised, even if the file appears only
        just before the rename.
    seen: the result of `stamps.read_identity` when the file that is to be overwritten was read. If `path` is another
        file now, or none, nothing is written and ChangedError is raised.
    durable: whether to flush. Otherwise a power failure can leave a damaged file, but the death of the program cannot.
    Raises StorageError for everything that the file system refuses.
    """
    with PendingFile(path, data, overwrite=overwrite, seen=seen) as pending:
        if durable:
            pending.flush()
        pending.move()
    if durable:
        flush_folder(path.parent)


class PendingFile:
    """A file that is written but not at its place yet: the steps of `write_atomically`, for several files together.

    Leaving the `with` block removes it if it was not moved. Each step raises StorageError if the disk refuses.
    """

    def __init__(self, path: Path, data: Content, *, overwrite: bool, seen: Identity | None = None) -> None:
        """Write the temporary file. The arguments are those of `write_atomically`."""
        self.path = path
        self._overwrite = overwrite
        self._seen = seen
        with self._storage_errors():
            self._temporary, self._file = _create_temporary(path.parent)
            try:
                self._file.writelines([data] if isinstance(data, bytes) else data)
                self._file.flush()
            except BaseException:
                self.discard()
                raise

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._storage_errors():
            self.discard()

    def flush(self) -> None:
        """Flush the contents to the disk. Other threads may flush other files at the same time."""
        with self._storage_errors():
            _flush(self._file)

    def move(self) -> None:
        """Move the file to its place. TakenError or ChangedError as in `write_atomically`."""
        with self._storage_errors():
            if _WINDOWS:  # where an open file cannot move
                self._file.close()
            if self._seen is not None and read_identity(self.path) != self._seen:
                message = f"{quote(self.path.name)} was changed in the meantime."
                raise ChangedError(message, hint="Check it, then try again.")
            (_replace if self._overwrite else move_to_free_name)(self._temporary, self.path)

    def discard(self) -> None:
        """Close the file, and remove it if it was not moved."""
        try:
            self._file.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turn every OSError of the `with` block into a StorageError that names the file."""
        try:
            yield
        except FileExistsError as error:
            message = f"{self.path.name} already exists."
            raise TakenError(message, hint="Choose another name, or allow overwriting.") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise make_disk_error(self.path, error, "written") from error


def move_to_free_name(old: Path, new: Path) -> None:
    """Rename a file, atomically, to a name that is free; raise FileExistsError if it is taken.

    A link itself is moved, not its target. OSError if the disk refuses; its errno is EXDEV if `new` is on another disk.
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
    """Copy a file and its times to a name that is free, whole or not at all, and flush it to the disk.

    A link itself is copied, not its target. FileExistsError if the name is taken, OSError if the disk refuses.
    """
    if old.is_symlink():
        temporary = _make_temporary_path(new.parent)
        try:
            temporary.symlink_to(old.readlink())
            move_to_free_name(temporary, new)
        finally:
            temporary.unlink(missing_ok=True)
    else:
        with old.open("rb") as source, _temporary(new.parent) as (temporary, target):
            shutil.copyfileobj(source, target, 1 << 20)
            _flush(target)
            move_to_free_name(temporary, new)
    with contextlib.suppress(OSError):  # only now: a temporary file with an old date would count as abandoned
        shutil.copystat(old, new, follow_symlinks=False)
    flush_folder(new.parent)


def remove_abandoned_files(folder: Path) -> None:
    """Remove the temporary files in a folder that killed programs have left there.

    Files that a running program has in use stay, and so do files that cannot be removed.
    """
    with contextlib.suppress(OSError):
        for temporary in folder.glob(f"{_TEMPORARY[0]}*{_TEMPORARY[1]}"):
            remove_if_abandoned(temporary)


def is_temporary(name: str) -> bool:
    """Whether a file name is that of a temporary file of this module."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def remove_if_abandoned(temporary: Path) -> None:
    """Remove one temporary file unless a running program has it in use or it cannot be removed."""
    with contextlib.suppress(OSError):
        status = temporary.lstat()
        age = time.time() - status.st_mtime
        if not stat.S_ISREG(status.st_mode):  # a link cannot be locked
            if age > _ABANDONED_AFTER and stat.S_ISLNK(status.st_mode):
                temporary.unlink()
        elif age >= _MINIMUM_AGE:
            _remove_if_unlocked(temporary, age)


def _remove_if_unlocked(temporary: Path, age: float) -> None:
    """Remove a temporary file that no program has locked; age, in seconds, decides if locks say nothing about it."""
    descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        locked = try_lock(descriptor)
        if locked and not temporary.name.startswith(_TEMPORARY[0] + _LOCKED_MARK):
            locked = None
        is_abandoned = age > _ABANDONED_AFTER if locked is None else locked
        if is_abandoned and not _WINDOWS:  # while our lock keeps other programs from using it
            temporary.unlink()
    finally:
        os.close(descriptor)
    if is_abandoned and _WINDOWS:
        temporary.unlink()


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents; an existing folder is fine. StorageError if one cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why, hint = explain_fault(error)
        raise StorageError(f"The folder {quote(folder)} cannot be created: {why}.", hint=hint) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Create a temporary file in a folder and lock it; on leaving, close it and remove it if it was not moved."""
    path, file = _create_temporary(folder)
    try:
        yield path, file
    finally:
        file.close()
        path.unlink(missing_ok=True)


def _create_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """The path of a new temporary file, and the file, open for writing and locked. OSError if none can be created."""
    for _ in range(_ATTEMPTS):
        path = _make_temporary_path(folder)
        file = path.open("xb")
        # Another program may have removed the file as abandoned before we locked it.
        if try_lock(file.fileno()) is not False and os.path.lexists(path):
            return path, file
        file.close()
        path.unlink(missing_ok=True)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _make_temporary_path(folder: Path) -> Path:
    # Short, so that it fits even if the target has the longest name possible; web UIs do not list `.tmp` files.
    return folder / f"{_TEMPORARY[0]}{_LOCKED_MARK}{os.urandom(8).hex()}{_TEMPORARY[1]}"


def _flush(file: BinaryIO) -> None:
    """Flush a file to the disk and make it ready to be moved: on Windows it is closed, as an open file cannot move."""
    file.flush()
    os.fsync(file.fileno())
    if _WINDOWS:
        file.close()


def _replace(temporary: Path, path: Path) -> None:
    """os.replace, tried several times on Windows, where a virus scanner may hold a new file for a moment."""
    pauses = (0.02, 0.1, 0.3) if _WINDOWS else ()
    if not any(_try_replace(temporary, path, pause) for pause in pauses):
        temporary.replace(path)


def _try_replace(temporary: Path, path: Path, pause: float) -> bool:
    """Whether os.replace succeeded. If it was not permitted, wait `pause` seconds and return False."""
    try:
        temporary.replace(path)
    except PermissionError:
        time.sleep(pause)
        return False
    return True


def _reserve_and_replace(temporary: Path, path: Path) -> None:
    """Rename without overwriting, on a disk without hard links: an empty file reserves the name first.

    A crash in between leaves the empty file, which loaders skip. FileExistsError if the name is taken.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        temporary.replace(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename in it survives a crash.

    Does nothing on systems that cannot flush folders; the file is whole either way.
    """
    if _WINDOWS:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
