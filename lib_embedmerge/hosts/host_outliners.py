"""How texts are read in a host at this moment: the same for its tab, its API and its token counters. Needs no torch."""

from __future__ import annotations

from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner, make_outliner_without_model
from lib_embedmerge.core.ports import EmbeddingNames, Model
from lib_embedmerge.core.texts import NoEmbeddings, TextReader
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.tokenizer import clip_tokenizer


def find_active_model(host: Host) -> Model | None:
    """The active model, where there is one that can be used."""
    try:
        return host.active().model
    except EmbedMergeError:
        return None


def make_host_outliner(host: Host, model: Model | None, *, follow: bool = False) -> Outliner:
    """How texts are read on a host's active model; without one as on any SDXL model, with the names of its library.

    follow: whether embeddings that texts name are made again from their recipes on the model.
    """
    if model is None:
        return make_outliner_without_model(clip_tokenizer(), find_names_without_model(host))
    if not follow:
        return make_outliner(model)
    from lib_embedmerge.recipes.following import FollowingNames  # which needs numpy

    return make_outliner(model, TextReader(model.encoders[0].tokenizer, FollowingNames(model, quiet=True)))


def find_names_without_model(host: Host) -> EmbeddingNames:
    """The embeddings that texts may name where there is no model; none where the folder cannot be read."""
    try:
        return host.library()
    except StorageError:
        return NoEmbeddings()
