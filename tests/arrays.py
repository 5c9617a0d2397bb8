"""Arrays of numpy, which the program gives and takes, and tensors of torch, in which tests state what they expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor

from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.files.safetensors_header import TORCH_NAMES
from lib_embedmerge.files.stored_values import StoredValues
from lib_embedmerge.files.tensors import store_tensor


def as_tensor(values: Any) -> Tensor:
    """An array of numpy, the stored values of a file or a tensor as a tensor, which may share the memory."""
    if isinstance(values, StoredValues):
        dtype = getattr(torch, TORCH_NAMES[values.dtype])
        return torch.from_numpy(values.bits.view(numpy.uint8) if values.bits.ndim else values.bits).view(dtype)
    return torch.from_numpy(values) if isinstance(values, numpy.ndarray) else values


def as_tensors(vectors: Any) -> dict[str, Tensor]:
    """Encoder key -> tensor."""
    return {key: as_tensor(rows) for key, rows in vectors.items()}


def as_arrays(vectors: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    """Encoder key -> array of numpy, which may share the memory of a tensor."""
    return {key: to_numpy(rows) for key, rows in vectors.items()}


def store_tensors(tensors: Mapping[str, Tensor]) -> dict[str, StoredValues]:
    """Name -> the values as files store them."""
    return {name: store_tensor(tensor) for name, tensor in tensors.items()}


def equal(left: Any, right: Any) -> bool:
    """Whether both have the same shape and the same values; NaN is never equal."""
    return torch.equal(as_tensor(left), as_tensor(right))


def assert_close(left: Any, right: Any, **tolerances: Any) -> None:
    """AssertionError if shapes, dtypes or, beyond the tolerances, values differ. See torch.testing.assert_close."""
    torch.testing.assert_close(as_tensor(left), as_tensor(right), **tolerances)
