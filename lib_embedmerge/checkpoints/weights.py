"""Named weights in a file, whatever its format: safetensors (one file or shards) or a safely loaded pickle of torch.

Opening reads headers only; the values come when they are asked for. What the names mean is said in layouts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from lib_embedmerge.errors import CheckpointError, StorageError, quote
from lib_embedmerge.files.file_kinds import PICKLES, read_file_start
from lib_embedmerge.files.pickle_file import load_tensors
from lib_embedmerge.files.safetensors_file import TensorInfo, find_torch_dtype, read_bytes, read_header, read_rows
from lib_embedmerge.files.safetensors_header import TORCH_NAMES

_MAX_NESTING = 4
"""Depth of dicts in a pickle that is searched: {"model": {"state_dict": {...}}} and a bit more."""

_MAX_ENTRIES = 1_000_000
"""Entries of all dicts in a pickle; a model has some thousands."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which trainers put the weights."""

_STORED_NAMES = {f"torch.{torch_name}": name for name, torch_name in TORCH_NAMES.items()}


class Weight(Protocol):
    """One tensor of a file.

    dtype: as safetensors spells it, `F16`.  place: file and offset, so that a run over many reads in file order.
    """

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def place(self) -> tuple[str, int]: ...

    def rows(self, ids: Sequence[int]) -> torch.Tensor:
        """[len(ids), width] of a 2-D weight, CPU, stored dtype; only these rows are read."""
        ...

    def read(self, first: int, count: int) -> torch.Tensor:
        """1-D: `count` values from the first-th on, in storage order, CPU, stored dtype; only these are read."""
        ...


@dataclass(frozen=True)
class FileWeight:
    """A weight that stays in its safetensors file until it is read."""

    path: Path
    info: TensorInfo

    @property
    def dtype(self) -> str:
        return self.info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    @property
    def place(self) -> tuple[str, int]:
        return str(self.path), self.info.start

    def rows(self, ids: Sequence[int]) -> torch.Tensor:
        with as_checkpoint_errors():
            return read_rows(self.path, self.info, ids)

    def read(self, first: int, count: int) -> torch.Tensor:
        with as_checkpoint_errors():
            dtype = find_torch_dtype(self.path.name, self.info)
            size = torch.empty((), dtype=dtype).element_size()
            data = read_bytes(self.path, self.info.start + first * size, count * size)
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


@dataclass(frozen=True)
class MemoryWeight:
    """A weight that is a tensor already: from a pickle (mapped where it is large) or of a model that is loaded."""

    tensor: torch.Tensor
    order: int = 0

    @property
    def dtype(self) -> str:
        return _STORED_NAMES.get(str(self.tensor.dtype), str(self.tensor.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def place(self) -> tuple[str, int]:
        return "", self.order

    def rows(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.stack([self.tensor[row] for row in ids]).cpu() if ids else self.tensor[:0].cpu()

    def read(self, first: int, count: int) -> torch.Tensor:
        return self.tensor.detach().reshape(-1)[first : first + count].cpu()


@dataclass(frozen=True)
class Weights:
    """All weights of one model part. files: where they come from; empty for tensors in memory."""

    tensors: Mapping[str, Weight]
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """For messages: the file's name, of shards the folder's too."""
        if not self.files:
            return "the loaded model"
        return self.files[0].name if len(self.files) == 1 else f"{self.files[0].parent.name}/{self.files[0].name}"


@contextlib.contextmanager
def as_checkpoint_errors() -> Iterator[None]:
    """A fault of a file, inside here, is a fault of the checkpoint."""
    try:
        yield
    except StorageError as error:
        raise CheckpointError(error.message, expected=error.expected, hint=error.hint) from error


def open_weights(path: Path) -> Weights:
    """The weights of one file, told by its first bytes rather than by its name.

    CheckpointError where it is missing, a folder, damaged, no model, or a pickle with more than plain data.
    """
    with as_checkpoint_errors():
        look = read_file_start(path)
    if path.suffix.lower() == ".zip":
        raise CheckpointError(f"{quote(path.name)} is a zip archive, not a model.", hint="Unpack it first.")
    if look.kind in PICKLES:
        return _open_pickle(path)
    with as_checkpoint_errors():
        header = read_header(path)  # which says what else it is
    tensors = {name: FileWeight(path, info) for name, info in header.tensors.items()}
    return Weights(tensors, header.metadata, (path,))


def join_weights(shards: Sequence[Weights]) -> Weights:
    """Shards of one model part as one. CheckpointError where two hold the same name."""
    tensors: dict[str, Weight] = {}
    for shard in shards:
        if twice := tensors.keys() & shard.tensors.keys():
            raise CheckpointError(f"{quote(shard.name)} repeats {quote(min(twice))} from another part of the model.")
        tensors.update(shard.tensors)
    metadata = {key: value for shard in shards for key, value in shard.metadata.items()}
    return Weights(tensors, metadata, tuple(path for shard in shards for path in shard.files))


def make_memory_weights(tensors: Mapping[str, torch.Tensor]) -> Weights:
    """Tensors of a loaded model as Weights."""
    return Weights({name: MemoryWeight(tensor, order) for order, (name, tensor) in enumerate(tensors.items())})


def _open_pickle(path: Path) -> Weights:
    with as_checkpoint_errors():
        content = load_tensors(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = _named_tensors(path.name, content)
    for name, tensor in tensors.items():
        # A few bytes can claim to be a tensor of terabytes by strides of zero.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{quote(path.name)} is damaged: {quote(name)} is larger than its data.")
    if not tensors:
        raise CheckpointError(f"{quote(path.name)} contains no named tensors.", hint="Choose a checkpoint file.")
    return Weights(make_memory_weights(tensors).tensors, {}, (path,))


def _named_tensors(file_name: str, content: object) -> dict[str, torch.Tensor]:
    """Every tensor in nested dicts by its path, `a.b.c`. A dict that stands at several places is looked into once.

    CheckpointError where there are more entries than any model has.
    """
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
        for key, one in value.items():
            # Other keys may be nested as deep as the file likes, and would be spelled whole.
            name = f"{prefix}{key if isinstance(key, str) else type(key).__name__}"
            if isinstance(one, torch.Tensor):
                if one.layout == torch.strided and one.device.type == "cpu":
                    tensors[name] = one
            else:
                inside.append((one, f"{name}.", depth + 1))
        ahead += reversed(inside)
    return tensors
