"""Recipes that follow the model: use the vectors that an embedding's recipe gives on the model in use.

If the library has a variant of the embedding for that model (rebuild.py), the variant's vectors are used. The files are
not changed, and nothing is computed twice for the same file and model.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from lib_embedmerge.core.arrays import Array, place_like
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import EmbeddingRun, PlainEmbedding, TextReader
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.recipes.fit import fit_by_recipe, is_current_variant
from lib_embedmerge.recipes.rebuild import make_variant_name
from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe
from lib_embedmerge.tokenizer import clip_tokenizer

_log = logging.getLogger(__name__)


class FollowingNames:
    """The embeddings of a model's library, with the vectors that their recipes give on that model.

    A core.ports.EmbeddingNames, which finds the same names as the library.
    """

    def __init__(self, model: Model, *, quiet: bool = False) -> None:
        """model: its library has the files, its text encoders run the recipes.

        quiet: whether to write nothing to the log when vectors are replaced.
        """
        self._model = model
        self._quiet = quiet
        self._loaded: dict[str, tuple[NamedEmbedding, NamedEmbedding]] = {}  # name -> as stored, as used
        self._state: object = None
        self._logged: dict[str, str] = {}

    @property
    def state(self) -> object:
        """The state of the library, which is replaced by another object when the set of names changes."""
        return self._model.embeddings.state

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name that ids[position:] begins with, and its number of tokens; None if there is none."""
        return self._model.embeddings.find(ids, position)

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """The embedding of the library whose file has these vectors, or None (core.ports.EmbeddingNames)."""
        return self._model.embeddings.with_vectors(sha256, count, encoders)

    def load(self, name: str) -> NamedEmbedding:
        """The embedding with the vectors that its recipe gives on the model.

        If it has no recipe that works there, or the recipe gives the stored vectors, it is the embedding as stored.
        StorageError if the file cannot be used.
        """
        stored = self._model.embeddings.load(name)
        if self._state is not self.state:  # variants, or embeddings that recipes name, may have changed
            self._state, self._loaded = self.state, {}
        loaded = self._loaded.get(name)
        if loaded is None or loaded[0] is not stored:
            loaded = self._loaded[name] = stored, self._follow_recipe(stored) or stored
        return loaded[1]

    def find_followed(self, prompt: str) -> list[NamedEmbedding]:
        """The embeddings that a prompt names and that have other vectors here than in their files, each once."""
        followed = {}
        for run in TextReader(clip_tokenizer(), self).runs(prompt):
            embedding = self._load_or_none(run.name) if isinstance(run, EmbeddingRun) else None
            if embedding is not None and embedding.follows_recipe:
                followed[embedding.name] = embedding
        return list(followed.values())

    def _load_or_none(self, name: str) -> NamedEmbedding | None:
        try:
            return self.load(name)
        except StorageError:  # the web UI cannot use it either
            return None

    def _follow_recipe(self, stored: NamedEmbedding) -> PlainEmbedding | None:
        """The embedding with the vectors of its variant or recipe; None if the stored vectors are to be used."""
        tag = read_tag(stored.metadata)
        keys = {encoder.key for encoder in self._model.encoders}
        if tag is None or not tag.recipe or not keys <= set(stored.vectors):
            return None
        if variant := find_variant(stored.name, tag, self._model):
            self._log_once(stored.name, f"{variant.name} is used in place of {stored.name}.")
            no_rows = {encoder.key: encoder.vectors(()) for encoder in self._model.encoders}
            vectors = {key: place_like(variant.vectors[key], like) for key, like in no_rows.items()}
            return _replace_vectors(stored, vectors)
        try:
            fresh = run_recipe(tag.recipe, tag.uses, self._model)
        except RECIPE_ERRORS as error:
            why = f"because its recipe does not work on this model: {error.message}"
            self._log_once(stored.name, f"{quote(stored.name)} is used as saved, {why}")
            return None
        if fit_by_recipe(stored.vectors, fresh).status != FitStatus.DIFFERS or not len(next(iter(fresh.values()))):
            return None
        message = f"The recipe of {stored.name} is used on {self._model.facts.title}, not the saved vectors."
        self._log_once(stored.name, message)
        return _replace_vectors(stored, fresh)

    def _log_once(self, name: str, message: str) -> None:
        """Log a message on an embedding, unless it is also the last message on it."""
        if not self._quiet and self._logged.get(name) != message:
            self._logged[name] = message
            _log.warning("EmbedMerge: %s", message)


def _replace_vectors(stored: NamedEmbedding, vectors: Mapping[str, Array]) -> PlainEmbedding:
    """The embedding with other vectors. vectors: encoder key -> [n, width] on the device of that encoder."""
    return PlainEmbedding(stored.name, vectors, stored.metadata, follows_recipe=True)


def find_variant(name: str, tag: ModelTag, model: Model) -> NamedEmbedding | None:
    """The up-to-date variant of an embedding for a model, from the model's library; None if there is none.

    name, tag: of the embedding that it is a variant of.
    """
    try:
        variant = model.embeddings.load(make_variant_name(name, model))
    except StorageError:
        return None
    variant_tag = read_tag(variant.metadata)
    return variant if variant_tag is not None and is_current_variant(variant_tag, name, tag, model) else None
