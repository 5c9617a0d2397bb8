"""Whether an embedding fits a model: measured on the vectors, never guessed from names (docs/model-tags.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from lib_embedmerge.core.answers import FitAnswer
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.evaluate import Vectors
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.operations import is_finite, resize
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, format_count
from lib_embedmerge.recipes.recovery.found_source import Speller, print_segments
from lib_embedmerge.recipes.recovery.token_rows import TokenRows
from lib_embedmerge.recipes.run import RecipeRunner

if TYPE_CHECKING:
    from lib_embedmerge.embeddings.embedding import Embedding, EmbeddingHeader

_ROUNDING = 2.0**-10
"""Relative L2 distance of a vector that float16 rounding of it and of its token rows can make."""

_SMALLEST = 2.0**-25
"""Half of float16's smallest step, by which it may miss any value however small."""


@dataclass(frozen=True)
class Distance:
    """How far stored vectors are from those that the recipe gives.

    relative_l2: L2 length of the difference over that of the recipe's vectors.  cosine: of the two runs as one vector.
    """

    relative_l2: float
    cosine: float


@dataclass(frozen=True)
class Fit:
    """What was found.

    status: how well it fits.  detail: one sentence with the reason.  advice: what to do.
    distances: encoder key -> distance, where the recipe was run.
    layers_differ: encoders whose token table is that of the tag while other weights are not; None where not known.
    rows: how many of the vectors are rows of this model's table, None where not looked for.  text: the source that
    gives these rows, where all are and one has room for it; the same that recovery.py finds.
    """

    status: FitStatus
    detail: str
    distances: Mapping[str, Distance] = field(default_factory=dict)
    layers_differ: tuple[str, ...] | None = None
    rows: int | None = None
    text: str | None = None

    @property
    def advice(self) -> str:
        """What to do, one sentence."""
        return self.status.advice

    def as_json(self) -> FitAnswer:
        """All fields, plain; None for figures that are not finite."""
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
    """How an embedding fits a model. Fingerprints the model where that is not known yet, which can take seconds.

    CheckpointError where the model's file cannot be read.
    """
    if other := fit_by_architecture(embedding, model):
        return other
    tag = embedding.tag or ModelTag()
    return fit_by_tag(tag, model) or fit_by_vectors(embedding, tag, model, RecipeRunner(model, [tag]))


def fit_by_vectors(embedding: Embedding, tag: ModelTag, model: Model, recipes: RecipeRunner) -> Fit:
    """How the vectors of an embedding for models of this architecture fit, where its tag alone does not tell.

    recipes: those of this model.
    """
    return _with_prediction(_by_vectors(embedding, tag, model, recipes), tag, model)


def _by_vectors(embedding: Embedding, tag: ModelTag, model: Model, recipes: RecipeRunner) -> Fit:
    try:
        fresh = recipes.vectors(tag)
    except EmbedMergeError as error:
        return _by_rows(embedding.vectors, model, f"Its recipe does not work on this model: {error.message}")
    if fresh is None:
        return _by_rows(embedding.vectors, model, "It has no recipe.")
    return fit_by_recipe(embedding.vectors, fresh)


def fit_by_architecture(embedding: Embedding | EmbeddingHeader, model: Model) -> Fit | None:
    """That it was made for another architecture, where it was; None for the model's own."""
    if embedding.architecture == model.facts.architecture:
        return None
    made, asked = embedding.architecture.title, model.facts.architecture.title
    return Fit(FitStatus.OTHER_ARCHITECTURE, f"It was made for {made}; this model is {asked}.")


def fit_by_tag(tag: ModelTag, model: Model) -> Fit | None:
    """That it was made for this model, where its tag says so; None where only its vectors can tell."""
    found = _by_tag(tag, model)
    return found and _with_prediction(found, tag, model)


def _with_prediction(found: Fit, tag: ModelTag, model: Model) -> Fit:
    """The same with a sentence in its detail where it was made on a model whose U-Net is of another kind."""
    made, asked = tag.prediction_type, model.facts.prediction_type
    if not made or not asked or made == asked:
        return found
    sentence = (
        f"This model uses {asked} prediction, but the embedding was made on a model with {made} prediction. Its "
        "vectors stay correct; its effect may differ."
    )
    return replace(found, detail=f"{found.detail} {sentence}")


