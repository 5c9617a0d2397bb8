"""Whether an embedding fits a model: measured on the vectors, never guessed from names (model-tags.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.evaluate import Vectors, evaluate, texts_of
from lib_embedmerge.core.operations import is_finite, resized
from lib_embedmerge.core.ports import Model, NamedEmbedding, Tokenizer
from lib_embedmerge.core.spelling import spell_rows
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.errors import EmbedMergeError, ExpressionError, StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.storage.tag import ModelTag, UsedEmbedding

if TYPE_CHECKING:
    from lib_embedmerge.storage.embedding import Embedding, EmbeddingHeader

MADE_FOR_THIS_MODEL = "made for this model"
SAME_VECTORS = "same vectors"
DIFFERS = "differs"
FROM_ROWS = "from token rows of this model"
UNKNOWN_ORIGIN = "unknown origin"
OTHER_ARCHITECTURE = "other architecture"

ADVICE = {
    MADE_FOR_THIS_MODEL: "Nothing to do.",
    SAME_VECTORS: "Nothing to do: this model gives the same vectors.",
    DIFFERS: "Rebuild it for this model.",
    FROM_ROWS: "Save it again from its text, to give it a tag.",
    UNKNOWN_ORIGIN: "It can be used as it is; what it was made for is not known.",
    OTHER_ARCHITECTURE: "Use it with a model that it was made for.",
}

_ROUNDING = 2.0**-10
"""Relative L2 distance of a vector that float16 rounding of it and of its token rows can make."""

_SMALLEST = 2.0**-25
"""Half of float16's smallest step, by which it may miss any value however small."""

_MAX_RECIPES = 64
"""Recipes run for one answer: a recipe may name embeddings whose recipes name others, and files can be hostile."""


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

    status: one of the constants above.  detail: one sentence with the reason.  advice: what to do.
    distances: encoder key -> distance, where the recipe was run.
    layers_differ: encoders whose token table is that of the tag while other weights are not; None where not known.
    rows: how many of the vectors are rows of this model's table, None where not looked for.  text: what those rows
    spell, where all are.
    """

    status: str
    detail: str
    distances: Mapping[str, Distance] = field(default_factory=dict)
    layers_differ: tuple[str, ...] | None = None
    rows: int | None = None
    text: str | None = None

    @property
    def advice(self) -> str:
        """What to do, one sentence."""
        return ADVICE[self.status]

    def as_json(self) -> dict[str, object]:
        """All fields, plain; None for figures that are not finite."""
        return {
            "status": self.status,
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


def fit(embedding: Embedding, model: Model) -> Fit:
    """How an embedding fits a model. Fingerprints the model where that is not known yet, which can take seconds.

    CheckpointError where the model's file cannot be read.
    """
    if other := fit_by_architecture(embedding, model):
        return other
    tag = embedding.tag or ModelTag()
    return fit_by_tag(tag, model) or fit_by_vectors(embedding, tag, model)


def fit_by_vectors(embedding: Embedding, tag: ModelTag, model: Model) -> Fit:
    """How the vectors of an embedding for models of this architecture fit, where its tag alone does not tell."""
    reason = "It has no recipe."
    if tag.recipe:
        fresh = recipe_vectors(tag.recipe, tag.uses, model)
        if not isinstance(fresh, EmbedMergeError):
            return fit_by_recipe(embedding.vectors, fresh)
        reason = f"Its recipe cannot be run on this model: {fresh.message}"
    return _by_rows(embedding.vectors, model, reason)


def recipe_vectors(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model) -> Vectors | EmbedMergeError:
    """What a recipe gives on a model, or why it cannot be run.

    Names stand for the files that the recipe was made with; where these are gone or others, for what `uses` remembers
    of them, made again on this model.
    """
    return _run(recipe, uses, model, _Budget(_MAX_RECIPES))


def _run(recipe: str, uses: Mapping[str, UsedEmbedding], model: Model, budget: _Budget) -> Vectors | EmbedMergeError:
    budget.left -= 1
    if budget.left < 0:
        return StorageError("The recipe names too many embeddings that are made from others.")
    try:
        return evaluate(parse(recipe), model, readings=texts_of(model, _RecipeNames(model, uses, budget)))
    except (ExpressionError, StorageError) as error:
        return error


def fit_by_architecture(embedding: Embedding | EmbeddingHeader, model: Model) -> Fit | None:
    """That it was made for another architecture, where it was; None for the model's own."""
    if embedding.architecture == model.facts.architecture:
        return None
    made, asked = embedding.architecture.title, model.facts.architecture.title
    return Fit(OTHER_ARCHITECTURE, f"It was made for {made}; this is a model of {asked}.")


