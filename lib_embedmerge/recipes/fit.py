"""Check whether an embedding fits a model, by its tag and its vectors, never by names (docs/model-tags.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.evaluate import Vectors
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.operations import ignore_overflow, is_finite, resize
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.statistics import finite_or_none, measure_lengths
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import ExpressionError, format_count
from lib_embedmerge.recipes.recovery.row_matches import RowMatches
from lib_embedmerge.recipes.recovery.source_printing import Speller, print_segments
from lib_embedmerge.recipes.run import RECIPE_ERRORS, RecipeRunner

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import FitAnswer
    from lib_embedmerge.embeddings.embedding import Embedding, EmbeddingHeader

_ROUNDING = 2.0**-10
"""Largest relative L2 distance that float16 rounding of a vector and of its token rows makes."""

_SMALLEST = 2.0**-25
"""Half of float16's smallest step: the largest error of float16 rounding for values near zero."""


_ADVICE_TO_PORT = "Port it to this model, or use it with the model that it was made for."


@dataclass(frozen=True)
class Distance:
    """How far the stored vectors are from those that the recipe gives, for one text encoder.

    relative_l2: L2 length of the difference divided by the L2 length of the recipe's vectors.
    cosine: between all stored vectors in one and all vectors of the recipe in one, -1 to 1.
    """

    relative_l2: float
    cosine: float


@dataclass(frozen=True)
class Fit:
    """How an embedding fits a model.

    status: how well it fits.  detail: the reason, in one or more sentences.
    distances: encoder key -> distance; empty if the recipe was not run.
    layers_differ: keys of the encoders whose token table is the one in the tag while their other weights differ; None
        if that is not known.
    rows: number of vectors that are rows of the model's token tables; None if they were not compared.
    text: if all vectors are rows, a source that makes them, as `recover` finds it; None if no source can be that long.
    other_advice: what the user can do, if not what the status says.
    """

    status: FitStatus
    detail: str
    distances: Mapping[str, Distance] = field(default_factory=dict)
    layers_differ: tuple[str, ...] | None = None
    rows: int | None = None
    text: str | None = None
    other_advice: str | None = None

    @property
    def advice(self) -> str:
        """What the user can do, in one sentence."""
        return self.other_advice or self.status.advice

    def as_json(self) -> FitAnswer:
        """All fields and the advice as plain values; None for numbers that are not finite."""
        return {
            "status": str(self.status),
            "detail": self.detail,
            "advice": self.advice,
            "distances": {
                key: {"relative_l2": finite_or_none(distance.relative_l2), "cosine": finite_or_none(distance.cosine)}
                for key, distance in self.distances.items()
            },
            "layers_differ": None if self.layers_differ is None else list(self.layers_differ),
            "rows": self.rows,
            "text": self.text,
        }


def measure_fit(embedding: Embedding, model: Model) -> Fit:
    """How an embedding fits a model. Fingerprints the model if necessary, which can take seconds.

    CheckpointError if the model's file cannot be read.
    """
    if other := fit_by_architecture(embedding, model):
        return other
    tag = embedding.tag or ModelTag()
    return fit_by_tag(tag, model) or fit_by_vectors(embedding, tag, model, RecipeRunner(model, [tag]))


def fit_by_vectors(embedding: Embedding, tag: ModelTag, model: Model, recipes: RecipeRunner) -> Fit:
    """How an embedding fits a model of its architecture, by its vectors: for embeddings that `fit_by_tag` leaves open.

    The vectors are compared with those of the recipe, or without one that works, with the model's token tables.
    tag: of the embedding.  recipes: runs recipes on this model.
    """
    return _add_prediction(_compare_vectors(embedding, tag, model, recipes), tag, model)


def _compare_vectors(embedding: Embedding, tag: ModelTag, model: Model, recipes: RecipeRunner) -> Fit:
    try:
        fresh = recipes.vectors(tag)
    except RECIPE_ERRORS as error:
        return _fit_by_rows(embedding.vectors, model, f"Its recipe does not work on this model: {error.message}")
    if fresh is None:
        fit = _fit_by_rows(embedding.vectors, model, _explain_missing_recipe(tag))
        can_be_ported = tag.method is not None and fit.status is FitStatus.UNKNOWN_ORIGIN
        return replace(fit, other_advice=_ADVICE_TO_PORT) if can_be_ported else fit
    return fit_by_recipe(embedding.vectors, fresh)


def _explain_missing_recipe(tag: ModelTag) -> str:
    """Why there is no recipe, in one or two sentences."""
    if tag.method is None:
        return "It has no recipe."
    made_for = tag.made_for or "another model"
    return f"It was optimised on {made_for} ({tag.method}), so it has no recipe."


def fit_by_architecture(embedding: Embedding | EmbeddingHeader, model: Model) -> Fit | None:
    """The fit of an embedding that was made for another architecture; None if it was made for the model's."""
    if embedding.architecture == model.facts.architecture:
        return None
    made_for, here = embedding.architecture.title, model.facts.architecture.title
    return Fit(FitStatus.OTHER_ARCHITECTURE, f"It was made for {made_for}; this model is {here}.")


def fit_by_tag(tag: ModelTag, model: Model) -> Fit | None:
    """The fit of an embedding that was made with the model's token tables, by its tag; None if it was not.

    Fingerprints the model if necessary. CheckpointError if the model's file cannot be read.
    """
    fit = _compare_fingerprints(tag, model)
    return fit and _add_prediction(fit, tag, model)


