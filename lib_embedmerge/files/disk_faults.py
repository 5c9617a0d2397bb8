"""Plain words for what a disk refuses: the only place where an OSError becomes a sentence for people."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote

_OPEN_ELSEWHERE = ("another program has the file open", "Close other programs that use it.")
_TOO_LONG = ("the name is too long", "Choose a shorter name.")
_FULL = ("the disk is full", "Free some space, or choose another disk.")
_READ_ONLY = ("the disk is read-only", "Choose a folder that you can write to.")
_NOT_TAKEN = ("the name contains characters that this disk does not allow", "Choose another name.")
_GONE = ("the file or its folder does not exist", "Check whether it was moved or renamed.")
_BROKEN = ("the disk could not be read or written", "Check the disk, its cable and the network.")
_UNREACHABLE = ("the disk or the network folder is not connected", "Connect it again.")

_BY_NAME = {
    "ENOENT": _GONE,
    "ENOTDIR": ("part of its path is a file, not a folder", "Choose another folder."),
    "EISDIR": ("a folder has that name", "Choose another name."),
    "ENOTEMPTY": ("a folder has that name", "Choose another name."),
    "EEXIST": ("a file has that name", "Choose another name."),
    "EACCES": ("access is denied, or another program has the file open", "Close other programs that use it."),
    "EPERM": ("access is denied", "Choose a folder that you can write to."),
    "EROFS": _READ_ONLY,
    "ENOSPC": _FULL,
    "EDQUOT": ("your disk quota is used up", "Free some space, or choose another disk."),
    "EFBIG": ("the file is larger than this disk allows", "Choose another disk."),
    "ENAMETOOLONG": _TOO_LONG,
    "EINVAL": _NOT_TAKEN,
    "EILSEQ": _NOT_TAKEN,
    "EBUSY": _OPEN_ELSEWHERE,
    "ETXTBSY": _OPEN_ELSEWHERE,
    "ELOOP": ("a chain of links leads back to itself", "Remove the link."),
    "EMFILE": ("too many files are open", "Close other programs and try again."),
    "ENFILE": ("too many files are open", "Close other programs and try again."),
    "ENOMEM": ("there is not enough memory", "Close other programs and try again."),
    "EIO": _BROKEN,
    "ESTALE": _UNREACHABLE,
    "ENXIO": _UNREACHABLE,
    "ENODEV": _UNREACHABLE,
    "ETIMEDOUT": _UNREACHABLE,
    "EHOSTDOWN": _UNREACHABLE,
}
"""Name in `errno` -> (reason, hint). Each system has only some of these names."""

_WORDS = {getattr(errno, name): words for name, words in _BY_NAME.items() if hasattr(errno, name)}

_WINDOWS_WORDS = {
    3: ("its folder does not exist", "Check whether the folder was moved or renamed."),
    19: _READ_ONLY,
    21: _UNREACHABLE,
    32: _OPEN_ELSEWHERE,
    33: _OPEN_ELSEWHERE,
    39: _FULL,
    53: _UNREACHABLE,
    64: _UNREACHABLE,
    67: _UNREACHABLE,
    112: _FULL,
    123: _NOT_TAKEN,
    206: _TOO_LONG,
    1117: _BROKEN,
}
"""Windows error number -> (reason, hint). errno merges several of them: 32 and 33 become EACCES, 123 becomes EINVAL."""


def explain_fault(error: OSError | ValueError) -> tuple[str, str]:
    """(reason, hint) for a system error: the reason as a clause without a full stop, the hint as a sentence."""
    if not isinstance(error, OSError):  # a name with a NUL, or with half of a surrogate pair
        return _NOT_TAKEN
    words = _WINDOWS_WORDS.get(getattr(error, "winerror", None) or 0) or _WORDS.get(error.errno or 0)
    if words:
        return words
    reason = os.strerror(error.errno) if error.errno else error.strerror or str(error) or "it cannot be done"
    return f"the system says: {reason[:1].lower()}{reason[1:].rstrip('.')}", "Try another folder."


def describe_disk_fault(error: OSError | ValueError) -> str:
    """The reason for a system error, as a clause without a full stop: "the disk is full"."""
    return explain_fault(error)[0]


def make_disk_error(path: Path, error: OSError | ValueError, verb: str) -> StorageError:
    """The StorageError for a file that the system refuses: "'a.pt' cannot be written: the disk is full."

    verb: the participle of what was tried: `written`, `moved`, ...
    """
    why, hint = explain_fault(error)
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        why, hint = "the folder does not exist", "Create the folder first."
    return StorageError(
        f"{quote(path.name)} cannot be {verb}: {why}.", hint=f"{hint} The folder is {quote(path.parent)}."
    )
