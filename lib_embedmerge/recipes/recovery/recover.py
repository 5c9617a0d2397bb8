"""Recover a source from vectors: find the expression that makes an embedding on a model, from its vectors alone.

Vectors that are rows of the token tables are found exactly (row_matches.py). Others may be rows of another model's
tables (across_models.py), or sums of a few rows of these, which are searched (pursuit.py), combined to texts
(candidate_texts.py) and written as an expression (source_printing.py). The expression is then evaluated and compared
with the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy

from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import to_float16, to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.operations import is_finite
from lib_embedmerge.core.ports import Model, TextEncoder
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import CheckpointError, ExpressionError, StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.fit import fit_by_architecture
from lib_embedmerge.recipes.recovery.across_models import read_files
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText, find_segments
from lib_embedmerge.recipes.recovery.drifted_rows import Certainty, NamedVector
from lib_embedmerge.recipes.recovery.file_context import Drift
from lib_embedmerge.recipes.recovery.pursuit import Combination, JointRows, pursue
from lib_embedmerge.recipes.recovery.readings import Reading, Verdict
from lib_embedmerge.recipes.recovery.recovery_results import (
    CLOSE,
    SAME,
    CheckpointAttempt,
    CheckpointRecoveries,
    Recovery,
)
from lib_embedmerge.recipes.recovery.row_matches import RowMatches, count_nameable_tokens
from lib_embedmerge.recipes.recovery.shared_encoders import share_encoders
from lib_embedmerge.recipes.recovery.source_printing import Speller, fit_segments, print_segments

_SAMPLE = 3
"""Vectors that are tried before all are searched for sums of rows of this model."""

_BETTER = 0.5
"""An expression with a sum for each encoder, which is longer, is preferred if its residual is less than this share of
the residual of one sum for all encoders."""


def recover(embedding: Embedding, model: Model, checkpoint: str | None = None) -> Recovery:
    """Find the expression that makes an embedding on a model, or comes closest. The embedding's tag is not used.

    The first call for a model reads its token tables.
    checkpoint: name of the model for the result; None for its title.
    StorageError if the embedding is for another architecture, has no vectors or more than one expression makes, or has
    values that are not finite. CheckpointError or HostError if the model cannot be read.
    """
    _check_recoverable(embedding, model)
    shared = share_encoders(model, embedding.vectors)
    vectors = {encoder.key: embedding.vectors[encoder.key] for encoder in shared.encoders}
    search = ExpressionSearch(vectors, shared, checkpoint or model.facts.title)
    matches = RowMatches(vectors, shared)
    if not matches.encoders:
        return search.recover_zeros()
    if segments := matches.find_segments():
        return search.recover_segments(segments, _read_rows(segments))
    (reading,) = read_files([vectors], shared)
    return _recover_reading(search, reading, matches.encoders)


def recover_reading(embedding: Embedding, model: Model, reading: Reading) -> Recovery:
    """The same as `recover` for vectors that are not all rows of this model, from what `read_files` read from them.

    model: with the text encoders of the embedding alone.
    """
    vectors = {encoder.key: embedding.vectors[encoder.key] for encoder in model.encoders}
    encoders = [encoder for encoder in model.encoders if encoder.key in reading.keys]
    if reading.may_be_exact and not _are_sums(vectors, encoders, model):
        reading = replace(reading, may_be_exact=False)
    search = ExpressionSearch(vectors, model, model.facts.title)
    if reading.verdict == Verdict.NOT_TEXT and not reading.may_be_exact:
        return search.give_up()
    return _recover_reading(search, reading, encoders)


def _are_sums(vectors: Mapping[str, numpy.ndarray], encoders: Sequence[TextEncoder], model: Model) -> bool:
    """Whether one of the first vectors is a sum of a few rows of this model, which takes a moment to find out.

    It is if its vector for the encoder with the shortest rows is.
    """
    encoder = min(encoders, key=lambda encoder: encoder.width)
    rows = vectors[encoder.key]
    sample = rows[rows.any(axis=1)][:_SAMPLE]
    if not len(sample):
        return True
    combinations = pursue(JointRows([encoder], {encoder.key: sample}, count_nameable_tokens(model)))
    return any(combination.residual <= SAME for combination in combinations)


def _read_rows(parts: Mapping[tuple[str, ...], Sequence[Segment]]) -> Reading:
    """The reading of vectors that are all rows of the model. A vector has no token if the encoders' tokens differ.

    parts: keys of encoders -> the one text that gives their vectors.
    """
    keys = tuple(key for group in parts for key in group)
    drifts, cosines = dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 1.0)
    texts = [segment.texts[0].ids for segments in parts.values() for segment in segments]
    vectors = tuple(
        NamedVector(ids[0] if len(set(ids)) == 1 else None, Certainty.EXACT, cosines, drifts)
        for ids in zip(*texts, strict=True)
    )
    return Reading(Verdict.EXACT, keys, vectors, (), dict.fromkeys(keys, Drift(0.0, 0.0)))


def _recover_reading(search: ExpressionSearch, reading: Reading, encoders: Sequence[TextEncoder]) -> Recovery:
    """The recovery of vectors that are not all rows of this model, from what was read from them.

    encoders: those with vectors that are not zero.
    """
    sums = None
    if reading.may_be_exact or reading.verdict == Verdict.NOT_TEXT:
        sums = _recover_sums(search, encoders)
        if sums.is_source or (reading.verdict == Verdict.NOT_TEXT and sums.is_close):
            return sums
    if sums is not None and reading.verdict == Verdict.NOT_TEXT:
        return replace(sums, verdict=Verdict.NOT_TEXT, drift={}, vectors=reading.vectors)
    try:
        return search.recover_segments({reading.keys: reading.segments}, reading)
    except ExpressionError:  # too long
        return search.give_up()


def _recover_sums(search: ExpressionSearch, encoders: Sequence[TextEncoder]) -> Recovery:
    """The recovery with the sums of rows of this model that fit best, in all encoders at once or in each alone."""
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
    is_shared = set(embedding.vectors) <= {encoder.key for encoder in model.encoders}
    if not is_shared and (other := fit_by_architecture(embedding, model)):
        raise StorageError(f"{name} does not fit this model. {other.detail}", hint="Choose a model of its kind.")
    if not 1 <= embedding.count <= MAX_VECTORS:
        message = f"{name} has {embedding.count} vectors; one expression makes 1 to {MAX_VECTORS}."
        raise StorageError(message, hint="Its text cannot be recovered.")
    if not all(map(is_finite, embedding.vectors.values())):
        message = f"{name} has values that are not finite numbers, which no expression makes."
        raise StorageError(message, hint="The file is damaged. Get the file again.")


class ExpressionSearch:
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
        vectors = (NamedVector(None, Certainty.EXACT, {}, {}),) * count
        reading = Reading(Verdict.EXACT, tuple(self._vectors), vectors, (), {})
        return self.recover_segments({tuple(self._vectors): [Segment(count)]}, reading)

    def give_up(self) -> Recovery:
        """The recovery for vectors that no expression can be written for: that of zero vectors."""
        count = len(next(iter(self._vectors.values())))
        unknown = (NamedVector(None, Certainty.NOT_TEXT, {}, {}),) * count
        reading = Reading(Verdict.NOT_TEXT, tuple(self._vectors), unknown, (), {})
        return self.recover_segments({tuple(self._vectors): [Segment(count)]}, reading)

    def recover_sums(self, groups: Sequence[Sequence[TextEncoder]]) -> Recovery:
        """The recovery with the sums of texts that fit best, which are searched for all encoders of a group at once.

        If they cannot be written as an expression, that of zero vectors.
        """
        parts = {tuple(encoder.key for encoder in group): self._search_segments(group) for group in groups}
        try:
            return self.recover_segments(parts)
        except ExpressionError:  # too long, or with numbers beyond float32
            return self.give_up()

    def _search_segments(self, encoders: Sequence[TextEncoder]) -> list[Segment]:
        """The segments that fit best: of texts that span several vectors, or else of single tokens."""
        rows = JointRows(encoders, self._vectors, self._vocabulary_size)
        combinations = pursue(rows)
        singles, least = fit_segments([_make_single_segment(combination) for combination in combinations], rows)
        if least > CLOSE:
            return singles  # the embedding is not made of these tokens, so they make no texts
        tokens = [dict(zip(combination.ids, combination.weights, strict=True)) for combination in combinations]
        texts, distance = fit_segments(find_segments(tokens, self._speller.begins_with_word), rows)
        # Weights that are nearly equal may belong to different texts nevertheless.
        return texts if distance <= max(2 * least, SAME / 10) else singles

    def recover_segments(
        self, parts: Mapping[tuple[str, ...], Sequence[Segment]], reading: Reading | None = None
    ) -> Recovery:
        """The recovery with the expression for some segments, compared with the vectors.

        parts: keys of text encoders -> the segments for these encoders.
        reading: what the vectors are; None if they are sums of rows of this model, as far as the expression gives them.
        ExpressionError if the segments cannot be written as an expression.
        """
        expression = print_segments(parts, self._model, self._speller)
        made = {key: to_numpy(rows) for key, rows in evaluate(parse(expression), self._model).items()}
        residual = {key: _compute_residual(rows, made[key]) for key, rows in self._vectors.items()}
        same = all(_are_equal_in_float16(made[key], rows) for key, rows in self._vectors.items())
        texts = [text for segments in parts.values() for segment in segments for text in segment.texts]
        recovery = Recovery(
            expression=expression,
            exact=same and max(residual.values()) <= SAME,  # very large or small numbers are all equal in float16
            residual=residual,
            checkpoint=self._checkpoint,
            texts=tuple(
                self._speller.spell_text(text.ids) or self._speller.spell_expression(text.ids) for text in texts
            ),
            weights=tuple(text.weight for text in texts),
            tokens=max(len(segment.texts) for segments in parts.values() for segment in segments),
            verdict=Verdict.SUMS,
        )
        if reading is None:
            certainty = Certainty.EXACT if recovery.is_source else Certainty.LIKELY
            return replace(recovery, **self._describe_sums(made, certainty))
        spellings = tuple(self._spell(vector.token) for vector in reading.vectors)
        return replace(
            recovery, verdict=reading.verdict, drift=reading.drift, vectors=reading.vectors, spellings=spellings
        )

    def _describe_sums(self, made: Mapping[str, numpy.ndarray], certainty: Certainty) -> dict[str, Any]:
        """The fields of a Recovery for vectors that are sums of rows of this model."""
        measured = {key: _compare_vectors(rows, made[key]) for key, rows in self._vectors.items() if rows.any()}
        count = len(next(iter(self._vectors.values())))
        vectors = [
            NamedVector(
                None,
                certainty,
                {key: float(cosines[index]) for key, (cosines, _) in measured.items()},
                {key: float(gaps[index]) for key, (_, gaps) in measured.items()},
            )
            for index in range(count)
        ]
        drift = {key: Drift(float(numpy.median(gaps)), float(gaps.max())) for key, (_, gaps) in measured.items()}
        return {"vectors": tuple(vectors), "drift": drift, "spellings": (None,) * count}

    def _spell(self, token: int | None) -> str | None:
        """A token as the vocabulary spells it; None if the vocabulary has no such token."""
        tokenizer = self._model.encoders[0].tokenizer
        return tokenizer.token(token) if token is not None and token < tokenizer.vocabulary_size else None


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


def _compare_vectors(wanted: numpy.ndarray, made: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(cosines of the vectors with each other, L2 distances in lengths of `wanted`), each float64 [n]."""
    left, right = wanted.astype(numpy.float64), made.astype(numpy.float64)
    lengths, others = numpy.linalg.norm(left, axis=1), numpy.linalg.norm(right, axis=1)
    cosines = numpy.einsum("ij,ij->i", left, right) / numpy.maximum(lengths * others, 1e-300)
    return numpy.clip(cosines, -1.0, 1.0), numpy.linalg.norm(left - right, axis=1) / numpy.maximum(lengths, 1e-300)
