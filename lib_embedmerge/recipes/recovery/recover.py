"""Recover a source from vectors: find the expression that makes an embedding on a model, from its vectors alone.

Vectors that are rows of the token tables are found exactly (row_matches.py). For others, sums of a few rows are
searched (pursuit.py), combined to texts (candidate_texts.py) and written as an expression (source_printing.py). The
expression is then evaluated and compared with the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy

from lib_embedmerge.core.answers import BestRecoveryAnswer, CandidateAnswer, RecoveryAnswer
from lib_embedmerge.core.architecture import ENCODER_TITLES, MAX_VECTORS
from lib_embedmerge.core.arrays import to_float16, to_numpy
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
from lib_embedmerge.recipes.recovery.pursuit import Combination, JointRows, pursue
from lib_embedmerge.recipes.recovery.row_matches import RowMatches, count_nameable_tokens
from lib_embedmerge.recipes.recovery.source_printing import WEIGHTS_ROUNDED, Speller, fit_segments, print_segments

SAME = 1e-3
"""Relative L2 distance up to which an expression counts as giving the vectors: twice the most that float16 rounds."""

_CLOSE = 0.1
"""Relative L2 distance up to which an expression counts as close to the vectors."""

_BETTER = 0.5
"""An expression with a sum for each encoder, which is longer, is preferred if its residual is less than this share of
the residual of one sum for all encoders."""


@dataclass(frozen=True)
class Recovery:
    """The expression that was recovered from an embedding on one model.

    expression: gives the vectors, apart from the residual.  exact: whether it gives them to the last bit of float16.
    residual: encoder key -> L2 length of the difference divided by the L2 length of the vectors; infinite if the
        vectors are zero and the expression's are not.
    checkpoint: name of the model, for people.
    texts: the texts that the expression adds; an expression for a text that cannot be written as one.
    weights: what each of the texts is multiplied by.
    tokens: largest number of tokens that are added in one vector.
    """

    expression: str
    exact: bool
    residual: Mapping[str, float]
    checkpoint: str
    texts: tuple[str, ...]
    weights: tuple[float, ...]
    tokens: int

    @property
    def largest_residual(self) -> float:
        """The largest of the encoders' residuals."""
        return max(self.residual.values())

    @property
    def is_source(self) -> bool:
        """Whether the expression gives the vectors, apart from rounding."""
        return self.largest_residual <= SAME

    @property
    def is_close(self) -> bool:
        """Whether the expression comes close to the vectors."""
        return self.largest_residual <= _CLOSE

    @property
    def residual_in_words(self) -> str:
        """The residual of each encoder, for messages: `78% of CLIP-L and 80% of CLIP-G`."""
        return " and ".join(f"{format_percent(share)} of {ENCODER_TITLES[key]}" for key, share in self.residual.items())

    @property
    def detail(self) -> str:
        """What was found, in one sentence."""
        if self.largest_residual == 0:
            return "The expression gives exactly these vectors."
        if self.exact:
            return "The expression gives these vectors, as exactly as float16 can store them."
        if self.is_source:
            return "The expression gives these vectors, except for rounding."
        if self.is_close:
            return f"The expression comes close to these vectors, but differs by {self.residual_in_words}."
        tokens = {0: "no token", 1: "one token"}.get(self.tokens, f"up to {self.tokens} tokens")
        best = f"the best one, with {tokens} for each vector, misses {self.residual_in_words}"
        return f"No combination of tokens makes these vectors: {best}."

    def as_json(self) -> RecoveryAnswer:
        """The fields but `tokens`, whether it is close, and the detail, as plain values; None for infinite numbers."""
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
    """The attempt to recover an embedding on one of several models.

    checkpoint: name of the model.  recovery: the result, or None if the model could not be tried, for `reason`.
    """

    checkpoint: str
    recovery: Recovery | None
    reason: str | None = None


