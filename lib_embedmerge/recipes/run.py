"""Recipes run on a model: what a tag says an embedding was made from, as vectors of the model at hand.

Whether these are the stored ones is fit.py's question.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.core.evaluate import (
    Preparation,
    TokenRows,
    Vectors,
    evaluate,
    evaluate_prepared,
    make_text_readers,
)
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import NoEmbeddings, PlainEmbedding
from lib_embedmerge.embeddings.by_vectors import is_used_embedding
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, StorageError
from lib_embedmerge.lang.source import Source, parse

_MAX_RECIPES = 64
"""Recipes run for one answer: a recipe may name embeddings whose recipes name others, and files can be hostile."""


def run_recipe(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model) -> Vectors:
    """The vectors that a recipe gives on a model. ExpressionError or StorageError if it cannot be run there.

    Names in `uses` stand for the embeddings that the recipe was made with, whatever these are called now. Embeddings
    that are gone are made again on this model, from what `uses` remembers of them. Any other name is plain text, as it
    was when the recipe was made: an embedding of that name came later.
    """
    return _run(recipe, uses, model, _Budget(_MAX_RECIPES))


def _run(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model, budget: _Budget) -> Vectors:
    budget.left -= 1
    if budget.left < 0:
        raise StorageError("The recipe uses too many embeddings that are made from other embeddings.")
    return evaluate(parse(recipe), model, text_readers=make_text_readers(model, _RecipeNames(model, uses, budget)))


class RecipeRunner:
    """The recipes of several tags on one model: the token rows that they name are fetched in one go."""

    def __init__(self, model: Model, tags: Iterable[ModelTag]) -> None:
        self._model = model
        self._sources: dict[str, Source] = {}
        for tag in tags:
            if tag.recipe and not tag.uses:  # else there are names in it
                with contextlib.suppress(ExpressionError):  # told when it is asked for
                    self._sources[tag.recipe] = parse(tag.recipe)

    def vectors(self, tag: ModelTag) -> Vectors | None:
        """As `run_recipe`, to be read only; None if the tag has no recipe. Raises as `run_recipe`."""
        if not tag.recipe:
            return None
        if tag.uses or tag.recipe not in self._sources:
            return run_recipe(tag.recipe, tag.uses, self._model)
        return evaluate_prepared(self._sources[tag.recipe], self._model, self._preparation)

    @functools.cached_property
    def _preparation(self) -> Preparation:
        readings = make_text_readers(self._model, NoEmbeddings())
        texts = [text for source in self._sources.values() for text in source.texts()]
        return Preparation(readings, make_outliner(self._model, readings[0]), TokenRows(self._model, readings, texts))


@dataclass
class _Budget:
    """How many recipes may still be run."""

    left: int


class _RecipeNames:
    """The embeddings that a recipe names: by hash, else made again from their own recipes on this model."""

    def __init__(self, model: Model, uses: Mapping[str, UsedEmbedding], budget: _Budget) -> None:
        self._model = model
        tokenizer = model.encoders[0].tokenizer
        self._uses = uses
        self._names = {tuple(tokenizer.encode(name)): name for name in uses}
        self._budget = budget
        self._made: dict[str, NamedEmbedding] = {}
        self._faults: dict[str, StorageError] = {}

    @property
    def state(self) -> object:
        """The model's: what a recipe recorded stays."""
        return self._model.embeddings.state

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest of the names that the recipe uses. What it named when it was made is all there is."""
        found = (
            (name, len(wanted))
            for wanted, name in self._names.items()
            if wanted and tuple(ids[position : position + len(wanted)]) == wanted
        )
        return max(found, key=lambda one: one[1], default=None)

    def load(self, name: str) -> NamedEmbedding:
        """That embedding; each is made once. StorageError if it is gone and cannot be made."""
        if name in self._faults:
            raise self._faults[name]
        if name not in self._made:
            try:
                self._made[name] = self._find_or_make(name, self._uses[name])
            except StorageError as error:
                self._faults[name] = error
                raise
        return self._made[name]

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """As the model's own embeddings do."""
        return self._model.embeddings.with_vectors(sha256, count, encoders)

    def _find_or_make(self, name: str, used: UsedEmbedding) -> NamedEmbedding:
        present = self._present(name)
        if present is not None and (not used.hash or is_used_embedding(present, used)):
            return present
        renamed = self.with_vectors(used.hash, used.count, {encoder.key for encoder in self._model.encoders})
        if renamed is not None:
            return renamed
        if used.recipe is None:
            if present is None:
                raise StorageError(f"{name} no longer exists, and its recipe is unknown.")
            raise StorageError(f"{name} is not the embedding that the recipe used, and the recipe of that is unknown.")
        try:
            return PlainEmbedding(name, _run(used.recipe, used.uses, self._model, self._budget))
        except EmbedMergeError as error:
            raise StorageError(f"{name} cannot be rebuilt: {error.message}", hint=error.hint) from error

    def _present(self, name: str) -> NamedEmbedding | None:
        try:
            return self._model.embeddings.load(name)
        except StorageError:
            return None
