"""From vectors back to a source: what an embedding is made of on a model, measured on the vectors alone.

Rows of the token tables are read off exactly; sums of them are pursued (recovery_pursuit.py), put together to texts
(recovery_texts.py) and written down (recovery_source.py). What is stated of the expression is measured on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lib_embedmerge.core.answers import BestRecoveryAnswer, CandidateAnswer, RecoveryAnswer
from lib_embedmerge.core.architecture import ENCODER_TITLES, MAX_VECTORS
from lib_embedmerge.core.differences import format_percent
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.operations import is_finite
from lib_embedmerge.core.ports import Model, TextEncoder
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import CheckpointError, ExpressionError, StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.fit import fit_by_architecture
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText, find_segments
from lib_embedmerge.recipes.recovery.found_source import WEIGHTS_ROUNDED, Speller, print_segments, print_weighted_sum
from lib_embedmerge.recipes.recovery.pursuit import Combination, Rows, pursue
from lib_embedmerge.recipes.recovery.token_rows import TokenRows, find_nameable_tokens

SAME = 1e-3
"""Relative L2 distance up to which an expression gives the vectors: float16 rounds to half of that at most."""

_CLOSE = 0.1
"""The same, up to which it has to do with them."""

_BETTER = 0.5
"""Share of what one combination for all encoders leaves, under which one for each is worth its longer expression."""


@dataclass(frozen=True)
class Recovery:
    """What was recovered of an embedding on one model.

    expression: gives the vectors, up to the residual.  exact: gives them to the last bit of float16.
    residual: encoder key -> L2 length of the difference over that of the vectors; infinite where those are zero and
    the expression's are not.  checkpoint: the model.
    texts, weights: what the expression adds up, a text each, or an expression where a token has no spelling, and what
    it is multiplied by.  tokens: how many are summed in one vector, at most.
    """

    expression: str
    exact: bool
    residual: Mapping[str, float]
    checkpoint: str
    texts: tuple[str, ...]
    weights: tuple[float, ...]
    tokens: int

    @property
    def worst(self) -> float:
        """The residual of the encoder that it fits worst."""
        return max(self.residual.values())

    @property
    def is_source(self) -> bool:
        """Whether the expression gives the vectors, but for rounding."""
        return self.worst <= SAME

    @property
    def is_close(self) -> bool:
        """Whether the expression has to do with the vectors at all."""
        return self.worst <= _CLOSE

    @property
    def left(self) -> str:
        """What the expression leaves, in words: `78% of CLIP-L and 80% of CLIP-G`."""
        return " and ".join(f"{format_percent(share)} of {ENCODER_TITLES[key]}" for key, share in self.residual.items())

    @property
    def detail(self) -> str:
        """What that means, one sentence."""
        if self.worst == 0:
            return "The expression gives exactly these vectors."
        if self.exact:
            return "The expression gives these vectors, as exactly as float16 can store them."
        if self.is_source:
            return "The expression gives these vectors, except for rounding."
        if self.is_close:
            return f"The expression comes close to these vectors, but misses {self.left}."
        tokens = {0: "no token", 1: "one token"}.get(self.tokens, f"up to {self.tokens} tokens")
        best = f"the best one, with {tokens} for each vector, misses {self.left}"
        return f"No combination of tokens makes these vectors: {best}."

    def as_json(self) -> RecoveryAnswer:
        """All fields, plain; None for figures that are not finite."""
        return {
            "expression": self.expression,
            "exact": self.exact,
            "close": self.is_close,
            "residual": {key: finite_or_none(share) for key, share in self.residual.items()},
            "checkpoint": self.checkpoint,
            "texts": list(self.texts),
            "weights": list(self.weights),
            "detail": self.detail,
        }


@dataclass(frozen=True)
class CheckpointAttempt:
    """One model of several. recovery: what was recovered on it, None where it could not be tried, for a reason."""

    checkpoint: str
    recovery: Recovery | None
    reason: str | None = None


@dataclass(frozen=True)
class Recovered:
    """What was recovered among several models. tried: these in order, one or more with a recovery."""

    tried: tuple[CheckpointAttempt, ...]

    @property
    def recoveries(self) -> list[Recovery]:
        """On those models that could be tried, one or more."""
        return [one.recovery for one in self.tried if one.recovery]

    @property
    def best(self) -> Recovery:
        """On the model that fits best: exactly, else with the least residual, and there by the shortest expression."""
        exact = [one for one in self.recoveries if one.exact]
        least = min(one.worst for one in self.recoveries)
        close = [one for one in self.recoveries if one.worst <= 1.05 * least + WEIGHTS_ROUNDED]
        return min(exact or close, key=lambda one: len(one.expression))

    @property
    def ties(self) -> tuple[str, ...]:
        """The other models on which the same expression gives the vectors as well."""
        best = self.best
        same = (one for one in self.recoveries if (one.expression, one.exact) == (best.expression, best.exact))
        return tuple(one.checkpoint for one in same if one is not best and best.is_source)

    def as_json(self) -> BestRecoveryAnswer:
        """The best one's fields; `ties`, and `candidates` with what each model left."""
        candidates: list[CandidateAnswer] = [
            {
                "checkpoint": one.checkpoint,
                "exact": one.recovery.exact if one.recovery else None,
                "residual": one.recovery.as_json()["residual"] if one.recovery else None,
                "reason": one.reason,
            }
            for one in self.tried
        ]
        return {**self.best.as_json(), "ties": list(self.ties), "candidates": candidates}


