"""Named weights in files of any format: safetensors (one file or shards), or pickles of torch, which are loaded safely.

Opening a file reads only its header; values are read when they are needed. layouts.py knows what the names mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lib_embedmerge.errors import CheckpointError, StorageError, quote
from lib_embedmerge.files.file_kinds import PICKLES, read_file_start
from lib_embedmerge.files.safetensors_file import TensorInfo, find_value_size, read_bytes, read_header, read_rows
from lib_embedmerge.files.stored_values import StoredValues, read_values
from lib_embedmerge.files.tensors import find_stored_dtype, store_tensor

if TYPE_CHECKING:
    import torch

_MAX_NESTING = 4
"""How deep dicts in a pickle are searched: enough for {"model": {"state_dict": {...}}}, and a bit more."""

_MAX_ENTRIES = 1_000_000
"""Largest number of entries in all dicts of a pickle. A model has some thousands."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which trainers store the weights."""


class Weight(Protocol):
    """One tensor of a file or of a loaded model.

    dtype: as safetensors spells it, `F16`.
    file_position: (file, offset), a sort key that puts weights in the order of their files.
    """

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def file_position(self) -> tuple[str, int]: ...

    def rows(self, ids: Sequence[int]) -> StoredValues:
        """Rows of a 2-D weight: [len(ids), width] in the stored dtype. Only these rows are read."""
        ...

    def read(self, first: int, count: int) -> StoredValues:
        """`count` values from index `first` on, in storage order: 1-D, in the stored dtype.

        Only these values are read.
        """
        ...


@dataclass(frozen=True)
class FileWeight:
    """A weight in a safetensors file, from which it is read when it is needed."""

    path: Path
    info: TensorInfo

    @property
    def dtype(self) -> str:
        return self.info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    @property
    def file_position(self) -> tuple[str, int]:
        return str(self.path), self.info.start

    def rows(self, ids: Sequence[int]) -> StoredValues:
        with as_checkpoint_errors():
            return read_rows(self.path, self.info, ids)

    def read(self, first: int, count: int) -> StoredValues:
        with as_checkpoint_errors():
            size = find_value_size(self.path.name, self.info)
            data = read_bytes(self.path, self.info.start + first * size, count * size)
        return read_values(self.info.dtype, data)


@dataclass(frozen=True)
class MemoryWeight:
    """A weight that is a tensor: from a pickle (memory-mapped if it is large), or of a loaded model.

    order: its number among the weights of the file or model.
    """

    tensor: torch.Tensor
    order: int = 0

    @property
    def dtype(self) -> str:
        return find_stored_dtype(self.tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def file_position(self) -> tuple[str, int]:
        return "", self.order

    def rows(self, ids: Sequence[int]) -> StoredValues:
        import torch

        return store_tensor(torch.stack([self.tensor[row] for row in ids]) if ids else self.tensor[:0])

    def read(self, first: int, count: int) -> StoredValues:
        return store_tensor(self.tensor.detach().reshape(-1)[first : first + count])


@dataclass(frozen=True)
class Weights:
    """All weights of a model or of a part of it, by name.

    metadata: of the files.  files: the files that they come from; empty for a loaded model.
    """

    tensors: Mapping[str, Weight]
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """A name for messages: that of the file; for shards the folder and the first file."""
        if not self.files:
            return "the loaded model"
        return self.files[0].name if len(self.files) == 1 else f"{self.files[0].parent.name}/{self.files[0].name}"


@contextlib.contextmanager
def as_checkpoint_errors() -> Iterator[None]:
    """Turn a StorageError in the `with` block into a CheckpointError."""
    try:
        yield
    except StorageError as error:
        raise CheckpointError(error.message, expected=error.expected, hint=error.hint, remedy=error.remedy) from error


def open_weights(path: Path) -> Weights:
    """Open the weights in one file. Its format is recognised by its first bytes, not by its name.

    CheckpointError if it is missing, a folder, damaged, not a model, or a pickle with more than plain data.
    """
    with as_checkpoint_errors():
        start = read_file_start(path)
    if path.suffix.lower() == ".zip":
        raise CheckpointError(f"{quote(path.name)} is a zip archive, not a model.", hint="Unpack it first.")
    if start.kind in PICKLES:
        return _open_pickle(path)
    with as_checkpoint_errors():
        header = read_header(path)  # the error says what the file is instead
    tensors = {name: FileWeight(path, info) for name, info in header.tensors.items()}
    return Weights(tensors, header.metadata, (path,))


def join_weights(shards: Sequence[Weights]) -> Weights:
    """Join the shards of one model. CheckpointError if two contain the same name."""
    tensors: dict[str, Weight] = {}
    for shard in shards:
        if twice := tensors.keys() & shard.tensors.keys():
            raise CheckpointError(f"{quote(shard.name)} repeats {quote(min(twice))} from another part of the model.")
        tensors.update(shard.tensors)
    metadata = {key: value for shard in shards for key, value in shard.metadata.items()}
    return Weights(tensors, metadata, tuple(path for shard in shards for path in shard.files))


def make_memory_weights(tensors: Mapping[str, torch.Tensor]) -> Weights:
    """The tensors of a loaded model as Weights. tensors: by name."""
    return Weights({name: MemoryWeight(tensor, order) for order, (name, tensor) in enumerate(tensors.items())})


def _open_pickle(path: Path) -> Weights:
    """Open the weights in a pickle of torch, which is loaded safely."""
    from lib_embedmerge.files.pickle_file import load_tensors  # which few files need

    with as_checkpoint_errors():
        content = load_tensors(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = _collect_tensors(path.name, content)
    for name, tensor in tensors.items():
        # With strides of zero a few bytes can look like a tensor of terabytes.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{quote(path.name)} is damaged: {quote(name)} is larger than its data.")
    if not tensors:
        raise CheckpointError(f"{quote(path.name)} contains no named tensors.", hint="Choose a checkpoint file.")
    return Weights(make_memory_weights(tensors).tensors, {}, (path,))


def _collect_tensors(file_name: str, content: object) -> dict[str, torch.Tensor]:
    """All tensors in nested dicts by their paths, `a.b.c`. A dict that occurs more than once is searched once.

    CheckpointError if there are more entries than any model has.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    ahead: list[tuple[object, str, int]] = [(content, "", 0)]
    seen: set[int] = set()
    left = _MAX_ENTRIES
    while ahead:
        value, prefix, depth = ahead.pop()
        if not isinstance(value, dict) or depth > _MAX_NESTING or id(value) in seen:
            continue
        seen.add(id(value))
        left -= len(value)
        if left < 0:
            message = f"{quote(file_name)} contains more than {_MAX_ENTRIES:,} entries; no model has that many."
            raise CheckpointError(message, hint="Get the file from a source that you trust.")
        inside: list[tuple[object, str, int]] = []
        for key, entry in value.items():
            # Keys that are not strings can be huge nested values, so only their type is named.
            name = f"{prefix}{key if isinstance(key, str) else type(key).__name__}"
            if isinstance(entry, torch.Tensor):
                if entry.layout == torch.strided and entry.device.type == "cpu":
                    tensors[name] = entry
            else:
                inside.append((entry, f"{name}.", depth + 1))
        ahead += reversed(inside)
    return tensors
