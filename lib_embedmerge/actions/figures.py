"""What vectors look like: figures of parts and of each vector, nearest tokens, and the values drawn together to strips.

Draws nothing. Vectors may hold NaN and infinity, as files can.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lib_embedmerge.actions.values import EncoderFigures, PartFigures, ReadingOptions, VectorFigures
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.evaluate import evaluate, make_text_readers
from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.parts import Part, find_parts
from lib_embedmerge.core.ports import Model, NearestToken, TextEncoder
from lib_embedmerge.core.spelling import find_token_of_row
from lib_embedmerge.core.statistics import LengthBand, measure_vector
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.lang.typed import read_typed
from lib_embedmerge.recipes.following import FollowingNames

STRIP_CELLS = 64
"""Values of a strip. The widths 768, 1024 and 1280 are 12, 16 and 20 times that. Twice as many would divide them too,
but are finer than a strip beside a table is wide, and double the page for 150 vectors."""

MAX_SHOWN = 150
"""Vectors of an encoder that are listed: two full embeddings."""

_LARGE = 3.0
"""A value of so many root mean squares is large for a vector: one of 370 is beyond, were they normally distributed."""


def measure_source(
    host: Host, source: str, by: Grouping = "parts", nearest: int = 3, reading: ReadingOptions | None = None
) -> tuple[EncoderFigures, ...]:
    """The figures of what a text that is typed makes on the active model, however many vectors; none where it makes
    none.

    nearest: how many closest tokens to find for each vector.
    ExpressionError or EvaluationError for the source, StorageError for an embedding in it, CheckpointError or
    HostError for the model.
    """
    model = host.active().model
    reading = reading or ReadingOptions()
    read = read_typed(source, reading.attention).parsed
    readings = make_text_readers(model, FollowingNames(model, quiet=True) if reading.follow else None)
    vectors = evaluate(read, model, text_readers=readings, limit=None)
    outliner = make_outliner(model, readings[0])
    parts = find_parts(read, outliner, by) or find_parts(read, outliner, "none")  # by comma, commas alone are no part
    return measure_vectors(vectors, model, parts, nearest)


def measure_vectors(
    vectors: Mapping[str, torch.Tensor], model: Model | None, parts: Sequence[Part], nearest: int = 3
) -> tuple[EncoderFigures, ...]:
    """The figures of vectors, encoder key -> float [n, width] with a width that STRIP_CELLS divides; none where n is 0.

    model: whose tokens they are compared with, None for none.  parts: of the n vectors, in order, one at least;
    what lies between two belongs to the first, without changing its figures.
    """
    encoders = {encoder.key: encoder for encoder in model.encoders} if model else {}
    whole = [part for part in parts if part.ids]
    return tuple(
        _encoder_figures(_Rows(key, rows.detach().float().cpu(), encoders.get(key)), whole, nearest)
        for key, rows in vectors.items()
        if len(rows)
    )


@dataclass(frozen=True)
class _Rows:
    """The vectors of one encoder: float32 [n, width] on the CPU."""

    key: str
    rows: torch.Tensor
    encoder: TextEncoder | None


def _encoder_figures(given: _Rows, parts: Sequence[Part], count: int) -> EncoderFigures:
    shown = given.rows[:MAX_SHOWN]
    listed = [part for part in parts if part.first < len(shown)]
    firsts = [part.first for part in listed]
    nearest = _nearest(given.encoder, shown, count)
    # Behind the search, which measures the lengths as it goes.
    band = _band(given.encoder)
    scale = _scale(given.rows, band)
    strips = _strips(shown, scale)
    tokens = _tokens(given.encoder, shown, _ids(listed, len(shown)), nearest)
    places = [max(bisect_right(firsts, place) - 1, 0) for place in range(len(shown))]
    vectors = []
    for place, row in enumerate(shown):
        figures = measure_vector(row)
        vectors.append(
            VectorFigures(
                number=place + 1,
                part=places[place],
                token=tokens[place],
                figures=figures,
                finite=bool(torch.isfinite(row).all()),
                # A token of the model's own is usual, whatever its length: two in a hundred are outside the band.
                length_is_usual=None if band is None else bool(tokens[place]) or band.low <= figures.len <= band.high,
                nearest=nearest[place],
                strip=strips[place],
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


def _nearest(encoder: TextEncoder | None, rows: torch.Tensor, count: int) -> list[tuple[NearestToken, ...]]:
    if encoder is None or count < 1:
        return [()] * len(rows)
    return [tuple(best) for best in encoder.nearest(rows, count)]


def _band(encoder: TextEncoder | None) -> LengthBand | None:
    """None also for a table without one usable row."""
    band = encoder.length_band() if encoder else None
    return band if band and math.isfinite(band.low + band.mean + band.high) else None


def _ids(parts: Sequence[Part], count: int) -> list[int | None]:
    known = {part.first + place: token for part in parts for place, token in enumerate(part.ids)}
    return [known.get(place) for place in range(count)]


def _tokens(
    encoder: TextEncoder | None,
    rows: torch.Tensor,
    ids: Sequence[int | None],
    nearest: Sequence[tuple[NearestToken, ...]],
) -> list[str | None]:
    """For each vector the token whose row it is, None where it is none's.

    Where a token stands in the source, that row may have been scaled: it is compared to the last bit. Elsewhere it can
    only be the closest one's, in float16, as which files may hold it.
    """
    closest = [best[0].id if best else None for best in nearest]
    asked = [near if token is None else token for token, near in zip(ids, closest, strict=True)]
    known = [token for token in asked if token is not None]
    if encoder is None or not known:
        return [None] * len(rows)
    table = iter(encoder.vectors(known).cpu())
    found: list[str | None] = []
    for place, token in enumerate(asked):
        row = next(table) if token is not None else None
        if token is None or row is None:
            found.append(None)
            continue
        same = torch.equal(row, rows[place]) if ids[place] is not None else torch.equal(row.half(), rows[place].half())
        found.append(find_token_of_row(token, encoder.tokenizer) if same else None)
    return found


def _scale(rows: torch.Tensor, band: LengthBand | None) -> float:
    """A large value for one number of such a vector, always above zero: by the model's own tokens, else by the vectors
    themselves, of which the middle one counts."""
    width = rows.shape[1]
    lengths = rows.double().norm(dim=1)
    usable = lengths[torch.isfinite(lengths) & (lengths > 0)]
    length = band.mean if band and band.mean > 0 else usable.median().item() if len(usable) else 0.0
    return _LARGE * length / math.sqrt(width) or 1.0


def _strips(rows: torch.Tensor, scale: float) -> list[tuple[float, ...]]:
    """For each row STRIP_CELLS values as shares of scale: of each run of neighbours the one of largest magnitude, or
    NaN where there is one."""
    cells = rows.double().reshape(len(rows), STRIP_CELLS, -1)
    places = cells.abs().argmax(dim=2, keepdim=True)  # NaN counts as the largest
    return [tuple(row) for row in (cells.gather(2, places).squeeze(2) / scale).tolist()]
