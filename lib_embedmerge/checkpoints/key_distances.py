"""How far apart the keys and values of many models are for the same texts, layer by layer.

The numbers are those of text_metric.py. For many models this is quicker: each file is read once, however many pairs
there are, while a metric is needed for each pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy

from lib_embedmerge.checkpoints.cross_attention import TextReader, UnetMatrix
from lib_embedmerge.checkpoints.text_metric import Report, check_same_layers


@dataclass(frozen=True, eq=False)
class KeyDistances:
    """Mean distances D of text_metric.py over all positions.

    between: float64 [models, models, texts], of each text on two models; symmetric.
    within: float64 [models, models, pairs]: at [a, b], of each pair of texts on model a, by the measure of a and b.
    """

    between: numpy.ndarray
    within: numpy.ndarray


def measure_keys(
    readers: Sequence[TextReader],
    texts: Sequence[numpy.ndarray],
    unrelated: Sequence[numpy.ndarray],
    pairs: Sequence[tuple[int, int]],
    report: Report | None = None,
) -> KeyDistances:
    """Measure the states of some texts on all models.

    texts: for each model float32 [texts, positions, width].  unrelated: the same for the texts of `pairs`.
    report: called with the number of values that were read since its last call.
    CheckpointError if U-Nets have different layers, or a file cannot be read.
    """
    for other in readers[1:]:
        check_same_layers(readers[0], other)
    count = len(readers)
    found = KeyDistances(numpy.zeros((count, count, len(texts[0]))), numpy.zeros((count, count, len(pairs))))
    stacked = [numpy.concatenate((ours, theirs)) for ours, theirs in zip(texts, unrelated, strict=True)]
    columns = zip(*(_list_matrices(reader) for reader in readers), strict=True)
    for matrices in columns:
        _add_layer(found, matrices, stacked, pairs, report)
    return found


def _list_matrices(reader: TextReader) -> list[UnetMatrix]:
    return [matrix for layer in reader.layers for matrix in (layer.key, layer.value)]


def _add_layer(
    found: KeyDistances,
    matrices: Sequence[UnetMatrix],
    stacked: Sequence[numpy.ndarray],
    pairs: Sequence[tuple[int, int]],
    report: Report | None,
) -> None:
    """Add the distances of the keys, or the values, of one layer. stacked: texts, then the unrelated ones."""
    made: list[numpy.ndarray] = []
    sizes: list[float] = []
    for matrix, states in zip(matrices, stacked, strict=True):
        values = numpy.ascontiguousarray(matrix.read())
        sizes.append(float(numpy.einsum("ij,ij->", values, values, dtype=numpy.float64)))
        made.append(states.reshape(-1, states.shape[-1]) @ values.T)
        made[-1] = made[-1].reshape(*states.shape[:2], -1)
        if report is not None:
            report(values.size)
    texts = found.between.shape[2]
    first, second = ([texts + pair[side] for pair in pairs] for side in (0, 1))
    within = [
        numpy.array([_mean_square(keys[i], keys[j]) for i, j in zip(first, second, strict=True)]) for keys in made
    ]
    for a in range(len(made)):
        for b in range(len(made)):
            if size := (sizes[a] + sizes[b]) / 2:
                found.within[a, b] += within[a] / size
    for a, b in combinations(range(len(made)), 2):
        if size := (sizes[a] + sizes[b]) / 2:
            gaps = [_mean_square(ours, theirs) for ours, theirs in zip(made[a][:texts], made[b][:texts], strict=True)]
            found.between[a, b] += numpy.array(gaps) / size
            found.between[b, a] = found.between[a, b]


def _mean_square(ours: numpy.ndarray, theirs: numpy.ndarray) -> float:
    """The mean over positions of the square of the distance; both float32 [positions, inner]."""
    gap = ours - theirs
    return float(numpy.einsum("ij,ij->", gap, gap, dtype=numpy.float64)) / len(gap)
