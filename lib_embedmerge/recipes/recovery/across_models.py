"""Read the text of files whose model is not at hand, from how close their vectors are to the rows of another model.

Many files are read together, so that a token table is gone through once for all of them: drifted_rows.py names each
vector, file_context.py decides in view of the file, drifted_sums.py explains what is no row of any token.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy

from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.ports import Model
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText
from lib_embedmerge.recipes.recovery.drifted_rows import NOT_TEXT, Certainty, NamedVector, name_vectors
from lib_embedmerge.recipes.recovery.drifted_sums import find_drifted_sums, round_weight
from lib_embedmerge.recipes.recovery.file_context import Drift, measure_drift, name_in_context
from lib_embedmerge.recipes.recovery.pursuit import JointRows
from lib_embedmerge.recipes.recovery.readings import Reading, Verdict
from lib_embedmerge.recipes.recovery.row_matches import count_nameable_tokens
from lib_embedmerge.recipes.recovery.source_printing import Speller

_WEIGHTED = 1.12
"""Vectors of a text are longer or shorter than the rows by at most this factor, unless the text has a weight."""

_STRETCH = 1.3
"""A vector whose length differs by more than this factor from what its file's weight makes has a weight of its own."""

_STRONGEST = 4.0
"""A vector that is longer than a row by more than this factor, or shorter by as much, is not a row with a weight."""

_FIRST = 2
"""A second text is looked for in so many of the first vectors of a file, and in as many of the others."""

_SECOND = 0.3
"""Least cosine of a token with what the first one leaves, for it to be one of a second text. The best of 49,408 random
rows reaches 0.17."""

_SUM_COSINE = 0.4
"""Least cosine of a sum with its closest row, in every text encoder, for texts to be looked for in it."""

_BETTER = 0.7
"""Sums are preferred to a text if they leave less than this share of what the text leaves."""

_ROUNDING = 0.02
"""Vectors this close to rows are made of rows of this very model, which finds their weights and sums exactly."""


@ignore_overflow()
def read_files(files: Sequence[Mapping[str, numpy.ndarray]], model: Model) -> list[Reading]:
    """What the vectors of each file are on a model. Each table is gone through a few times for all files together.

    files: encoder key -> finite float32 [n, width], for each file; encoders that the model lacks are ignored.
    """
    readings: dict[int, Reading] = {}
    by_keys: dict[tuple[str, ...], list[int]] = {}
    for index, vectors in enumerate(files):
        keys = tuple(encoder.key for encoder in model.encoders if encoder.key in vectors and vectors[encoder.key].any())
        by_keys.setdefault(keys, []).append(index)
    for keys, indices in by_keys.items():
        if not keys:
            for index in indices:
                count = max((len(rows) for rows in files[index].values()), default=0)
                zeros = (replace(NOT_TEXT, certainty=Certainty.EXACT),) * count
                readings[index] = Reading(Verdict.EXACT, (), zeros, (Segment(count),), {})
            continue
        reader = _Reader(model, keys)
        chosen = [{key: files[index][key] for key in keys} for index in indices]
        readings.update(zip(indices, reader.read(chosen), strict=True))
    return [readings[index] for index in range(len(files))]


