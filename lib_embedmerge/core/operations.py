"""Arithmetic on the vectors of one text encoder: float32 tensors [n, width] in, float32 out, on the same device.

The functions have no side effects. Element-wise arithmetic is float32, whose rounding IEEE 754 defines, so every
machine gives the same bytes. Lengths, angles and projections are sums, which machines add up in different orders: they
are float64, rounded to float32 at the end, which hides the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_PARALLEL = 1e-6
"""Sine of the angle below which two directions count as parallel: to float32 the arc between them is a line."""

_NOTHING_LEFT = 1e-6
"""If less than this share of a vector's length is left after a projection, the rest is only rounding errors."""


def resize(vectors: Tensor, count: int) -> Tensor:
    """The first `count` vectors, followed by zero vectors if there are fewer."""
    if count <= len(vectors):
        return vectors[:count]
    return torch.cat([vectors, vectors.new_zeros(count - len(vectors), vectors.shape[1])])


def rotate(vectors: Tensor, steps: int) -> Tensor:
    """The vectors shifted in a circle: to the right if `steps` is positive, else to the left."""
    return vectors.roll(steps, dims=0) if len(vectors) else vectors


def scale(vectors: Tensor, number: float) -> Tensor:
    """Every vector times a number."""
    return vectors * number


def divide(vectors: Tensor, number: float) -> Tensor:
    """Every vector divided by a number.

    The number becomes a tensor, because on CUDA torch replaces division by a Python number by a multiplication, which
    rounds differently.
    """
    return vectors / torch.tensor(number, dtype=vectors.dtype, device=vectors.device)


def match_lengths(parts: Sequence[Tensor]) -> list[Tensor]:
    """All parts with as many vectors as the longest one, filled up with zero vectors at the end."""
    counts = [part.shape[0] for part in parts]  # len() of a tensor takes twenty times as long
    if min(counts) == max(counts):
        return list(parts)
    return [resize(part, max(counts)) for part in parts]


def add(left: Tensor, right: Tensor) -> Tensor:
    """The sum, vector by vector; the shorter tensor is filled up with zero vectors at the end."""
    left, right = match_lengths((left, right))
    return left + right


def subtract(left: Tensor, right: Tensor) -> Tensor:
    """left - right, vector by vector; the shorter tensor is filled up with zero vectors at the end."""
    left, right = match_lengths((left, right))
    return left - right


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """The vectors of all parts, one part after the other."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def mean(parts: Sequence[Tensor]) -> Tensor:
    """The mean of all parts, vector by vector; shorter parts are filled up with zero vectors at the end."""
    first, *rest = match_lengths(parts)
    for part in rest:
        first = first + part
    return divide(first, float(len(parts)))


def sum_rows(vectors: Tensor) -> Tensor:
    """The sum of all vectors, added from left to right, as one vector [1, width]; [0, width] if there are none."""
    if len(vectors) == 0:
        return vectors
    total = vectors[:1]
    for row in vectors[1:]:
        total = total + row
    return total


def average(vectors: Tensor) -> Tensor:
    """The mean of all vectors as one vector [1, width]; [0, width] if there are none."""
    return divide(sum_rows(vectors), float(len(vectors))) if len(vectors) else vectors


def lerp(left: Tensor, right: Tensor, t: float) -> Tensor:
    """left * (1 - t) + right * t, vector by vector: exactly `left` for t = 0 and exactly `right` for t = 1."""
    return add(scale(left, 1.0 - t), scale(right, t))


def slerp(left: Tensor, right: Tensor, t: float) -> Tensor:
    """Spherical interpolation, vector by vector: (sin((1-t)w) left + sin(tw) right) / sin(w), with the angle w.

    Source: K. Shoemake, Animating rotation with quaternion curves, 1985. If there is no arc (a zero vector, or vectors
    of the same or the opposite direction), it is the straight line, as in `lerp`.
    """
    left, right = match_lengths((left, right))
    if t in (0.0, 1.0):  # exact at the ends, which the sines would round
        return right if t else left
    a, b = left.double(), right.double()
    unit_a, unit_b = torch.nn.functional.normalize(a, eps=1e-300), torch.nn.functional.normalize(b, eps=1e-300)
    # W. Kahan's formula for the angle: acos loses half the digits near 0 and pi.
    angle = 2 * torch.atan2((unit_a - unit_b).norm(dim=1), (unit_a + unit_b).norm(dim=1))
    sine = torch.sin(angle)
    curved = (sine > _PARALLEL) & a.any(dim=1) & b.any(dim=1)
    divisor = torch.where(curved, sine, torch.ones_like(sine))
    left_share = torch.where(curved, torch.sin((1.0 - t) * angle) / divisor, torch.full_like(sine, 1.0 - t))
    right_share = torch.where(curved, torch.sin(t * angle) / divisor, torch.full_like(sine, t))
    return (left_share[:, None] * a + right_share[:, None] * b).float()


def normalise(vectors: Tensor, length: float) -> Tensor:
    """Every vector scaled to an L2 length; a zero vector stays zero."""
    doubles = vectors.double()
    lengths = doubles.norm(dim=1, keepdim=True)
    factors = torch.where(lengths > 0, length / lengths.clamp_min(1e-300), torch.zeros_like(lengths))
    return (doubles * factors).float()


def orthogonalise(vectors: Tensor, others: Tensor) -> Tensor:
    """Every vector without its projection onto the span of `others`; NaN everywhere if `others` is not finite.

    The basis of the span comes from Gram-Schmidt, which goes over each vector twice ("twice is enough": L. Giraud et
    al., 2005).
    """
    if not is_finite(others):
        return torch.full_like(vectors, math.nan)  # nothing is orthogonal to such vectors
    basis: list[Tensor] = []
    for other in others.double():
        rest = _remove_projections(other[None], basis)[0]
        length = rest.norm()
        if length > _NOTHING_LEFT * other.norm():
            basis.append(rest / length)
    if not basis:
        return vectors
    doubles = vectors.double()
    rest = _remove_projections(doubles, basis)
    nothing = rest.norm(dim=1, keepdim=True) <= _NOTHING_LEFT * doubles.norm(dim=1, keepdim=True)
    return torch.where(nothing, torch.zeros_like(rest), rest).float()


def _remove_projections(vectors: Tensor, basis: list[Tensor]) -> Tensor:
    """The vectors without their projections onto each vector of an orthonormal basis. float64 in and out."""
    if not basis:
        return vectors
    directions = torch.stack(basis)
    for _ in range(2):
        vectors = vectors - (vectors @ directions.T) @ directions
    return vectors


def is_finite(vectors: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    # A sum with NaN or infinity is never finite, so a finite sum proves it; a sum can also overflow by itself.
    return math.isfinite(float(vectors.sum())) or bool(torch.isfinite(vectors).all())
