"""A token table in a file: rows by id, with a cache, and the whole table in pieces."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy

from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.quantisation import find_scale, restore_values
from lib_embedmerge.checkpoints.search import PIECE_ROWS
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import Array, fill_float32, place, to_float32
from lib_embedmerge.errors import CheckpointError, quote

_FIRST_ROWS = 256
"""Number of rows for which the cache has room at first."""
_KEPT_ROWS = 4096
"""Number of rows in the cache: 20 MB for clip_g, many times the rows that the texts of a session use. A cache that is
full is emptied: to read the rows that are still in use again takes less than to remember when each was used."""


class TokenTable:
    """A token table with a cache of its rows, `count` rows of `width` values.

    Making one reads nothing, except the scale of an fp8 table.
    """

    def __init__(self, source: EncoderSource, device: str) -> None:
        self._weight = source.table
        self._scale = find_scale(source.weights, source.table_name)
        self._title = f"{ENCODER_TITLES[source.key]} of {quote(source.weights.name)}"
        self.count, self.width = self._weight.shape[0], self._weight.shape[1]
        self._device = device
        self._slots: dict[int, int] = {}
        self._kept = numpy.empty((0, self.width), dtype=numpy.float32)
        self._lock = threading.Lock()

    def rows(self, ids: Sequence[int]) -> Array:
        """The rows for these ids as float32 [len(ids), width] on the device, as a copy.

        CheckpointError for an id outside the table.
        """
        wanted = set(ids)
        with self._lock:
            missing = wanted.difference(self._slots)
            if missing:
                self._check(missing)
                if len(wanted) > _KEPT_ROWS:
                    return place(self.read(ids), self._device)
                if len(self._slots) + len(missing) > _KEPT_ROWS:
                    self._slots.clear()
                    missing = wanted
                self._keep(sorted(missing))
            return place(self._kept.take(list(map(self._slots.__getitem__, ids)), axis=0), self._device)

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these ids as float32 [len(ids), width], read from the file without the cache."""
        return to_float32(self._restore(ids))

    def pieces(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """The whole table in pieces: (id of the first row, float32 [n, width])."""
        for first in range(0, self.count, PIECE_ROWS):
            rows = min(PIECE_ROWS, self.count - first)
            stored = self._weight.read(first * self.width, rows * self.width)
            yield first, to_float32(restore_values(stored, self._scale)).reshape(rows, self.width)

    def _check(self, ids: set[int]) -> None:
        """CheckpointError if an id is outside the table."""
        outside = [row for row in (min(ids), max(ids)) if not 0 <= row < self.count]
        if outside:
            message = f"Token {outside[0]} is outside the table of {self._title}, which has {self.count} rows."
            raise CheckpointError(message, hint="The model was made for another vocabulary.")

    def _restore(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these ids, read from the file, in the narrowest type of numpy that holds their values."""
        return restore_values(self._weight.rows(ids), self._scale)

    def _keep(self, ids: list[int]) -> None:
        """Read rows into the cache, which has room for them."""
        values = self._restore(ids)
        slots = range(len(self._slots), len(self._slots) + len(ids))
        if slots.stop > len(self._kept):
            self._grow(slots.stop)
        fill_float32(self._kept[slots.start : slots.stop], values)
        self._slots.update(zip(ids, slots, strict=True))

    def _grow(self, least: int) -> None:
        """Make room for at least so many rows in the cache.

        The room at least doubles, up to its limit, so that rows are copied few times. When smaller arrays are freed,
        the C library of Linux learns to keep memory of that size. Without that it gives the memory of each build's
        vectors back to the system, which makes the build a tenth longer.
        """
        room = min(max(least, 2 * len(self._kept), _FIRST_ROWS), _KEPT_ROWS, self.count)
        grown = numpy.empty((room, self.width), dtype=numpy.float32)
        grown[: len(self._kept)] = self._kept
        self._kept = grown
