"""How texts are read in a host at this moment: the same for its tab, its API and its token counters. Needs no torch."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import outliner_of, outliner_without_model
from lib_embedmerge.core.ports import EmbeddingNames, Model
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.tokenizer import clip_tokenizer


def active_model(host: Host) -> Model | None:
    """The active model, where there is one that can be used."""
    try:
        return host.active().model
    except EmbedMergeError:
        return None


def outliner_in(host: Host, model: Model | None) -> Outliner:
    """How texts are read on a host's active model; None for as on any SDXL model, with the names of its library."""
    return outliner_of(model) if model else outliner_without_model(clip_tokenizer(), names_without_model(host))


def names_without_model(host: Host) -> EmbeddingNames:
    """The embeddings that texts may name where there is no model; none where the folder cannot be read."""
    try:
        return host.library()
    except StorageError:
        return NoEmbeddings()
