"""How far apart the keys and values are that two U-Nets make of two states: one number, exact, from the weights alone.

For the states x of model A and y of model B at one position, the difference that the cross-attentions read is

    D(x, y) = sum over layers of |Ka x - Kb y|^2 / k + |Va x - Vb y|^2 / v,

where Ka, Kb are the key matrices of a layer in both U-Nets, k is the mean of the sums of their squares (the traces of
KaT Ka and KbT Kb); V and v are the same of the values. So no layer counts for more because its numbers are larger, D is
the same in both orders, and a U-Net whose keys are twice as long is seen. For one model, D(x, y) = (x - y)T M (x - y)
with M = sum of KT K / tr + VT V / tr.

D is computed without a layer at hand. With the mean K = (Ka + Kb) / 2 and half the difference G = (Ka - Kb) / 2, and
the same for the states, m = (x + y) / 2 and d = (x - y) / 2, it is Ka x - Kb y = 2 (K d + G m), so that

    D(x, y) = 4 (dT P d + 2 dT Q m + mT R m)      with P, Q, R = the sums of KT K / k, KT G / k, GT G / k and of V.

Equal U-Nets have Q = R = 0 and equal states d = 0, without any rounding: small differences are not lost in large sums.
The pooled vector has the same metric of the one matrix that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy

from lib_embedmerge.checkpoints.cross_attention import TextReader, UnetMatrix
from lib_embedmerge.errors import CheckpointError, quote

Report = Callable[[int], None]
"""A function that is called with the number of values that were read since its last call."""

Halves = tuple[numpy.ndarray, numpy.ndarray]
"""K and G of the module's text, float32 [rows, width] each."""

_ROWS = 5120
"""How many rows are multiplied at once, at least: four layers of SDXL, in 42 MB for each of K and G."""


