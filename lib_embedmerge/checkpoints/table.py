"""A token table in a file: rows by id, with a cache, and the whole table in pieces."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy

from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.checkpoints.quantisation import find_scale, restore_values
from lib_embedmerge.checkpoints.search import PIECE_ROWS
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import Array, place, to_float32
from lib_embedmerge.errors import CheckpointError, quote

_KEPT_ROWS = 4096
"""Number of rows in the cache: 20 MB for clip_g, many times the rows that the texts of a session use."""


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
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._kept = numpy.empty((0, self.width), dtype=numpy.float32)
        self._lock = threading.Lock()

    def rows(self, ids: Sequence[int]) -> Array:
        """The rows for these ids as float32 [len(ids), width] on the device, as a copy.

        CheckpointError for an id outside the table.
        """
        wanted = set(ids)
        with self._lock:
            missing = {row for row in wanted if row not in self._slots}
            if missing:
                self._check(missing)
                if len(wanted) > _KEPT_ROWS:
                    return place(self.read(ids), self._device)
            self._keep(wanted, sorted(missing))
            slots = numpy.fromiter((self._slots[row] for row in ids), dtype=numpy.intp, count=len(ids))
            return place(self._kept[slots], self._device)

    def read(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows for these ids as float32 [len(ids), width], read from the file without the cache."""
        return to_float32(restore_values(self._weight.rows(ids), self._scale))

    def pieces(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """The whole table in pieces: (id of the first row, float32 [n, width])."""
        for first in range(0, self.count, PIECE_ROWS):
            rows = min(PIECE_ROWS, self.count - first)
            stored = self._weight.read(first * self.width, rows * self.width)
            yield first, to_float32(restore_values(stored, self._scale)).reshape(rows, self.width)

    def _check(self, ids: set[int]) -> None:
        """CheckpointError if an id is outside the table."""
        for row in sorted(ids):
            if not 0 <= row < self.count:
                message = f"Token {row} is outside the table of {self._title}, which has {self.count} rows."
                raise CheckpointError(message, hint="The model was made for another vocabulary.")

    def _keep(self, wanted: set[int], missing: list[int]) -> None:
        """Read the missing rows into the cache; rows that were not wanted for the longest time make room for them."""
        for row in wanted.difference(missing):
            self._slots.move_to_end(row)
        if not missing:
            return
        values = self.read(missing)
        if len(self._kept) == 0:
            self._kept = numpy.empty((min(_KEPT_ROWS, self.count), self.width), dtype=numpy.float32)
        slots = [
            self._slots.popitem(last=False)[1] if taken >= len(self._kept) else taken
            for taken in range(len(self._slots), len(self._slots) + len(missing))
        ]
        self._kept[slots] = values
        self._slots.update(zip(missing, slots, strict=True))
