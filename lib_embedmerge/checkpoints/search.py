"""Searches in a token table: the tokens closest to a vector, tokens with an equal row, and the lengths of rows.

The first search goes through the table and keeps the lengths of its rows. If the table is in a file, the second one
makes a normalised copy, which stays in memory for all further ones; a table that is in memory already is gone through
each time. The search for equal rows keeps a key of 8 bytes and an id for each row.

Products with a whole table are computed on the device of the table, by numpy or torch. What is left of them, a few rows
for each vector, is compared on the CPU.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy

from lib_embedmerge.checkpoints.directions import (
    MARGIN,
    approximate_cosines,
    find_signs,
    has_direction,
    measure_lengths,
    normalise,
    turn_cosines,
)
from lib_embedmerge.core.arrays import (
    CPU,
    Array,
    are_equal_bits,
    hash_words,
    make_factors,
    place,
    place_like,
    to_float16,
    to_numpy,
    transpose,
)
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.ports import NearestToken, Tokenizer
from lib_embedmerge.core.spelling import find_token_of_row
from lib_embedmerge.core.statistics import LengthBand

PIECE_ROWS = 1024
"""Rows of a table that are read at once: few enough that the processor's cache holds most of what is computed."""

_BLOCK = 160
"""Vectors that are multiplied with the table at once: 32 MB of cosines. All vectors that a page shows fit in it."""

_EXACT_ROWS = 4096
"""Rows that are compared exactly at once, if very many are about equally close."""

_KEPT_RESULTS = 1000
"""Vectors whose closest rows are kept, because people look at the same words again and again."""


