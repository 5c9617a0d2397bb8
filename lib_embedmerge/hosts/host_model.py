"""A model that a host puts together: facts, text encoders and embeddings, which may have different origins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, ModelFacts, Progress, TextEncoder


@dataclass(frozen=True, eq=False)
class HostModel:
    """A core.ports.Model of given parts.

    measure: returns the fingerprints, encoder key -> fingerprint; its argument is called with the progress.
    is_measured: returns whether `measure` has them already.
    """

    facts: ModelFacts
    encoders: Sequence[TextEncoder]
    embeddings: EmbeddingNames
    measure: Callable[[Progress | None], Mapping[str, Fingerprint]]
    is_measured: Callable[[], bool] = lambda: False

    @property
    def has_fingerprints(self) -> bool:
        """Whether the fingerprints are known already, so that `fingerprints` returns at once."""
        return self.is_measured()

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. CheckpointError if a file that is needed for it cannot be read."""
        return self.measure(progress)
