"""Two text encoders of checkpoint files compared: their token tables row by row, their other weights layer by layer.

Everything is taken as float16, as fingerprints take it (fingerprints.py): what has the same fingerprint is equal here,
and copies of one model in float32 and float16 are equal too. Weights come in pieces, in one naming whatever the file
has (canonical.py); two of them are in memory at a time. What encoders make of a text is outputs.py's.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from lib_embedmerge.checkpoints.canonical import TOKEN_TABLE, CanonicalWeight, canonical_weights
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.layouts import EncoderSource
from lib_embedmerge.core.differences import (
    LayerDistance,
    LayersDifference,
    TableDifference,
    TokenDistance,
    relative_distance,
)
from lib_embedmerge.core.spelling import find_token_of_row

Report = Callable[[int], None]
"""Called with the number of values that were read since the last call."""

_LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\..+", re.ASCII)
_FIRST, _LAST = "embeddings.position", ("final_layer_norm", "text_projection")


def compare_tables(a: CheckpointEncoder, b: CheckpointEncoder, top: int, report: Report) -> TableDifference:
    """Two token tables of the same width, of which `top` rows that differ most are listed.

    Where one has more rows, those that both have are compared. CheckpointError where a file cannot be read.
    """
    rows = min(a.vocabulary_size, b.vocabulary_size)
    distances: list[tuple[int, float | None]] = []
    for (first, ours), (_, theirs) in zip(a.table_pieces(), b.table_pieces(), strict=False):
        count = min(len(ours), len(theirs))
        distances += _row_distances(first, ours[:count].to(torch.float16), theirs[:count].to(torch.float16))
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
    """What table_difference gives for a table and one that is known to be equal."""
    return TableDifference(equal=True, rows=encoder.vocabulary_size, rows_differing=0, max_distance=0.0, top=())


def layer_weights(source: EncoderSource) -> dict[str, CanonicalWeight]:
    """Canonical name -> weight, for all but the token table. CheckpointError for an unknown quantisation."""
    return {item.name: item for item in canonical_weights(source) if item.name != TOKEN_TABLE}


def compare_layers(
    a: Mapping[str, CanonicalWeight], b: Mapping[str, CanonicalWeight], report: Report
) -> LayersDifference:
    """The layers of two encoders of the same key, as `layer_weights` gives them. CheckpointError where a file cannot
    be read."""
    sums: dict[str, _Sums] = {}
    for name in dict.fromkeys([*a, *b]):
        part = sums.setdefault(_layer_of(name), _Sums())
        ours, theirs = a.get(name), b.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            part.is_whole = False
            continue
        for one, another in zip(ours.pieces(), theirs.pieces(), strict=True):
            part.add(one.to(torch.float16).contiguous(), another.to(torch.float16).contiguous())
            report(len(one))
    whole = _Sums()
    for part in sums.values():
        whole.join(part)
    layers = tuple(LayerDistance(name, sums[name].distance) for name in sorted(sums, key=_place))
    return LayersDifference(whole.equal, whole.distance, layers)


def make_equal_layers(weights: Mapping[str, CanonicalWeight]) -> LayersDifference:
    """What layers_difference gives for an encoder and one that is known to be equal."""
    names = sorted(set(map(_layer_of, weights)), key=_place)
    return LayersDifference(equal=True, distance=0.0, layers=tuple(LayerDistance(name, 0.0) for name in names))


@dataclass
class _Sums:
    """Squares of some weights and of what they differ by. is_whole: each was in both encoders.

    With numpy: torch has its threads wait for each other at every piece, which on a busy machine takes three times as
    long as to do without them.
    """

    gap: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0
    bits_differ: bool = False
    is_whole: bool = True

    @numpy.errstate(invalid="ignore")  # NaN, and infinity less infinity
    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """ours, theirs: float16 [n] on the CPU."""
        one, another = ours.numpy(), theirs.numpy()
        mine = one.astype(numpy.float32)
        square = _square(mine)
        self.ours += square
        if numpy.array_equal(one.view(numpy.int16), another.view(numpy.int16)):
            self.theirs += square
            return
        other = another.astype(numpy.float32)
        self.bits_differ = True
        self.theirs += _square(other)
        self.gap += _square(mine - other)

    def join(self, part: _Sums) -> None:
        self.gap += part.gap
        self.ours += part.ours
        self.theirs += part.theirs
        self.bits_differ = self.bits_differ or part.bits_differ
        self.is_whole = self.is_whole and part.is_whole

    @property
    def equal(self) -> bool:
        return self.is_whole and not self.bits_differ

    @property
    def distance(self) -> float | None:
        if not self.is_whole:
            return None
        if not self.bits_differ:  # also where both hold the same NaN
            return 0.0
        return relative_distance(math.sqrt(self.gap), math.sqrt(self.ours), math.sqrt(self.theirs))


def _row_distances(first: int, ours: Tensor, theirs: Tensor) -> Iterator[tuple[int, float | None]]:
    """(id, distance) of the rows of float16 [n, width] that are not equal; the first row has the id `first`."""
    differing = (ours.view(torch.int16) != theirs.view(torch.int16)).any(dim=1).nonzero().reshape(-1)
    mine, other = ours[differing].to(torch.float64), theirs[differing].to(torch.float64)
    lengths = zip(
        (mine - other).norm(dim=1).tolist(), mine.norm(dim=1).tolist(), other.norm(dim=1).tolist(), strict=True
    )
    for row, (gap, one, another) in zip(differing.tolist(), lengths, strict=True):
        yield first + row, relative_distance(gap, one, another)


def _square(values: numpy.ndarray) -> float:
    """The sum of squares of float32 [n]. numpy adds in pairs, so it is within a millionth."""
    return float(numpy.square(values).sum())


def _layer_of(name: str) -> str:
    if match := _LAYER.fullmatch(name):
        return f"layer {int(match[1])}"
    return next((last for last in _LAST if last in name), _FIRST)


def _place(layer: str) -> tuple[int, int]:
    """Where a layer stands in its encoder."""
    if layer.startswith("layer "):
        return 1, int(layer.removeprefix("layer "))
    return (0, 0) if layer == _FIRST else (2, _LAST.index(layer))
