"""Make an Outliner, for a model or without one. Every Outliner is made here. Needs no torch."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model, Tokenizer
from lib_embedmerge.core.texts import NoEmbeddings, TextReader


def make_outliner(model: Model, texts: TextReader | None = None) -> Outliner:
    """The Outliner for a model.

    texts: the TextReader of its first text encoder, if texts were read before or may name other embeddings than those
        of the model; None for a new one.
    """
    encoders = model.encoders
    size = min(encoder.vocabulary_size for encoder in encoders)
    reader = texts or TextReader(encoders[0].tokenizer, model.embeddings)
    return Outliner(reader, [encoder.key for encoder in encoders], size)


def make_outliner_without_model(tokenizer: Tokenizer, names: EmbeddingNames | None = None) -> Outliner:
    """An Outliner without a model, for sources written for SDXL. names: the embeddings that texts may name."""
    return Outliner(TextReader(tokenizer, names or NoEmbeddings()))
