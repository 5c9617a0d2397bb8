"""Name the tokens of vectors that are rows of another model's token table, by the rows of the table at hand.

Two models of one family have been trained apart, token by token: the row of a token in one is 0.1 to 0.5 of its length
away from its row in the other, and no map takes one table to the other. So a vector is compared with every token, and
named if just one token can be meant. What can be meant is decided by a bound on the distance, in every text encoder for
which there are vectors: two rows that are close to each other in one encoder are seldom close in the other.

The distance of two vectors is that of their directions: L2, at length 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

import numpy

from lib_embedmerge.core.arrays import to_float16, to_numpy
from lib_embedmerge.core.ports import TextEncoder
from lib_embedmerge.core.statistics import measure_lengths

FARTHEST = 0.56
"""The greatest distance of a token's rows in two models. Measured: 0.08 to 0.53 (44 tokens of public files)."""

_EXCLUDED = 0.66
"""A token that is farther away than this in one of the text encoders cannot be meant."""

_LEAST_COSINE = 0.4
"""Rows below this cosine are not looked at. Sums of texts begin with the rows above it."""

_MOST = 16
"""Most rows that are looked at for one vector."""

_STRETCH = 1.3
"""Vectors whose length differs from that of the token's row by more than this factor are not rows as they are."""


class Certainty(str, Enum):
    """How certain it is that a vector is the row of a token.

    EXACT: it is the row of this model, equal in float16.
    SURE: it is the row of another model; no other token of this model comes near enough to be meant.
    LIKELY: it is probably the row of another model, but another token could be meant too, or it has drifted far.
    NOT_TEXT: it is the row of no token: it was trained, or is a sum.
    """

    EXACT = "exact"
    SURE = "sure"
    LIKELY = "likely"
    NOT_TEXT = "not_text"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class NamedVector:
    """The token of one vector.

    token: its id; None for NOT_TEXT.  cosines, drifts: encoder key -> cosine with the row of the token, and the L2
        distance from it in lengths of the row. For NOT_TEXT those of the closest row, and empty if none is close.
    closest: the token of the closest row, if there is one.  stretch: the vector's length in lengths of the row.
    others: the other tokens that can be meant, if it is LIKELY.
    """

    token: int | None
    certainty: Certainty
    cosines: Mapping[str, float]
    drifts: Mapping[str, float]
    closest: int | None = None
    stretch: float = 1.0
    others: tuple[NamedVector, ...] = ()

    @property
    def distances(self) -> dict[str, float]:
        """Encoder key -> distance of the directions."""
        return {key: math.sqrt(max(2.0 - 2.0 * cosine, 0.0)) for key, cosine in self.cosines.items()}


NOT_TEXT = NamedVector(None, Certainty.NOT_TEXT, {}, {})


@dataclass(frozen=True)
class _Candidates:
    """The tokens that are compared with one vector, the best first.

    ids: [m].  cosines: [m, encoders].  distances: of the directions, [m, encoders].  drifts, stretches: as in
    NamedVector, [m, encoders].  equal: bool [m, encoders], whether the rows are equal to the vector in float16.
    """

    ids: numpy.ndarray
    cosines: numpy.ndarray
    distances: numpy.ndarray
    drifts: numpy.ndarray
    stretches: numpy.ndarray
    equal: numpy.ndarray


def name_vectors(
    vectors: Mapping[str, numpy.ndarray], encoders: Sequence[TextEncoder], bound: int
) -> list[NamedVector]:
    """The token of each vector, each taken by itself.

    vectors: encoder key -> float32 [n, width] for each of `encoders`, one or more.  bound: token ids from this one on
        are never named.
    The table of the first encoder is gone through once; of the others only the rows of candidates are read.
    """
    first = encoders[0]
    found = first.find_close_rows(vectors[first.key], _LEAST_COSINE, _MOST)
    usable = found.ids < bound
    pairs, ids = found.vectors[usable], found.ids[usable]
    rows = _CandidateRows(encoders, ids)
    measured = [rows.compare(encoder.key, vectors[encoder.key], pairs, ids) for encoder in encoders]
    cosines, drifts, stretches, equal = (numpy.stack(part, axis=1) for part in zip(*measured, strict=True))
    distances = numpy.sqrt(numpy.maximum(2.0 - 2.0 * cosines, 0.0))
    scores = (distances**2).sum(axis=1)
    order = numpy.lexsort((ids, scores, pairs))
    ends = numpy.searchsorted(pairs[order], numpy.arange(len(vectors[first.key]) + 1))
    named = []
    for start, end in pairwise(ends.tolist()):
        chosen = order[start:end]
        candidates = _Candidates(
            ids[chosen],
            cosines[chosen],
            distances[chosen],
            drifts[chosen],
            stretches[chosen],
            equal[chosen],
        )
        named.append(_choose(candidates, [encoder.key for encoder in encoders]))
    return named