def fit_by_tag(tag: ModelTag, model: Model) -> Fit | None:
    """That it was made for this model, where its tag says so; None where only its vectors can tell."""
    if not tag.token_tables:
        return None
    known = model.fingerprints()
    if any(tag.token_tables.get(key) != known[key].token_table for key in model.facts.architecture.encoders):
        return None
    stated = {key: (tag.text_encoders.get(key), known[key].text_encoder) for key in known}
    if not all(theirs and ours for theirs, ours in stated.values()):
        return Fit(MADE_FOR_THIS_MODEL, "The token tables are those that it was made from.")
    differ = tuple(key for key, (theirs, ours) in stated.items() if theirs != ours)
    detail = "The token tables and all weights of the text encoders are those that it was made from."
    if differ:
        detail = (
            f"The token tables are those that it was made from, so its vectors are right; other weights of "
            f"{' and '.join(ENCODER_TITLES[key] for key in differ)} are not, so its effect may differ."
        )
    return Fit(MADE_FOR_THIS_MODEL, detail, layers_differ=differ)


def fit_by_recipe(stored: Mapping[str, Tensor], fresh: Vectors) -> Fit:
    """Whether stored vectors are those that the recipe gives on a model, or how far they are from these."""
    if not all(len(rows) for rows in fresh.values()):
        return Fit(DIFFERS, "The recipe gives no vectors on this model.")
    if not all(is_finite(rows) for rows in stored.values()):
        return Fit(DIFFERS, "The stored vectors hold values that are not finite numbers.")
    distances, same = {}, True
    for key, rows in fresh.items():
        count = max(len(rows), len(stored[key]))
        ours, theirs = resized(rows.double().cpu(), count), resized(stored[key].double(), count)
        gaps, lengths = (ours - theirs).norm(dim=1), ours.norm(dim=1)
        allowed = _ROUNDING * lengths + _SMALLEST * rows.shape[1] ** 0.5
        same = same and len(rows) == len(stored[key]) and bool((gaps <= allowed).all())
        distances[key] = _distance(ours, theirs)
    if same:
        return Fit(SAME_VECTORS, "The recipe gives the stored vectors on this model.", distances)
    apart = ", ".join(f"{ENCODER_TITLES[key]} {distance.relative_l2:.2%}" for key, distance in distances.items())
    return Fit(DIFFERS, f"The recipe gives other vectors on this model: {apart} apart.", distances)


def _distance(ours: Tensor, theirs: Tensor) -> Distance:
    length, other = ours.norm().item(), theirs.norm().item()
    gap = (ours - theirs).norm().item()
    cosine = (ours * theirs).sum().item() / (length * other) if length and other else float(length == other)
    return Distance(gap / length if length else gap, max(-1.0, min(1.0, cosine)))


def _by_rows(stored: Mapping[str, Tensor], model: Model, reason: str) -> Fit:
    known = _tokenizer(model).vocabulary_size  # rows that were added to a table are no token's: no text gives them
    found = {
        encoder.key: [
            row if row is not None and row < known else None for row in encoder.rows_equal_to(stored[encoder.key])
        ]
        for encoder in model.encoders
    }
    count = len(next(iter(stored.values())))
    whole = [all(ids[place] is not None for ids in found.values()) for place in range(count)]
    if count and all(whole):
        text = spell_rows({key: [i for i in ids if i is not None] for key, ids in found.items()}, _tokenizer(model))
        return Fit(FROM_ROWS, "Every vector is a row of this model's token tables.", rows=count, text=text)
    detail = f"{reason} {sum(whole)} of its {count} vectors are rows of this model's token tables."
    return Fit(UNKNOWN_ORIGIN, detail, rows=sum(whole))


def _tokenizer(model: Model) -> Tokenizer:
    return model.encoders[0].tokenizer


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
    """The model's embeddings as a recipe knew them: by hash, else made again from their own recipes on this model."""

    def __init__(self, model: Model, uses: Mapping[str, UsedEmbedding], budget: _Budget) -> None:
        self._model = model
        tokenizer = _tokenizer(model)
        self._uses = uses
        self._names = {tuple(tokenizer.encode(name)): name for name in uses}
        self._budget = budget
        self._made: dict[str, NamedEmbedding | StorageError] = {}

    @property
    def state(self) -> object:
        """The model's: what a recipe recorded stays."""
        return self._model.embeddings.state

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        """The longest of the model's names and the recipe's."""
        present = self._model.embeddings.find(ids, position)
        remembered = [
            (name, len(wanted))
            for wanted, name in self._names.items()
            if wanted and tuple(ids[position : position + len(wanted)]) == wanted
        ]
        longest = max(remembered, key=lambda found: found[1], default=None)
        if longest is None or (present is not None and present[1] > longest[1]):
            return present
        return longest

    def load(self, name: str) -> NamedEmbedding:
        """That embedding; each is made once. StorageError where it is gone and cannot be made."""
        used = self._uses.get(name)
        if used is None:
            return self._model.embeddings.load(name)
        if name not in self._made:
            self._made[name] = self._find_or_make(name, used)
        made = self._made[name]
        if isinstance(made, StorageError):
            raise made
        return made

    def _find_or_make(self, name: str, used: UsedEmbedding) -> NamedEmbedding | StorageError:
        present = self._present(name)
        if present is not None and (not used.hash or _hash_of(present) == used.hash):
            return present
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


def _hash_of(embedding: NamedEmbedding) -> str | None:
    from lib_embedmerge.storage.embedding import Embedding

    return embedding.used().hash if isinstance(embedding, Embedding) else None
