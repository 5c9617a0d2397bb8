"""The vocabulary searched by vector: the closest tokens, and tokens whose row is the same.

The whole table is read once for either question, which is the one time that a checkpoint's table is read in full
besides fingerprints. What is kept: a normalised copy for the closest, 8 bytes for each row for the same.
"""

from __future__ import annotations

import threading

import numpy
import torch

from lib_embedmerge.checkpoints.table import TokenTable

_MARGIN = 1e-5
"""Cosines of a matrix product are this close to the true ones; inside it, rows are compared exactly."""

_BLOCK = 64
"""Vectors multiplied with the table at once: 13 MB of cosines."""

_SEED = 0x5EED


class TableSearch:
    """Searches in one token table. Rows that are zero, or have a value that is not finite, are never found."""

    def __init__(self, table: TokenTable, device: torch.device) -> None:
        self._table = table
        self._device = device
        self._lock = threading.Lock()
        self._all: tuple[torch.Tensor, torch.Tensor] | None = None
        self._keys: tuple[numpy.ndarray, numpy.ndarray] | None = None

    def nearest(self, vectors: torch.Tensor, count: int) -> list[list[tuple[int, float]]]:
        """For each row of float32 [n, width]: (id, cosine), best first, equal ones by id; none for a vector without
        a direction."""
        count = min(count, self._table.count)
        if count < 1:
            return [[] for _ in vectors]
        table, unusable = self._all_directions()
        found: list[list[tuple[int, float]]] = []
        for first in range(0, len(vectors), _BLOCK):
            queries = _directions(vectors[first : first + _BLOCK].detach().to(self._device))
            cosines = queries @ table.T
            cosines[:, unusable] = -torch.inf  # their zeros must not beat a negative cosine
            pairs = zip(queries, cosines, strict=True)
            found += [_best(table, query, row, count) if bool(query.any()) else [] for query, row in pairs]
        return found

    def rows_equal_to(self, vectors: torch.Tensor) -> list[int | None]:
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

    def _all_directions(self) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [vocabulary, width] on the device, every row at length 1; ids of the rows without a direction."""
        with self._lock:
            if self._all is None:
                directions = torch.empty(self._table.count, self._table.width, device=self._device)
                for first, rows in self._table.pieces():
                    directions[first : first + len(rows)] = _directions(rows.to(self._device))
                self._all = directions, torch.nonzero(~directions.any(dim=1)).reshape(-1)
            return self._all

    def _sorted_keys(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(keys, ids) of all usable rows, sorted by key, equal keys by id."""
        with self._lock:
            if self._keys is None:
                keys, ids = [], []
                for first, rows in self._table.pieces():
                    halves = rows.to(torch.float16)
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
            if torch.equal(self._table.read([row])[0].to(torch.float16).view(torch.int16), wanted):
                return int(row)
        return None


def _best(table: torch.Tensor, query: torch.Tensor, cosines: torch.Tensor, count: int) -> list[tuple[int, float]]:
    """(id, cosine) of the closest rows to one direction, from the cosines of the product of matrices."""
    worst = torch.topk(cosines, count).values[-1]
    candidates = torch.nonzero((cosines >= worst - _MARGIN) & (cosines > -torch.inf)).reshape(-1)
    # That product may add up equal rows in different orders; row by row, equal stays equal.
    exact = (table[candidates].to(torch.float64) * query.to(torch.float64)).sum(dim=1).clamp(-1.0, 1.0)
    found = sorted(zip((-exact).tolist(), candidates.tolist(), strict=True))
    return [(row, -negative) for negative, row in found[:count]]


def _directions(rows: torch.Tensor) -> torch.Tensor:
    """float32 [n, width] at length 1; zeros for rows that have no direction."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)  # no overflow, no underflow
    usable = torch.isfinite(lengths) & (lengths > 0)
    # A length of infinity would leave NaN where the row is infinite.
    return torch.where(usable, rows / torch.where(usable, lengths, 1.0), 0.0).to(torch.float32)


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
