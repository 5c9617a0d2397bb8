"""A model as hosts put it together: facts, encoders and names, each from where they are best known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, ModelFacts, Progress, TextEncoder


@dataclass(frozen=True, eq=False)
class HostModel:
    """A core.ports.Model of given parts. measure: gives the fingerprints, encoder key -> fingerprint.
    is_measured: whether it does at once."""

    facts: ModelFacts
    encoders: Sequence[TextEncoder]
    embeddings: EmbeddingNames
    measure: Callable[[Progress | None], Mapping[str, Fingerprint]]
    is_measured: Callable[[], bool] = lambda: False

    @property
    def has_fingerprints(self) -> bool:
        """Whether `fingerprints` answers at once."""
        return self.is_measured()

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. CheckpointError where a file that is needed for it cannot be read."""
        return self.measure(progress)
