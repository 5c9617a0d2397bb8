"""How texts are read, on a model or without one: the only place where an Outliner is made. Needs no torch."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model, Tokenizer
from lib_embedmerge.core.texts import TextReader


def make_outliner(model: Model, texts: TextReader | None = None) -> Outliner:
    """What tells the outline of any source on a model (core/outline.py).

    texts: how its first text encoder reads texts, where they were read before or name other embeddings.
    """
    encoders = model.encoders
    size = min(encoder.vocabulary_size for encoder in encoders)
    reading = texts or TextReader(encoders[0].tokenizer, model.embeddings)
    return Outliner(reading, [encoder.key for encoder in encoders], size)


def make_outliner_without_model(tokenizer: Tokenizer, names: EmbeddingNames) -> Outliner:
    """The same as on any SDXL model. names: the embeddings that texts may name."""
    return Outliner(TextReader(tokenizer, names))
