"""Directions of vectors: their lengths, the vectors at length 1, and cosines with the rows of a token table.

A vector has no direction if it is zero or not finite. Nothing overflows or underflows, whatever the lengths.
"""

from __future__ import annotations

import numpy

from lib_embedmerge.core import statistics
from lib_embedmerge.core.arrays import Array, place_like, to_numpy, transpose

MARGIN = 1e-5
"""Largest error of a cosine from a matrix product."""

_UNDERFLOW = 1e-18
"""Products of two lengths above this and below its inverse neither underflow nor overflow in float32."""


def measure_lengths(rows: Array) -> numpy.ndarray:
    """L2 lengths of the rows of float32 [n, width] as float64 [n], which neither overflow nor underflow.

    Always measured by numpy, because torch adds up in another order: so the results are equal wherever a table lies.
    """
    return statistics.measure_lengths(to_numpy(rows))


def find_signs(rows: numpy.ndarray) -> numpy.ndarray:
    """float32 [n]: 1 or -1 for each vector of [n, width], 1 for one of a vector and its opposite."""
    first = rows[numpy.arange(len(rows)), (rows != 0).argmax(axis=1)]
    signs: numpy.ndarray = numpy.where(first < 0, numpy.float32(-1), numpy.float32(1))
    return signs


def turn_cosines(cosines: numpy.ndarray, turn: numpy.float32) -> numpy.ndarray:
    """The cosines of a direction, or of its opposite if `turn` is -1. Rows without a direction keep minus infinity."""
    return cosines if turn > 0 else numpy.where(cosines == -numpy.inf, cosines, -cosines)


def has_direction(lengths: numpy.ndarray) -> numpy.ndarray:
    """bool [n]: whether rows of these lengths can be normalised, because the length is finite and not zero."""
    usable: numpy.ndarray = numpy.isfinite(lengths) & (lengths > 0)
    return usable


def _is_usual(lengths: numpy.ndarray) -> numpy.ndarray:
    """bool [n]: whether rows of these lengths can be divided and multiplied in float32."""
    usual: numpy.ndarray = (lengths > _UNDERFLOW) & (lengths < 1 / _UNDERFLOW)
    return usual


def normalise(rows: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """The rows of float32 [n, width] normalised to length 1; zeros for rows that have no direction."""
    usual = _is_usual(lengths)
    directions = rows / numpy.where(usual, lengths, 1.0).astype(numpy.float32)[:, None]
    others = numpy.flatnonzero(~usual & (lengths != 0))
    if len(others):
        usable = has_direction(lengths[others])
        divided = rows[others].astype(numpy.float64) / numpy.where(usable, lengths[others], 1.0)[:, None]
        directions[others] = numpy.where(usable[:, None], divided, 0.0)
    return directions


def approximate_cosines(queries: numpy.ndarray, rows: Array, lengths: numpy.ndarray) -> Array:
    """float32 [len(queries), n]: cosines of directions with rows, computed on the device of the rows.

    They are within MARGIN of the exact ones; those of rows without a direction may be anything.
    Rows of usual lengths are multiplied as they are, which takes a third of the time of normalising them.
    """
    on_device = place_like(queries, rows)
    if _is_usual(lengths[has_direction(lengths)]).all():
        cosines: Array = on_device @ transpose(rows) / place_like(lengths.astype(numpy.float32), rows)
    else:
        cosines = on_device @ transpose(place_like(normalise(to_numpy(rows), lengths), rows))
    return cosines
