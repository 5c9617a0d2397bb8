"""The figures that describe vectors, as EM's table has them; returns numbers, draws nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor


@dataclass(frozen=True)
class VectorStatistics:
    """Figures of one vector, or of several taken together.

    min, max: extremes.  sum, abs: of the values, and of their magnitudes.  len: L2 length.
    std: standard deviation with n - 1, as torch and EM take it; 0 for a single value.
    """

    min: float
    max: float
    sum: float
    abs: float
    len: float
    std: float

    def as_json(self) -> dict[str, float | None]:
        """The figures by name; None for what is not finite, which JSON cannot hold."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class LengthBand:
    """L2 lengths of a model's own token vectors: the 1st percentile, the mean, the 99th percentile."""

    low: float
    mean: float
    high: float


def finite_or_none(value: float) -> float | None:
    """The value, or None where it is NaN or infinite, which JSON cannot hold."""
    return value if value - value == 0 else None


def measure_vector(vectors: Tensor) -> VectorStatistics:
    """Figures of a tensor [width] or [n, width] with at least one value, taken in float64."""
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
    """The mean L2 length of vectors [n, width]; 0 for none."""
    return vectors.double().norm(dim=1).mean().item() if len(vectors) else 0.0
