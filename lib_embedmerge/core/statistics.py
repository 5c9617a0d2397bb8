"""Figures that describe vectors, the same as in the table of the extension Embedding Merge (EM)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy

from lib_embedmerge.core.operations import ignore_overflow

_BLOCK = 256
"""Vectors that are converted to float64 at once: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class VectorStatistics:
    """Figures of one vector, or of several taken as one.

    min, max: smallest and largest value.  sum: of the values.  abs: sum of their magnitudes.  len: L2 length.
    std: standard deviation with n - 1, as in torch and EM; 0 for a single value.
    """

    min: float
    max: float
    sum: float
    abs: float
    len: float
    std: float

    def as_json(self) -> dict[str, float | None]:
        """The figures by name; None for figures that are not finite, which JSON cannot represent."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class LengthBand:
    """L2 lengths of a model's own token vectors. low: the 1st percentile.  high: the 99th percentile."""

    low: float
    mean: float
    high: float


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is NaN or infinite, which JSON cannot represent."""
    return value if value - value == 0 else None


@ignore_overflow()
def measure_vector(vectors: numpy.ndarray) -> VectorStatistics:
    """Figures of an array [width] or [n, width] with at least one value, computed in float64."""
    values = vectors.astype(numpy.float64).reshape(-1)
    return VectorStatistics(
        min=float(values.min()),
        max=float(values.max()),
        sum=float(values.sum()),
        abs=float(numpy.abs(values).sum()),
        len=math.sqrt(values @ values),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    )


@ignore_overflow()
def measure_lengths(vectors: numpy.ndarray) -> numpy.ndarray:
    """The L2 length of each vector of [n, width], computed in float64: float64 [n]."""
    squares = numpy.empty(len(vectors))
    for first in range(0, len(vectors), _BLOCK):
        values = vectors[first : first + _BLOCK].astype(numpy.float64)
        squares[first : first + _BLOCK] = numpy.einsum("ij,ij->i", values, values)
    lengths: numpy.ndarray = numpy.sqrt(squares)
    return lengths


def mean_length(vectors: numpy.ndarray) -> float:
    """Mean L2 length of vectors [n, width], computed in float64; 0 if there are none."""
    return float(measure_lengths(vectors).mean()) if len(vectors) else 0.0
