"""Pickles of torch (.pt, .bin, .ckpt), loaded as plain data only: tensors, numbers, texts, lists and dicts.

A pickle can run any program, so only torch's weights_only loader is ever used, and there is no way around it. What the
data mean is not known here.
"""

from __future__ import annotations

import inspect
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage.disk_faults import disk_reason

_MAPPED_SIZE = 64 * 1024 * 1024
"""Bytes from which a file is mapped instead of read: a mapped file cannot be replaced on Windows while in use."""

_CONVERT = "Convert it to safetensors with a tool that you trust, or get a safetensors version."

_DAMAGED = (
    RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError,
    struct.error, OverflowError, MemoryError, NotImplementedError, ImportError, RecursionError,
)  # fmt: skip
"""What torch.load and its unpickler let through for broken files (found by mutating files, see the tests)."""


def load_tensors(path: Path) -> object:
    """The file's content, nothing unwrapped: nested dicts and lists with CPU tensors in their stored dtype.

    Large files in the zip format are mapped, so only the tensors that are used are read. StorageError where the file
    is missing, damaged, holds compressed entries, or is anything but plain data.
    """
    mapped = _check_container(path)
    try:
        return _load(path, mapped=mapped)
    except pickle.UnpicklingError as error:
        message = f"{path.name!r} cannot be loaded safely: it holds more than plain tensors."
        raise StorageError(message, hint=_CONVERT) from error
    except OSError as error:
        raise StorageError(f"{path.name!r} cannot be read: {disk_reason(error)}.") from error
    except _DAMAGED as error:
        message = f"{path.name!r} cannot be loaded safely: it is damaged, or not a file of torch."
        raise StorageError(message, hint=f"Get the file again. {_CONVERT}") from error


def _load(path: Path, *, mapped: bool) -> object:
    import torch

    # mmap came with torch 2.1.
    options = {"mmap": True} if mapped and "mmap" in inspect.signature(torch.load).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of unusual pickle protocols, which it then reads or refuses
        content: object = torch.load(str(path), map_location="cpu", weights_only=True, **options)
    return content


def _check_container(path: Path) -> bool:
    """Whether the file may be mapped. StorageError for what torch.load must not be shown at all."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
        size = path.stat().st_size
        if not head:
            raise StorageError(f"{path.name!r} is empty.", hint="Download it again.")
        if head.lstrip().startswith(b"<"):
            hint = "The download gave a login or error page; download it again."
            raise StorageError(f"{path.name!r} is a web page, not a model.", hint=hint)
        if not head.startswith(b"PK\x03\x04"):  # torch's own test for the zip format
            return False
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError as error:
        raise StorageError(f"{path.name!r} does not exist.", hint=f"Looked for {str(path)!r}.") from error
    except OSError as error:
        raise StorageError(f"{path.name!r} cannot be opened: {disk_reason(error)}.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        message = f"{path.name!r} is cut off or damaged."
        raise StorageError(message, hint="The download or copy did not finish; get the file again.") from error
    _check_entries(path.name, entries, size)
    return size >= _MAPPED_SIZE


def _check_entries(name: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise StorageError(f"{name!r} is a zip archive, not a model.", hint="Unpack it and use the model inside.")
    # torch never compresses; a compressed entry is made to fill the memory.
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise StorageError(f"{name!r} holds compressed entries, which torch never writes.", hint=_CONVERT)
