"""Read and write safetensors files: the header, tensors, single rows of a tensor. The same content always gives the
same bytes.

Source: huggingface/safetensors, safetensors/src/tensor.rs. A file is 8 bytes with the header's length (little-endian),
a JSON object (name -> dtype, shape, data_offsets; `__metadata__` -> texts), and the tensors' bytes without gaps.
Reading is as strict as that library, and reads only the bytes that are asked for. Which tensors a file should hold is
not known here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path

import numpy

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.file_kinds import SAFETENSORS, UNKNOWN, FileStart, find_kind, make_unreadable_error
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.safetensors_header import (
    MAX_HEADER,
    Header,
    TensorInfo,
    dtype_rank,
    parse_header,
)
from lib_embedmerge.files.stored_values import StoredValues, find_numpy_type, read_values

_FIRST_READ = 4096
"""Bytes that are read at once from the start of a file. The header of nearly every embedding is shorter."""

__all__ = [
    "Header",
    "TensorInfo",
    "encode_safetensors",
    "encode_with_metadata",
    "find_value_size",
    "hash_payload",
    "read_bytes",
    "read_header",
    "read_payload",
    "read_rows",
    "read_tensor",
]


def read_header(path: Path) -> Header:
    """The header of a file; of the rest at most the first 4,096 bytes are read. StorageError if the file is not a
    complete, valid one."""
    with open_regular(path) as file:
        size = _measure_size(path, file)
        start = _read(path, file, 0, min(_FIRST_READ, size))
        length = int.from_bytes(start[:8], "little")
        if size >= 8 and 2 <= length <= MAX_HEADER and 8 + length <= size:
            header = start[8 : 8 + length]
            if (missing := length - len(header)) > 0:
                header += _read(path, file, len(start), missing)
            return parse_header(path.name, header, size)
    raise _make_format_error(path, bytes(start[:512]), length, size)


def read_bytes(path: Path, start: int, size: int) -> bytearray:
    """Exactly `size` bytes of a file from offset `start`. StorageError if the file ends before."""
    with open_regular(path) as file:
        return _read(path, file, start, size)


def read_tensor(path: Path, info: TensorInfo) -> StoredValues:
    """One tensor of a file, in its stored dtype and shape. StorageError if it cannot be read."""
    return _make_values(path.name, read_bytes(path, info.start, info.end - info.start), info).reshape(*info.shape)


def read_rows(path: Path, info: TensorInfo, ids: Sequence[int]) -> StoredValues:
    """Rows of a 2-D tensor by index: [len(ids), width] in the stored dtype. Only these rows are read.

    StorageError if the tensor is not 2-D, an id is outside it, or the file cannot be read.
    """
    if len(info.shape) != 2:
        raise StorageError(f"{path.name}: {info.name} has {len(info.shape)} dimensions; a table has two.")
    rows, width = info.shape
    wanted = sorted(set(ids))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < rows:
        outside = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise StorageError(f"{path.name}: {info.name} has {rows} rows; row {outside} does not exist.")
    row_size = (info.end - info.start) // max(rows, 1)
    data = numpy.empty((len(wanted), row_size), numpy.uint8)
    with open_regular(path) as file:
        _read_into(data.reshape(-1).data, path, file, _find_places(wanted, info.start, row_size))
    if len(wanted) < len(ids) or wanted != list(ids):
        places = {row: place for place, row in enumerate(wanted)}
        data = data.take([places[row] for row in ids], axis=0)
    return _make_values(path.name, data.data, info).reshape(len(ids), width)


def encode_safetensors(tensors: Mapping[str, StoredValues], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The bytes of a safetensors file in parts, of which the large ones share the memory of the tensors.

    The header is compact with sorted keys, so equal input gives equal bytes. Tensors are ordered as by
    safetensors.save_file (dtype, widest first, then name). StorageError if a text is not valid Unicode, or the header
    would be longer than readers accept.
    """
    payload: list[memoryview] = []
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, values in _sort_for_storage(tensors):
        payload.append(values.view_bytes())
        end = offset + len(payload[-1])
        header[name] = {"dtype": values.dtype, "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    return [_encode_header(header), *payload]


def encode_with_metadata(path: Path, metadata: Mapping[str, str]) -> bytes:
    """The bytes of the file at `path` with other metadata; its tensors and their order do not change.

    StorageError if it is not a valid file, if a text in `metadata` is not valid Unicode, or if the header would be
    longer than readers accept.
    """
    read_header(path)  # which checks it
    size = int.from_bytes(read_bytes(path, 0, 8), "little")
    header: dict[str, object] = json.loads(read_bytes(path, 8, size))
    header.pop("__metadata__", None)
    return _encode_header(header | ({"__metadata__": dict(metadata)} if metadata else {})) + read_payload(path)


def read_payload(path: Path) -> bytes:
    """All bytes of a file after its header. StorageError if the file cannot be read."""
    start = 8 + int.from_bytes(read_bytes(path, 0, 8), "little")
    with open_regular(path) as file:
        return bytes(_read(path, file, start, _measure_size(path, file) - start))


def _encode_header(header: Mapping[str, object]) -> bytes:
    """The bytes of a header, with the 8 bytes of its length before it. StorageError if they are not valid."""
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = "There is a broken character in a text, which cannot be saved."
        raise StorageError(message, hint="Remove it. Often it is a cut emoji.") from error
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER:
        raise StorageError("The texts in this file are too long: at most 100 MB can be saved.")
    return len(encoded).to_bytes(8, "little") + encoded


def hash_payload(tensors: Mapping[str, StoredValues]) -> str:
    """sha256, in hex, of all bytes that follow the header in a file of these tensors: ModelSpec's hash_sha256 without
    its 0x."""
    digest = hashlib.sha256()
    for _, values in _sort_for_storage(tensors):
        digest.update(values.view_bytes())
    return digest.hexdigest()


def find_value_size(file_name: str, info: TensorInfo) -> int:
    """The bytes of one stored value. StorageError for a dtype that cannot be read."""
    if (of_numpy := find_numpy_type(info.dtype)) is None:
        message = f"{file_name}: {info.name} is stored as {info.dtype}, which EmbedMerge cannot read."
        raise StorageError(message, hint="Use a float32, float16 or bfloat16 version of the file.")
    return of_numpy.itemsize


def _sort_for_storage(tensors: Mapping[str, StoredValues]) -> list[tuple[str, StoredValues]]:
    """(name, values) in the order of the payload."""
    return sorted(tensors.items(), key=lambda item: (-dtype_rank(item[1].dtype), item[0]))


def _make_values(file_name: str, data: bytearray | memoryview, info: TensorInfo) -> StoredValues:
    """1-D values that share the memory of `data`, which must not be changed afterwards."""
    find_value_size(file_name, info)  # which checks the dtype
    return read_values(info.dtype, data)


def _find_places(rows: Sequence[int], start: int, row_size: int) -> Iterator[tuple[int, int]]:
    """(offset, size) in bytes of each run of consecutive rows. rows: sorted, without duplicates."""
    first = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index] != rows[index - 1] + 1:
            yield start + rows[first] * row_size, (index - first) * row_size
            first = index


