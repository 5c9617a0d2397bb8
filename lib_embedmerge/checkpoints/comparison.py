"""Comparison of two text encoders: their token tables row by row, and their other weights layer by layer.

All weights are compared as float16, like fingerprints (fingerprints.py): encoders with the same fingerprint are equal
here, and so are copies of one model in float32 and float16. Weights are read in pieces under canonical names
(canonical.py), and two pieces are in memory at a time. outputs.py compares the outputs of encoders for a text.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy

from lib_embedmerge.checkpoints.canonical import TOKEN_TABLE, CanonicalWeight, find_canonical_weights
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.core.arrays import are_equal_bits, to_float16
from lib_embedmerge.core.differences import (
    LayerDistance,
    LayersDifference,
    TableDifference,
    TokenDistance,
    relative_distance,
)
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.core.spelling import find_token_of_row
from lib_embedmerge.core.statistics import measure_lengths

Report = Callable[[int], None]
"""A function that is called with the number of values that were read since its last call."""

_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\..+", re.ASCII)
_FIRST, _LAST = "embeddings.position", ("final_layer_norm", "text_projection")


class ComparedEncoder(Protocol):
    """A text encoder whose token table can be read from the first row to the last."""

    width: int
    vocabulary_size: int

    @property
    def tokenizer(self) -> Tokenizer: ...

    def table_pieces(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """The whole token table in pieces: (id of the first row, float32 [n, width])."""
        ...


def compare_tables(a: ComparedEncoder, b: ComparedEncoder, top: int, report: Report) -> TableDifference:
    """The difference between two token tables of the same width. The result lists the `top` rows that differ most.

    If one table has more rows, the rows that both have are compared. CheckpointError if a file cannot be read.
    """
    rows = min(a.vocabulary_size, b.vocabulary_size)
    distances: list[tuple[int, float | None]] = []
    for (first, ours), (_, theirs) in zip(a.table_pieces(), b.table_pieces(), strict=False):
        count = min(len(ours), len(theirs))
        distances += _measure_rows(first, to_float16(ours[:count]), to_float16(theirs[:count]))
        report(count * a.width)
    known = [distance for _, distance in distances if distance is not None]
    furthest = heapq.nsmallest(top, distances, key=lambda row: (-math.inf if row[1] is None else -row[1], row[0]))
    return TableDifference(
        equal=not distances and a.vocabulary_size == b.vocabulary_size,
        rows=rows,
        rows_differing=len(distances),
        max_distance=max(known) if known else None if distances else 0.0,
        top=tuple(TokenDistance(row, find_token_of_row(row, a.tokenizer), distance) for row, distance in furthest),
    )


def make_equal_table(encoder: CheckpointEncoder) -> TableDifference:
    """The result of `compare_tables` for the token table of `encoder` and an equal one. Reads nothing."""
    return TableDifference(equal=True, rows=encoder.vocabulary_size, rows_differing=0, max_distance=0.0, top=())


def find_layer_weights(source: EncoderSource) -> dict[str, CanonicalWeight]:
    """Canonical name -> weight, for all weights except the token table. CheckpointError for an unknown quantisation."""
    return {item.name: item for item in find_canonical_weights(source) if item.name != TOKEN_TABLE}


def compare_layers(
    a: Mapping[str, CanonicalWeight], b: Mapping[str, CanonicalWeight], report: Report
) -> LayersDifference:
    """The difference between the layers of two encoders of the same kind.

    a, b: their weights, from `find_layer_weights`.  CheckpointError if a file cannot be read.
    """
    sums: dict[str, _SquareSums] = {}
    for name in dict.fromkeys([*a, *b]):
        part = sums.setdefault(_find_layer(name), _SquareSums())
        ours, theirs = a.get(name), b.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            part.is_whole = False
            continue
        for our_piece, their_piece in zip(ours.pieces(), theirs.pieces(), strict=True):
            part.add(to_float16(our_piece), to_float16(their_piece))
            report(len(our_piece))
    whole = _SquareSums()
    for part in sums.values():
        whole.join(part)
    layers = tuple(LayerDistance(name, sums[name].distance) for name in sorted(sums, key=_rank_layer))
    return LayersDifference(whole.equal, whole.distance, layers)


def make_equal_layers(weights: Mapping[str, CanonicalWeight]) -> LayersDifference:
    """The result of `compare_layers` for an encoder with these weights and an equal one. Reads nothing."""
    names = sorted(set(map(_find_layer, weights)), key=_rank_layer)
    return LayersDifference(equal=True, distance=0.0, layers=tuple(LayerDistance(name, 0.0) for name in names))


@dataclass
class _SquareSums:
    """Sums of squares over some weights of two encoders.

    ours, theirs: of the weights of each encoder.  gap: of their differences.
    bits_differ: whether any weights differ.  is_whole: whether both encoders have all of these weights.
    """

    gap: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0
    bits_differ: bool = False
    is_whole: bool = True

    @ignore_overflow()
    def add(self, ours: numpy.ndarray, theirs: numpy.ndarray) -> None:
        """Add a piece of a weight, as float16 [n] from each encoder."""
        our_values = ours.astype(numpy.float32)
        square = _sum_squares(our_values)
        self.ours += square
        if are_equal_bits(ours, theirs).all():
            self.theirs += square
            return
        their_values = theirs.astype(numpy.float32)
        self.bits_differ = True
        self.theirs += _sum_squares(their_values)
        self.gap += _sum_squares(our_values - their_values)

    def join(self, part: _SquareSums) -> None:
        """Add the sums of other weights."""
        self.gap += part.gap
        self.ours += part.ours
        self.theirs += part.theirs
        self.bits_differ = self.bits_differ or part.bits_differ
        self.is_whole = self.is_whole and part.is_whole

    @property
    def equal(self) -> bool:
        """Whether both encoders have all of these weights, and they are equal in float16."""
        return self.is_whole and not self.bits_differ

    @property
    def distance(self) -> float | None:
        """The relative distance of these weights; None if one encoder lacks some, or a value is not finite."""
        if not self.is_whole:
            return None
        if not self.bits_differ:  # even if both contain the same NaN
            return 0.0
        return relative_distance(math.sqrt(self.gap), math.sqrt(self.ours), math.sqrt(self.theirs))


@ignore_overflow()
def _measure_rows(first: int, ours: numpy.ndarray, theirs: numpy.ndarray) -> list[tuple[int, float | None]]:
    """(id, distance) of the rows of two float16 [n, width] that differ; the first row has the id `first`."""
    differing = numpy.flatnonzero(~are_equal_bits(ours, theirs).all(axis=1))
    our_rows, their_rows = ours[differing].astype(numpy.float64), theirs[differing].astype(numpy.float64)
    lengths = (measure_lengths(rows).tolist() for rows in (our_rows - their_rows, our_rows, their_rows))
    return [(first + row, relative_distance(*each)) for row, *each in zip(differing.tolist(), *lengths, strict=True)]


def _sum_squares(values: numpy.ndarray) -> float:
    """The sum of squares of float32 [n]. numpy adds pairwise, so the relative error is below a millionth."""
    return float(numpy.square(values).sum())


def _find_layer(name: str) -> str:
    """The name of the layer that a weight belongs to, as LayerDistance has it."""
    if match := _LAYER.fullmatch(name):
        return f"layer {int(match[1])}"
    return next((last for last in _LAST if last in name), _FIRST)


def _rank_layer(layer: str) -> tuple[int, int]:
    """A sort key that puts layers in the order of the encoder."""
    if layer.startswith("layer "):
        return 1, int(layer.removeprefix("layer "))
    return (0, 0) if layer == _FIRST else (2, _LAST.index(layer))
