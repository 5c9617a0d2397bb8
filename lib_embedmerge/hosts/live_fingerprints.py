"""Fingerprint a loaded model: measure the token tables in memory, and take the other weights from its file.

The other weights are not measured in memory, because programs patch LoRAs into them while they generate. Their
fingerprint is the one of the file, provided that the token table in memory is the one of the file too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Protocol

import torch

from lib_embedmerge.checkpoints.fingerprints import fingerprint_table
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.core.arrays import CPU, Array, to_numpy, to_tensor
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.errors import CheckpointError


class MemoryTokenTable(Protocol):
    """The token table of a model in memory."""

    count: int
    """Number of rows."""

    def weight(self) -> torch.Tensor:
        """The table itself, [count, width]."""
        ...

    def pieces(self) -> Iterator[tuple[int, Array]]:
        """The whole table in pieces: (index of the first row, float32 [n, width])."""
        ...


class LiveFingerprints:
    """The fingerprints of a model's token tables in memory; each table is measured once. Threads may share one."""

    def __init__(self, tables: Mapping[str, MemoryTokenTable], file: CheckpointModel | None) -> None:
        """tables: encoder key -> table.  file: the model's checkpoint; None if it cannot be read."""
        self._tables = tables
        self._file = file
        self._by_table: dict[str, Fingerprint] = {}
        self._fingerprints: dict[str, Fingerprint] = {}
        self._lock = threading.Lock()

    def measure(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. The first call reads all text encoders in the file, unless they are cached."""
        with self._lock:
            if not self._fingerprints:
                in_file = self._read_file(progress)
                self._fingerprints = {key: self._choose(key, in_file.get(key)) for key in self._tables}
            return dict(self._fingerprints)

    @property
    def is_measured(self) -> bool:
        """Whether the fingerprints are known already, so that `measure` returns at once."""
        return bool(self._fingerprints)

    def mean_length(self, key: str) -> float:
        """Mean L2 length of the rows of one table in memory. key: of its encoder."""
        with self._lock:
            return self._measure_table(key).mean_length

    def _read_file(self, progress: Progress | None) -> Mapping[str, Fingerprint]:
        """The fingerprints of the file; empty if it cannot be read."""
        if self._file is None:
            return {}
        try:
            return self._file.fingerprints(progress)
        except CheckpointError:  # deleted or changed since it was loaded; the tables in memory still count
            return {}

    def _choose(self, key: str, in_file: Fingerprint | None) -> Fingerprint:
        """The fingerprint of the file if the table in memory is the one of the file, else that of the table alone."""
        measured = self._measure_table(key)
        if in_file and (measured.token_table == in_file.token_table or self._is_rounded(key)):
            return in_file
        return measured

    def _measure_table(self, key: str) -> Fingerprint:
        if key not in self._by_table:
            self._by_table[key] = fingerprint_table(to_numpy(rows) for _, rows in self._tables[key].pieces())
        return self._by_table[key]

    def _is_rounded(self, key: str) -> bool:
        """Whether the table in memory is the one of the file, rounded to a coarser dtype such as bfloat16 or fp8."""
        table = self._tables[key]
        dtype = table.weight().dtype
        encoders = self._file.encoders if self._file else ()
        encoder = next((encoder for encoder in encoders if encoder.key == key), None)
        if encoder is None or encoder.vocabulary_size != table.count or dtype in {torch.float16, torch.float32}:
            return False
        pieces = zip(table.pieces(), encoder.table_pieces(), strict=True)
        return all(
            torch.equal(to_tensor(ours, CPU), to_tensor(theirs).to(dtype).to(torch.float32))
            for (_, ours), (_, theirs) in pieces
        )