def _measure_size(path: Path, file: FileIO) -> int:
    try:
        return file.seek(0, 2)
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error


def _read(path: Path, file: FileIO, start: int, size: int) -> bytearray:
    """Exactly `size` bytes from offset `start`. StorageError if they cannot be read."""
    data = bytearray(size)
    _read_into(memoryview(data), path, file, [(start, size)])
    return data


def _read_into(target: memoryview, path: Path, file: FileIO, places: Iterable[tuple[int, int]]) -> None:
    """Fill `target` with the bytes at some places, (offset, size) of each. StorageError if they cannot be read."""
    done = 0
    try:
        for offset, size in places:
            file.seek(offset)
            end = done + size
            while done < end and (count := file.readinto(target[done:end])):
                done += count
            if done < end:
                message = f"{quote(path.name)} is cut off: {end - done} bytes are missing."
                raise StorageError(message, hint="Download it again.")
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error


def _make_format_error(path: Path, head: bytes, length: int, size: int) -> StorageError:
    """The error for a file without a usable header length in its first 8 bytes.

    head: the first 512 bytes of the file.  length: what these 8 bytes say.  size: of the whole file, in bytes.
    """
    kind = find_kind(head, size)
    if kind is SAFETENSORS:
        message = f"{quote(path.name)} is cut off inside its header: at least {8 + length - size:,} bytes are missing."
        return StorageError(message, hint="The download or copy did not finish. Get the file again.")
    if kind is UNKNOWN and path.suffix.lower() == SUFFIX:
        message = f"{quote(path.name)} is not a safetensors file: its header would be {length:,} bytes long."
        return StorageError(message, hint=kind.hint)
    return make_unreadable_error(path, FileStart(kind, size))
