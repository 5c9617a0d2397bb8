"""A tensor of an embedding's file: checks of its shape and dtype before it is read, and reading its values.

forms.py chooses the tensors of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, WIDTHS
from lib_embedmerge.core.arrays import is_tensor
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.pickle_names import Array
from lib_embedmerge.files.safetensors_header import TensorInfo
from lib_embedmerge.files.stored_values import StoredValues, store
from lib_embedmerge.files.tensors import has_stored_dtype, store_tensor

if TYPE_CHECKING:
    import torch

REMAKE_HINT = "Make the embedding again with the tool that it came from."

_MAX_WIDTH = 16_384
"""Largest width of a vector. The largest text encoders have a width of 4,096."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    tensor: its values, or a TensorInfo to read them by.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    floating: bool
    tensor: numpy.ndarray | torch.Tensor | TensorInfo


def find_stored_tensor(name: str, value: object) -> StoredTensor | None:
    """A value of a file as a tensor; None if it is something else.

    StorageError for tensors that are not plain tables of numbers, such as sparse ones.
    """
    if isinstance(value, TensorInfo):
        return StoredTensor(name, value.shape, value.dtype, value.dtype.startswith(("F", "BF")), value)
    if isinstance(value, Array):
        value = value.values
    if isinstance(value, numpy.ndarray):
        return StoredTensor(name, value.shape, str(value.dtype), value.dtype.kind == "f", value)
    if not is_tensor(value):
        return None
    if value.is_nested or str(value.layout) != "torch.strided" or value.is_meta:
        raise StorageError(f"{shorten(name)} is not a plain table of numbers.", hint=REMAKE_HINT)
    dtype = str(value.dtype).removeprefix("torch.")
    return StoredTensor(name, tuple(value.shape), dtype, value.dtype.is_floating_point, value)


def count_rows(part: StoredTensor, key: str) -> int:
    """The number of vectors in a tensor. StorageError if its shape or dtype is not that of vectors for this encoder."""
    if not part.floating:
        message = f"{shorten(part.name)} contains {part.dtype} numbers; vectors are floating-point numbers."
        raise StorageError(message, hint=REMAKE_HINT)
    if len(part.shape) != 2:
        width = WIDTHS.get(key, "width")
        message = f"{shorten(part.name)} has the shape {list(part.shape)[:8]}; vectors need the shape [n, {width}]."
        raise StorageError(message, hint=f"It makes web UIs crash. {REMAKE_HINT}")
    rows, width = part.shape
    if width != WIDTHS.get(key, width):
        raise describe_wrong_width(part, width, WIDTHS[key])
    if width > _MAX_WIDTH:  # a damaged file can state any width
        raise StorageError(
            f"{shorten(part.name)} is {width:,} wide; no text encoder has vectors that wide.", hint=REMAKE_HINT
        )
    if rows == 0:
        raise StorageError(f"{shorten(part.name)} has no vectors.", hint=REMAKE_HINT)
    return rows


def describe_wrong_width(part: StoredTensor, width: int, expected: int | None = None) -> StorageError:
    """The error for a tensor of the wrong width. expected: the width that its name requires; None if any encoder's."""
    listed = shorten(part.name)
    if width == WIDTHS[CLIP_L] + WIDTHS[CLIP_G]:
        message = f"{listed} is {width} wide: it joins CLIP-L and CLIP-G in one table, which makes web UIs crash."
        return StorageError(message, hint="SDXL embeddings contain two tensors, clip_l [n, 768] and clip_g [n, 1280].")
    known = ", ".join(f"{WIDTHS[key]} ({key})" for key in WIDTHS)
    message = (
        f"{listed} is {width} wide; its vectors must be {expected} wide." if expected else f"{listed} is {width} wide."
    )
    return StorageError(message, hint=f"Text encoders have these widths: {known}.")


def read_numbers(part: StoredTensor, read: Callable[[TensorInfo], StoredValues] | None) -> StoredValues:
    """Read the values of a tensor as a copy in the stored dtype, so that no file stays memory-mapped.

    Values from a pickle in a dtype that safetensors lacks, such as float8_e4m3fnuz, become float32.

    read: returns the values for a TensorInfo, as a copy.  ValueError if it is needed but None.
    """
    if isinstance(part.tensor, TensorInfo):
        if read is None:
            raise ValueError("a header alone has no numbers: give `read`")
        return read(part.tensor)
    if isinstance(part.tensor, numpy.ndarray):
        return store(part.tensor.copy())
    values = part.tensor.detach().to(device="cpu", copy=True)
    return store_tensor(values if has_stored_dtype(values) else values.float())


def describe_values(vectors: Mapping[str, numpy.ndarray]) -> list[str]:
    """Warnings about vectors with values that are not finite, and about encoders with only zeros."""
    warnings = []
    for key, rows in vectors.items():
        bad = numpy.flatnonzero(~numpy.isfinite(rows).all(axis=1)).tolist()
        if bad:
            listed = ", ".join(str(row + 1) for row in bad[:8]) + (", ..." if len(bad) > 8 else "")
            warnings.append(f"{key} contains values that are not finite numbers, in vector {listed}.")
        if not rows.any():
            why = ", as in SDXL files that Embedding Merge made from Stable Diffusion 1" if key == CLIP_G else ""
            warnings.append(f"All vectors of {key} are zero{why}.")
    return warnings


def shorten(text: str, quote: str = "'") -> str:
    """A text from a file, in a form for messages: in quotes, printable, at most 60 characters."""
    cut = text if len(text) <= 60 else text[:57] + "..."
    return quote + "".join(character if character.isprintable() else "�" for character in cut) + quote
