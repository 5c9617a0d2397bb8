"""Run recipes on a model: make the vectors that an embedding's recipe gives there.

fit.py compares them with the stored vectors.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lib_embedmerge.core.evaluate import Preparation, Vectors, evaluate, evaluate_prepared, make_text_readers
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.core.texts import NoEmbeddings, PlainEmbedding
from lib_embedmerge.core.token_rows import TokenRows
from lib_embedmerge.embeddings.by_vectors import is_used_embedding
from lib_embedmerge.embeddings.tag import ModelTag, UsedEmbedding
from lib_embedmerge.errors import ExpressionError, StorageError
from lib_embedmerge.lang.source import Source, parse

_MAX_RECIPES = 64
"""Most recipes that `run_recipe` runs, as a recipe may name embeddings whose recipes name others. Protects against
hostile files."""

RECIPE_ERRORS = (ExpressionError, StorageError)
"""The errors of a recipe that cannot be run on a model. Errors of the model itself are others."""


def run_recipe(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model) -> Vectors:
    """The vectors that a recipe gives on a model. ExpressionError or StorageError if it cannot be run there.

    uses: name -> record of each embedding that the recipe was made with, from the tag. It is found by its vectors,
        whatever its name is now. If it no longer exists, it is made again on this model from its recorded recipe.
    Any other name in the recipe is plain text, as it was when the recipe was made, even if there is an embedding with
    that name now.
    """
    return _run(recipe, uses, model, _Budget(_MAX_RECIPES))


def _run(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model, budget: _Budget) -> Vectors:
    budget.remaining -= 1
    if budget.remaining < 0:
        raise StorageError("The recipe uses too many embeddings that are made from other embeddings.")
    return evaluate(parse(recipe), model, text_readers=make_text_readers(model, _RecipeNames(model, uses, budget)))


class RecipeRunner:
    """Runs the recipes of several tags on one model. The token rows for all of them are fetched at once."""

    def __init__(self, model: Model, tags: Iterable[ModelTag]) -> None:
        self._model = model
        self._sources: dict[str, Source] = {}
        for tag in tags:
            if tag.recipe and not tag.uses:  # a recipe that names embeddings is left to `run_recipe`
                with contextlib.suppress(ExpressionError):  # `vectors` will raise it
                    self._sources[tag.recipe] = parse(tag.recipe)

    def vectors(self, tag: ModelTag) -> Vectors | None:
        """The vectors that the recipe of a tag gives on the model; None if the tag has no recipe.

        They must not be changed. ExpressionError or StorageError if the recipe cannot be run on the model.
        """
        if not tag.recipe:
            return None
        if tag.uses or tag.recipe not in self._sources:
            return run_recipe(tag.recipe, tag.uses, self._model)
        return evaluate_prepared(self._sources[tag.recipe], self._model, self._preparation)

    @functools.cached_property
    def _preparation(self) -> Preparation:
        text_readers = make_text_readers(self._model, NoEmbeddings())
        texts = [text for source in self._sources.values() for text in source.texts()]
        rows = TokenRows(self._model, text_readers, texts)
        return Preparation(text_readers, make_outliner(self._model, text_readers[0]), rows)


@dataclass
class _Budget:
    """Number of recipes that may still be run. It is shared by a recipe and all recipes that it leads to."""

    remaining: int


class _RecipeNames:
    """The embeddings that a recipe names (a core.ports.EmbeddingNames).

    Each is found by the hash of its vectors, or else made again from its own recipe on the model.
    """

    def __init__(self, model: Model, uses: Mapping[str, UsedEmbedding], budget: _Budget) -> None:
        self._model = model
        tokenizer = model.encoders[0].tokenizer
        self._uses = uses
        self._names = {tuple(tokenizer.encode(name)): name for name in uses}
        self._budget = budget
        self._made: dict[str, NamedEmbedding] = {}

    @property
    def state(self) -> object:
        """The state of the model's embeddings; the names that the recipe recorded never change."""
        return self._model.embeddings.state

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest name that ids[position:] begins with, and its number of tokens; None if there is none.

        Only names that the recipe recorded when it was made are found.
        """
        matches = (
            (name, len(name_ids))
            for name_ids, name in self._names.items()
            if name_ids and tuple(ids[position : position + len(name_ids)]) == name_ids
        )
        return max(matches, key=lambda match: match[1], default=None)

    def load(self, name: str) -> NamedEmbedding:
        """The embedding that the recipe calls `name`; each is found or made once.

        StorageError if it no longer exists and cannot be made again.
        """
        if name not in self._made:
            self._made[name] = self._find_or_make(name, self._uses[name])
        return self._made[name]

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> NamedEmbedding | None:
        """The embedding of the model's library with these vectors, or None (core.ports.EmbeddingNames)."""
        return self._model.embeddings.with_vectors(sha256, count, encoders)

    def _find_or_make(self, name: str, used: UsedEmbedding) -> NamedEmbedding:
        same_name = self._load_from_library(name)
        if same_name is not None and (not used.hash or is_used_embedding(same_name, used)):
            return same_name
        renamed = self.with_vectors(used.hash, used.count, {encoder.key for encoder in self._model.encoders})
        if renamed is not None:
            return renamed
        if used.recipe is None:
            message = f"The recipe uses the embedding {name}, which is not here, and its own recipe is unknown."
            if same_name is not None:
                message = f"{name} is not the embedding that the recipe used, and the recipe of that one is unknown."
            raise StorageError(message, hint="Put the file of that embedding back into the embeddings folder.")
        try:
            return PlainEmbedding(name, _run(used.recipe, used.uses, self._model, self._budget))
        except RECIPE_ERRORS as error:
            raise StorageError(f"{name} cannot be rebuilt: {error.message}", hint=error.hint) from error

    def _load_from_library(self, name: str) -> NamedEmbedding | None:
        """The model's embedding with this name, or None if it does not exist or cannot be loaded."""
        try:
            return self._model.embeddings.load(name)
        except StorageError:
            return None
