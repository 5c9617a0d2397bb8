"""Searches in a token table: the tokens closest to a vector, tokens with an equal row, and the lengths of rows.

A table in a file is read once for each kind of search, and a normalised copy stays in memory. For a table that is in
memory already, each search goes through the table again, and only the lengths of its rows are kept (`keep`). In both
cases the search for equal rows keeps a key of 8 bytes and an id for each row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy
import torch

from lib_embedmerge.core.ports import NearestToken, Tokenizer
from lib_embedmerge.core.spelling import find_token_of_row
from lib_embedmerge.core.statistics import LengthBand

_MARGIN = 1e-5
"""Largest error of a cosine from a matrix product. Rows that are within it of each other are compared exactly."""

_BLOCK = 64
"""Vectors that are multiplied with the normalised copy at once: 13 MB of cosines."""

_BLOCK_WITHOUT_COPY = 160
"""The same without a copy, where each block goes through the whole table: 32 MB of cosines. All vectors that a page
shows fit in one block."""

_EXACT_ROWS = 4096
"""Rows that are compared exactly at once, if very many are about equally close."""

_UNDERFLOW = 1e-18
"""Products of two lengths above this and below its inverse neither underflow nor overflow in float32."""

_SEED = 0x5EED


class Table(Protocol):
    """A token table with `count` rows of `width` values."""

    @property
    def count(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """The rows for these ids as float32 [len(ids), width]."""
        ...

    def pieces(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The whole table, a few thousand rows at a time: (id of the first row, float32 [n, width])."""
        ...


