"""Fingerprints and mean lengths of a model's encoders, measured once for a file and then remembered (files.cache)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lib_embedmerge.checkpoints.fingerprints import FINGERPRINT_SCHEMA, fingerprint_encoders
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.core.ports import Fingerprint, Progress
from lib_embedmerge.files.cache import FileFacts

_WHOLE, _TABLES = "fingerprints", "tables"


class MeasuredEncoders:
    """What has been measured of some encoders; by the files that each one comes from, so that parts of a model that
    are shared with another one are not measured twice."""

    def __init__(self, sources: Sequence[EncoderSource], facts: FileFacts | None = None) -> None:
        self._sources = {source.key: source for source in sources}
        self._facts = facts or FileFacts()
        self._mean_lengths: dict[str, float] = {}
        self._fingerprints: dict[str, Fingerprint] = {}

    @property
    def known(self) -> bool:
        """Whether `fingerprints` will answer from the cache."""
        return bool(self._fingerprints) or all(self._cached(key, _WHOLE) is not None for key in self._sources)

    def fingerprints(self, progress: Progress | None = None) -> dict[str, Fingerprint]:
        """Of all encoders; only those that are not known are read. CheckpointError where a file cannot be read.

        Once given they hold for this object, whose headers were read when it was made.
        """
        if not self._fingerprints:
            self._fingerprints = self._measure(progress)
        return dict(self._fingerprints)

    def _measure(self, progress: Progress | None) -> dict[str, Fingerprint]:
        found = {key: self._cached(key, _WHOLE) for key in self._sources}
        missing = [self._sources[key] for key, fingerprint in found.items() if fingerprint is None]
        if missing:
            measured = fingerprint_encoders(missing, progress)
            self._remember(_WHOLE, measured)
            found.update(measured)
        return {key: fingerprint for key, fingerprint in found.items() if fingerprint is not None}

    def mean_length(self, key: str) -> float:
        """Of one encoder; where nothing is known, its token table alone is read, not its layers."""
        if key not in self._mean_lengths:
            found = self._cached(key, _WHOLE) or self._cached(key, _TABLES)
            if found is None:
                measured = fingerprint_encoders([self._sources[key]], tables_only=True)
                self._remember(_TABLES, measured)
                found = measured[key]
            self._mean_lengths[key] = found.mean_length
        return self._mean_lengths[key]

    def _cached(self, key: str, part: str) -> Fingerprint | None:
        entry = self._read(key).get(part)
        return _from_json(entry.get(key)) if isinstance(entry, dict) else None

    def _read(self, key: str) -> Mapping[str, object]:
        value = self._facts.get(self._sources[key].weights.files) or {}
        return value if value.get("schema") == FINGERPRINT_SCHEMA else {}

    def _remember(self, part: str, measured: Mapping[str, Fingerprint]) -> None:
        for key, fingerprint in measured.items():
            value = dict(self._read(key))
            others = value.get(part)
            known = dict(others) if isinstance(others, dict) else {}
            known[key] = {
                "token_table": fingerprint.token_table,
                "text_encoder": fingerprint.text_encoder,
                "mean_length": fingerprint.mean_length,
            }
            value.update({"schema": FINGERPRINT_SCHEMA, part: known})
            self._facts.put(self._sources[key].weights.files, value)


def _from_json(entry: object) -> Fingerprint | None:
    """A cached fingerprint; None for anything else that the cache file may hold."""
    if not isinstance(entry, dict):
        return None
    table, encoder, mean = entry.get("token_table"), entry.get("text_encoder"), entry.get("mean_length")
    if isinstance(table, str) and isinstance(encoder, str | None) and isinstance(mean, float):
        return Fingerprint(table, encoder, mean)
    return None
