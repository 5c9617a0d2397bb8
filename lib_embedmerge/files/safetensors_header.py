"""Parse and check the JSON header of a safetensors file. Works on bytes; opens no file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeGuard

from lib_embedmerge.errors import StorageError, quote

MAX_HEADER = 100_000_000
"""Longest header in bytes: the limit of the safetensors library, so no program opens a longer one."""

_MAX_DIMENSIONS = 64

_BITS = MappingProxyType(
    {
        "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
    }
)  # fmt: skip
"""dtype -> bits of one value, in the order of the format's own enum; the payload goes from the last to the first."""

_RANKS = {name: index for index, name in enumerate(_BITS)}

TORCH_NAMES = MappingProxyType(
    {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
        "F8_E8M0": "float8_e8m0fnu", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
        "I32": "int32", "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64", "I64": "int64",
        "U64": "uint64",
    }
)  # fmt: skip
"""dtype -> its name in torch, for the dtypes that EmbedMerge may have to read."""


class TensorInfo(NamedTuple):
    """One tensor in a file.

    dtype: as stored, `F32`, `BF16`, `F8_E4M3`, ...
    start, end: offsets of its first byte and after its last, from the beginning of the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The header of a file.

    tensors: by name.  metadata: the texts in `__metadata__`.
    payload_start: offset of the first byte after the header.  file_size: in bytes.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    payload_start: int
    file_size: int


class _UnsoundError(ValueError):
    """A header breaks a rule of the format; the text says which."""


def dtype_rank(dtype: str) -> int:
    """Position of a dtype in the format's order; the payload starts with the highest rank."""
    return _RANKS[dtype]


def parse_header(file_name: str, raw: bytes | bytearray, file_size: int) -> Header:
    """The header of a file from its JSON bytes, which follow the 8 bytes of their length.

    file_size: of the whole file in bytes, to check that all tensors are in it. StorageError if the header breaks a rule
    of the format, or the file is shorter or longer than it says.
    """
    payload_start = 8 + len(raw)
    try:
        content = _parse_json(raw)
        metadata = _check_metadata(content.pop("__metadata__", None))
        tensors = {name: _check_tensor(name, entry, payload_start) for name, entry in content.items()}
        if b"\\u" in raw:  # UTF-8 has no broken characters; only an escape can be one
            _check_texts([*tensors, *metadata, *metadata.values()])
        end = _check_layout(tensors, payload_start)
    except (_UnsoundError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = str(error) if isinstance(error, _UnsoundError) else "it is not valid JSON text"
        message = f"The header of {quote(file_name)} is damaged: {reason}."
        raise StorageError(message, hint="It has another format or is damaged. Get the file again.") from error
    _check_size(file_name, end, file_size)
    return Header(MappingProxyType(tensors), MappingProxyType(metadata), payload_start, file_size)


def _parse_json(raw: bytes | bytearray) -> dict[str, object]:
    if raw[:1] != b"{":
        raise _UnsoundError("it does not begin with a brace")
    try:
        # It begins with a brace, so if it is JSON, it is an object.
        content: dict[str, object] = _DECODER.decode(raw.decode("utf-8"))
    except RecursionError:
        raise _UnsoundError("it is nested too deep") from None
    except ValueError as error:
        if isinstance(error, (_UnsoundError, json.JSONDecodeError, UnicodeDecodeError)):
            raise
        raise _UnsoundError("it has a number that is too long") from None  # Python limits the digits of an int
    return content


def _refuse_duplicate_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _UnsoundError("it contains a name twice")
    return content


def _refuse_constant(text: str) -> object:
    raise _UnsoundError(f"it contains {text}, which is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_duplicate_keys, parse_constant=_refuse_constant)
"""Made once, because making one takes as long as reading a header with it."""


def _check_metadata(entry: object) -> dict[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict):
        raise _UnsoundError("__metadata__ is not an object")
    if not {*map(type, entry.values())} <= {str}:
        key = next(key for key, value in entry.items() if not isinstance(value, str))
        raise _UnsoundError(f"the metadata value of {_short(key)} is not a text")
    return entry


def _check_texts(texts: list[str]) -> None:
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        raise _UnsoundError("a text contains a broken character") from None


def _check_tensor(name: str, entry: object, payload_start: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _UnsoundError(f"{_short(name)} is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _UnsoundError(f"{_short(name)} has the unknown dtype {_short(str(dtype))}")
    if not _is_counts(shape) or len(shape) > _MAX_DIMENSIONS or math.prod(filter(None, shape)) >= 2**63:
        raise _UnsoundError(f"{_short(name)} has an invalid shape")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _UnsoundError(f"{_short(name)} has invalid data_offsets")
    start, end = offsets
    if math.prod(shape) * _BITS[dtype] != (end - start) * 8:
        raise _UnsoundError(f"{_short(name)} has {end - start} bytes, which do not match its shape and dtype")
    return TensorInfo(name, dtype, tuple(shape), payload_start + start, payload_start + end)


def _is_counts(value: object) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers >= 0. True and False are ints to Python but not to the format."""
    return isinstance(value, list) and {*map(type, value)} <= {int} and min(value, default=0) >= 0


def _check_layout(tensors: Mapping[str, TensorInfo], payload_start: int) -> int:
    """Offset of the end of the payload. _UnsoundError if tensors overlap or leave a gap, which the format forbids."""
    end = payload_start
    for info in sorted(tensors.values(), key=lambda info: (info.start, info.end)):
        if info.start != end:
            raise _UnsoundError(
                f"{_short(info.name)} {'overlaps another tensor' if info.start < end else 'leaves a gap'}"
            )
        end = info.end
    return end


def _check_size(file_name: str, end: int, file_size: int) -> None:
    if end > file_size:
        message = f"{quote(file_name)} is cut off: {end - file_size:,} bytes are missing."
        raise StorageError(message, hint="The download or copy did not finish. Get the file again.")
    if end < file_size:
        message = f"{quote(file_name)} has {file_size - end:,} bytes after its last tensor."
        raise StorageError(message, hint="The file is damaged, or two files were joined. Get the file again.")


def _short(text: str) -> str:
    """A name for an error message: quoted, in ASCII, at most 60 characters of it."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
