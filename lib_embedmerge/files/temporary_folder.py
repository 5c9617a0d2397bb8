"""Folders for temporary files that are removed with their object, or later if the program was killed.

Each has a file that its program keeps locked, so another program sees which folders nobody uses any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from lib_embedmerge.files.disk_faults import make_disk_error
from lib_embedmerge.files.locks import try_lock

_LOCK = "in-use.lock"


class TemporaryFolder:
    """A new folder in the system's folder for temporary files. It is removed when nothing refers to the object.

    path: of the folder.
    """

    def __init__(self, prefix: str) -> None:
        """Make the folder, and remove those with the same prefix whose programs have ended.

        prefix: of the folder's name, only for folders of this class.  StorageError if the disk refuses.
        """
        _remove_abandoned(Path(tempfile.gettempdir()), prefix)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            lock = (self.path / _LOCK).open("xb")
        except OSError as error:
            raise make_disk_error(Path(tempfile.gettempdir()), error, "written") from error
        try_lock(lock.fileno())
        weakref.finalize(self, _remove, self.path, lock)


def _remove(folder: Path, lock: BinaryIO) -> None:
    lock.close()  # Windows removes no open files
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove folders with this prefix whose lock nobody holds. Folders without such a file, and links, stay."""
    try:
        folders = [folder for folder in parent.glob(f"{prefix}*") if folder.is_dir() and not folder.is_symlink()]
    except OSError:
        return
    for folder in folders:
        with contextlib.suppress(OSError):
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder is this user's, and the program that made it has ended. OSError if that cannot be read."""
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return False
    with (folder / _LOCK).open("r+b") as lock:  # None: a disk without locks tells nothing
        return try_lock(lock.fileno()) is True
