"""Write several files and flush them to the disk together, which takes a fraction of the time of one after the other.

Each file is whole at any moment, as with atomic_file.py: none is moved to its place before its contents are flushed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.atomic_file import Content, PendingFile, flush_folder
from lib_embedmerge.files.stamps import Identity

_AT_ONCE = 8
"""Files that are flushed at the same time: the disk's journal takes them in one step."""


class WriteGroup:
    """Files that are written now and get to their places when `finish` is called.

    Leaving the `with` block without `finish` removes what was written, and changes nothing else.
    """

    def __init__(self) -> None:
        self._pending: list[PendingFile] = []

    def __enter__(self) -> WriteGroup:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            for file in self._pending:
                stack.push(file)
            self._pending = []

    def add(self, path: Path, data: Content, *, overwrite: bool, seen: Identity | None = None) -> None:
        """Write a file beside `path`. Arguments and StorageError are those of `atomic_file.write_atomically`."""
        self._pending.append(PendingFile(path, data, overwrite=overwrite, seen=seen))

    def finish(self) -> list[StorageError | None]:
        """Flush the files, move each to its place, and flush their folders once.

        Gives for each file, in order, why it is not at its place; None if it is.
        """
        from concurrent.futures import ThreadPoolExecutor  # which a single file does not need

        pending = list(self._pending)
        with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(pending)))) as threads:
            faults = list(threads.map(lambda file: _find_fault(file.flush), pending))
        faults = [fault or _find_fault(file.move) for fault, file in zip(faults, pending, strict=True)]
        for folder in dict.fromkeys(file.path.parent for file in pending):
            flush_folder(folder)
        self.__exit__()
        return faults


def _find_fault(step: Callable[[], None]) -> StorageError | None:
    """Do a step of writing; why it failed, or None."""
    try:
        step()
    except StorageError as fault:
        return fault
    return None
