"""What each token of a prompt matters on a model: the effect of leaving it out, and a quick estimate of it.

The effect is that of the meter (core/effects.py) between the prompt with and without the token, on the same model. Each
token needs a run of the text encoders. The estimate needs one for all of them: the gradient, at each vector, of how far
the prompt is from padding, times the step from the vector to that of padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy

from lib_embedmerge.actions.measuring_effect import EffectRequest, open_metered
from lib_embedmerge.actions.meter import Chunk, MeteredModel, Vectors, Yardstick, measure_yardstick
from lib_embedmerge.checkpoints.meter_cache import Arrays
from lib_embedmerge.checkpoints.text_metric import PairMetric
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.effect_answers import TokenAnswer
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import find_parts
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.core.position_matching import match_positions
from lib_embedmerge.core.token_spans import find_token_spans
from lib_embedmerge.core.value_count import ValueCount
from lib_embedmerge.errors import StorageError
from lib_embedmerge.lang.typed import Typed, read_typed


@dataclass(frozen=True)
class Piece:
    """Some vectors of a text that are left out together. first, count: which ones."""

    first: int
    count: int


@dataclass(frozen=True)
class WeighedToken:
    """A token of a prompt, or what an expression or embedding in it gives.

    token: its text.  start, end: where it is in the typed text.
    effect: of leaving it out, as a share of what an unrelated text would change.  quick: the same, estimated.
    """

    token: str
    start: int
    end: int
    effect: float
    quick: float

    def as_json(self) -> TokenAnswer:
        """All fields as plain JSON data."""
        return {
            "token": self.token,
            "start": self.start,
            "end": self.end,
            "effect": self.effect,
            "quick": self.quick,
        }


class LeavingOut:
    """Measures what a text loses on a model. vectors: of the text, any number of them."""

    def __init__(self, model: MeteredModel, vectors: Vectors, progress: Progress | None = None) -> None:
        self.model, self.vectors = model, vectors
        self.chunks = model.make_chunks(vectors)
        self._progress = progress

    def measure(self, pieces: Sequence[Piece]) -> list[float]:
        """The effect of leaving out each piece, alone: a share of what an unrelated text would change.

        A prompt of several chunks keeps its other chunks as they are.
        """
        tasks = [
            (piece, number, max(0, piece.first - start), piece.first + piece.count - start)
            for piece in pieces
            for number, (start, end) in enumerate(self._find_chunks())
            if piece.first < end and piece.first + piece.count > start
        ]
        without = [
            {key: numpy.delete(rows, slice(first, last), axis=0) for key, rows in self.chunks[number].items()}
            for _, number, first, last in tasks
        ]
        whole, shorter, unrelated = self._read([self.chunks, without, self.model.make_yardstick_chunks()])
        metric, yardstick = self._find_measure(unrelated)
        squares: dict[Piece, float] = dict.fromkeys(pieces, 0.0)
        for (piece, number, first, last), states in zip(tasks, shorter["hidden"], strict=True):
            count = len(next(iter(self.chunks[number].values())))
            partners = match_positions([range(count)], [[*range(first), *range(last, count)]])
            squares[piece] += float(metric.states.measure(whole["hidden"][number], states[partners]).sum())
        positions = whole["hidden"].shape[0] * whole["hidden"].shape[1]
        return [math.sqrt(squares[piece] / positions) / yardstick.states for piece in pieces]

    def compare(self, other: Vectors, ours: Sequence[object], theirs: Sequence[object]) -> float:
        """The effect of another text in place of this one, on the same model.

        ours, theirs: what each vector of the two texts is, by which those that both have are found.
        """
        chunks = self.model.make_chunks(other)
        empty = [self.model.make_empty_chunk()] * abs(len(chunks) - len(self.chunks))
        left, right = ([*of_text, *empty] for of_text in (self.chunks, chunks))
        count = max(len(chunks), len(self.chunks))
        whole, changed, unrelated = self._read([left[:count], right[:count], self.model.make_yardstick_chunks()])
        metric, yardstick = self._find_measure(unrelated)
        partners = match_positions(_cut(ours, count), _cut(theirs, count))
        width = whole["hidden"].shape[-1]
        squares = metric.states.measure(
            whole["hidden"].reshape(-1, width), changed["hidden"].reshape(-1, width)[partners]
        )
        return math.sqrt(squares.mean()) / yardstick.states

    def estimate(self, pieces: Sequence[Piece]) -> list[float]:
        """Estimates of what `measure` gives, from one gradient."""
        unrelated, empty = self._read([self.model.make_yardstick_chunks(), [self.model.make_empty_chunk()]])
        metric, yardstick = self._find_measure(unrelated)
        steps = self.model.estimate_steps(self.chunks, empty["hidden"][0], metric.states.mean)
        positions = len(self.chunks) * empty["hidden"].shape[1]
        sums = (abs(steps[piece.first : piece.first + piece.count].sum()) for piece in pieces)
        return [math.sqrt(change / positions) / yardstick.states for change in sums]

    def _find_chunks(self) -> list[tuple[int, int]]:
        """(first vector, end) of each chunk."""
        ends = numpy.cumsum([0, *(len(next(iter(chunk.values()))) for chunk in self.chunks)]).tolist()
        return list(pairwise(ends))

    def _read(self, sets: Sequence[Sequence[Chunk]]) -> list[Arrays]:
        """States, with progress. Sets without chunks have none."""
        self.model.model.fingerprints()
        count = ValueCount(self.model.count_values(sets), self._progress)
        return self.model.states(sets, count.add)

    def _find_measure(self, unrelated: Arrays) -> tuple[PairMetric, Yardstick]:
        metric = self.model.metric_with(self.model)
        return metric, measure_yardstick(metric, unrelated, unrelated)


def weigh_tokens(
    source: str, path: str, request: EffectRequest | None = None, progress: Progress | None = None
) -> list[WeighedToken]:
    """What each token of a typed text matters on a checkpoint, in order. Of an expression, each of its vectors.

    request: its embeddings, clip_skip, device, attention and follow are used.
    progress: called with (values read, values in all).
    Errors are those of `measure_effects`; StorageError if the text has no tokens.
    """
    request = request or EffectRequest()
    (model,) = open_metered([path], request)
    typed = read_typed(source, request.attention)
    parsed = typed.parsed
    outliner = make_outliner(model.model)
    parts = find_parts(parsed, outliner, "tokens" if parsed.kind == "prompt" else "vectors")
    if not parts:
        raise StorageError("The text has no tokens, so none of them can be left out.", hint="Type a prompt.")
    pieces = [Piece(part.first, len(part.ids)) for part in parts]
    leaving = LeavingOut(model, evaluate(parsed, model.model, limit=None), progress)
    effects, quick = leaving.measure(pieces), leaving.estimate(pieces)
    places = [_find_place(typed, span) for span in find_token_spans(parsed, parts)]
    return [
        WeighedToken(part.text, *place, effect, estimate)
        for part, place, effect, estimate in zip(parts, places, effects, quick, strict=True)
    ]


def correlate_ranks(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, from -1 to 1; equal numbers share a rank. None if one has only equal numbers."""
    ranks = [_rank(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    size = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / size if size else None


def _rank(values: Sequence[float]) -> numpy.ndarray:
    array = numpy.array(values, dtype=float)
    ranks: numpy.ndarray = (array[:, None] > array).sum(axis=1) + (array[:, None] == array).sum(axis=1) / 2
    return ranks


def _find_place(typed: Typed, span: tuple[int, int]) -> tuple[int, int]:
    """The place in the typed text of a place in the source."""
    start, end = span
    first = typed.find_place(start)
    return first, max(first, typed.find_place(end - 1) + 1 if end > start else first)


def _cut(keys: Sequence[object], count: int) -> list[Sequence[object]]:
    """The keys of vectors in `count` chunks."""
    return [keys[number * MAX_VECTORS : (number + 1) * MAX_VECTORS] for number in range(count)]