class _Reader:
    """Reads files that have vectors for the same text encoders. keys: of these."""

    def __init__(self, model: Model, keys: tuple[str, ...]) -> None:
        self._keys = keys
        self._encoders = [encoder for encoder in model.encoders if encoder.key in keys]
        self._bound = count_nameable_tokens(model)
        self._speller = Speller(model)

    def read(self, files: Sequence[Mapping[str, numpy.ndarray]]) -> list[Reading]:
        """What the vectors of each file are."""
        named = [_weigh(name_in_context(vectors, file)) for vectors, file in zip(self._name(files), files, strict=True)]
        has_second = self._look_for_second(named, files)
        return [
            self._decide(vectors, file, has_second=second)
            for vectors, file, second in zip(named, files, has_second, strict=True)
        ]

    def _name(self, files: Sequence[Mapping[str, numpy.ndarray]]) -> list[list[NamedVector]]:
        """The token of each vector of each file by itself. Equal vectors of all files are looked at once."""
        places: dict[bytes, int] = {}
        unique: list[tuple[int, int]] = []
        indices: list[list[int]] = []
        for number, file in enumerate(files):
            of_file = []
            for row in range(len(file[self._keys[0]])):
                content = b"".join(file[key][row].tobytes() for key in self._keys)
                if content not in places:
                    places[content] = len(unique)
                    unique.append((number, row))
                of_file.append(places[content])
            indices.append(of_file)
        joined = {key: numpy.stack([files[number][key][row] for number, row in unique]) for key in self._keys}
        named = name_vectors(joined, self._encoders, self._bound)
        for index in numpy.flatnonzero(~numpy.any([rows.any(axis=1) for rows in joined.values()], axis=0)).tolist():
            named[index] = replace(NOT_TEXT, certainty=Certainty.EXACT)  # a zero vector
        return [[named[index] for index in of_file] for of_file in indices]

    def _look_for_second(
        self, named: Sequence[Sequence[NamedVector]], files: Sequence[Mapping[str, numpy.ndarray]]
    ) -> list[bool]:
        """For each file whether in some of its vectors a second token explains what the first one leaves."""
        samples: list[tuple[int, int, NamedVector]] = []
        for number, vectors in enumerate(named):
            open_ones = [
                (index, vector)
                for index, vector in enumerate(vectors)
                if vector.closest is not None and vector.certainty != Certainty.EXACT and _drifts(vector)
            ]
            # Texts begin together, so a short second one is in the first vectors.
            later = open_ones[_FIRST:]
            chosen = (*open_ones[:_FIRST], *later[:: max(1, len(later) // _FIRST)][:_FIRST])
            samples += [(number, index, vector) for index, vector in chosen]
        if not samples:
            return [False] * len(files)
        closest = [vector.closest or 0 for _, _, vector in samples]
        rests = {}
        for encoder in self._encoders:
            rows = to_numpy(encoder.vectors(closest)).astype(numpy.float64)
            targets = numpy.stack([files[number][encoder.key][index] for number, index, _ in samples])
            weights = numpy.einsum("ij,ij->i", rows, targets) / numpy.maximum(
                numpy.einsum("ij,ij->i", rows, rows), 1e-300
            )
            rests[encoder.key] = (targets - weights[:, None] * rows).astype(numpy.float32)
        found = self._find_common(rests)
        with_second = {number for (number, _, _), is_found in zip(samples, found, strict=True) if is_found}
        return [number in with_second for number in range(len(files))]

    def _find_common(self, rests: Mapping[str, numpy.ndarray]) -> list[bool]:
        """For each vector whether there is a token close to it in every text encoder."""
        first, *others = self._encoders
        count = len(rests[first.key])
        both = numpy.concatenate([rests[first.key], -rests[first.key]])  # a text can be subtracted
        pairs = first.find_close_rows(both, _SECOND, 4)
        indices = pairs.vectors % count
        signs = numpy.where(pairs.vectors < count, 1.0, -1.0)
        fits = numpy.ones(len(pairs.ids), bool)
        for encoder in others:
            rows = to_numpy(encoder.vectors(pairs.ids.tolist())).astype(numpy.float64)
            targets = rests[encoder.key][indices]
            lengths = numpy.linalg.norm(rows, axis=1) * numpy.linalg.norm(targets, axis=1)
            fits &= signs * numpy.einsum("ij,ij->i", rows, targets) >= _SECOND * lengths
        found = numpy.zeros(count, bool)
        found[indices[fits]] = True
        return list(found.tolist())

    def _decide(self, named: list[NamedVector], file: Mapping[str, numpy.ndarray], *, has_second: bool) -> Reading:
        """The reading of one file."""
        unknown = [vector for vector in named if vector.certainty == Certainty.NOT_TEXT]
        if all(vector.certainty == Certainty.EXACT for vector in named):
            return self._make_reading(Verdict.EXACT, named)
        if (unknown or has_second) and (sums := self._find_sums(named, file, has_second=has_second)):
            return sums
        weights = {_find_weight(vector) for vector in named if vector.token is not None}
        certain = {Certainty.EXACT, Certainty.SURE}
        has_sure = any(vector.certainty in certain and vector.token is not None for vector in named)
        if not unknown:
            reading = self._make_reading(Verdict.TEXT if weights <= {1.0} else Verdict.SUMS, named)
        elif has_sure or 2 * len(unknown) <= len(named):
            reading = self._make_reading(Verdict.MIXED, named)
        else:
            nothing = tuple(replace(vector, token=None, certainty=Certainty.NOT_TEXT) for vector in named)
            may_be_sums = 2 * sum(map(_may_be_sum, named)) >= len(named)
            return Reading(Verdict.NOT_TEXT, self._keys, nothing, (), {}, may_be_exact=may_be_sums)
        is_close = all(not _drifts(vector) for vector in named)
        return replace(reading, may_be_exact=has_second or is_close)

    def _make_reading(self, verdict: Verdict, named: Sequence[NamedVector]) -> Reading:
        drift = measure_drift(named, self._keys)
        return Reading(verdict, self._keys, tuple(named), tuple(_make_segments(named)), drift)

    def _find_sums(
        self, named: Sequence[NamedVector], file: Mapping[str, numpy.ndarray], *, has_second: bool
    ) -> Reading | None:
        """The reading of a file as sums of texts, or None if a few texts do not explain it better than single rows."""
        if not has_second and not all(vector.token is not None or _may_be_sum(vector) for vector in named):
            return None
        rows = JointRows(self._encoders, file, self._bound)
        sums = find_drifted_sums(rows, [encoder.width for encoder in self._encoders], self._speller.begins_with_word)
        if sums is None:
            return None
        left = sums.residuals.max(axis=1)
        added = [index for index, count in enumerate(_count_texts(sums.segments)) if count > 1]
        singles = [
            max(named[index].drifts.values(), default=1.0) if named[index].token is not None else 1.0 for index in added
        ]
        if not added or numpy.median(left[added]) > _BETTER * statistics.median(singles):
            return None
        vectors = tuple(
            NamedVector(
                None,
                Certainty.LIKELY,
                dict(zip(self._keys, cosines, strict=True)),
                dict(zip(self._keys, residuals, strict=True)),
            )
            for cosines, residuals in zip(sums.cosines.tolist(), sums.residuals.tolist(), strict=True)
        )
        drift = {
            key: Drift(float(numpy.median(column)), float(column.max()))
            for key, column in zip(self._keys, sums.residuals.T, strict=True)
        }
        return Reading(Verdict.SUMS, self._keys, vectors, sums.segments, drift, may_be_exact=True)


def _count_texts(segments: Sequence[Segment]) -> list[int]:
    """How many texts each vector is a sum of."""
    return [
        sum(len(text.ids) > index for text in segment.texts) for segment in segments for index in range(segment.count)
    ]


def _drifts(vector: NamedVector) -> bool:
    """Whether a vector is farther from its row than rounding explains."""
    return max(vector.distances.values(), default=0.0) > _ROUNDING


def _may_be_sum(vector: NamedVector) -> bool:
    """Whether a vector can be a sum of a few rows: the row that it has most of is close enough."""
    return min(vector.cosines.values(), default=0.0) >= _SUM_COSINE


def _is_weight(number: float) -> bool:
    """Whether a text may have this weight."""
    return 1 / _STRONGEST <= number <= _STRONGEST


def _find_weight(vector: NamedVector) -> float:
    """What the row of a token is multiplied by, which `_weigh` has decided."""
    return 1.0 if vector.certainty == Certainty.EXACT else vector.stretch


def _weigh(named: Sequence[NamedVector]) -> list[NamedVector]:
    """The same with `stretch` replaced by the weight of the text: 1, or one weight for the file, or one of its own.

    A vector that no weight of a person explains becomes NOT_TEXT.
    """
    stretches = [
        1.0 if vector.certainty == Certainty.EXACT else vector.stretch for vector in named if vector.token is not None
    ]
    usual = statistics.median(stretches) if stretches else 1.0
    is_plain = 1 / _WEIGHTED <= usual <= _WEIGHTED or not _is_weight(usual)
    common = 1.0 if is_plain else round_weight(usual)
    weighed = []
    for vector in named:
        if vector.token is None or vector.certainty == Certainty.EXACT:
            weighed.append(replace(vector, stretch=1.0))
            continue
        weight = common if 1 / _STRETCH <= vector.stretch / common <= _STRETCH else round_weight(vector.stretch)
        if not _is_weight(weight):
            weighed.append(replace(vector, token=None, certainty=Certainty.NOT_TEXT, stretch=1.0))
            continue
        drifts = vector.drifts if weight == 1.0 else vector.distances
        certainty = vector.certainty if weight == 1.0 else Certainty.LIKELY
        weighed.append(replace(vector, stretch=weight, drifts=drifts, certainty=certainty))
    return weighed


def _make_segments(named: Sequence[NamedVector]) -> list[Segment]:
    """One segment for each run of vectors whose tokens have the same weight, and for each run of unknown vectors."""
    segments = []
    for weight, run in groupby(named, key=lambda vector: None if vector.token is None else _find_weight(vector)):
        tokens = [vector.token for vector in run]
        ids = tuple(token for token in tokens if token is not None)
        segments.append(Segment(len(tokens), () if weight is None else (WeightedText(ids, weight),)))
    return segments