def _by_tag(tag: ModelTag, model: Model) -> Fit | None:
    if not tag.token_tables:
        return None
    known = model.fingerprints()
    if any(tag.token_tables.get(key) != known[key].token_table for key in model.facts.architecture.encoders):
        return None
    stated = {key: (tag.text_encoders.get(key), known[key].text_encoder) for key in known}
    if not all(theirs and ours for theirs, ours in stated.values()):
        return Fit(FitStatus.MADE_FOR_THIS_MODEL, "It was made with exactly these token tables.")
    differ = tuple(key for key, (theirs, ours) in stated.items() if theirs != ours)
    detail = "It was made with exactly these token tables and text encoder weights."
    if differ:
        detail = (
            "It was made with exactly these token tables, so its vectors are correct; other weights of "
            f"{' and '.join(ENCODER_TITLES[key] for key in differ)} differ, so its effect may differ."
        )
    return Fit(FitStatus.MADE_FOR_THIS_MODEL, detail, layers_differ=differ)


def is_current_variant(variant: ModelTag, name: str, base: ModelTag, model: Model) -> bool:
    """Whether an embedding is what rebuilding another one for a model would give.

    variant: its tag.  name, base: the other one's, whose recipe with all that it names is to be the variant's.
    Fingerprints the model where that is not known yet. CheckpointError where the model's file cannot be read.
    """
    if (variant.variant_of, variant.recipe, variant.uses) != (name, base.recipe, base.uses):
        return False
    return fit_by_tag(variant, model) is not None


def fit_by_recipe(stored: Mapping[str, Tensor], fresh: Vectors) -> Fit:
    """Whether stored vectors are those that the recipe gives on a model, or how far they are from these."""
    if not all(len(rows) for rows in fresh.values()):
        return Fit(FitStatus.DIFFERS, "The recipe gives no vectors on this model.")
    if not all(is_finite(rows) for rows in stored.values()):
        return Fit(FitStatus.DIFFERS, "The stored vectors contain values that are not finite numbers.")
    distances, same = {}, True
    for key, rows in fresh.items():
        count = max(len(rows), len(stored[key]))
        ours, theirs = (resize(one, count).double().cpu() for one in (rows, stored[key]))
        gaps, lengths = (ours - theirs).norm(dim=1), ours.norm(dim=1)
        allowed = _ROUNDING * lengths + _SMALLEST * rows.shape[1] ** 0.5
        same = same and len(rows) == len(stored[key]) and bool((gaps <= allowed).all())
        gap, length, other = (one.norm().item() for one in (gaps, lengths, theirs))
        cosine = (ours * theirs).sum().item() / (length * other) if length and other else float(length == other)
        distances[key] = Distance(gap / length if length else gap, max(-1.0, min(1.0, cosine)))
    if same:
        return Fit(FitStatus.SAME_VECTORS, "The recipe gives the stored vectors on this model.", distances)
    apart = ", ".join(f"{ENCODER_TITLES[key]} {distance.relative_l2:.2%}" for key, distance in distances.items())
    return Fit(FitStatus.DIFFERS, f"The recipe gives different vectors on this model: {apart} apart.", distances)


def _by_rows(stored: Mapping[str, Tensor], model: Model, reason: str) -> Fit:
    rows = TokenRows(stored, model)
    count = len(next(iter(stored.values())))
    segments = rows.segments()
    if segments is None:
        known = sum(rows.known)
        detail = f"{reason} Of its {format_count(count, 'vector')}, this model's token tables contain {known}."
        return Fit(FitStatus.UNKNOWN_ORIGIN, detail, rows=known)
    detail = "Every vector is a row of this model's token tables."
    if zeros := [ENCODER_TITLES[key] for key in stored if key not in rows.ids]:
        given = " and ".join(ENCODER_TITLES[key] for key in rows.ids)
        detail = f"Every vector of {given} is a row of this model's token table; those of {zeros[0]} are zero."
    try:
        text = print_segments(segments, model, Speller(model))
    except ExpressionError:  # of more vectors than one source has room for
        text = None
    return Fit(FitStatus.FROM_ROWS, detail, rows=count, text=text)
