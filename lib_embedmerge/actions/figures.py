"""Figures of vectors, as values: statistics of parts and of each vector, nearest tokens, and strips.

Vectors may contain NaN and infinity, because files can.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from lib_embedmerge.actions.values import EncoderFigures, PartFigures, ReadingOptions, VectorFigures
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import Array, to_float16, to_numpy
from lib_embedmerge.core.evaluate import evaluate, make_text_readers
from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import Part, find_parts
from lib_embedmerge.core.ports import Model, NearestToken, TextEncoder
from lib_embedmerge.core.spelling import find_token_of_row
from lib_embedmerge.core.statistics import LengthBand, measure_lengths, measure_vector
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.typed import read_typed
from lib_embedmerge.recipes.following import FollowingNames

STRIP_CELLS = 64
"""Values of a strip; a divisor of the widths 768, 1024 and 1280. Twice as many would also be one, but a strip in a
table has fewer pixels, and the page would be twice as large for 150 vectors."""

MAX_SHOWN = 150
"""Vectors of an encoder that are listed: as many as two full embeddings have."""

_TOLERANCE = 1.5
"""How many times longer or shorter than the band of the model's tokens a length may be to count as usual. A sum of two
unrelated words is 1.4 times as long as one."""

_LARGE = 3.0
"""How many root mean squares make a large value. Of normally distributed values one in 370 is larger."""


def measure_source(
    host: Host, source: str, by: Grouping = "parts", nearest: int = 3, reading: ReadingOptions | None = None
) -> tuple[EncoderFigures, ...]:
    """The figures of the vectors that a typed text gives on the active model, of any number; empty if it gives none.

    nearest: how many nearest tokens to find for each vector.
    ExpressionError or EvaluationError for the source, StorageError for an embedding in it, CheckpointError or
    HostError for the model.
    """
    model = host.active().model
    reading = reading or ReadingOptions()
    read = read_typed(source, reading.attention).parsed
    readings = make_text_readers(model, FollowingNames(model, quiet=True) if reading.follow else None)
    vectors = evaluate(read, model, text_readers=readings, limit=None)
    outliner = make_outliner(model, readings[0])
    # By comma, a text that consists of commas has no parts.
    parts = find_parts(read, outliner, by) or find_parts(read, outliner, "none")
    return measure_vectors(vectors, model, parts, nearest)


def measure_vectors(
    vectors: Mapping[str, Array], model: Model | None, parts: Sequence[Part], nearest: int = 3
) -> tuple[EncoderFigures, ...]:
    """The figures of vectors, for each encoder that has any.

    vectors: encoder key -> float32 [n, width], where STRIP_CELLS divides the width.
    model: the model whose tokens they are compared with, or None.
    parts: the parts of the n vectors in order, at least one. A vector between two parts is listed with the first, but
    is not in its figures.
    """
    encoders = {encoder.key: encoder for encoder in model.encoders} if model else {}
    nonempty = [part for part in parts if part.ids]
    return tuple(
        _measure_encoder(_Rows(key, to_numpy(rows), encoders.get(key)), nonempty, nearest)
        for key, rows in vectors.items()
        if len(rows)
    )


@dataclass(frozen=True)
class _Rows:
    """The vectors of one encoder: float32 [n, width]."""

    key: str
    rows: numpy.ndarray
    encoder: TextEncoder | None


def _measure_encoder(given: _Rows, parts: Sequence[Part], count: int) -> EncoderFigures:
    shown = given.rows[:MAX_SHOWN]
    listed = [part for part in parts if part.first < len(shown)]
    firsts = [part.first for part in listed]
    nearest = _find_nearest(given.encoder, shown, count)
    # After the search, which computes the lengths too.
    band = _find_band(given.encoder)
    scale = _find_scale(given.rows, band)
    strips = _make_strips(shown, scale)
    tokens = _find_tokens(given.encoder, shown, _list_ids(listed, len(shown)), nearest)
    part_numbers = [max(bisect_right(firsts, index) - 1, 0) for index in range(len(shown))]
    vectors = []
    for index, row in enumerate(shown):
        figures = measure_vector(row)
        vectors.append(
            VectorFigures(
                number=index + 1,
                part=part_numbers[index],
                token=tokens[index],
                figures=figures,
                finite=bool(numpy.isfinite(row).all()),
                # A token of the model is usual, whatever its length: two in a hundred are outside the band.
                length_is_usual=None if band is None else bool(tokens[index]) or _is_usual(figures.len, band),
                nearest=nearest[index],
                strip=strips[index],
            )
        )
    return EncoderFigures(
        key=given.key,
        title=ENCODER_TITLES.get(given.key, given.key),
        width=given.rows.shape[1],
        band=band,
        scale=scale,
        parts=tuple(
            PartFigures(part, measure_vector(given.rows[part.first : part.first + len(part.ids)])) for part in listed
        ),
        vectors=tuple(vectors),
        hidden=len(given.rows) - len(shown),
    )


def _is_usual(length: float, band: LengthBand) -> bool:
    return band.low / _TOLERANCE <= length <= band.high * _TOLERANCE


def _find_nearest(encoder: TextEncoder | None, rows: numpy.ndarray, count: int) -> list[tuple[NearestToken, ...]]:
    if encoder is None or count < 1:
        return [()] * len(rows)
    return [tuple(best) for best in encoder.nearest(rows, count)]


def _find_band(encoder: TextEncoder | None) -> LengthBand | None:
    """The usual lengths of the model's tokens; None without a model, or if no row of its table is usable."""
    band = encoder.length_band() if encoder else None
    return band if band and math.isfinite(band.low + band.mean + band.high) else None


