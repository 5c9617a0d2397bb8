"""A model as embeddings of another architecture see it: with the text encoders that both have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, Model, ModelFacts, Progress, TextEncoder


@dataclass(frozen=True)
class SharedEncoders:
    """Some of the text encoders of a model (core.ports.Model); everything else is that of the model."""

    model: Model
    encoders: tuple[TextEncoder, ...]

    @property
    def facts(self) -> ModelFacts:
        """The facts of the model."""
        return self.model.facts

    @property
    def embeddings(self) -> EmbeddingNames:
        """The embeddings that texts may name."""
        return self.model.embeddings

    @property
    def has_fingerprints(self) -> bool:
        """Whether the model's fingerprints are known."""
        return self.model.has_fingerprints

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """The fingerprints of all encoders of the model."""
        return self.model.fingerprints(progress)


def share_encoders(model: Model, keys: Collection[str]) -> Model:
    """The model with those of its text encoders that have one of these keys; the model itself if all have."""
    shared = tuple(encoder for encoder in model.encoders if encoder.key in keys)
    return model if len(shared) == len(model.encoders) else SharedEncoders(model, shared)
