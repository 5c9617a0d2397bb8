"""Load pickles of torch (.pt, .bin, .ckpt) as plain data only: tensors, numbers, texts, lists and dicts.

A pickle can run any program, so torch's weights_only loader is the only one used here. pickle_names.py lists what a
pickle may import beyond that loader's own list, and pickle_program.py recognises pickles that would take too long. What
the data mean is not known here.
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

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files import pickle_names, pickle_rewriting
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.file_kinds import PICKLE, PICKLES, TORCH_ZIP, make_unreadable_error, read_file_start
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.pickle_program import CostlyError, Program, follow_legacy_pickles, follow_pickle

_MAPPED_SIZE = 64 * 1024 * 1024
"""Size in bytes from which a file is mapped, not read. Smaller ones are read, because Windows cannot replace a mapped
file."""

_OLDEST_PROTOCOL = 2
"""The pickle protocol of torch.save, and the only one that its safe loader reads for certain."""

_CONVERT = "Get a safetensors version, or save it again as plain tensors with the program that made it."
_STOPPED = "The download or copy did not finish. Get the file again."

_PLAIN_NAMES = ("torch._utils.", "torch._tensor.", "torch.nn.parameter.", "torch.serialization.", "torch.storage.")


def load_tensors(path: Path) -> object:
    """The whole content of a file: nested dicts and lists with CPU tensors in their stored dtype, and with
    pickle_names.Array for the arrays of numpy.

    Large files in the zip format are mapped, so only the tensors that are used are read. StorageError if the file is
    missing or damaged, holds compressed entries, would take too long to load, or is anything but plain data, and if
    torch is not installed.
    """
    start = read_file_start(path)
    if start.kind not in PICKLES:
        raise make_unreadable_error(path, start)
    if start.kind is PICKLE:
        message = f"{quote(path.name)} cannot be loaded safely: it is a pickle that PyTorch did not write."
        raise StorageError(message, hint=_CONVERT)
    program = Program()
    try:
        if start.kind is TORCH_ZIP:
            _follow_zip(path, start.size, program)
        else:
            _follow_legacy(path, program)
        return _load(path, program, mapped=start.kind is TORCH_ZIP and start.size >= _MAPPED_SIZE)
    except StorageError:
        raise
    except pickle.UnpicklingError as error:
        raise _make_refusal(path.name, program) from error
    except CostlyError as error:
        message = f"{quote(path.name)} is made to keep programs busy: loading it would never end."
        raise StorageError(message, hint="Delete it, or get the file from a source that you trust.") from error
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    except Exception as error:  # torch, its unpickler and zipfile raise errors of any type for a damaged file
        if _find_strange_names(program):
            raise _make_refusal(path.name, program) from error
        message = f"{quote(path.name)} cannot be loaded safely: it is damaged, or its download did not finish."
        raise StorageError(message, hint=f"Get the file again. {_CONVERT}") from error


def _load(path: Path, program: Program, *, mapped: bool) -> object:
    try:
        # Not torch.load, which A1111 replaces by a function that returns None for pickles that are not on its own list.
        from torch.serialization import load
    except ModuleNotFoundError as error:
        message = f"{quote(path.name)} was saved by PyTorch. Reading it needs the Python package torch."
        raise StorageError(message, hint='Install it: pip install "embedmerge[torch]".') from error

    # mmap came with torch 2.1. It takes only paths, and torch reads a path that ends in .safetensors as safetensors.
    mapped = mapped and "mmap" in inspect.signature(load).parameters and path.suffix != SUFFIX
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch warns of unusual pickle protocols, which it then reads or refuses
        if program.classes or not pickle_names.NAMES.isdisjoint(_spell_for_python_3(program.names)):
            stack.enter_context(pickle_names.accept_names())
        if mapped:
            return load(str(path), map_location="cpu", weights_only=True, mmap=True)
        file = stack.enter_context(open_regular(path))
        readable = pickle_rewriting.make_readable(stack.enter_context(BufferedReader(file)), program)
        return pickle_rewriting.restore_parameters(load(readable, map_location="cpu", weights_only=True))


def _follow_zip(path: Path, size: int, program: Program) -> None:
    """Add the pickles in a zip file of torch to `program`. StorageError for a file that torch must not load at all."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(path.name, entries, size)
            for entry in entries:
                if entry.filename.endswith("data.pkl"):
                    follow_pickle(io.BytesIO(archive.read(entry)), program)
    except zipfile.BadZipFile as error:
        raise StorageError(f"{quote(path.name)} is cut off or damaged.", hint=_STOPPED) from error


