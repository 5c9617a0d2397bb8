"""Arithmetic on the vectors of one text encoder: float32 [n, width] in, float32 out, on the same device.

The arrays are of numpy or of torch (core/arrays.py), and the functions have no side effects. Element-wise arithmetic is
float32, whose rounding IEEE 754 defines, so every machine gives the same bytes. Lengths, angles and projections are
sums, which machines add up in different orders: they are float64, rounded to float32 at the end, which hides the order.

Results that are not finite are no errors here; `ignore_overflow` keeps numpy from warning of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from lib_embedmerge.core.arrays import Array, find_library, place_like, to_numpy, transpose

_PARALLEL = 1e-6
"""Sine of the angle below which two directions count as parallel: to float32 the arc between them is a line."""

_NOTHING_LEFT = 1e-6
"""If less than this share of a vector's length is left after a projection, the rest is only rounding errors."""

_TINY = 1e-300
"""Added to lengths before they divide; far below the square of any float32."""


def ignore_overflow() -> numpy.errstate:
    """A context in which numpy gives infinity and NaN without a warning. Also a decorator."""
    return numpy.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


def resize(vectors: Array, count: int) -> Array:
    """The first `count` vectors, followed by zero vectors if there are fewer."""
    rows, width = vectors.shape
    if count <= rows:
        first: Array = vectors[:count]
        return first
    library = find_library(vectors)
    longer: Array = library.concatenate([vectors, library.zeros(count - rows, width, vectors)])
    return longer


def rotate(vectors: Array, steps: int) -> Array:
    """The vectors shifted in a circle: to the right if `steps` is positive, else to the left."""
    rows = vectors.shape[0]
    # Without the remainder, numpy would refuse a number of steps that is longer than 64 bits.
    rotated: Array = find_library(vectors).roll(vectors, steps % rows) if rows else vectors
    return rotated


def scale(vectors: Array, number: float) -> Array:
    """Every vector times a number."""
    scaled: Array = vectors * find_library(vectors).number(number, vectors)
    return scaled


def divide(vectors: Array, number: float) -> Array:
    """Every vector divided by a number."""
    divided: Array = vectors / find_library(vectors).number(number, vectors)
    return divided


def match_lengths(parts: Sequence[Array]) -> list[Array]:
    """All parts with as many vectors as the longest one, filled up with zero vectors at the end."""
    counts = [part.shape[0] for part in parts]  # len() of a tensor takes twenty times as long
    if min(counts) == max(counts):
        return list(parts)
    return [resize(part, max(counts)) for part in parts]


def add(left: Array, right: Array) -> Array:
    """The sum, vector by vector; the shorter array is filled up with zero vectors at the end."""
    left, right = match_lengths((left, right))
    total: Array = left + right
    return total


def subtract(left: Array, right: Array) -> Array:
    """left - right, vector by vector; the shorter array is filled up with zero vectors at the end."""
    left, right = match_lengths((left, right))
    difference: Array = left - right
    return difference


def concatenate(parts: Sequence[Array]) -> Array:
    """The vectors of all parts, one part after the other."""
    joined: Array = find_library(parts[0]).concatenate(parts) if len(parts) > 1 else parts[0]
    return joined


def mean(parts: Sequence[Array]) -> Array:
    """The mean of all parts, vector by vector; shorter parts are filled up with zero vectors at the end."""
    first, *rest = match_lengths(parts)
    for part in rest:
        first = first + part
    return divide(first, float(len(parts)))


def sum_rows(vectors: Array) -> Array:
    """The sum of all vectors, added from left to right, as one vector [1, width]; [0, width] if there are none."""
    if vectors.shape[0] == 0:
        return vectors
    total: Array = vectors[:1]
    for row in vectors[1:]:
        total = total + row
    return total


def average(vectors: Array) -> Array:
    """The mean of all vectors as one vector [1, width]; [0, width] if there are none."""
    count = vectors.shape[0]
    return divide(sum_rows(vectors), float(count)) if count else vectors


def choose_strongest(vectors: Array) -> Array:
    """In each dimension the value with the greatest magnitude, the first of equal ones, as one vector [1, width].

    [0, width] if there are no vectors.
    """
    if vectors.shape[0] == 0:
        return vectors
    library = find_library(vectors)
    strongest: Array = vectors[:1]
    for index in range(1, vectors.shape[0]):
        row = vectors[index : index + 1]
        strongest = library.where(library.absolute(row) > library.absolute(strongest), row, strongest)
    return strongest