@dataclass(frozen=True, eq=False)
class PairForm:
    """P, Q and R of the module's text, float32 [width, width] each. Q and R are None for equal matrices."""

    mean: numpy.ndarray
    cross: numpy.ndarray | None = None
    gap: numpy.ndarray | None = None

    def measure(self, ours: numpy.ndarray, theirs: numpy.ndarray) -> numpy.ndarray:
        """D for each row of two float32 [n, width], of A and of B: float64 [n], never negative."""
        half = (ours - theirs) * numpy.float32(0.5)
        total = _apply(half, self.mean, half)
        if self.cross is not None and self.gap is not None:
            middle = (ours + theirs) * numpy.float32(0.5)
            total += 2 * _apply(half, self.cross, middle) + _apply(middle, self.gap, middle)
        measured: numpy.ndarray = numpy.maximum(4 * total, 0.0)
        return measured

    def measure_within(self, first: numpy.ndarray, second: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """D for each row of two float32 [n, width], both of A, and both of B: float64 [n] each."""
        step = first - second
        base = _apply(step, self.mean, step)
        if self.cross is None or self.gap is None:
            return base, base
        base = base + _apply(step, self.gap, step)
        lean = 2 * _apply(step, self.cross, step)
        return numpy.maximum(base + lean, 0.0), numpy.maximum(base - lean, 0.0)

    def swap(self) -> PairForm:
        """The form for the two models in the other order."""
        return self if self.cross is None else PairForm(self.mean, -self.cross, self.gap)


@dataclass(frozen=True, eq=False)
class PairMetric:
    """The metric of two U-Nets. states: for hidden states.  pooled: for the pooled vector; None if they read none."""

    states: PairForm
    pooled: PairForm | None

    def swap(self) -> PairMetric:
        """The metric for the two models in the other order."""
        return PairMetric(self.states.swap(), None if self.pooled is None else self.pooled.swap())


def make_metric(a: TextReader, b: TextReader | None = None, report: Report | None = None) -> PairMetric:
    """The metric of two U-Nets, or of one if `b` is None. Reads each matrix once; a few are in memory at a time.

    report: called with the number of values that were read since its last call. It may raise, which ends the work.
    CheckpointError if the U-Nets have different layers, so that none corresponds to another, or if a file cannot be
    read.
    """
    other = b or a
    check_same_layers(a, other)
    count = report or (lambda _: None)
    pairs: list[tuple[UnetMatrix, UnetMatrix]] = []
    for ours, theirs in zip(a.layers, other.layers, strict=True):
        pairs += [(ours.key, theirs.key), (ours.value, theirs.value)]
    states = _sum_forms(pairs, a.context, count)
    if a.pooled is None or other.pooled is None:
        return PairMetric(states, None)
    return PairMetric(states, _sum_forms([(a.pooled, other.pooled)], a.pooled.columns, count))


def check_same_layers(a: TextReader, b: TextReader) -> None:
    """CheckpointError if two U-Nets have different layers, so that none corresponds to another."""
    if a.shapes != b.shapes:
        message = (
            f"The U-Nets of {quote(a.name)} and {quote(b.name)} are built differently: "
            f"{len(a.layers)} and {len(b.layers)} cross-attentions, for states of {a.context} and {b.context} values."
        )
        raise CheckpointError(message, expected="models of one architecture", hint="Compare models of one kind.")


def normalise_pair(ours: numpy.ndarray, theirs: numpy.ndarray) -> float:
    """What a matrix of A and its counterpart of B are divided by: the mean of the sums of their squares."""
    return (_sum_squares(ours) + _sum_squares(theirs)) / 2


def _sum_forms(pairs: Iterable[tuple[UnetMatrix, UnetMatrix]], width: int, report: Report) -> PairForm:
    """The sum of the forms of some matrices, each of A and of B."""
    mean, cross, gap = (numpy.zeros((width, width), numpy.float32) for _ in range(3))
    is_equal = True
    for middle, half in _join_rows(_read_halves(pairs, report)):
        mean += middle.T @ middle
        if half.any():
            is_equal = False
            cross += middle.T @ half
            gap += half.T @ half
    return PairForm(mean) if is_equal else PairForm(mean, cross, gap)


def _read_halves(pairs: Iterable[tuple[UnetMatrix, UnetMatrix]], report: Report) -> Iterator[Halves]:
    """For each pair of matrices half of their sum and half of their difference, divided by the root of their size."""
    for of_a, of_b in pairs:
        ours = numpy.ascontiguousarray(of_a.read())
        report(ours.size)
        theirs = ours
        if of_b is not of_a:
            theirs = numpy.ascontiguousarray(of_b.read())
            report(theirs.size)
        size = normalise_pair(ours, theirs)
        if not numpy.isfinite(size):
            raise CheckpointError(
                f"{quote(of_a.weights.name)}: {quote(of_a.name)} contains numbers that are not finite."
            )
        if size:  # else it reads nothing
            factor = numpy.float32(0.5 / math.sqrt(size))
            yield (ours + theirs) * factor, (ours - theirs) * factor


def _join_rows(halves: Iterable[Halves]) -> Iterator[Halves]:
    """The same rows in fewer arrays: one large product takes less time than several small ones and their sum."""
    waiting: list[Halves] = []
    for pair in halves:
        waiting.append(pair)
        if sum(len(middle) for middle, _ in waiting) >= _ROWS:
            yield _concatenate(waiting)
            waiting = []
    if waiting:
        yield _concatenate(waiting)


def _concatenate(pairs: Sequence[Halves]) -> Halves:
    middles, halves = zip(*pairs, strict=True)
    return numpy.concatenate(middles), numpy.concatenate(halves)


def _apply(left: numpy.ndarray, matrix: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
    """leftT matrix right for each row of two float32 [n, width]: float64 [n]."""
    read = right @ matrix.T
    products: numpy.ndarray = numpy.einsum("ij,ij->i", left, read, dtype=numpy.float64)
    return products


def _sum_squares(values: numpy.ndarray) -> float:
    return float(numpy.einsum("ij,ij->", values, values, dtype=numpy.float64))
