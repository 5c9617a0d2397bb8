"""Tensors of torch as stored values. Only what reads pickles and loaded models needs it; a file's bytes do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from lib_embedmerge.files.safetensors_header import TORCH_NAMES
from lib_embedmerge.files.stored_values import BITS_ONLY, StoredValues, find_numpy_type

if TYPE_CHECKING:
    import torch

_NAMES = {f"torch.{torch_name}": name for name, torch_name in TORCH_NAMES.items()}


def find_stored_dtype(tensor: torch.Tensor) -> str:
    """The dtype of a tensor as safetensors spells it, `F16`; as torch spells it if the format has no such dtype."""
    return _NAMES.get(str(tensor.dtype), str(tensor.dtype))


def has_stored_dtype(tensor: torch.Tensor) -> bool:
    """Whether safetensors has the dtype of a tensor."""
    return str(tensor.dtype) in _NAMES


def store_tensor(tensor: torch.Tensor) -> StoredValues:
    """The values of a tensor, which share its memory if it lies on the CPU. KeyError for a dtype that no file has."""
    import torch

    dtype = _NAMES[str(tensor.dtype)]
    values = tensor.detach().to("cpu").contiguous()
    of_numpy = find_numpy_type(dtype)
    assert of_numpy is not None  # every dtype of torch has one
    if dtype in BITS_ONLY:  # numpy would refuse the tensor, but takes integers of the same size
        values = values.view(torch.int16 if values.element_size() == 2 else torch.uint8)
    array: numpy.ndarray = values.numpy()
    return StoredValues(dtype, array.view(of_numpy))
