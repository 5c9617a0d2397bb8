"""Fingerprints of a loaded model: of the token tables as they are in memory, and what its file says of the rest.

The layers above the table are not measured in memory: LoRAs are patched into them while a generation runs. So their
fingerprint is the file's, as long as the table in memory is the file's too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import torch

from lib_embedmerge.checkpoints.fingerprints import fingerprint_table
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.hosts.webui.live_tables import LiveTable


class LiveFingerprints:
    """Of some tables in memory, each measured once. file: the model's checkpoint, None where it cannot be read."""

    def __init__(self, tables: Mapping[str, LiveTable], file: CheckpointModel | None) -> None:
        self._tables = tables
        self._file = file
        self._measured: dict[str, Fingerprint] = {}
        self._found: dict[str, Fingerprint] = {}
        self._lock = threading.Lock()

    def measure(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. The first time for a file all its text encoders are read."""
        with self._lock:
            if not self._found:
                of_file = self._of_file(progress)
                self._found = {key: self._one(key, of_file.get(key)) for key in self._tables}
            return dict(self._found)

    @property
    def known(self) -> bool:
        """Whether `measure` answers at once."""
        return bool(self._found)

    def mean_length(self, key: str) -> float:
        """Of one table as it is in memory."""
        with self._lock:
            return self._of_table(key).mean_length

    def _of_file(self, progress: Progress | None) -> Mapping[str, Fingerprint]:
        if self._file is None:
            return {}
        try:
            return self._file.fingerprints(progress)
        except CheckpointError:  # gone or changed since it was loaded: what is in memory still counts
            return {}

    def _one(self, key: str, of_file: Fingerprint | None) -> Fingerprint:
        measured = self._of_table(key)
        if of_file and (measured.token_table == of_file.token_table or self._is_rounding(key)):
            return of_file
        return measured

    def _of_table(self, key: str) -> Fingerprint:
        if key not in self._measured:
            self._measured[key] = fingerprint_table(rows for _, rows in self._tables[key].pieces())
        return self._measured[key]

    def _is_rounding(self, key: str) -> bool:
        """Whether the table in memory is the file's in a coarser precision, as with bfloat16 or fp8."""
        table = self._tables[key]
        dtype = table.weight().dtype
        encoder = next((one for one in self._file.encoders if one.key == key), None) if self._file else None
        if encoder is None or encoder.vocabulary_size != table.count or dtype in {torch.float16, torch.float32}:
            return False
        pieces = zip(table.pieces(), encoder.table_pieces(), strict=True)
        return all(torch.equal(ours.cpu(), theirs.to(dtype).to(torch.float32)) for (_, ours), (_, theirs) in pieces)
