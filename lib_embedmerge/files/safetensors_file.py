"""The safetensors format: header, tensors, single rows of a tensor, and files written byte for byte the same.

Source: huggingface/safetensors, safetensors/src/tensor.rs. A file is 8 bytes with the header's length (little-endian),
a JSON object (name -> dtype, shape, data_offsets; `__metadata__` -> texts), and the tensors' bytes without gaps.
Reading is strict where that reader is, and only ever touches the bytes asked for. Which tensors a file should hold is
not known here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.file_kinds import SAFETENSORS, UNKNOWN, FileStart, find_kind, not_readable
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.safetensors_header import (
    MAX_HEADER,
    TORCH_NAMES,
    Header,
    TensorInfo,
    dtype_rank,
    parse_header,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "Header",
    "TensorInfo",
    "encode_safetensors",
    "payload_sha256",
    "read_bytes",
    "read_header",
    "read_payload",
    "read_rows",
    "read_tensor",
    "torch_dtype",
    "with_metadata",
]


def read_header(path: Path) -> Header:
    """What the file holds, from its header alone. StorageError for anything that is not a whole, sound file."""
    with open_regular(path) as file:
        size = _size(path, file)
        start = _read(path, file, 0, min(8, size))
        length = int.from_bytes(start, "little")
        if len(start) == 8 and 2 <= length <= MAX_HEADER and 8 + length <= size:
            return parse_header(path.name, _read(path, file, 8, length), size)
        head = start + _read(path, file, len(start), min(504, size - len(start)))
    raise _not_safetensors(path, bytes(head), length, size)


def read_bytes(path: Path, start: int, size: int) -> bytearray:
    """Exactly these bytes of the file. StorageError where it ends before."""
    with open_regular(path) as file:
        return _read(path, file, start, size)


def read_tensor(path: Path, info: TensorInfo) -> torch.Tensor:
    """The tensor in its own memory: CPU, the stored dtype and shape."""
    return _tensor(path.name, read_bytes(path, info.start, info.end - info.start), info).reshape(info.shape)


def read_rows(path: Path, info: TensorInfo, ids: Sequence[int]) -> torch.Tensor:
    """Rows of a 2-D tensor: [len(ids), width] in the stored dtype, CPU. No other byte of the file is read.

    StorageError where the tensor is not 2-D or an id is outside it.
    """
    if len(info.shape) != 2:
        raise StorageError(f"{path.name}: {info.name} has {len(info.shape)} dimensions, a table has two.")
    rows, width = info.shape
    wanted = sorted(set(ids))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < rows:
        outside = wanted[0] if wanted[0] < 0 else wanted[-1]
        raise StorageError(f"{path.name}: {info.name} has {rows} rows, there is no row {outside}.")
    row_size = (info.end - info.start) // max(rows, 1)
    data = bytearray()
    with open_regular(path) as file:
        for first, count in _runs(wanted):
            data += _read(path, file, info.start + first * row_size, count * row_size)
    if len(wanted) < len(ids) or wanted != list(ids):
        place = {row: index * row_size for index, row in enumerate(wanted)}
        view = memoryview(data)
        data = bytearray().join(view[place[row] : place[row] + row_size] for row in ids)
    return _tensor(path.name, data, info).reshape(len(ids), width)


def encode_safetensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file: compact header with sorted keys, so the same input gives the same bytes everywhere.

    Tensors are stored as safetensors.save_file orders them (dtype, widest first, then name). StorageError where a text
    is not valid Unicode, the header would be too long for readers, or a dtype has no place in the format.
    """
    payload: list[bytes] = []
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, dtype, tensor in _stored_order(tensors):
        payload.append(_raw_bytes(tensor))
        end = offset + len(payload[-1])
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    return b"".join([_encoded_header(header), *payload])


def with_metadata(path: Path, metadata: Mapping[str, str]) -> bytes:
    """The bytes of this file with other metadata: its tensors' part of the header and its payload as they stand there.

    StorageError where it is no sound file, or as `encode_safetensors`.
    """
    read_header(path)  # which checks it
    size = int.from_bytes(read_bytes(path, 0, 8), "little")
    header: dict[str, object] = json.loads(read_bytes(path, 8, size))
    header.pop("__metadata__", None)
    return _encoded_header(header | ({"__metadata__": dict(metadata)} if metadata else {})) + read_payload(path)