def find_main_direction(vectors: Array) -> Array:
    """The direction that all vectors have most of in common, at their mean length, as one vector [1, width].

    It is the first right singular vector of the matrix (the first principal component, about the origin), in the sense
    in which the sum of the vectors points. [0, width] if there are no vectors; zero if all are zero.
    """
    if vectors.shape[0] == 0:
        return vectors
    library = find_library(vectors)
    rows = library.float64(vectors)
    # The eigenvector of the products of n vectors is found by numpy alone, so that all devices give the same.
    products = to_numpy(rows @ transpose(rows))
    if not numpy.isfinite(products).all():
        return scale(vectors[:1], math.nan)
    shares = numpy.linalg.eigh(products)[1][:, -1:]
    direction = (rows * place_like(shares, rows)).sum(0)[None]
    length = float(library.lengths(direction)[0])
    if length == 0.0:
        return scale(vectors[:1], 0.0)
    sign = -1.0 if float((rows.sum(0)[None] * direction).sum()) < 0 else 1.0
    mean_length = float(to_numpy(library.lengths(rows)).mean())
    main: Array = library.float32(direction * (sign * mean_length / length))
    return main


def lerp(left: Array, right: Array, t: float) -> Array:
    """left * (1 - t) + right * t, vector by vector: exactly `left` for t = 0 and exactly `right` for t = 1."""
    return add(scale(left, 1.0 - t), scale(right, t))


def slerp(left: Array, right: Array, t: float) -> Array:
    """Spherical interpolation, vector by vector: (sin((1-t)w) left + sin(tw) right) / sin(w), with the angle w.

    Source: K. Shoemake, Animating rotation with quaternion curves, 1985. If there is no arc (a zero vector, or vectors
    of the same or the opposite direction), it is the straight line, as in `lerp`.
    """
    left, right = match_lengths((left, right))
    if t in (0.0, 1.0):  # exact at the ends, which the sines would round
        return right if t else left
    library = find_library(left)
    a, b = library.float64(left), library.float64(right)
    left_length, right_length = library.lengths(a), library.lengths(b)
    unit_a, unit_b = a / (left_length + _TINY)[:, None], b / (right_length + _TINY)[:, None]
    # W. Kahan's formula for the angle: acos loses half the digits near 0 and pi.
    angle = 2 * library.arctan2(library.lengths(unit_a - unit_b), library.lengths(unit_a + unit_b))
    sine = library.sin(angle)
    curved = (sine > _PARALLEL) & library.any_in_row(a != 0) & library.any_in_row(b != 0)
    divisor = library.where(curved, sine, library.full(sine, 1.0))
    left_share = library.where(curved, library.sin((1.0 - t) * angle) / divisor, library.full(sine, 1.0 - t))
    right_share = library.where(curved, library.sin(t * angle) / divisor, library.full(sine, t))
    between: Array = library.float32(left_share[:, None] * a + right_share[:, None] * b)
    return between


def normalise(vectors: Array, length: float) -> Array:
    """Every vector scaled to an L2 length; a zero vector stays zero."""
    library = find_library(vectors)
    doubles = library.float64(vectors)
    lengths = library.lengths(doubles)
    factors = library.where(lengths > 0, length / (lengths + _TINY), library.full(lengths, 0.0))
    scaled: Array = library.float32(doubles * factors[:, None])
    return scaled


def orthogonalise(vectors: Array, others: Array) -> Array:
    """Every vector without its projection onto the span of `others`; NaN everywhere if `others` is not finite.

    The basis of the span comes from Gram-Schmidt, which goes over each vector twice ("twice is enough": L. Giraud et
    al., 2005).
    """
    library = find_library(vectors)
    if not is_finite(others):
        nowhere: Array = library.full(vectors, math.nan)  # nothing is orthogonal to such vectors
        return nowhere
    basis: list[Array] = []
    for other in library.float64(others):
        rest = _remove_projections(other[None], basis)
        length = library.lengths(rest)
        if bool(length[0] > _NOTHING_LEFT * library.lengths(other[None])[0]):
            basis.append((rest / length)[0])
    if not basis:
        return vectors
    doubles = library.float64(vectors)
    rest = _remove_projections(doubles, basis)
    nothing = (library.lengths(rest) <= _NOTHING_LEFT * library.lengths(doubles))[:, None]
    orthogonal: Array = library.float32(library.where(nothing, library.full(rest, 0.0), rest))
    return orthogonal


def _remove_projections(vectors: Array, basis: list[Array]) -> Array:
    """The vectors without their projections onto each vector of an orthonormal basis. float64 in and out."""
    if not basis:
        return vectors
    directions = find_library(vectors).stack(basis)
    for _ in range(2):
        vectors = vectors - (vectors @ directions.T) @ directions
    return vectors


def is_finite(vectors: Array) -> bool:
    """Whether no value is NaN or infinite."""
    return bool(find_library(vectors).is_finite(vectors).all())