def recover(embedding: Embedding, model: Model, checkpoint: str | None = None) -> Recovery:
    """What an embedding is made of on a model, whatever its tag says. Reads the model's token tables the first time.

    checkpoint: what to call the model, None for its title.
    StorageError where the model is of another architecture, or the vectors are none, too many or not finite;
    CheckpointError or HostError where the model cannot be read.
    """
    _check(embedding, model)
    search = _Search(embedding.vectors, model, checkpoint or model.facts.title)
    rows = TokenRows(embedding.vectors, model)
    encoders = rows.encoders
    if not encoders:
        return search.zeros()
    if segments := rows.segments():
        return search.stated(segments)
    together = search.sums([encoders])
    if together.is_source or len(encoders) == 1:
        return together
    apart = search.sums([[encoder] for encoder in encoders])
    return apart if apart.worst < _BETTER * together.worst else together


def recover_among(
    embedding: Embedding,
    models: Iterable[tuple[str, Callable[[], Model]]],
    done: Callable[[int], None] = lambda _: None,
) -> Recovered:
    """The same on several models, each by what it is called and what opens it; one at a time is held.

    done: called with how many were tried.  StorageError where none could be; the reason of the only one.
    """
    tried: list[CheckpointAttempt] = []
    faults: list[CheckpointError | StorageError] = []
    for checkpoint, open_model in models:
        try:
            tried.append(CheckpointAttempt(checkpoint, recover(embedding, open_model(), checkpoint)))
        except (CheckpointError, StorageError) as fault:
            faults.append(fault)
            tried.append(CheckpointAttempt(checkpoint, None, fault.message))
        done(len(tried))
    if len(faults) < len(tried):
        return Recovered(tuple(tried))
    if len(faults) == 1:
        raise faults[0]
    reasons = " ".join(f"{one.checkpoint}: {one.reason}" for one in tried)
    message = f"{embedding.name} could not be tried on any of these models. {reasons}"
    raise StorageError(message, hint="Choose a model that it may have been made on.")


def _check(embedding: Embedding, model: Model) -> None:
    name = embedding.name
    if other := fit_by_architecture(embedding, model):
        raise StorageError(f"{name} does not fit this model. {other.detail}", hint="Choose a model of its kind.")
    if not 1 <= embedding.count <= MAX_VECTORS:
        message = f"{name} has {embedding.count} vectors; one expression makes 1 to {MAX_VECTORS}."
        raise StorageError(message, hint="Its text cannot be recovered.")
    if not all(map(is_finite, embedding.vectors.values())):
        message = f"{name} has values that are not finite numbers, which no expression makes."
        raise StorageError(message, hint="The file is damaged. Get the file again.")


class _Search:
    """Sources for some vectors on a model."""

    def __init__(self, vectors: Mapping[str, Tensor], model: Model, checkpoint: str) -> None:
        self._vectors = vectors
        self._model = model
        self._checkpoint = checkpoint
        self._speller = Speller(model)
        self._vocabulary_size = find_nameable_tokens(model)

    def zeros(self) -> Recovery:
        """As many zero vectors."""
        count = len(next(iter(self._vectors.values())))
        return self.stated({tuple(self._vectors): [Segment(count)]})

    def sums(self, groups: Sequence[Sequence[TextEncoder]]) -> Recovery:
        """Sums of texts, for the encoders of each group together; zeros where they cannot be written down."""
        parts = {tuple(encoder.key for encoder in group): self._segments(group) for group in groups}
        try:
            return self.stated(parts)
        except ExpressionError:  # too long, or with numbers beyond float32
            return self.zeros()

    def _segments(self, encoders: Sequence[TextEncoder]) -> list[Segment]:
        rows = Rows(encoders, self._vectors, self._vocabulary_size)
        combinations = pursue(rows)
        alone, least = print_weighted_sum([_alone(one) for one in combinations], rows)
        if least > _CLOSE:
            return alone  # weights of tokens that are not what it is made of
        tokens = [dict(zip(one.ids, one.weights, strict=True)) for one in combinations]
        texts, left = print_weighted_sum(find_segments(tokens, self._speller.starts_well), rows)
        # Weights that are nearly the same may be others after all.
        return texts if left <= max(2 * least, SAME / 10) else alone

    def stated(self, parts: Mapping[tuple[str, ...], Sequence[Segment]]) -> Recovery:
        """What some segments for each set of encoders give, once written down. ExpressionError where they cannot be."""
        expression = print_segments(parts, self._model, self._speller)
        gives = {key: rows.cpu() for key, rows in evaluate(parse(expression), self._model).items()}
        residual = {key: _residual(rows, gives[key]) for key, rows in self._vectors.items()}
        same = all(_same_halves(gives[key], rows) for key, rows in self._vectors.items())
        texts = [text for segments in parts.values() for segment in segments for text in segment.texts]
        return Recovery(
            expression=expression,
            exact=same and max(residual.values()) <= SAME,  # float16 has no very large or small numbers
            residual=residual,
            checkpoint=self._checkpoint,
            texts=tuple(self._speller.text(text.ids) or self._speller.source(text.ids) for text in texts),
            weights=tuple(text.weight for text in texts),
            tokens=max(len(segment.texts) for segments in parts.values() for segment in segments),
        )


def _alone(one: Combination) -> Segment:
    """One vector by itself."""
    pairs = zip(one.ids, one.weights, strict=True)
    return Segment(1, tuple(WeightedText((token,), weight) for token, weight in pairs))


def _same_halves(left: Tensor, right: Tensor) -> bool:
    return bool((left.half() == right.half()).all())


def _residual(wanted: Tensor, given: Tensor) -> float:
    length = float(wanted.double().norm())
    gap = float((wanted.double() - given.double()).norm())
    if length:
        return gap / length
    return math.inf if gap else 0.0
