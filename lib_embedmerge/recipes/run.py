"""Recipes run on a model: what a tag says an embedding was made from, as vectors of the model at hand.

Whether these are the stored ones is fit.py's question.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lib_embedmerge.core.evaluate import (
    Preparation,
    Rows,
    Vectors,
    evaluate,
    evaluate_prepared,
    make_text_readers,
)
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.embeddings.by_vectors import is_used_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, StorageError
from lib_embedmerge.lang.source import Source, parse

_MAX_RECIPES = 64
"""Recipes run for one answer: a recipe may name embeddings whose recipes name others, and files can be hostile."""


def run_recipe(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model) -> Vectors | EmbedMergeError:
    """What a recipe gives on a model, or why it cannot be run.

    Names in `uses` stand for the embeddings that the recipe was made with, whatever these are called now; where they
    are gone, for what `uses` remembers of them, made again on this model. Any other name is plain text, as it was when
    the recipe was made: an embedding of that name came later.
    """
    return _run(recipe, uses, model, _Budget(_MAX_RECIPES))


def _run(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model, budget: _Budget) -> Vectors | EmbedMergeError:
    budget.left -= 1
    if budget.left < 0:
        return StorageError("The recipe names too many embeddings that are made from others.")
    try:
        return evaluate(parse(recipe), model, readings=make_text_readers(model, _RecipeNames(model, uses, budget)))
    except (ExpressionError, StorageError) as error:
        return error


class RecipeRunner:
    """The recipes of several tags on one model: the token rows that they name are fetched in one go."""

    def __init__(self, model: Model, tags: Iterable[ModelTag]) -> None:
        self._model = model
        self._sources: dict[str, Source] = {}
        for tag in tags:
            if tag.recipe and not tag.uses:  # else there are names in it
                with contextlib.suppress(ExpressionError):  # told when it is asked for
                    self._sources[tag.recipe] = parse(tag.recipe)

    def vectors(self, tag: ModelTag) -> Vectors | EmbedMergeError | None:
        """As `run_recipe`, to be read only; None where the tag has no recipe."""
        if not tag.recipe:
            return None
        if tag.uses or tag.recipe not in self._sources:
            return run_recipe(tag.recipe, tag.uses, self._model)
        try:
            return evaluate_prepared(self._sources[tag.recipe], self._model, self._preparation)
        except (ExpressionError, StorageError) as error:
            return error

    @functools.cached_property
    def _preparation(self) -> Preparation:
        readings = make_text_readers(self._model, NoEmbeddings())
        texts = [text for source in self._sources.values() for text in source.texts()]
        return Preparation(readings, make_outliner(self._model, readings[0]), Rows(self._model, readings, texts))


@dataclass(frozen=True)
class _Made:
    """An embedding made from a recipe, in memory."""

    name: str
    vectors: Mapping[str, Tensor]


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
        self._made: dict[str, NamedEmbedding | StorageError] = {}

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
        """That embedding; each is made once. StorageError where it is gone and cannot be made."""
        if name not in self._made:
            self._made[name] = self._find_or_make(name, self._uses[name])
        made = self._made[name]
        if isinstance(made, StorageError):
            raise made
        return made

    def _find_or_make(self, name: str, used: UsedEmbedding) -> NamedEmbedding | StorageError:
        present = self._present(name)
        if present is not None and (not used.hash or is_used_embedding(present, used)):
            return present
        library = self._model.embeddings
        if isinstance(library, EmbeddingFolder):
            renamed = library.with_vectors(used, {encoder.key for encoder in self._model.encoders})
            if renamed is not None:
                return renamed
        if used.recipe is None:
            what = "is gone" if present is None else "is not the embedding that the recipe meant"
            return StorageError(f"{name} {what}, and how that was made is not known.")
        vectors = _run(used.recipe, used.uses, self._model, self._budget)
        if isinstance(vectors, EmbedMergeError):
            return StorageError(f"{name} cannot be made again: {vectors.message}", hint=vectors.hint)
        return _Made(name, vectors)

    def _present(self, name: str) -> NamedEmbedding | None:
        try:
            return self._model.embeddings.load(name)
        except StorageError:
            return None