class Table(Protocol):
    """A token table with `count` rows of `width` values."""

    @property
    def count(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these ids as float32 [len(ids), width]."""
        ...

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The whole table, PIECE_ROWS at a time: (id of the first row, float32 [n, width])."""
        ...


class TableSearch:
    """Searches in one token table. They never find rows that are zero or contain a value that is not finite."""

    def __init__(self, table: Table, *, copy_on: str | None) -> None:
        """copy_on: the device on which a normalised copy of the table is kept from the second search on, `cpu` or
        `cuda:0`, with 4 bytes for each value; None to keep none. The results are equal to the last bit.
        """
        self.table = table
        self._copy_on = copy_on
        self._lock = threading.Lock()
        self._is_searched = False
        self._directions: Array | None = None
        self._lengths: numpy.ndarray | None = None
        self._band: LengthBand | None = None
        self._nearest: dict[bytes, list[tuple[int, float]]] = {}
        self._keys: tuple[numpy.ndarray, numpy.ndarray] | None = None

    @ignore_overflow()
    def nearest(self, vectors: Array, count: int) -> list[list[tuple[int, float]]]:
        """For each row of float32 [n, width] the `count` closest rows as (id, cosine), closest first, equal ones by id.

        The list for a vector that is zero or not finite is empty.
        """
        count = min(count, self.table.count)
        if count < 1:
            return [[] for _ in range(len(vectors))]
        rows = numpy.ascontiguousarray(to_numpy(vectors))
        keys = [hash_words(row) + count.to_bytes(4, "little") for row in rows]
        missing = {key: index for index, key in enumerate(keys) if key not in self._nearest}
        self._search_nearest(rows[list(missing.values())], list(missing), count)
        found = [self._nearest[key] for key in keys]
        while len(self._nearest) > _KEPT_RESULTS:
            self._nearest.pop(next(iter(self._nearest)))
        return found

    def _search_nearest(self, rows: numpy.ndarray, keys: Sequence[bytes], count: int) -> None:
        """Find the `count` rows of the table closest to each of `rows`, and keep them under its key.

        A vector and its opposite, which a pursuit asks for together, are multiplied with the table once.
        """
        signs = find_signs(rows)
        asked: dict[bytes, list[int]] = {}
        for index, row in enumerate(rows * signs[:, None]):
            asked.setdefault(row.tobytes(), []).append(index)
        groups = list(asked.values())
        for first in range(0, len(groups), _BLOCK):
            block = groups[first : first + _BLOCK]
            vectors = rows[[indices[0] for indices in block]]
            queries = normalise(vectors, measure_lengths(vectors))
            for indices, query, cosines in zip(block, queries, self._compute_cosines(queries), strict=True):
                for index in indices:
                    turn = signs[index] * signs[indices[0]]
                    found = self._rank(query * turn, turn_cosines(cosines, turn), count) if query.any() else []
                    self._nearest[keys[index]] = found

    def nearest_tokens(self, vectors: Array, count: int, tokenizer: Tokenizer) -> list[list[NearestToken]]:
        """Like `nearest`, with the tokens that belong to the rows in the vocabulary of `tokenizer`."""
        return [
            [NearestToken(row, find_token_of_row(row, tokenizer), cosine) for row, cosine in best]
            for best in self.nearest(vectors, count)
        ]

    def find_equal_rows(self, vectors: Array) -> list[int | None]:
        """For each row of [n, width] the lowest id whose row is equal in float16, or None."""
        if len(vectors) == 0:
            return []
        keys, ids = self._load_keys()
        halves = to_float16(to_numpy(vectors))
        usable = _is_usable(halves)
        wanted = _hash_rows(halves)
        first, last = numpy.searchsorted(keys, wanted, "left"), numpy.searchsorted(keys, wanted, "right")
        return [
            self._find_first_equal(half, ids[start:end]) if use else None
            for half, use, start, end in zip(halves, usable.tolist(), first, last, strict=True)
        ]

    def length_band(self) -> LengthBand:
        """L2 lengths of the finite rows: percentiles 1 and 99 with linear interpolation, and the mean as float32.

        All three are NaN if no row is finite.
        """
        if self._band is None:
            self._band = _make_band(self._load_lengths())
        return self._band

    def _compute_cosines(self, queries: numpy.ndarray) -> numpy.ndarray:
        """float32 [len(queries), count]: the cosines with all rows, within MARGIN of the exact ones.

        Minus infinity for rows without a direction.  queries: float32 [n, width] of length 1.
        """
        if self._copy_on and self._is_searched:
            self._load_directions()
        self._is_searched = True
        if self._directions is not None:
            cosines = to_numpy(place_like(queries, self._directions) @ transpose(self._directions))
        else:
            cosines = self._go_through_table(queries)
        cosines[:, ~has_direction(self._load_lengths())] = -numpy.inf  # their cosine of 0 must not beat a negative one
        return cosines

    def _go_through_table(self, queries: numpy.ndarray) -> numpy.ndarray:
        """float32 [len(queries), count]: the cosines with all rows. Measures the lengths of the rows, too."""
        cosines = numpy.empty((len(queries), self.table.count), numpy.float32)
        known = self._lengths  # looked at once, because another thread may measure them meanwhile
        lengths = numpy.empty(self.table.count) if known is None else known
        for first, rows in self.table.pieces():
            piece = slice(first, first + len(rows))
            if known is None:
                lengths[piece] = measure_lengths(rows)
            cosines[:, piece] = to_numpy(approximate_cosines(queries, rows, lengths[piece]))
        self._lengths = lengths
        return cosines

    def _rank(self, query: numpy.ndarray, cosines: numpy.ndarray, count: int) -> list[tuple[int, float]]:
        """(id, cosine) of the `count` rows that are closest to one direction, closest first.

        cosines: its cosines with all rows, from `_compute_cosines`.
        """
        worst = cosines.max() if count == 1 else numpy.partition(cosines, -count)[-count]
        candidates = numpy.flatnonzero((cosines >= worst - MARGIN) & (cosines > -numpy.inf))
        # A matrix product may sum equal rows in different orders. Computed row by row, equal rows get equal cosines.
        ranking: list[tuple[float, int]] = []
        for first in range(0, len(candidates), _EXACT_ROWS):
            ids = candidates[first : first + _EXACT_ROWS]
            ranking += zip((-self._compute_exact_cosines(query, ids)).tolist(), ids.tolist(), strict=True)
        ranking.sort()
        return [(row, -negative) for negative, row in ranking[:count]]

    def _compute_exact_cosines(self, query: numpy.ndarray, ids: numpy.ndarray) -> numpy.ndarray:
        """float64 [len(ids)]: the exact cosines of one direction with some rows."""
        if self._directions is not None:
            rows = to_numpy(self._directions[ids])
        else:
            rows = normalise(self.table.read(ids.tolist()), self._load_lengths()[ids])
        products = rows.astype(numpy.float64) * query.astype(numpy.float64)
        cosines: numpy.ndarray = numpy.clip(products.sum(axis=1), -1.0, 1.0)
        return cosines

    def _load_directions(self) -> None:
        """Make the normalised copy if there is none: float32 [count, width]; zeros for rows without a direction."""
        with self._lock:
            if self._directions is None:
                directions, self._lengths = self._read_directions()
                self._directions = place(directions, self._copy_on or CPU)

    def _read_directions(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Read the table: its rows normalised, and their lengths as float64 [count]."""
        directions = numpy.empty((self.table.count, self.table.width), numpy.float32)
        lengths = numpy.empty(self.table.count)
        for first, piece in self.table.pieces():
            rows = to_numpy(piece)
            place = slice(first, first + len(rows))
            lengths[place] = measure_lengths(rows)
            directions[place] = normalise(rows, lengths[place])
        return directions, lengths

    def _load_lengths(self) -> numpy.ndarray:
        """L2 lengths of all rows, float64 [count]. Read the first time."""
        with self._lock:
            if self._lengths is None:
                self._lengths = numpy.concatenate([measure_lengths(rows) for _, rows in self.table.pieces()])
            return self._lengths

    def _load_keys(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(keys, ids) of all usable rows, sorted by key, then by id. Read the first time."""
        with self._lock:
            if self._keys is None:
                keys, ids = [], []
                for first, rows in self.table.pieces():
                    halves = to_float16(to_numpy(rows))
                    usable = _is_usable(halves)
                    keys.append(_hash_rows(halves)[usable])
                    ids.append(first + numpy.flatnonzero(usable))
                all_keys, all_ids = numpy.concatenate(keys), numpy.concatenate(ids)
                order = numpy.argsort(all_keys, kind="stable")
                self._keys = all_keys[order], all_ids[order]
            return self._keys

    def _find_first_equal(self, half: numpy.ndarray, ids: numpy.ndarray) -> int | None:
        """The first of these ids whose row equals `half` to the last bit, or None. Reads the rows from the table."""
        for row in ids.tolist():
            if are_equal_bits(to_float16(self.table.read([row])[0]), half).all():
                return int(row)
        return None


def _make_band(lengths: numpy.ndarray) -> LengthBand:
    """The percentiles and the mean of the finite lengths."""
    finite = lengths[numpy.isfinite(lengths)]
    if len(finite) == 0:
        return LengthBand(math.nan, math.nan, math.nan)
    low, high = numpy.quantile(finite, [0.01, 0.99]).tolist()
    # With fsum, which is exact, and float32 this is the same number as TextEncoder.mean_length.
    with numpy.errstate(over="ignore"):
        mean = float(numpy.float32(math.fsum(finite.tolist()) / len(finite)))
    return LengthBand(low, mean, high)


def _is_usable(halves: numpy.ndarray) -> numpy.ndarray:
    """bool [n]: whether rows of float16 [n, width] are finite and not zero."""
    bits = halves.view(numpy.uint16) & 0x7FFF  # comparing bits takes a tenth of the time of comparing float16
    usable: numpy.ndarray = (bits < 0x7C00).all(axis=1) & (bits != 0).any(axis=1)
    return usable


def _hash_rows(halves: numpy.ndarray) -> numpy.ndarray:
    """A uint64 key for each row of float16 [n, width]. Equal rows have equal keys, different rows hardly ever."""
    words = numpy.ascontiguousarray(halves).view(numpy.uint64)
    keys: numpy.ndarray = words @ make_factors(words.shape[1])[0]
    return keys