class TableSearch:
    """Searches in one token table. They never find rows that are zero or contain a value that is not finite."""

    def __init__(self, table: Table, device: torch.device, *, keep: bool = True) -> None:
        """device: where cosines are computed.

        keep: whether to keep a normalised copy of the table there, with 4 bytes for each value. The results are equal
            to the last bit with and without it.
        """
        self._table = table
        self._device = device
        self._keep = keep
        self._lock = threading.Lock()
        self._directions: torch.Tensor | None = None
        self._lengths: torch.Tensor | None = None
        self._band: LengthBand | None = None
        self._keys: tuple[numpy.ndarray, numpy.ndarray] | None = None

    def nearest(self, vectors: torch.Tensor, count: int) -> list[list[tuple[int, float]]]:
        """For each row of float32 [n, width] the `count` closest rows as (id, cosine), closest first, equal ones by id.

        The list for a vector that is zero or not finite is empty.
        """
        count = min(count, self._table.count)
        if count < 1:
            return [[] for _ in vectors]
        size = _BLOCK if self._keep else _BLOCK_WITHOUT_COPY
        results: list[list[tuple[int, float]]] = []
        for first in range(0, len(vectors), size):
            rows = vectors[first : first + size].detach().to(self._device)
            queries = _normalise(rows, _measure_lengths(rows))
            cosines = self._compute_cosines(queries)
            pairs = zip(queries, cosines, strict=True)
            results += [self._rank(query, row, count) if bool(query.any()) else [] for query, row in pairs]
        return results

    def nearest_tokens(self, vectors: torch.Tensor, count: int, tokenizer: Tokenizer) -> list[list[NearestToken]]:
        """Like `nearest`, with the tokens that belong to the rows in the vocabulary of `tokenizer`."""
        return [
            [NearestToken(row, find_token_of_row(row, tokenizer), cosine) for row, cosine in best]
            for best in self.nearest(vectors, count)
        ]

    def find_equal_rows(self, vectors: torch.Tensor) -> list[int | None]:
        """For each row of [n, width] the lowest id whose row is equal in float16, or None."""
        if len(vectors) == 0:
            return []
        keys, ids = self._load_keys()
        halves = vectors.detach().cpu().to(torch.float32).to(torch.float16).contiguous()
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

    def _compute_cosines(self, queries: torch.Tensor) -> torch.Tensor:
        """float32 [len(queries), count]: the cosines with all rows, within _MARGIN of the exact ones.

        Minus infinity for rows without a direction.  queries: float32 [n, width] of length 1.
        """
        if self._keep:
            cosines = queries @ self._load_directions().T
        else:
            lengths = self._load_lengths()
            cosines = torch.empty(len(queries), self._table.count, device=self._device)
            for first, rows in self._table.pieces():
                piece = slice(first, first + len(rows))
                cosines[:, piece] = _approximate_cosines(queries, rows.to(self._device), lengths[piece])
        cosines[:, ~_has_direction(self._load_lengths())] = -torch.inf  # their cosine of 0 must not beat a negative one
        return cosines

    def _rank(self, query: torch.Tensor, cosines: torch.Tensor, count: int) -> list[tuple[int, float]]:
        """(id, cosine) of the `count` rows that are closest to one direction, closest first.

        cosines: its cosines with all rows, from `_compute_cosines`.
        """
        worst = torch.topk(cosines, count).values[-1]
        candidates = torch.nonzero((cosines >= worst - _MARGIN) & (cosines > -torch.inf)).reshape(-1)
        # A matrix product may sum equal rows in different orders. Computed row by row, equal rows get equal cosines.
        ranking: list[tuple[float, int]] = []
        for first in range(0, len(candidates), _EXACT_ROWS):
            ids = candidates[first : first + _EXACT_ROWS]
            ranking += zip((-self._compute_exact_cosines(query, ids)).tolist(), ids.tolist(), strict=True)
        ranking.sort()
        return [(row, -negative) for negative, row in ranking[:count]]

    def _compute_exact_cosines(self, query: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """float64 [len(ids)]: the exact cosines of one direction with some rows."""
        if self._keep:
            rows = self._load_directions()[ids]
        else:
            rows = _normalise(self._table.read(ids.tolist()).to(self._device), self._load_lengths()[ids])
        return (rows.to(torch.float64) * query.to(torch.float64)).sum(dim=1).clamp(-1.0, 1.0)

    def _load_directions(self) -> torch.Tensor:
        """The normalised copy, float32 [count, width] on the device; zeros for rows without a direction.

        Read the first time.
        """
        with self._lock:
            if self._directions is None:
                self._directions, self._lengths = self._read_directions()
            return self._directions

    def _read_directions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the table: the normalised copy, and the lengths of the rows as float64 [count]."""
        directions = torch.empty(self._table.count, self._table.width, device=self._device)
        lengths = []
        for first, stored in self._table.pieces():
            rows = stored.to(self._device)
            lengths.append(_measure_lengths(rows))
            directions[first : first + len(rows)] = _normalise(rows, lengths[-1])
        return directions, torch.cat(lengths)

    def _load_lengths(self) -> torch.Tensor:
        """L2 lengths of all rows, float64 [count] on the device. Read the first time.

        With float32 the directions would differ in the last bit.
        """
        with self._lock:
            if self._lengths is None:
                self._lengths = torch.cat([_measure_lengths(rows.to(self._device)) for _, rows in self._table.pieces()])
            return self._lengths

    def _load_keys(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(keys, ids) of all usable rows, sorted by key, then by id. Read the first time."""
        with self._lock:
            if self._keys is None:
                keys, ids = [], []
                for first, rows in self._table.pieces():
                    halves = rows.cpu().to(torch.float16)
                    usable = _is_usable(halves).numpy()
                    keys.append(_hash_rows(halves)[usable])
                    ids.append(first + numpy.flatnonzero(usable))
                all_keys, all_ids = numpy.concatenate(keys), numpy.concatenate(ids)
                order = numpy.argsort(all_keys, kind="stable")
                self._keys = all_keys[order], all_ids[order]
            return self._keys

    def _find_first_equal(self, half: torch.Tensor, ids: numpy.ndarray) -> int | None:
        """The first of these ids whose row equals `half` to the last bit, or None. Reads the rows from the table."""
        wanted = half.view(torch.int16)
        for row in ids.tolist():
            if torch.equal(self._table.read([row])[0].cpu().to(torch.float16).view(torch.int16), wanted):
                return int(row)
        return None


def _measure_lengths(rows: torch.Tensor) -> torch.Tensor:
    """L2 lengths of the rows of float32 [n, width] as float64 [n], which neither overflow nor underflow."""
    lengths: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths


def _has_direction(lengths: torch.Tensor) -> torch.Tensor:
    """bool [n]: whether rows of these lengths can be normalised, because the length is finite and not zero."""
    return torch.isfinite(lengths) & (lengths > 0)


def _normalise(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The rows of float32 [n, width] normalised to length 1; zeros for rows that have no direction."""
    usable = _has_direction(lengths).unsqueeze(1)
    # Division by an infinite length would give NaN for infinite values.
    return torch.where(usable, rows / torch.where(usable, lengths.unsqueeze(1), 1.0), 0.0).to(torch.float32)


def _approximate_cosines(queries: torch.Tensor, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """float32 [len(queries), n]: cosines of directions with rows, within _MARGIN of the exact ones.

    The cosines of rows without a direction may be anything.
    Rows of usual lengths are multiplied as they are, which takes a third of the time of normalising them.
    """
    usable = lengths[_has_direction(lengths)]
    if bool(((usable > _UNDERFLOW) & (usable < 1 / _UNDERFLOW)).all()):
        return queries @ rows.T / lengths.to(torch.float32)
    return queries @ _normalise(rows, lengths).T


def _make_band(lengths: torch.Tensor) -> LengthBand:
    """The percentiles and the mean of the finite lengths."""
    finite = lengths[torch.isfinite(lengths)].cpu()
    if len(finite) == 0:
        return LengthBand(math.nan, math.nan, math.nan)
    low, high = torch.quantile(finite, torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    # With fsum, which is exact, and float32 this is the same number as TextEncoder.mean_length.
    mean = torch.tensor(math.fsum(finite.tolist()) / len(finite), dtype=torch.float64).to(torch.float32).item()
    return LengthBand(low, mean, high)


def _is_usable(halves: torch.Tensor) -> torch.Tensor:
    """bool [n]: whether rows of float16 [n, width] are finite and not zero."""
    return torch.isfinite(halves).all(dim=1) & (halves != 0).any(dim=1)


def _hash_rows(halves: torch.Tensor) -> numpy.ndarray:
    """A uint64 key for each row of float16 [n, width]. Equal rows have equal keys, different rows hardly ever.

    The key is the sum, modulo 2**64, of the row's bytes as uint64, each multiplied by an odd constant of its own.
    """
    words = halves.contiguous().numpy().view(numpy.uint64)
    factors = numpy.random.default_rng(_SEED).integers(0, 2**63, words.shape[1], dtype=numpy.uint64) * 2 + 1
    keys: numpy.ndarray = (words * factors).sum(axis=1, dtype=numpy.uint64)
    return keys