class _CandidateRows:
    """Rows of candidate tokens in every encoder, read once."""

    def __init__(self, encoders: Sequence[TextEncoder], ids: numpy.ndarray) -> None:
        self._unique = numpy.unique(ids)
        wanted = self._unique.tolist()
        self._rows = {encoder.key: to_numpy(encoder.vectors(wanted)) for encoder in encoders}
        self._lengths = {key: measure_lengths(rows) for key, rows in self._rows.items()}

    def compare(
        self, key: str, vectors: numpy.ndarray, pairs: numpy.ndarray, ids: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
        """(cosines, drifts, stretches, whether equal in float16) of vectors[pairs] with the rows of ids, each [m]."""
        places = numpy.searchsorted(self._unique, ids)
        lengths = measure_lengths(vectors)[pairs]
        row_lengths = numpy.maximum(self._lengths[key][places], 1e-300)
        products = numpy.empty(len(ids))
        equal = numpy.empty(len(ids), bool)
        for start in range(0, len(ids), 4096):
            piece = slice(start, start + 4096)
            left, right = vectors[pairs[piece]], self._rows[key][places[piece]]
            products[piece] = numpy.einsum("ij,ij->i", left.astype(numpy.float64), right.astype(numpy.float64))
            equal[piece] = (to_float16(left) == to_float16(right)).all(axis=1)
        cosines = numpy.clip(products / numpy.maximum(lengths * row_lengths, 1e-300), -1.0, 1.0)
        squares = lengths**2 - 2.0 * products + row_lengths**2
        return cosines, numpy.sqrt(numpy.maximum(squares, 0.0)) / row_lengths, lengths / row_lengths, equal


def _choose(candidates: _Candidates, keys: Sequence[str]) -> NamedVector:
    """The token of one vector among its candidates."""
    if not len(candidates.ids):
        return NOT_TEXT
    equal = numpy.flatnonzero(candidates.equal.all(axis=1))
    if len(equal):
        best = int(equal[candidates.ids[equal].argmin()])
        return _make_named(candidates, best, keys, Certainty.EXACT)
    farthest = candidates.distances.max(axis=1)
    best = int(numpy.argmin(numpy.where(farthest <= FARTHEST, (candidates.distances**2).sum(axis=1), numpy.inf)))
    if farthest[best] > FARTHEST:
        return replace(_make_named(candidates, best, keys, Certainty.NOT_TEXT), token=None)
    rivals = farthest <= _EXCLUDED
    rivals[best] = False
    is_sure = not rivals.any() and bool((numpy.abs(numpy.log(candidates.stretches[best])) < numpy.log(_STRETCH)).all())
    named = _make_named(candidates, best, keys, Certainty.SURE if is_sure else Certainty.LIKELY)
    others = (_make_named(candidates, other, keys, Certainty.LIKELY) for other in numpy.flatnonzero(rivals).tolist())
    return replace(named, others=tuple(others))


def _make_named(candidates: _Candidates, best: int, keys: Sequence[str], certainty: Certainty) -> NamedVector:
    token = int(candidates.ids[best])
    return NamedVector(
        token,
        certainty,
        dict(zip(keys, candidates.cosines[best].tolist(), strict=True)),
        dict(zip(keys, candidates.drifts[best].tolist(), strict=True)),
        token,
        float(numpy.exp(numpy.log(candidates.stretches[best]).mean())),
    )