def _add_prediction(fit: Fit, tag: ModelTag, model: Model) -> Fit:
    """The fit, with a sentence in its detail if the embedding was made on a model of another prediction type."""
    made_with, here = tag.prediction_type, model.facts.prediction_type
    if not made_with or not here or made_with == here:
        return fit
    sentence = (
        f"This model uses {here} prediction, but the embedding was made on a model with {made_with} prediction. Its "
        "vectors stay correct; its effect may differ."
    )
    return replace(fit, detail=f"{fit.detail} {sentence}")


def _compare_fingerprints(tag: ModelTag, model: Model) -> Fit | None:
    """The fit if the token tables in the tag are those of the model; else None."""
    if not tag.token_tables:
        return None
    fingerprints = model.fingerprints()
    if any(tag.token_tables.get(key) != fingerprints[key].token_table for key in model.facts.architecture.encoders):
        return None
    stated = {key: (tag.text_encoders.get(key), ours.text_encoder) for key, ours in fingerprints.items()}
    if not all(theirs and ours for theirs, ours in stated.values()):
        return Fit(FitStatus.MADE_FOR_THIS_MODEL, "It was made with exactly these token tables.")
    differ = tuple(key for key, (theirs, ours) in stated.items() if theirs != ours)
    detail = "It was made with exactly these token tables and text encoder weights."
    if differ and tag.method is not None:
        detail = (
            f"It was optimised ({tag.method}) on a model with exactly these token tables. Other weights of "
            f"{' and '.join(ENCODER_TITLES[key] for key in differ)} differ, so it may work less well here."
        )
    elif differ:
        detail = (
            "It was made with exactly these token tables, so its vectors are correct; other weights of "
            f"{' and '.join(ENCODER_TITLES[key] for key in differ)} differ, so its effect may differ."
        )
    return Fit(FitStatus.MADE_FOR_THIS_MODEL, detail, layers_differ=differ)


def is_current_variant(variant: ModelTag, name: str, base: ModelTag, model: Model) -> bool:
    """Whether an embedding is an up-to-date variant: rebuilding its original for the model would give the same.

    variant: tag of the variant.  name, base: name and tag of the original. Both tags must have the same recipe and the
        same records of the embeddings that it names.
    Fingerprints the model if necessary. CheckpointError if the model's file cannot be read.
    """
    if (variant.variant_of, variant.recipe, variant.uses) != (name, base.recipe, base.uses):
        return False
    return fit_by_tag(variant, model) is not None


@ignore_overflow()
def fit_by_recipe(stored: Mapping[str, Array], fresh: Vectors) -> Fit:
    """The fit of stored vectors on a model where their recipe gives the vectors `fresh`.

    stored, fresh: encoder key -> [n, width]; n may differ between the two.
    """
    if not all(len(rows) for rows in fresh.values()):
        return Fit(FitStatus.DIFFERS, "The recipe gives no vectors on this model.")
    if not all(is_finite(rows) for rows in stored.values()):
        return Fit(FitStatus.DIFFERS, "The stored vectors contain values that are not finite numbers.")
    distances, same = {}, True
    for key, rows in fresh.items():
        count = max(len(rows), len(stored[key]))
        made, saved = (to_numpy(resize(vectors, count)).astype(numpy.float64) for vectors in (rows, stored[key]))
        gaps, lengths = measure_lengths(made - saved), measure_lengths(made)
        allowed = _ROUNDING * lengths + _SMALLEST * rows.shape[1] ** 0.5
        same = same and len(rows) == len(stored[key]) and bool((gaps <= allowed).all())
        gap, length, saved_length = (float(numpy.linalg.norm(values)) for values in (gaps, lengths, saved))
        both = length and saved_length
        cosine = float((made * saved).sum()) / (length * saved_length) if both else float(length == saved_length)
        distances[key] = Distance(gap / length if length else gap, max(-1.0, min(1.0, cosine)))
    if same:
        return Fit(FitStatus.SAME_VECTORS, "The recipe gives the stored vectors on this model.", distances)
    apart = ", ".join(f"{ENCODER_TITLES[key]} {distance.relative_l2:.2%}" for key, distance in distances.items())
    return Fit(FitStatus.DIFFERS, f"The recipe gives different vectors on this model: {apart} apart.", distances)


def _fit_by_rows(stored: Mapping[str, numpy.ndarray], model: Model, reason: str) -> Fit:
    """The fit of vectors without a recipe that works, by comparing them with the rows of the model's token tables.

    reason: why no recipe was run, one sentence.
    """
    matches = RowMatches(stored, model)
    count = len(next(iter(stored.values())))
    segments = matches.find_segments()
    if segments is None:
        matched = sum(matches.are_rows)
        detail = f"{reason} Of its {format_count(count, 'vector')}, this model's token tables contain {matched}."
        return Fit(FitStatus.UNKNOWN_ORIGIN, detail, rows=matched)
    detail = "Every vector is a row of this model's token tables."
    if zeros := [ENCODER_TITLES[key] for key in stored if key not in matches.ids]:
        matched_titles = " and ".join(ENCODER_TITLES[key] for key in matches.ids)
        detail = f"Every vector of {matched_titles} is a row of this model's token table; those of {zeros[0]} are zero."
    try:
        text = print_segments(segments, model, Speller(model))
    except ExpressionError:  # more vectors than one source can have
        text = None
    return Fit(FitStatus.FROM_ROWS, detail, rows=count, text=text)
