"""Find all rows of a token table whose direction is close to that of some vectors, in one pass through the table.

`TableSearch.nearest` answers for a page, a few vectors at a time, and ranks the whole table for each. This is for the
thousands of vectors of a folder: the table is read once for all of them, and only rows above a bound are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy

from lib_embedmerge.checkpoints.directions import measure_lengths, normalise
from lib_embedmerge.core.arrays import Array, place_like, to_numpy, transpose
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.ports import CloseRows

_BLOCK = 4096
"""Vectors that are multiplied with a piece of the table at once: 16 MB of cosines."""


@ignore_overflow()
def find_close_rows(pieces: Iterable[tuple[int, Array]], vectors: numpy.ndarray, least: float, most: int) -> CloseRows:
    """The rows whose cosine with a vector is at least `least`, closest first, at most `most` for each vector.

    pieces: the whole table, (id of the first row, float32 [m, width]).  vectors: float32 [n, width]. Neither a vector
    nor a row that is zero or not finite is close to anything.
    """
    queries = normalise(vectors, measure_lengths(vectors))
    found: list[tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]] = []
    for first, piece in pieces:
        rows = to_numpy(piece)
        directions = place_like(transpose(normalise(rows, measure_lengths(rows))), piece)
        for start in range(0, len(queries), _BLOCK):
            block = place_like(queries[start : start + _BLOCK], piece)
            cosines = to_numpy(block @ directions)
            chosen, places = numpy.nonzero(cosines >= least)  # NaN is never at least anything
            if len(chosen):
                found.append((chosen + start, places + first, cosines[chosen, places]))
    if not found:
        empty = numpy.empty(0, numpy.intp)
        return CloseRows(empty, empty, numpy.empty(0, numpy.float32))
    indices, ids, cosines = (numpy.concatenate(parts) for parts in zip(*found, strict=True))
    return _order(indices, ids, cosines, most)


def _order(vectors: numpy.ndarray, ids: numpy.ndarray, cosines: numpy.ndarray, most: int) -> CloseRows:
    """The pairs sorted by vector, then from the closest row on, at most `most` of each vector."""
    order = numpy.lexsort((ids, -cosines, vectors))
    vectors, ids, cosines = vectors[order], ids[order], cosines[order]
    begins = numpy.searchsorted(vectors, vectors, "left")
    kept = numpy.arange(len(vectors)) - begins < most
    return CloseRows(vectors[kept], ids[kept], numpy.clip(cosines[kept], -1.0, 1.0))
