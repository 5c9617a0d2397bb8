"""Vectors as arrays of numpy or tensors of torch, and the functions that the two libraries spell differently.

Vectors whose token table is in a file or in main memory are arrays of numpy, because a small operation there takes a
tenth of the time that it takes in torch. Vectors whose token table is on a GPU are tensors of torch on that GPU. torch
is imported only when somebody asks for a device other than the CPU.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard, cast

import numpy

from lib_embedmerge.errors import HostError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CPU = "cpu"
"""The device of every array of numpy."""

_MANY_HALVES = 16_384
"""Number of float16 values from which on moving bits is faster than numpy's own conversion."""


class Array(Protocol):
    """Vectors [n, width]: a numpy.ndarray, or a torch.Tensor on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __add__(self, other: Any, /) -> Any: ...

    def __sub__(self, other: Any, /) -> Any: ...

    def __mul__(self, other: Any, /) -> Any: ...

    def __truediv__(self, other: Any, /) -> Any: ...

    def __matmul__(self, other: Any, /) -> Any: ...

    def sum(self) -> Any: ...


class ArrayLibrary(NamedTuple):
    """The functions that numpy and torch spell differently. Results lie on the device of the first argument.

    zeros: (n, width, like) -> float32 zeros.  full: (like, number) -> an array like it, filled with the number.
    number: (number, like) -> the number in the dtype of `like`.
    concatenate, stack: of several arrays along a first axis that exists, or along a new one.
    join_columns: of several arrays with as many rows, side by side.
    roll: (rows, steps) -> the rows shifted in a circle.  copy: of an array.
    lengths: of float64 [n, width] -> the L2 lengths of its rows, [n].
    float32, float64: conversions.  is_finite, absolute, sin, arctan2, where: for each value.
    any_in_row: (bool [n, width]) -> bool [n].
    """

    zeros: Callable[[int, int, Any], Any]
    full: Callable[[Any, float], Any]
    number: Callable[[float, Any], Any]
    concatenate: Callable[[Sequence[Any]], Any]
    stack: Callable[[Sequence[Any]], Any]
    join_columns: Callable[[Sequence[Any]], Any]
    roll: Callable[[Any, int], Any]
    copy: Callable[[Any], Any]
    lengths: Callable[[Any], Any]
    float32: Callable[[Any], Any]
    float64: Callable[[Any], Any]
    is_finite: Callable[[Any], Any]
    absolute: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    arctan2: Callable[[Any, Any], Any]
    where: Callable[[Any, Any, Any], Any]
    any_in_row: Callable[[Any], Any]


NUMPY = ArrayLibrary(
    zeros=lambda count, width, _: numpy.zeros((count, width), numpy.float32),
    full=numpy.full_like,
    number=lambda number, like: like.dtype.type(number),
    concatenate=numpy.concatenate,
    stack=numpy.stack,
    join_columns=lambda parts: numpy.concatenate(parts, axis=1),
    roll=lambda rows, steps: numpy.roll(rows, steps, axis=0),
    copy=numpy.copy,
    lengths=lambda rows: numpy.sqrt(numpy.einsum("ij,ij->i", rows, rows)),
    float32=lambda array: array.astype(numpy.float32),
    float64=lambda array: array.astype(numpy.float64),
    is_finite=numpy.isfinite,
    absolute=numpy.abs,
    sin=numpy.sin,
    arctan2=numpy.arctan2,
    where=numpy.where,
    any_in_row=lambda array: array.any(axis=1),
)


@cache
def load_torch_library() -> ArrayLibrary:
    """The functions of torch. Imports torch."""
    import torch

    return ArrayLibrary(
        zeros=lambda count, width, like: like.new_zeros((count, width)),
        full=torch.full_like,
        # On CUDA torch replaces division by a Python number by a multiplication, which rounds differently.
        number=lambda number, like: torch.tensor(number, dtype=like.dtype, device=like.device),
        concatenate=lambda parts: torch.cat(list(parts)),
        stack=lambda parts: torch.stack(list(parts)),
        join_columns=lambda parts: torch.cat(list(parts), dim=1),
        roll=lambda rows, steps: rows.roll(steps, dims=0),
        copy=torch.clone,
        lengths=lambda rows: torch.linalg.vector_norm(rows, dim=1),
        float32=lambda array: array.to(torch.float32),
        float64=lambda array: array.to(torch.float64),
        is_finite=torch.isfinite,
        absolute=torch.abs,
        sin=torch.sin,
        arctan2=torch.atan2,
        where=torch.where,
        any_in_row=lambda array: array.any(dim=1),
    )


def find_library(array: Array) -> ArrayLibrary:
    """The functions for an array."""
    return NUMPY if isinstance(array, numpy.ndarray) else load_torch_library()


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor of torch. Does not import torch: without it there are no tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def require_torch(what: str) -> None:
    """HostError if torch is not installed. what: needs it; the beginning of a sentence, `A GPU is`."""
    if importlib.util.find_spec("torch") is None:
        hint = 'Install it: pip install "embedmerge[torch]".'
        raise HostError(f"{what} only possible with the Python package torch, which is not installed.", hint=hint)


def find_device(array: Array) -> str:
    """The device of an array, as torch spells it: `cpu`, `cuda:0`."""
    return str(array.device) if is_tensor(array) else CPU


def own(array: Array) -> Array:
    """The array itself if it is no view of another one, else a copy. A tensor of torch is always copied."""
    if isinstance(array, numpy.ndarray) and array.base is None:
        return array
    copy: Array = find_library(array).copy(array)
    return copy


def to_numpy(array: Array) -> numpy.ndarray:
    """The values as an array of numpy: the array itself if it is one, else a copy from the device of the tensor."""
    if isinstance(array, numpy.ndarray):
        return array
    values: numpy.ndarray = to_tensor(array, CPU).detach().numpy()
    return values


def transpose(matrix: Any) -> Any:
    """A matrix [n, width] as [width, n]; a view."""
    return matrix.T


def to_tensor(array: Array, device: str | None = None) -> Tensor:
    """The values as a tensor of torch, which may share their memory. Imports torch.

    device: as `find_device` gives it; None for the device where they are.
    """
    import torch

    tensor = torch.from_numpy(array) if isinstance(array, numpy.ndarray) else cast("torch.Tensor", array)
    return tensor if device is None else tensor.to(device)


def place(array: Array, device: str) -> Array:
    """The values on a device: an array of numpy for `cpu`, a tensor of torch for any other. May share memory.

    device: as torch spells it, `cpu` or `cuda`.
    """
    return to_numpy(array) if device == CPU else to_tensor(array, device)


def place_like(array: Array, like: Array) -> Array:
    """The values in the library and on the device of another array. May share memory."""
    return to_numpy(array) if isinstance(like, numpy.ndarray) else to_tensor(array, find_device(like))


def to_float32(values: numpy.ndarray) -> numpy.ndarray:
    """The values as float32, as the array itself if it is that. Those that are too large become infinite."""
    if values.dtype == numpy.float32:
        return values
    converted = numpy.empty(values.shape, numpy.float32)
    fill_float32(converted, values)
    return converted


def fill_float32(target: numpy.ndarray, values: numpy.ndarray) -> None:
    """Set a float32 array to values of its shape, as `to_float32` converts them. target: C-contiguous."""
    if values.dtype == numpy.float16:  # of which none is too large
        if values.size >= _MANY_HALVES:
            _widen(target, values)
        else:
            target[...] = values
        return
    with numpy.errstate(over="ignore"):
        target[...] = values


def _widen(target: numpy.ndarray, halves: numpy.ndarray) -> None:
    """Write float16 into a float32 array of the same shape. The bits are moved as integers, because numpy's own
    conversion takes up to three times as long.

    Both have a sign, an exponent (5 bits and 8, which count from 15 and 127) and a fraction (10 bits and 23).
    """
    bits = numpy.ascontiguousarray(halves).reshape(-1).view("<i2")
    wide = target.reshape(-1)
    moved = wide.view("<i4")
    moved[:] = bits  # after which its upper 17 bits are all the sign
    moved <<= 13
    moved &= -0x7000_0001
    moved += (127 - 15) << 23
    # An exponent of only 0 or only 1 is that of zero, tiny numbers, infinity and NaN.
    next_exponents = bits + numpy.int16(1 << 10)
    next_exponents &= 0x7800
    special = (next_exponents == 0).nonzero()
    wide[special] = bits[special].view("<f2").astype(numpy.float32)


def to_float16(values: numpy.ndarray) -> numpy.ndarray:
    """The values as float16, as the array itself if it is that. Those that are too large become infinite.

    The result is that of processors and torch, to the last bit, so that hashes of both are equal: float64 is rounded to
    float32 first, and NaN is quiet.
    """
    if values.dtype == numpy.float16:
        return values
    with numpy.errstate(over="ignore", under="ignore"):
        halves = to_float32(values).astype(numpy.float16)
    bits = halves.view(numpy.uint16)
    is_nan = bits & 0x7FFF > 0x7C00
    if is_nan.any():
        bits[is_nan] |= 0x0200
    return halves


def are_equal_bits(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
    """For each value of two float16 arrays of one shape, whether both have the same bits. NaN can be equal to NaN."""
    equal: numpy.ndarray = left.view(numpy.uint16) == right.view(numpy.uint16)
    return equal


def hash_words(values: numpy.ndarray) -> bytes:
    """16 bytes that are equal for equal bytes and, for others, hardly ever: a cheap hash, not one against forgery.

    It is the sum, modulo 2**64, of the bytes as uint64, each multiplied by an odd random constant of its own, for two
    sets of constants. Source: multilinear hashing, J. L. Carter and M. N. Wegman, Universal classes of hash functions,
    1979.  values: of a size that is a multiple of 8 bytes.
    """
    words = numpy.ascontiguousarray(values).reshape(-1).view(numpy.uint64)
    sums: numpy.ndarray = make_factors(len(words)) @ words
    return sums.tobytes()


def hash_rows(arrays: Sequence[numpy.ndarray]) -> numpy.ndarray:
    """The `hash_words` of each row of some arrays side by side: uint64 [n, 2].

    arrays: [n, width], all with as many rows, and rows whose size is a multiple of 8 bytes.
    """
    words = [numpy.ascontiguousarray(rows).view(numpy.uint64) for rows in arrays]
    factors = make_factors(sum(rows.shape[1] for rows in words))
    ends = accumulate(rows.shape[1] for rows in words)
    sums = [
        numpy.einsum("nk,sk->ns", rows, factors[:, end - rows.shape[1] : end])
        for rows, end in zip(words, ends, strict=True)
    ]
    total: numpy.ndarray = sum(sums[1:], start=sums[0])
    return total


def make_factors(count: int) -> numpy.ndarray:
    """Two rows of `count` odd constants, always the same ones: uint64 [2, count]."""
    return _make_factors(1 << max(10, count.bit_length()))[:, :count]


@cache
def _make_factors(count: int) -> numpy.ndarray:
    factors = numpy.random.default_rng(0x5EED).integers(0, 2**63, (count, 2), dtype=numpy.uint64) * 2 + 1
    return numpy.ascontiguousarray(factors.T)