@dataclass(frozen=True)
class CheckpointRecoveries:
    """The results of recovering one embedding on several models.

    attempts: one for each model, in order; at least one of them has a recovery.
    """

    attempts: tuple[CheckpointAttempt, ...]

    @property
    def recoveries(self) -> list[Recovery]:
        """The results on the models that could be tried, at least one."""
        return [attempt.recovery for attempt in self.attempts if attempt.recovery]

    @property
    def best(self) -> Recovery:
        """The best result: an exact one, else one with the smallest residual; the shortest expression of several."""
        exact = [recovery for recovery in self.recoveries if recovery.exact]
        limit = 1.05 * min(recovery.largest_residual for recovery in self.recoveries) + WEIGHTS_ROUNDED
        close = [recovery for recovery in self.recoveries if recovery.largest_residual <= limit]
        return min(exact or close, key=lambda recovery: len(recovery.expression))

    @property
    def ties(self) -> tuple[str, ...]:
        """Names of the other models on which the best expression gives the vectors too; empty if it does on none."""
        best = self.best
        same = (other for other in self.recoveries if (other.expression, other.exact) == (best.expression, best.exact))
        return tuple(other.checkpoint for other in same if other is not best and best.is_source)

    def as_json(self) -> BestRecoveryAnswer:
        """The fields of the best result, `ties`, and `candidates` with the residuals on each model."""
        candidates: list[CandidateAnswer] = [
            {
                "checkpoint": attempt.checkpoint,
                "exact": attempt.recovery.exact if attempt.recovery else None,
                "residual": attempt.recovery.as_json()["residual"] if attempt.recovery else None,
                "reason": attempt.reason,
            }
            for attempt in self.attempts
        ]
        return {**self.best.as_json(), "ties": list(self.ties), "candidates": candidates}


def recover(embedding: Embedding, model: Model, checkpoint: str | None = None) -> Recovery:
    """Find the expression that makes an embedding on a model, or comes closest. The embedding's tag is not used.

    The first call for a model reads its token tables.
    checkpoint: name of the model for the result; None for its title.
    StorageError if the embedding is for another architecture, has no vectors or more than one expression makes, or has
    values that are not finite. CheckpointError or HostError if the model cannot be read.
    """
    _check_recoverable(embedding, model)
    search = _ExpressionSearch(embedding.vectors, model, checkpoint or model.facts.title)
    matches = RowMatches(embedding.vectors, model)
    encoders = matches.encoders
    if not encoders:
        return search.recover_zeros()
    if segments := matches.find_segments():
        return search.recover_segments(segments)
    jointly = search.recover_sums([encoders])
    if jointly.is_source or len(encoders) == 1:
        return jointly
    separately = search.recover_sums([[encoder] for encoder in encoders])
    return separately if separately.largest_residual < _BETTER * jointly.largest_residual else jointly


def recover_on_each(
    embedding: Embedding,
    models: Iterable[tuple[str, Callable[[], Model]]],
    done: Callable[[int], None] = lambda _: None,
) -> CheckpointRecoveries:
    """Recover an embedding on each of several models, one or more, as `recover` does on one.

    models: name of each and the function that opens it. Only one is open at a time.
    done: called after each model with the number of models tried.
    A model that cannot be read or does not fit is an attempt without a recovery. If all are, StorageError is raised,
    or for a single model its own error.
    """
    attempts: list[CheckpointAttempt] = []
    faults: list[CheckpointError | StorageError] = []
    for checkpoint, open_model in models:
        try:
            attempts.append(CheckpointAttempt(checkpoint, recover(embedding, open_model(), checkpoint)))
        except (CheckpointError, StorageError) as fault:
            faults.append(fault)
            attempts.append(CheckpointAttempt(checkpoint, None, fault.message))
        done(len(attempts))
    if len(faults) < len(attempts):
        return CheckpointRecoveries(tuple(attempts))
    if len(faults) == 1:
        raise faults[0]
    reasons = " ".join(f"{attempt.checkpoint}: {attempt.reason}" for attempt in attempts)
    message = f"{embedding.name} could not be tried on any of these models. {reasons}"
    raise StorageError(message, hint="Choose a model that it may have been made on.")


def _check_recoverable(embedding: Embedding, model: Model) -> None:
    """StorageError if an embedding cannot be recovered on a model."""
    name = embedding.name
    if other := fit_by_architecture(embedding, model):
        raise StorageError(f"{name} does not fit this model. {other.detail}", hint="Choose a model of its kind.")
    if not 1 <= embedding.count <= MAX_VECTORS:
        message = f"{name} has {embedding.count} vectors; one expression makes 1 to {MAX_VECTORS}."
        raise StorageError(message, hint="Its text cannot be recovered.")
    if not all(map(is_finite, embedding.vectors.values())):
        message = f"{name} has values that are not finite numbers, which no expression makes."
        raise StorageError(message, hint="The file is damaged. Get the file again.")


