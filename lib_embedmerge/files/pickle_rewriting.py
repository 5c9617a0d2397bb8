"""Rewrite pickles of torch in memory so that torch's safe loader reads them. Nothing in them is run.

There are two cases. torch's form before 1.6 names the class of a module together with its source text, in a way that
the safe loader knows only for tensors. And the safe loader of torch before 2.5 has no list to which ParameterDict could
be added, in which the first textual inversions keep their vectors; OrderedDict replaces it, which every safe loader
accepts with any state.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO

from lib_embedmerge.files import pickle_names
from lib_embedmerge.files.pickle_program import Program, follow_legacy_pickles, follow_pickle

_MAX_SIZE = 256 * 1024 * 1024
"""Size in bytes of the largest file that is rewritten; embeddings are far smaller."""

_ORDERED = "collections.OrderedDict"

_Edit = tuple[int, int, bytes]
"""(offset in bytes, how many bytes are removed there, what is inserted there)."""


def make_readable(file: IO[bytes], program: Program) -> IO[bytes]:
    """The file itself if the safe loader can read it, else a rewritten copy in memory.

    program: what the pickles of the file import.  UnpicklingError if the file is too large for an embedding.
    """
    needs_dicts = not pickle_names.is_supported() and not program.names.isdisjoint(pickle_names.PARAMETERS)
    if not program.classes and not needs_dicts:
        return file
    data = file.read(_MAX_SIZE + 1)
    if len(data) > _MAX_SIZE:
        raise pickle.UnpicklingError
    if program.classes:
        return io.BytesIO(_apply_edits(data, _make_class_edits(program)))
    if not data.startswith(b"PK"):
        return io.BytesIO(_replace_parameter_dicts(data, is_legacy=True))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    rewritten = io.BytesIO()
    with zipfile.ZipFile(rewritten, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            is_pickle = name.endswith("data.pkl")
            archive.writestr(name, _replace_parameter_dicts(content, is_legacy=False) if is_pickle else content)
    rewritten.seek(0)
    return rewritten


def restore_parameters(content: object) -> object:
    """The loaded content with pickle_names.Parameters in place of each OrderedDict that replaced a ParameterDict."""
    if isinstance(content, OrderedDict) and "_parameters" in vars(content):
        parameters = pickle_names.Parameters()
        parameters.__setstate__(vars(content))
        return parameters
    if isinstance(content, dict) and any(isinstance(value, OrderedDict) for value in content.values()):
        return {
            key: restore_parameters(value) if isinstance(value, OrderedDict) and vars(value) else value
            for key, value in content.items()
        }
    return content


def _make_class_edits(program: Program) -> list[_Edit]:
    """The edits that call a stand-in for each class with its source: an import before the mark, a call at the end."""
    imported = _encode_import(pickle_names.MODULE_CLASS)
    edits: list[_Edit] = [(start, 0, imported) for start, _ in program.classes]
    return edits + [(end, len(pickle.BINPERSID), pickle.REDUCE) for _, end in program.classes]


def _replace_parameter_dicts(data: bytes, *, is_legacy: bool) -> bytes:
    """The pickles with OrderedDict in place of ParameterDict and ParameterList: imported, and called, not created."""
    program, file = Program(), io.BytesIO(data)
    if is_legacy:
        follow_legacy_pickles(file, program)
    else:
        follow_pickle(file, program)
    edits: list[_Edit] = [
        (offset, len(_encode_import(name)), _encode_import(_ORDERED))
        for name, offset in program.imports
        if name in pickle_names.PARAMETERS
    ]
    edits += [(offset, 1, pickle.REDUCE) for name, offset in program.created if name in pickle_names.PARAMETERS]
    return _apply_edits(data, edits)


def _encode_import(name: str) -> bytes:
    """The bytes of the instruction that imports `module.name`."""
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode("ascii")


def _apply_edits(data: bytes, edits: Sequence[_Edit]) -> bytes:
    pieces, done = [], 0
    for offset, removed, inserted in sorted(edits):
        pieces += [data[done:offset], inserted]
        done = offset + removed
    return b"".join([*pieces, data[done:]])
