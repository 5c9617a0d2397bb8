"""Pickles of torch rewritten in memory, so that its safe loader takes what an embedding holds; nothing of them is run.

There are two cases. torch's form before 1.6 names the class of a module together with its source text, in a way that
the safe loader knows for tensors only. And torch before 2.5 cannot be told of ParameterDict, in which the first textual
inversions keep their vectors: it is given OrderedDict in its place, which every safe loader takes with any state.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO

from lib_embedmerge.files import pickle_names
from lib_embedmerge.files.pickle_program import Program, follow, follow_legacy

_MAX_SIZE = 256 * 1024 * 1024
"""Bytes of a file that is read whole to be rewritten; embeddings have far fewer."""

_ORDERED = "collections.OrderedDict"

_Edit = tuple[int, int, bytes]
"""(where, how many bytes are taken out, what is put there)."""


def make_readable(file: IO[bytes], program: Program) -> IO[bytes]:
    """The file itself, or one in memory that the safe loader takes. program: what the file's pickles do.

    UnpicklingError where it is too large for an embedding.
    """
    needs_dicts = not pickle_names.is_supported() and not program.names.isdisjoint(pickle_names.PARAMETERS)
    if not program.classes and not needs_dicts:
        return file
    data = file.read(_MAX_SIZE + 1)
    if len(data) > _MAX_SIZE:
        raise pickle.UnpicklingError
    if program.classes:
        return io.BytesIO(_edited(data, _calls_for_classes(program)))
    if not data.startswith(b"PK"):
        return io.BytesIO(_with_ordered_dicts(data, is_legacy=True))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {one.filename: archive.read(one) for one in archive.infolist()}
    rewritten = io.BytesIO()
    with zipfile.ZipFile(rewritten, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            is_pickle = name.endswith("data.pkl")
            archive.writestr(name, _with_ordered_dicts(content, is_legacy=False) if is_pickle else content)
    rewritten.seek(0)
    return rewritten


def as_parameters(content: object) -> object:
    """The content with the parameters in place of what stood for them while it was loaded."""
    if isinstance(content, OrderedDict) and "_parameters" in vars(content):
        found = pickle_names.Parameters()
        found.__setstate__(vars(content))
        return found
    if isinstance(content, dict) and any(isinstance(value, OrderedDict) for value in content.values()):
        return {
            key: as_parameters(value) if isinstance(value, OrderedDict) and vars(value) else value
            for key, value in content.items()
        }
    return content


def _calls_for_classes(program: Program) -> list[_Edit]:
    """A stand-in called for each class with its source: an import before the mark, a call in place of the end."""
    imported = _import(pickle_names.MODULE_CLASS)
    edits: list[_Edit] = [(start, 0, imported) for start, _ in program.classes]
    return edits + [(end, len(pickle.BINPERSID), pickle.REDUCE) for _, end in program.classes]


def _with_ordered_dicts(data: bytes, *, is_legacy: bool) -> bytes:
    """The pickles with another class imported, and called instead of created, wherever they want ParameterDict."""
    program, file = Program(), io.BytesIO(data)
    if is_legacy:
        follow_legacy(file, program)
    else:
        follow(file, program)
    edits: list[_Edit] = [
        (place, len(_import(name)), _import(_ORDERED))
        for name, place in program.imports
        if name in pickle_names.PARAMETERS
    ]
    edits += [(place, 1, pickle.REDUCE) for name, place in program.created if name in pickle_names.PARAMETERS]
    return _edited(data, edits)


def _import(name: str) -> bytes:
    """The instruction that imports `module.name`."""
    module, _, inside = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{inside}\n".encode("ascii")


def _edited(data: bytes, edits: Sequence[_Edit]) -> bytes:
    pieces, done = [], 0
    for place, taken, put in sorted(edits):
        pieces += [data[done:place], put]
        done = place + taken
    return b"".join([*pieces, data[done:]])