def _check_entries(name: str, entries: list[zipfile.ZipInfo], size: int) -> None:
    """Raise StorageError for a zip archive that is not weights saved by torch. size: of the archive, in bytes."""
    entry_names = [entry.filename for entry in entries]
    if not any(entry_name.endswith("data.pkl") for entry_name in entry_names):
        if any(entry_name.endswith(".npy") for entry_name in entry_names):
            raise StorageError(f"{quote(name)} is a NumPy archive, which does not say what it contains.", hint=_CONVERT)
        raise StorageError(f"{quote(name)} is a zip archive, not a model.", hint="Unpack it and use the model inside.")
    if any(entry_name.endswith("constants.pkl") for entry_name in entry_names):
        raise StorageError(f"{quote(name)} is a TorchScript program, not a model's weights.", hint=_CONVERT)
    # torch never compresses entries; a compressed one is there to fill the memory.
    is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if is_packed or sum(entry.file_size for entry in entries) > size:
        raise StorageError(f"{quote(name)} contains compressed entries, which PyTorch never writes.", hint=_CONVERT)


def _follow_legacy(path: Path, program: Program) -> None:
    with open_regular(path) as file, BufferedReader(file) as buffered:
        follow_legacy_pickles(buffered, program)


def _make_refusal(name: str, program: Program) -> StorageError:
    """The error for a pickle that torch's safe loader refuses, with the reason found in what the pickle imports."""
    names = _spell_for_python_3(program.names)
    if strange := _find_strange_names(program):
        shown = ascii(strange[0] if len(strange[0]) <= 60 else strange[0][:57] + "...")
        message = f"{quote(name)} cannot be loaded safely: it contains more than plain tensors, such as {shown}."
        return StorageError(message, hint=_CONVERT)
    if names & pickle_names.NAMES and not pickle_names.is_supported():
        message = (
            f"{quote(name)} contains values of NumPy or of a module, which this version of PyTorch cannot read safely."
        )
        hint = "Convert it in an environment with PyTorch 2.5 or newer: embedmerge convert FILE."
        return StorageError(message, hint=hint)
    if program.protocol > _OLDEST_PROTOCOL:
        message = (
            f"{quote(name)} cannot be loaded safely: it was written with pickle protocol {program.protocol}, and "
            f"PyTorch's safe loader reads only protocol {_OLDEST_PROTOCOL}."
        )
        return StorageError(message, hint=_CONVERT)
    message = f"{quote(name)} cannot be loaded safely: it contains more than plain tensors."
    return StorageError(message, hint=_CONVERT)


def _find_strange_names(program: Program) -> list[str]:
    """The imports of a pickle that are not needed for plain data, sorted."""
    return sorted(name for name in _spell_for_python_3(program.names) - pickle_names.NAMES if not _is_plain(name))


def _spell_for_python_3(names: set[str]) -> set[str]:
    """The names as Python 3 spells them, like those of torch's list: `builtins.set` for `__builtin__.set`."""
    return {name.replace("__builtin__.", "builtins.", 1) for name in names}


def _is_plain(name: str) -> bool:
    """Whether an import, `module.name`, is one of those that torch itself uses for tensors, storages and the like."""
    return (
        name.startswith(_PLAIN_NAMES)
        or (name.startswith("torch.") and name.count(".") == 1)
        or name
        in {"collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.bytearray", "builtins.complex"}
    )