class _ExpressionSearch:
    """Finds and checks expressions for the vectors of one embedding on one model."""

    def __init__(self, vectors: Mapping[str, numpy.ndarray], model: Model, checkpoint: str) -> None:
        self._vectors = vectors
        self._model = model
        self._checkpoint = checkpoint
        self._speller = Speller(model)
        self._vocabulary_size = count_nameable_tokens(model)

    def recover_zeros(self) -> Recovery:
        """The recovery with an expression for zero vectors, as many as the embedding has."""
        count = len(next(iter(self._vectors.values())))
        return self.recover_segments({tuple(self._vectors): [Segment(count)]})

    def recover_sums(self, groups: Sequence[Sequence[TextEncoder]]) -> Recovery:
        """The recovery with the sums of texts that fit best, which are searched for all encoders of a group at once.

        If they cannot be written as an expression, that of zero vectors.
        """
        parts = {tuple(encoder.key for encoder in group): self._search_segments(group) for group in groups}
        try:
            return self.recover_segments(parts)
        except ExpressionError:  # too long, or with numbers beyond float32
            return self.recover_zeros()

    def _search_segments(self, encoders: Sequence[TextEncoder]) -> list[Segment]:
        """The segments that fit best: of texts that span several vectors, or else of single tokens."""
        rows = JointRows(encoders, self._vectors, self._vocabulary_size)
        combinations = pursue(rows)
        singles, least = fit_segments([_make_single_segment(combination) for combination in combinations], rows)
        if least > _CLOSE:
            return singles  # the embedding is not made of these tokens, so they make no texts
        tokens = [dict(zip(combination.ids, combination.weights, strict=True)) for combination in combinations]
        texts, distance = fit_segments(find_segments(tokens, self._speller.begins_with_word), rows)
        # Weights that are nearly equal may belong to different texts nevertheless.
        return texts if distance <= max(2 * least, SAME / 10) else singles

    def recover_segments(self, parts: Mapping[tuple[str, ...], Sequence[Segment]]) -> Recovery:
        """The recovery with the expression for some segments, compared with the vectors.

        parts: keys of text encoders -> the segments for these encoders.
        ExpressionError if the segments cannot be written as an expression.
        """
        expression = print_segments(parts, self._model, self._speller)
        made = {key: to_numpy(rows) for key, rows in evaluate(parse(expression), self._model).items()}
        residual = {key: _compute_residual(rows, made[key]) for key, rows in self._vectors.items()}
        same = all(_are_equal_in_float16(made[key], rows) for key, rows in self._vectors.items())
        texts = [text for segments in parts.values() for segment in segments for text in segment.texts]
        return Recovery(
            expression=expression,
            exact=same and max(residual.values()) <= SAME,  # very large or small numbers are all equal in float16
            residual=residual,
            checkpoint=self._checkpoint,
            texts=tuple(
                self._speller.spell_text(text.ids) or self._speller.spell_expression(text.ids) for text in texts
            ),
            weights=tuple(text.weight for text in texts),
            tokens=max(len(segment.texts) for segments in parts.values() for segment in segments),
        )


def _make_single_segment(combination: Combination) -> Segment:
    """A segment of one vector, in which each token of its combination is a text."""
    pairs = zip(combination.ids, combination.weights, strict=True)
    return Segment(1, tuple(WeightedText((token,), weight) for token, weight in pairs))


def _are_equal_in_float16(left: numpy.ndarray, right: numpy.ndarray) -> bool:
    return bool((to_float16(left) == to_float16(right)).all())


def _compute_residual(wanted: numpy.ndarray, made: numpy.ndarray) -> float:
    """L2 length of the difference divided by the L2 length of `wanted`; infinite if only `wanted` is zero."""
    doubles = wanted.astype(numpy.float64)
    length, gap = float(numpy.linalg.norm(doubles)), float(numpy.linalg.norm(doubles - made))
    if length:
        return gap / length
    return math.inf if gap else 0.0
