"""Recipes that follow the model: an embedding's name stands for what its recipe gives on the model that encodes it.

Where there is a variant of it for that model (recipes/rebuild.py), the name stands for that. The files stay as they
are, and nothing is computed twice for the same file and model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import EmbeddingRun, TextReader
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding
from lib_embedmerge.errors import EmbedMergeError, StorageError, quote
from lib_embedmerge.recipes.fit import fit_by_recipe, is_current_variant
from lib_embedmerge.recipes.rebuild import make_variant_name
from lib_embedmerge.recipes.run import run_recipe
from lib_embedmerge.tokenizer import clip_tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FollowedEmbedding:
    """An embedding as it is on a model. vectors: encoder key -> float32 [n, width], on the encoder's device.
    tag: its file's, with the recipe."""

    name: str
    vectors: Mapping[str, Tensor]
    tag: ModelTag

    def used(self) -> UsedEmbedding:
        """What a tag records of it where a recipe names it."""
        count = len(next(iter(self.vectors.values())))
        return UsedEmbedding(hash_vectors(self.vectors), self.tag.recipe, self.tag.uses, count, follows=True)


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

    def followed(self, prompt: str) -> list[FollowedEmbedding]:
        """The embeddings that a prompt names and whose vectors are other ones than their files'."""
        found = {}
        for run in TextReader(clip_tokenizer(), self).runs(prompt):
            if isinstance(run, EmbeddingRun) and isinstance(one := self._loaded(run.name), FollowedEmbedding):
                found[one.name] = one
        return list(found.values())

    def _loaded(self, name: str) -> NamedEmbedding | None:
        try:
            return self.load(name)
        except StorageError:  # the web UI cannot use it either
            return None

    def _followed(self, stored: NamedEmbedding) -> FollowedEmbedding | None:
        tag = stored.tag if isinstance(stored, Embedding) else None
        if tag is None or not {one.key for one in self._model.encoders} <= set(stored.vectors):
            return None
        if not tag.recipe:
            return None
        if variant := find_variant(stored.name, tag, self._model):
            self._say(stored.name, f"{stored.name} stands for its variant {variant.name}.")
            devices = {one.key: one.vectors([0]).device for one in self._model.encoders}
            return FollowedEmbedding(stored.name, {key: variant.vectors[key].to(devices[key]) for key in devices}, tag)
        fresh = run_recipe(tag.recipe, tag.uses, self._model)
        if isinstance(fresh, EmbedMergeError):
            self._say(stored.name, f"{quote(stored.name)} does not follow the model: {fresh.message}")
            return None
        if fit_by_recipe(stored.vectors, fresh).status != FitStatus.DIFFERS or not len(next(iter(fresh.values()))):
            return None
        self._say(stored.name, f"{stored.name} follows its recipe on {self._model.facts.title}.")
        return FollowedEmbedding(stored.name, fresh, tag)

    def _say(self, name: str, message: str) -> None:
        """On the console, where it was not the last that was said of this embedding."""
        if not self._quiet and self._said.get(name) != message:
            self._said[name] = message
            _log.warning("EmbedMerge: %s", message)


def find_variant(name: str, tag: ModelTag, model: Model) -> Embedding | None:
    """The variant of an embedding for a model in the model's library, where there is one of that recipe."""
    try:
        found = model.embeddings.load(make_variant_name(name, model))
    except StorageError:
        return None
    known = found.tag if isinstance(found, Embedding) else None
    if not isinstance(found, Embedding) or known is None or not is_current_variant(known, name, tag, model):
        return None
    return found