def read_payload(path: Path) -> bytes:
    """Everything behind the header. StorageError where the file cannot be read."""
    start = 8 + int.from_bytes(read_bytes(path, 0, 8), "little")
    with open_regular(path) as file:
        return bytes(_read(path, file, start, _size(path, file) - start))


def _encoded_header(header: Mapping[str, object]) -> bytes:
    """The header with its length before it."""
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = "A text has half of a surrogate pair, which no file can hold."
        raise StorageError(message, hint="Remove the broken character, often a cut emoji.") from error
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > MAX_HEADER:
        raise StorageError("The texts are too long: readers take a header of 100,000,000 bytes at most.")
    return len(encoded).to_bytes(8, "little") + encoded


def payload_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 hex of everything that encode_safetensors puts after the header (ModelSpec's hash_sha256 without 0x)."""
    digest = hashlib.sha256()
    for _, _, tensor in _stored_order(tensors):
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()


def torch_dtype(file_name: str, info: TensorInfo) -> torch.dtype:
    """torch's dtype for a stored tensor. StorageError where this torch has none."""
    import torch

    name = TORCH_NAMES.get(info.dtype)
    found = getattr(torch, name, None) if name else None
    if not isinstance(found, torch.dtype):
        message = f"{file_name}: {info.name} is stored as {info.dtype}, which this version of torch cannot read."
        raise StorageError(message, hint="Use a float32, float16 or bfloat16 version of the file.")
    return found


def _stored_order(tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, str, torch.Tensor]]:
    """(name, stored dtype, tensor), in the order of the payload."""
    stored = {f"torch.{torch_name}": name for name, torch_name in TORCH_NAMES.items()}
    named = []
    for name, tensor in tensors.items():
        if (dtype := stored.get(str(tensor.dtype))) is None:
            raise StorageError(f"{name} is {tensor.dtype}, which a safetensors file cannot hold.")
        named.append((name, dtype, tensor))
    return sorted(named, key=lambda item: (-dtype_rank(item[1]), item[0]))


def _raw_bytes(tensor: torch.Tensor) -> bytes:
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    raw: bytes = flat.view(torch.uint8).numpy().tobytes()
    return raw


def _tensor(file_name: str, data: bytearray, info: TensorInfo) -> torch.Tensor:
    """1-D tensor over the bytes; the bytearray belongs to it from here on."""
    import torch

    dtype = torch_dtype(file_name, info)
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, count) for each run of neighbours in sorted unique ids: one read each."""
    start = 0
    for index in range(1, len(ids) + 1):
        if index == len(ids) or ids[index] != ids[index - 1] + 1:
            yield ids[start], index - start
            start = index


def _size(path: Path, file: FileIO) -> int:
    try:
        return file.seek(0, 2)
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error


def _read(path: Path, file: FileIO, start: int, size: int) -> bytearray:
    """Exactly `size` bytes from `start`. The one place where bytes come off the disk."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    try:
        file.seek(start)
        while done < size and (count := file.readinto(view[done:])):
            done += count
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    if done < size:
        raise StorageError(
            f"{quote(path.name)} is cut off: {size - done} bytes are missing.", hint="Download it again."
        )
    return data


def _not_safetensors(path: Path, head: bytes, length: int, size: int) -> StorageError:
    """The sentence for a file whose first 8 bytes are no usable header length."""
    kind = find_kind(head, size)
    if kind is SAFETENSORS:
        message = f"{quote(path.name)} is cut off inside its header: at least {8 + length - size:,} bytes are missing."
        return StorageError(message, hint="The download or copy did not finish; get the file again.")
    if kind is UNKNOWN and path.suffix.lower() == ".safetensors":
        message = f"{quote(path.name)} is not a safetensors file: its header would be {length:,} bytes long."
        return StorageError(message, hint=kind.hint)
    return not_readable(path, FileStart(kind, size))
