"""The vocabulary searched by vector: the closest tokens, tokens whose row is the same, and how long rows are.

Tables in files are read once for each question, and a normalised copy is kept for the next search. Tables that are in
memory already are gone through again for each search, and only the lengths of their rows are kept (`keep`). Beside
that, 8 bytes for each row are kept for the rows that are the same.
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
"""Cosines of a matrix product are this close to the true ones; inside it, rows are compared exactly."""

_BLOCK = 64
"""Vectors multiplied with the kept table at once: 13 MB of cosines."""

_BLOCK_UNKEPT = 160
"""The same where every block goes through the whole table: 32 MB of cosines, and one pass for what a page shows."""

_EXACT_ROWS = 4096
"""Rows compared exactly at once, where very many are equally close."""

_UNDERFLOW = 1e-18
"""Lengths above this, and below its inverse, can be multiplied in float32 without losing any of it."""

_SEED = 0x5EED


class Table(Protocol):
    """A token table to search in: `count` rows of `width` values."""

    @property
    def count(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """float32 [len(ids), width]: these rows."""
        ...

    def pieces(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, float32 [n, width]) over the whole table, a few thousand rows at a time."""
        ...


class TableSearch:
    """Searches in one token table. Rows that are zero, or have a value that is not finite, are never found."""

    def __init__(self, table: Table, device: torch.device, *, keep: bool = True) -> None:
        """device: where it is computed.  keep: whether to keep a normalised copy of the table there, 4 bytes a value.
        Either way the answers are the same to the last bit."""
        self._table = table
        self._device = device
        self._keep = keep
        self._lock = threading.Lock()
        self._directions: torch.Tensor | None = None
        self._lengths: torch.Tensor | None = None
        self._band: LengthBand | None = None
        self._keys: tuple[numpy.ndarray, numpy.ndarray] | None = None

    def nearest(self, vectors: torch.Tensor, count: int) -> list[list[tuple[int, float]]]:
        """For each row of float32 [n, width]: (id, cosine), best first, equal ones by id; none for a vector without
        a direction."""
        count = min(count, self._table.count)
        if count < 1:
            return [[] for _ in vectors]
        size = _BLOCK if self._keep else _BLOCK_UNKEPT
        found: list[list[tuple[int, float]]] = []
        for first in range(0, len(vectors), size):
            rows = vectors[first : first + size].detach().to(self._device)
            queries = _directions(rows, _lengths(rows))
            cosines = self._cosines(queries)
            pairs = zip(queries, cosines, strict=True)
            found += [self._best(query, row, count) if bool(query.any()) else [] for query, row in pairs]
        return found

    def nearest_tokens(self, vectors: torch.Tensor, count: int, tokenizer: Tokenizer) -> list[list[NearestToken]]:
        """`nearest`, the rows as tokens of this vocabulary."""
        return [
            [NearestToken(row, find_token_of_row(row, tokenizer), cosine) for row, cosine in best]
            for best in self.nearest(vectors, count)
        ]

    def find_equal_rows(self, vectors: torch.Tensor) -> list[int | None]:
        """For each row of [n, width] the lowest id whose row is the same in float16, else None."""
        if len(vectors) == 0:
            return []
        keys, ids = self._sorted_keys()
        halves = vectors.detach().cpu().to(torch.float32).to(torch.float16).contiguous()
        usable = _is_usable(halves)
        wanted = _keys(halves)
        first, last = numpy.searchsorted(keys, wanted, "left"), numpy.searchsorted(keys, wanted, "right")
        return [
            self._first_equal(half, ids[start:end]) if use else None
            for half, use, start, end in zip(halves, usable.tolist(), first, last, strict=True)
        ]

    def length_band(self) -> LengthBand:
        """L2 lengths of the rows that are finite: percentiles 1 and 99, between two rows on a straight line, and the
        mean, rounded to float32; all NaN where no row is finite."""
        if self._band is None:
            self._band = _band_of(self._row_lengths())
        return self._band

    def _cosines(self, queries: torch.Tensor) -> torch.Tensor:
        """float32 [queries, count], close to the true ones; minus infinity for rows without a direction."""
        if self._keep:
            cosines = queries @ self._kept_directions().T
        else:
            lengths = self._row_lengths()
            cosines = torch.empty(len(queries), self._table.count, device=self._device)
            for first, rows in self._table.pieces():
                piece = slice(first, first + len(rows))
                cosines[:, piece] = _close_cosines(queries, rows.to(self._device), lengths[piece])
        cosines[:, ~_has_direction(self._row_lengths())] = -torch.inf  # their zeros must not beat a negative cosine
        return cosines

    def _best(self, query: torch.Tensor, cosines: torch.Tensor, count: int) -> list[tuple[int, float]]:
        """(id, cosine) of the closest rows to one direction, from the cosines of the product of matrices."""
        worst = torch.topk(cosines, count).values[-1]
        candidates = torch.nonzero((cosines >= worst - _MARGIN) & (cosines > -torch.inf)).reshape(-1)
        # That product may add up equal rows in different orders; row by row, equal stays equal.
        found: list[tuple[float, int]] = []
        for first in range(0, len(candidates), _EXACT_ROWS):
            ids = candidates[first : first + _EXACT_ROWS]
            found += zip((-self._exact(query, ids)).tolist(), ids.tolist(), strict=True)
        found.sort()
        return [(row, -negative) for negative, row in found[:count]]

    def _exact(self, query: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """float64 [len(ids)]: the cosines of some rows."""
        if self._keep:
            rows = self._kept_directions()[ids]
        else:
            rows = _directions(self._table.read(ids.tolist()).to(self._device), self._row_lengths()[ids])
        return (rows.to(torch.float64) * query.to(torch.float64)).sum(dim=1).clamp(-1.0, 1.0)

    def _kept_directions(self) -> torch.Tensor:
        """float32 [count, width] on the device, every row at length 1; zeros for those without a direction."""
        with self._lock:
            if self._directions is None:
                self._directions, self._lengths = self._read_directions()
            return self._directions

    def _read_directions(self) -> tuple[torch.Tensor, torch.Tensor]:
        directions = torch.empty(self._table.count, self._table.width, device=self._device)
        lengths = []
        for first, stored in self._table.pieces():
            rows = stored.to(self._device)
            lengths.append(_lengths(rows))
            directions[first : first + len(rows)] = _directions(rows, lengths[-1])
        return directions, torch.cat(lengths)

    def _row_lengths(self) -> torch.Tensor:
        """float64 [count] on the device: not float32, from which other directions would come in the last bit."""
        with self._lock:
            if self._lengths is None:
                self._lengths = torch.cat([_lengths(rows.to(self._device)) for _, rows in self._table.pieces()])
            return self._lengths

    def _sorted_keys(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(keys, ids) of all usable rows, sorted by key, equal keys by id."""
        with self._lock:
            if self._keys is None:
                keys, ids = [], []
                for first, rows in self._table.pieces():
                    halves = rows.cpu().to(torch.float16)
                    usable = _is_usable(halves).numpy()
                    keys.append(_keys(halves)[usable])
                    ids.append(first + numpy.flatnonzero(usable))
                all_keys, all_ids = numpy.concatenate(keys), numpy.concatenate(ids)
                order = numpy.argsort(all_keys, kind="stable")
                self._keys = all_keys[order], all_ids[order]
            return self._keys

    def _first_equal(self, half: torch.Tensor, ids: numpy.ndarray) -> int | None:
        """The first of some rows, all with one key, that is the same to the last bit. Read again: no copy is kept."""
        wanted = half.view(torch.int16)
        for row in ids.tolist():
            if torch.equal(self._table.read([row])[0].cpu().to(torch.float16).view(torch.int16), wanted):
                return int(row)
        return None


def _lengths(rows: torch.Tensor) -> torch.Tensor:
    """float64 [n]: L2 lengths of float32 [n, width]; neither overflow nor underflow."""
    lengths: torch.Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths


def _has_direction(lengths: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(lengths) & (lengths > 0)


def _directions(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """float32 [n, width] at length 1; zeros for rows that have no direction."""
    usable = _has_direction(lengths).unsqueeze(1)
    # A length of infinity would leave NaN where the row is infinite.
    return torch.where(usable, rows / torch.where(usable, lengths.unsqueeze(1), 1.0), 0.0).to(torch.float32)


def _close_cosines(queries: torch.Tensor, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """float32 [queries, n]: cosines of directions with rows, within _MARGIN; anything for rows without a direction.

    Rows of the usual lengths are multiplied as they are, a third of the time of making directions of them.
    """
    usable = lengths[_has_direction(lengths)]
    if bool(((usable > _UNDERFLOW) & (usable < 1 / _UNDERFLOW)).all()):
        return queries @ rows.T / lengths.to(torch.float32)
    return queries @ _directions(rows, lengths).T


def _band_of(lengths: torch.Tensor) -> LengthBand:
    finite = lengths[torch.isfinite(lengths)].cpu()
    if len(finite) == 0:
        return LengthBand(math.nan, math.nan, math.nan)
    low, high = torch.quantile(finite, torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    # fsum is exact, and float32 what TextEncoder.mean_length gives: the two are the same number.
    mean = torch.tensor(math.fsum(finite.tolist()) / len(finite), dtype=torch.float64).to(torch.float32).item()
    return LengthBand(low, mean, high)


def _is_usable(halves: torch.Tensor) -> torch.Tensor:
    return torch.isfinite(halves).all(dim=1) & (halves != 0).any(dim=1)


def _keys(halves: torch.Tensor) -> numpy.ndarray:
    """A number of 64 bits for each row of float16 [n, width]: equal rows have equal ones, others hardly ever.

    The row's bytes as integers, each times its own odd constant, added up modulo 2**64.
    """
    words = halves.contiguous().numpy().view(numpy.uint64)
    factors = numpy.random.default_rng(_SEED).integers(0, 2**63, words.shape[1], dtype=numpy.uint64) * 2 + 1
    keys: numpy.ndarray = (words * factors).sum(axis=1, dtype=numpy.uint64)
    return keys
