"""Recipes that follow the model: an embedding's name stands for what its recipe gives on the model that encodes it.

Where there is a variant of it for that model (recipes/rebuild.py), the name stands for that. The files stay as they
are, and nothing is computed twice for the same file and model.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import EmbeddingRun, PlainEmbedding, TextReader
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.errors import EmbedMergeError, StorageError, quote
from lib_embedmerge.recipes.fit import fit_by_recipe, is_current_variant
from lib_embedmerge.recipes.rebuild import make_variant_name
from lib_embedmerge.recipes.run import run_recipe
from lib_embedmerge.tokenizer import clip_tokenizer

_log = logging.getLogger(__name__)


class FollowingNames:
    """The names of a model's library (core.ports.EmbeddingNames), of which each follows that model."""

    def __init__(self, model: Model, *, quiet: bool = False) -> None:
        """model: its encoders run the recipes, its library has the files.  quiet: whether the console hears nothing."""
        self._model = model
        self._quiet = quiet
        self._known: dict[str, tuple[NamedEmbedding, NamedEmbedding]] = {}
        self._state: object = None
        self._said: dict[str, str] = {}

    @property
    def state(self) -> object:
        """The library's."""
        return self._model.embeddings.state

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """As the library does."""
        return self._model.embeddings.find(ids, position)

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """As the library does."""
        return self._model.embeddings.with_vectors(sha256, count, encoders)

    def load(self, name: str) -> NamedEmbedding:
        """The embedding as its recipe makes it on the model; the file's where it has no recipe that works there, or
        where that gives the file's vectors. StorageError where the file cannot be used."""
        stored = self._model.embeddings.load(name)
        if self._state is not self.state:  # what recipes name, and variants, may have come, changed or gone
            self._state, self._known = self.state, {}
        known = self._known.get(name)
        if known is None or known[0] is not stored:
            known = self._known[name] = stored, self._followed(stored) or stored
        return known[1]

    def followed(self, prompt: str) -> list[NamedEmbedding]:
        """The embeddings that a prompt names and whose vectors are other ones than their files'."""
        found = {}
        for run in TextReader(clip_tokenizer(), self).runs(prompt):
            embedding = self._loaded(run.name) if isinstance(run, EmbeddingRun) else None
            if embedding is not None and embedding.follows_recipe:
                found[embedding.name] = embedding
        return list(found.values())

    def _loaded(self, name: str) -> NamedEmbedding | None:
        try:
            return self.load(name)
        except StorageError:  # the web UI cannot use it either
            return None

    def _followed(self, stored: NamedEmbedding) -> PlainEmbedding | None:
        tag = read_tag(stored.metadata)
        keys = {encoder.key for encoder in self._model.encoders}
        if tag is None or not tag.recipe or not keys <= set(stored.vectors):
            return None
        if variant := find_variant(stored.name, tag, self._model):
            self._say(stored.name, f"{variant.name} is used in place of {stored.name}.")
            devices = {encoder.key: encoder.vectors([0]).device for encoder in self._model.encoders}
            return _follow(stored, {key: variant.vectors[key].to(device) for key, device in devices.items()})
        try:
            fresh = run_recipe(tag.recipe, tag.uses, self._model)
        except EmbedMergeError as error:
            why = f"because its recipe does not work on this model: {error.message}"
            self._say(stored.name, f"{quote(stored.name)} is used as saved, {why}")
            return None
        if fit_by_recipe(stored.vectors, fresh).status != FitStatus.DIFFERS or not len(next(iter(fresh.values()))):
            return None
        self._say(
            stored.name, f"The recipe of {stored.name} is used on {self._model.facts.title}, not the saved vectors."
        )
        return _follow(stored, fresh)

    def _say(self, name: str, message: str) -> None:
        """On the console, where it was not the last that was said of this embedding."""
        if not self._quiet and self._said.get(name) != message:
            self._said[name] = message
            _log.warning("EmbedMerge: %s", message)


def _follow(stored: NamedEmbedding, vectors: Mapping[str, Tensor]) -> PlainEmbedding:
    """The embedding with other vectors, each on the device of its text encoder."""
    return PlainEmbedding(stored.name, vectors, stored.metadata, stored.path, follows_recipe=True)


def find_variant(name: str, tag: ModelTag, model: Model) -> NamedEmbedding | None:
    """The variant of an embedding for a model in the model's library, where there is one of that recipe."""
    try:
        found = model.embeddings.load(make_variant_name(name, model))
    except StorageError:
        return None
    known = read_tag(found.metadata)
    return found if known is not None and is_current_variant(known, name, tag, model) else None
