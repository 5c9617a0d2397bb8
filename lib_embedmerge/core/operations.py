"""Arithmetic on one encoder's vectors: float32 tensors [n, width] in, new ones out, on the same device. Pure.

Element-wise work is done in float32, whose rounding IEEE 754 fixes, so every machine gives the same bytes. Lengths,
angles and projections are sums that machines take in different orders: they are done in float64 and rounded to
float32 at the end, which hides the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_PARALLEL = 1e-6
"""Sine below which two directions count as parallel: the arc between them is then a line, to float32."""

_NOTHING_LEFT = 1e-6
"""Share of a vector's length below which what a projection leaves is rounding, not direction."""


def resize(vectors: Tensor, count: int) -> Tensor:
    """The first `count` vectors, zero vectors behind where there are fewer."""
    if count <= len(vectors):
        return vectors[:count]
    return torch.cat([vectors, vectors.new_zeros(count - len(vectors), vectors.shape[1])])


def rotate(vectors: Tensor, steps: int) -> Tensor:
    """The vectors shifted in a circle, to the right for positive steps."""
    return vectors.roll(steps, dims=0) if len(vectors) else vectors


def scale(vectors: Tensor, number: float) -> Tensor:
    """Every vector times a number."""
    return vectors * number


def divide(vectors: Tensor, number: float) -> Tensor:
    """Every vector divided by a number.

    By a tensor: torch turns division by a Python number into a multiplication on CUDA, which rounds differently.
    """
    return vectors / torch.tensor(number, dtype=vectors.dtype, device=vectors.device)


def match_lengths(parts: Sequence[Tensor]) -> list[Tensor]:
    """All parts with as many vectors as the longest, zero vectors on the right."""
    counts = [part.shape[0] for part in parts]  # len() of a tensor takes twenty times as long
    if min(counts) == max(counts):
        return list(parts)
    return [resize(part, max(counts)) for part in parts]


def add(left: Tensor, right: Tensor) -> Tensor:
    """Vector by vector; the shorter is padded with zero vectors on the right."""
    left, right = match_lengths((left, right))
    return left + right


def subtract(left: Tensor, right: Tensor) -> Tensor:
    """Vector by vector; the shorter is padded with zero vectors on the right."""
    left, right = match_lengths((left, right))
    return left - right


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """One run behind the other."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def mean(parts: Sequence[Tensor]) -> Tensor:
    """The mean of several runs, vector by vector."""
    first, *rest = match_lengths(parts)
    for part in rest:
        first = first + part
    return divide(first, float(len(parts)))


def sum_rows(vectors: Tensor) -> Tensor:
    """All vectors added into one, from left to right; none of none."""
    if len(vectors) == 0:
        return vectors
    total = vectors[:1]
    for row in vectors[1:]:
        total = total + row
    return total


def average(vectors: Tensor) -> Tensor:
    """The mean of all vectors as one; none of none."""
    return divide(sum_rows(vectors), float(len(vectors))) if len(vectors) else vectors


def lerp(left: Tensor, right: Tensor, t: float) -> Tensor:
    """left * (1 - t) + right * t, which is exactly left at 0 and exactly right at 1."""
    return add(scale(left, 1.0 - t), scale(right, t))


def slerp(left: Tensor, right: Tensor, t: float) -> Tensor:
    """Along the arc between two vectors: (sin((1-t)w) left + sin(tw) right) / sin(w), w the angle between them.

    Source: K. Shoemake, Animating rotation with quaternion curves, 1985. Where there is no arc (a zero vector, the
    same or the opposite direction) the straight line stands in.
    """
    left, right = match_lengths((left, right))
    if t in (0.0, 1.0):  # the ends exactly, which the sines would round
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
    """Every vector scaled to a length; a zero vector stays."""
    doubles = vectors.double()
    lengths = doubles.norm(dim=1, keepdim=True)
    factors = torch.where(lengths > 0, length / lengths.clamp_min(1e-300), torch.zeros_like(lengths))
    return (doubles * factors).float()


def orthogonalise(vectors: Tensor, others: Tensor) -> Tensor:
    """Every vector without its projection on the span of `others`.

    The span's basis is made by Gram-Schmidt, each vector swept twice ("twice is enough": L. Giraud et al., 2005).
    """
    if not is_finite(others):
        return torch.full_like(vectors, math.nan)  # nothing is orthogonal to it
    basis: list[Tensor] = []
    for other in others.double():
        rest = _without(other[None], basis)[0]
        length = rest.norm()
        if length > _NOTHING_LEFT * other.norm():
            basis.append(rest / length)
    if not basis:
        return vectors
    doubles = vectors.double()
    rest = _without(doubles, basis)
    nothing = rest.norm(dim=1, keepdim=True) <= _NOTHING_LEFT * doubles.norm(dim=1, keepdim=True)
    return torch.where(nothing, torch.zeros_like(rest), rest).float()


def _without(vectors: Tensor, basis: list[Tensor]) -> Tensor:
    if not basis:
        return vectors
    directions = torch.stack(basis)
    for _ in range(2):
        vectors = vectors - (vectors @ directions.T) @ directions
    return vectors


def is_finite(vectors: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    # One such value spoils the sum, so a finite sum settles it; another sum may be too large only by itself.
    return math.isfinite(float(vectors.sum())) or bool(torch.isfinite(vectors).all())
