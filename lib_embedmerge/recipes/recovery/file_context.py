"""What the vectors of one file say about each other: one model made them, so they have drifted alike.

drifted_rows.py names each vector by itself. Here the vectors that are sure tell how far those of the file have drifted,
and that decides about the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy

from lib_embedmerge.core.arrays import to_float16
from lib_embedmerge.core.recovery_answers import DriftAnswer
from lib_embedmerge.recipes.recovery.drifted_rows import FARTHEST, Certainty, NamedVector

_ENOUGH = 3
"""Sure vectors that it takes to say how far the vectors of a file drift."""

_ALIKE = 0.02
"""Drifts are alike if their standard deviation is less than this share of their mean. Then the
distances of tokens also decide between them."""

_DEVIATION = 0.01
"""Least standard deviation of drifts: what rounding to float16 and unequal lengths make of equal ones."""

_CLEARER = 4.0
"""By how much the squared deviations of another token must be smaller for it to be taken in place of the closest."""

_OUTLIER = 2.5
"""A vector that has drifted more than this many times the median of the file's sure vectors is not sure itself."""


@dataclass(frozen=True)
class Drift:
    """How far vectors are from the rows of their tokens, in lengths of the row. median, worst: over the vectors."""

    median: float
    worst: float

    def as_json(self) -> DriftAnswer:
        """Both as plain values."""
        return {"median": self.median, "max": self.worst}


def measure_drift(named: Sequence[NamedVector], keys: Sequence[str]) -> dict[str, Drift]:
    """Encoder key -> drift of the vectors that are named; empty if none is."""
    drifts = [vector.drifts for vector in named if vector.token is not None]
    if not drifts:
        return {}
    return {
        key: Drift(statistics.median(drift[key] for drift in drifts), max(drift[key] for drift in drifts))
        for key in keys
    }


def name_in_context(named: Sequence[NamedVector], vectors: Mapping[str, numpy.ndarray]) -> list[NamedVector]:
    """The tokens of a file's vectors, each decided in view of the others.

    named: each vector taken by itself.  vectors: encoder key -> [n, width].
    """
    keys = list(vectors)
    sure = [vector for vector in named if vector.certainty == Certainty.SURE]
    if len(sure) >= _ENOUGH:
        named = _choose_by_drift(named, sure, keys)
        named = _doubt_outliers(named, sure, keys)
    return _doubt_repeated(named, vectors)


def _choose_by_drift(
    named: Sequence[NamedVector], sure: Sequence[NamedVector], keys: Sequence[str]
) -> list[NamedVector]:
    """The same, where of several tokens that can be meant the one is taken whose drift is that of the sure ones.

    Nothing changes unless the sure ones have drifted alike.
    """
    usual: dict[str, tuple[float, float]] = {}
    for key in keys:
        distances = [vector.drifts[key] for vector in sure]
        mean, deviation = statistics.fmean(distances), statistics.pstdev(distances)
        if deviation > _ALIKE * mean:
            return list(named)
        usual[key] = mean, max(deviation, _DEVIATION)

    def deviate(vector: NamedVector) -> float:
        return sum(((vector.drifts[key] - mean) / deviation) ** 2 for key, (mean, deviation) in usual.items())

    chosen = []
    for vector in named:
        better = min(vector.others, key=deviate, default=None)
        if (
            better is not None
            and max(better.distances.values()) <= FARTHEST
            and deviate(better) + _CLEARER < deviate(vector)
        ):
            chosen.append(replace(better, others=(replace(vector, others=()),)))
        else:
            chosen.append(vector)
    return chosen


def _doubt_outliers(
    named: Sequence[NamedVector], sure: Sequence[NamedVector], keys: Sequence[str]
) -> list[NamedVector]:
    """The same, where a vector that has drifted much farther than the others is only likely."""
    limits = {key: _OUTLIER * statistics.median(vector.distances[key] for vector in sure) for key in keys}

    def doubt(vector: NamedVector) -> NamedVector:
        if vector.certainty != Certainty.SURE or all(vector.distances[key] <= limits[key] for key in keys):
            return vector
        return replace(vector, certainty=Certainty.LIKELY)

    return [doubt(vector) for vector in named]


def _doubt_repeated(named: Sequence[NamedVector], vectors: Mapping[str, numpy.ndarray]) -> list[NamedVector]:
    """The same, where of different vectors with one token only the closest keeps it: a table has one row for a token.

    The others get the next token that can be meant, or are only likely.
    """
    contents = [b"".join(to_float16(rows[index]).tobytes() for rows in vectors.values()) for index in range(len(named))]
    holders: dict[int, int] = {}
    for index, vector in enumerate(named):
        if vector.token is None:
            continue
        holder = holders.setdefault(vector.token, index)
        if _rank(vector) < _rank(named[holder]):
            holders[vector.token] = index
    result = []
    for vector, content in zip(named, contents, strict=True):
        if vector.token is None or content == contents[holders[vector.token]]:
            result.append(vector)
            continue
        free = [
            other for other in vector.others if other.token not in holders and max(other.distances.values()) <= FARTHEST
        ]
        closest = min(free, key=_rank, default=vector)
        certainty = vector.certainty if vector.certainty == Certainty.EXACT else Certainty.LIKELY
        result.append(replace(closest, certainty=certainty))
    return result


def _rank(vector: NamedVector) -> tuple[bool, float]:
    """A smaller value for a vector that is closer to the row of its token."""
    return vector.certainty != Certainty.EXACT, sum(distance**2 for distance in vector.distances.values())
