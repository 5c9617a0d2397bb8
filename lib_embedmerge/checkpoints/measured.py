"""Fingerprints and mean lengths of a model's encoders, measured once for each file and cached (files.cache)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib_embedmerge.checkpoints.fingerprints import FINGERPRINT_SCHEMA, fingerprint_encoders
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.files.cache import FileFacts

_WHOLE, _TABLES = "fingerprints", "tables"
"""Keys in the cache: of fingerprints of whole encoders, and of fingerprints of token tables alone."""


class MeasuredEncoders:
    """The measurements of a model's encoders.

    The cache keeps them by the files of each encoder, so an encoder that two models share is measured once.
    """

    def __init__(self, sources: Sequence[EncoderSource], facts: FileFacts | None = None) -> None:
        self._sources = {source.key: source for source in sources}
        self._facts = facts or FileFacts()
        self._mean_lengths: dict[str, float] = {}
        self._fingerprints: dict[str, Fingerprint] = {}

    @property
    def is_cached(self) -> bool:
        """Whether `fingerprints` would return without reading any weights."""
        return bool(self._fingerprints) or all(self._read_cached(key, _WHOLE) is not None for key in self._sources)

    def fingerprints(self, progress: Progress | None = None) -> dict[str, Fingerprint]:
        """Encoder key -> fingerprint, for all encoders. Reads those that are not in the cache, once for each object.

        progress: called with (bytes done, total bytes).  CheckpointError if a file cannot be read.
        """
        if not self._fingerprints:
            self._fingerprints = self._measure(progress)
        return dict(self._fingerprints)

    def _measure(self, progress: Progress | None) -> dict[str, Fingerprint]:
        """Encoder key -> fingerprint, from the cache or the files."""
        fingerprints = {key: self._read_cached(key, _WHOLE) for key in self._sources}
        missing = [self._sources[key] for key, fingerprint in fingerprints.items() if fingerprint is None]
        if missing:
            measured = fingerprint_encoders(missing, progress)
            self._write_cache(_WHOLE, measured)
            fingerprints.update(measured)
        return {key: fingerprint for key, fingerprint in fingerprints.items() if fingerprint is not None}

    def mean_length(self, key: str) -> float:
        """The mean L2 length of the finite rows of an encoder's token table.

        Reads only the token table if it is not in the cache. CheckpointError if the file cannot be read.
        """
        if key not in self._mean_lengths:
            fingerprint = self._read_cached(key, _WHOLE) or self._read_cached(key, _TABLES)
            if fingerprint is None:
                measured = fingerprint_encoders([self._sources[key]], tables_only=True)
                self._write_cache(_TABLES, measured)
                fingerprint = measured[key]
            self._mean_lengths[key] = fingerprint.mean_length
        return self._mean_lengths[key]

    def _read_cached(self, key: str, part: str) -> Fingerprint | None:
        """The fingerprint of an encoder in the cache, or None. part: _WHOLE or _TABLES."""
        entry = self._read_cache(key).get(part)
        return _from_json(entry.get(key)) if isinstance(entry, dict) else None

    def _read_cache(self, key: str) -> Mapping[str, object]:
        """The entry of an encoder's files in the cache; empty if there is none for this definition of fingerprints."""
        value = self._facts.get(self._sources[key].weights.files) or {}
        return value if value.get("schema") == FINGERPRINT_SCHEMA else {}

    def _write_cache(self, part: str, measured: Mapping[str, Fingerprint]) -> None:
        """Add fingerprints to the cache. part: _WHOLE or _TABLES."""
        for key, fingerprint in measured.items():
            value = dict(self._read_cache(key))
            others = value.get(part)
            entries = dict(others) if isinstance(others, dict) else {}
            entries[key] = {
                "token_table": fingerprint.token_table,
                "text_encoder": fingerprint.text_encoder,
                "mean_length": fingerprint.mean_length,
            }
            value.update({"schema": FINGERPRINT_SCHEMA, part: entries})
            self._facts.put(self._sources[key].weights.files, value)


def _from_json(entry: object) -> Fingerprint | None:
    """A fingerprint from its entry in the cache; None if the entry is not valid."""
    if not isinstance(entry, dict):
        return None
    table, encoder, mean = entry.get("token_table"), entry.get("text_encoder"), entry.get("mean_length")
    if isinstance(table, str) and isinstance(encoder, str | None) and isinstance(mean, float):
        return Fingerprint(table, encoder, mean)
    return None
