"""Numbers as a file stores them, in any dtype of the safetensors format, as arrays of numpy.

numpy has no bfloat16 and no fp8, so these are kept as unsigned integers with the same bits, and `to_floats` converts
them. Sources: bfloat16 is the upper half of a float32; fp8: P. Micikevicius et al., FP8 Formats for Deep Learning,
2022; E8M0: the OCP Microscaling Formats specification, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy

from lib_embedmerge.core.arrays import to_float32

_NUMPY_TYPES = MappingProxyType(
    {
        "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4", "U32": "<u4",
        "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8", "C64": "<c8",
    }
)  # fmt: skip
"""dtype -> the type of numpy for the same numbers."""

_AS_INTEGERS = MappingProxyType({"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1"})
"""dtype that numpy lacks -> the type of integers with the same bits."""

BITS_ONLY = frozenset(_AS_INTEGERS)
"""The dtypes that numpy lacks."""

_NAMES = MappingProxyType({numpy.dtype(spelled): name for name, spelled in _NUMPY_TYPES.items()})


def find_numpy_type(dtype: str) -> numpy.dtype | None:
    """The type of numpy in which numbers of this dtype are kept; None for a dtype that cannot be read."""
    spelled = _NUMPY_TYPES.get(dtype) or _AS_INTEGERS.get(dtype)
    return numpy.dtype(spelled) if spelled else None


@dataclass(frozen=True, eq=False)
class StoredValues:
    """Numbers of a tensor in a file.

    dtype: as safetensors spells it, `F16`, `BF16`.
    bits: an array of any shape, of the type that `find_numpy_type` gives for the dtype.
    """

    dtype: str
    bits: numpy.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    def reshape(self, *shape: int) -> StoredValues:
        """The same numbers in another shape."""
        return replace(self, bits=self.bits.reshape(shape))

    def to_floats(self) -> numpy.ndarray:
        """The numbers in the narrowest type of numpy that holds all of them: float16, float32 or float64.

        An array of numpy's own floating-point numbers is returned as it is, not as a copy.
        """
        if self.dtype in {"F16", "F32", "F64"}:
            return self.bits
        if self.dtype == "BF16":
            values: numpy.ndarray = (self.bits.astype(numpy.uint32) << 16).view(numpy.float32)
            return values
        if self.dtype in _FP8:
            floats: numpy.ndarray = _make_table(self.dtype)[self.bits]
            return floats
        return self.bits.astype(numpy.float32)

    def to_float32(self) -> numpy.ndarray:
        """The numbers as float32, as a copy. Numbers that are too large become infinite."""
        return self.bits.copy() if self.dtype == "F32" else to_float32(self.to_floats())

    def view_bytes(self) -> memoryview:
        """The bytes in the file, little-endian. They share the memory of the numbers if these lie one after another."""
        return numpy.ascontiguousarray(self.bits).reshape(-1).view(numpy.uint8).data


def store(values: numpy.ndarray) -> StoredValues:
    """An array of numpy as it is stored. KeyError for a type that no file has, such as text."""
    return StoredValues(_NAMES[values.dtype], values)


def read_values(dtype: str, data: bytes | bytearray | memoryview) -> StoredValues:
    """The numbers in some bytes, 1-D, which share their memory. KeyError for a dtype that cannot be read."""
    spelled = _NUMPY_TYPES.get(dtype) or _AS_INTEGERS[dtype]
    return StoredValues(dtype, numpy.frombuffer(data, dtype=spelled))


def join_rows(parts: Sequence[StoredValues]) -> StoredValues:
    """The rows of several tables [n, width] in one, in a dtype that holds all of their values."""
    if len(parts) == 1:
        return parts[0]
    if len({part.dtype for part in parts}) == 1:
        return StoredValues(parts[0].dtype, numpy.concatenate([part.bits for part in parts]))
    return store(numpy.concatenate([part.to_float32() if part.dtype != "F64" else part.bits for part in parts]))


def _decode_e4m3(byte: int) -> float:
    """Four bits of exponent, three of mantissa, no infinity."""
    exponent, mantissa = byte >> 3 & 15, byte & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    return math.ldexp(8 + mantissa, exponent - 10) if exponent else math.ldexp(mantissa, -9)


def _decode_e5m2(byte: int) -> float:
    """Five bits of exponent, two of mantissa; the upper byte of a float16."""
    exponent, mantissa = byte >> 2 & 31, byte & 3
    if exponent == 31:
        return math.nan if mantissa else math.inf
    return math.ldexp(4 + mantissa, exponent - 17) if exponent else math.ldexp(mantissa, -16)


def _decode_e8m0(byte: int) -> float:
    """A power of two without a sign."""
    return math.nan if byte == 255 else math.ldexp(1.0, byte - 127)


_FP8: MappingProxyType[str, Callable[[int], float]] = MappingProxyType(
    {"F8_E4M3": _decode_e4m3, "F8_E5M2": _decode_e5m2, "F8_E8M0": _decode_e8m0}
)


@cache
def _make_table(dtype: str) -> numpy.ndarray:
    """The 256 numbers of an fp8 dtype as float32, by their bits."""
    decode = _FP8[dtype]
    signed = dtype != "F8_E8M0"
    return numpy.array(
        [(-decode(byte & 127) if byte > 127 else decode(byte)) if signed else decode(byte) for byte in range(256)],
        dtype=numpy.float32,
    )