def _list_ids(parts: Sequence[Part], count: int) -> list[int | None]:
    """The token id of each of `count` vectors, None for a vector without one."""
    ids = {part.first + offset: token for part in parts for offset, token in enumerate(part.ids)}
    return [ids.get(index) for index in range(count)]


def _find_tokens(
    encoder: TextEncoder | None,
    rows: numpy.ndarray,
    ids: Sequence[int | None],
    nearest: Sequence[tuple[NearestToken, ...]],
) -> list[str | None]:
    """For each vector the token whose row it equals, or None.

    A vector from a token of the source may be scaled, so it must equal the token's row exactly. Any other vector may
    come from a float16 file, so it is compared with the nearest token's row in float16.
    """
    closest = [best[0].id if best else None for best in nearest]
    candidates = [near if token is None else token for token, near in zip(ids, closest, strict=True)]
    looked_up = [token for token in candidates if token is not None]
    if encoder is None or not looked_up:
        return [None] * len(rows)
    table = iter(to_numpy(encoder.vectors(looked_up)))
    found: list[str | None] = []
    for index, token in enumerate(candidates):
        row = next(table) if token is not None else None
        if token is None or row is None:
            found.append(None)
            continue
        vector, is_typed = rows[index], ids[index] is not None
        if not is_typed:
            row, vector = to_float16(row), to_float16(vector)
        is_same = numpy.array_equal(row, vector)
        found.append(find_token_of_row(token, encoder.tokenizer) if is_same else None)
    return found


def _find_scale(rows: numpy.ndarray, band: LengthBand | None) -> float:
    """A large value for a number in such vectors, over zero: from the mean length of the model's tokens, else from the
    median length of the vectors."""
    width = rows.shape[1]
    lengths = measure_lengths(rows)
    usable = lengths[numpy.isfinite(lengths) & (lengths > 0)]
    length = band.mean if band and band.mean > 0 else _find_lower_median(usable) if len(usable) else 0.0
    return _LARGE * length / math.sqrt(width) or 1.0


def _find_lower_median(values: numpy.ndarray) -> float:
    """The value in the middle; of two in the middle, the smaller one."""
    return float(numpy.sort(values)[(len(values) - 1) // 2])


@ignore_overflow()
def _make_strips(rows: numpy.ndarray, scale: float) -> list[tuple[float, ...]]:
    """For each row STRIP_CELLS values divided by `scale`: of each run of neighbours the value of largest magnitude,
    or NaN if the run has one."""
    cells = rows.astype(numpy.float64).reshape(len(rows), STRIP_CELLS, -1)
    largest = numpy.abs(cells).argmax(axis=2)[:, :, None]  # NaN counts as the largest
    values = numpy.take_along_axis(cells, largest, axis=2)[:, :, 0] / scale
    return [tuple(row) for row in values.tolist()]
