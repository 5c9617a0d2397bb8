"""Pickles of torch (.pt, .bin, .ckpt), loaded as plain data only: tensors, numbers, texts, lists and dicts.

A pickle can run any program, so only torch's weights_only loader is ever used, and there is no way around it; what it
may name beyond its own list is in pickle_names.py, and what would take for ever is told by pickle_program.py. What the
data mean is not known here.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import pickle
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files import pickle_names, pickle_rewriting
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.file_kinds import PICKLE, PICKLES, TORCH_ZIP, not_readable, read_file_start
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.pickle_program import CostlyError, Program, follow, follow_legacy

_MAPPED_SIZE = 64 * 1024 * 1024
"""Bytes from which a file is mapped instead of read: a mapped file cannot be replaced on Windows while in use."""

_OLDEST_PROTOCOL = 2
"""torch.save's, and the only one that its safe loader reads for certain."""

_CONVERT = "Get a safetensors version, or save it again as plain tensors with the program that made it."
_STOPPED = "The download or copy did not finish; get the file again."

_PLAIN_NAMES = ("torch._utils.", "torch._tensor.", "torch.nn.parameter.", "torch.serialization.", "torch.storage.")


def load_tensors(path: Path) -> object:
    """The file's content, nothing unwrapped: nested dicts and lists with CPU tensors in their stored dtype, and
    pickle_names.Array for numpy's.

    Large files in the zip format are mapped, so only the tensors that are used are read. StorageError where the file
    is missing, damaged, holds compressed entries, would take too long to load, or is anything but plain data.
    """
    look = read_file_start(path)
    if look.kind not in PICKLES:
        raise not_readable(path, look)
    if look.kind is PICKLE:
        message = f"{quote(path.name)} cannot be loaded safely: it is a pickle, but not one that PyTorch wrote."
        raise StorageError(message, hint=_CONVERT)
    program = Program()
    try:
        if look.kind is TORCH_ZIP:
            _follow_zip(path, look.size, program)
        else:
            _follow_legacy(path, program)
        return _load(path, program, mapped=look.kind is TORCH_ZIP and look.size >= _MAPPED_SIZE)
    except StorageError:
        raise
    except pickle.UnpicklingError as error:
        raise _refused(path.name, program) from error
    except CostlyError as error:
        message = f"{quote(path.name)} is made to keep programs busy: loading it would take for ever."
        raise StorageError(message, hint="Delete it, or get the file from a place that you trust.") from error
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    except Exception as error:  # torch, its unpickler and zipfile let all kinds through for what is damaged
        if _strange(program):
            raise _refused(path.name, program) from error
        message = f"{quote(path.name)} cannot be loaded safely: it is damaged, or its download did not finish."
        raise StorageError(message, hint=f"Get the file again. {_CONVERT}") from error


def _load(path: Path, program: Program, *, mapped: bool) -> object:
    # Not torch.load, which A1111 replaces by one that gives None for what its own list does not have.
    from torch.serialization import load

    # mmap came with torch 2.1. It takes paths alone, and of one that ends in .safetensors torch believes the name.
    mapped = mapped and "mmap" in inspect.signature(load).parameters and path.suffix != ".safetensors"
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # it warns of unusual pickle protocols, which it then reads or refuses
        if program.classes or not pickle_names.NAMES.isdisjoint(_spelled(program.names)):
            stack.enter_context(pickle_names.names_taken())
        if mapped:
            return load(str(path), map_location="cpu", weights_only=True, mmap=True)
        file = stack.enter_context(open_regular(path))
        readable = pickle_rewriting.make_readable(stack.enter_context(BufferedReader(file)), program)
        return pickle_rewriting.as_parameters(load(readable, map_location="cpu", weights_only=True))


def _follow_zip(path: Path, size: int, program: Program) -> None:
    """What the pickle inside does. StorageError for what torch.load must not be shown at all."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(path.name, entries, size)
            for entry in entries:
                if entry.filename.endswith("data.pkl"):
                    follow(io.BytesIO(archive.read(entry)), program)
    except zipfile.BadZipFile as error:
        raise StorageError(f"{quote(path.name)} is cut off or damaged.", hint=_STOPPED) from error


def _check_entries(name: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    if not any(one.endswith("data.pkl") for one in names):
        if any(one.endswith(".npy") for one in names):
            raise StorageError(f"{quote(name)} is a NumPy archive, which does not say what it is.", hint=_CONVERT)
        raise StorageError(f"{quote(name)} is a zip archive, not a model.", hint="Unpack it and use the model inside.")
    if any(one.endswith("constants.pkl") for one in names):
        raise StorageError(f"{quote(name)} is a TorchScript program, not a model's weights.", hint=_CONVERT)
    # torch never compresses; a compressed entry is made to fill the memory.
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise StorageError(f"{quote(name)} holds compressed entries, which torch never writes.", hint=_CONVERT)


def _follow_legacy(path: Path, program: Program) -> None:
    with open_regular(path) as file, BufferedReader(file) as buffered:
        follow_legacy(buffered, program)


def _refused(name: str, program: Program) -> StorageError:
    """Why torch's safe loader does not take a pickle, by what that names."""
    names = _spelled(program.names)
    if strange := _strange(program):
        shown = ascii(strange[0] if len(strange[0]) <= 60 else strange[0][:57] + "...")
        message = f"{quote(name)} cannot be loaded safely: it holds more than plain tensors, it names {shown}."
        return StorageError(message, hint=_CONVERT)
    if names & pickle_names.NAMES and not pickle_names.is_supported():
        message = (
            f"{quote(name)} holds values of NumPy or of a module, which this version of PyTorch cannot read safely."
        )
        hint = "Convert it where PyTorch is 2.5 or newer: embedmerge convert FILE."
        return StorageError(message, hint=hint)
    if program.protocol > _OLDEST_PROTOCOL:
        message = (
            f"{quote(name)} cannot be loaded safely: it was written with pickle protocol {program.protocol}, and "
            "PyTorch's "
            f"safe loader reads protocol {_OLDEST_PROTOCOL}."
        )
        return StorageError(message, hint=_CONVERT)
    message = f"{quote(name)} cannot be loaded safely: it holds more than plain tensors."
    return StorageError(message, hint=_CONVERT)


def _strange(program: Program) -> list[str]:
    """What it names beyond plain data."""
    return sorted(one for one in _spelled(program.names) - pickle_names.NAMES if not _is_plain(one))


def _spelled(names: set[str]) -> set[str]:
    """As Python 3 spells them, which is what torch's list goes by."""
    return {name.replace("__builtin__.", "builtins.", 1) for name in names}


def _is_plain(name: str) -> bool:
    """Whether it is one of torch's own names for tensors, storages and their like."""
    return (
        name.startswith(_PLAIN_NAMES)
        or (name.startswith("torch.") and name.count(".") == 1)
        or name
        in {"collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.bytearray", "builtins.complex"}
    )
