"""Figures that describe vectors, the same as in the table of the extension Embedding Merge (EM)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor


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


def measure_vector(vectors: Tensor) -> VectorStatistics:
    """Figures of a tensor [width] or [n, width] with at least one value, computed in float64."""
    values = vectors.double().flatten()
    return VectorStatistics(
        min=values.min().item(),
        max=values.max().item(),
        sum=values.sum().item(),
        abs=values.abs().sum().item(),
        len=values.norm().item(),
        std=values.std().item() if len(values) > 1 else 0.0,
    )


def mean_length(vectors: Tensor) -> float:
    """Mean L2 length of vectors [n, width], computed in float64; 0 if there are none."""
    return vectors.double().norm(dim=1).mean().item() if len(vectors) else 0.0
