"""Write vectors as weighted sums of a few token rows of a model (sparse approximation).

The method is orthogonal matching pursuit (Y. C. Pati et al., 1993) with replacement, as in subspace pursuit (W. Dai and
O. Milenkovic, 2009). Each round finds the tokens whose rows are closest to the residual or to its opposite, and chooses
again among these and the tokens it had. Token rows share a strong common direction, so a row near the mean can look
better than the rows that a sum was made of. Therefore more tokens are chosen than may stay, and those that contribute
least are dropped.

candidate_texts.py puts the tokens together to texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.core.ports import TextEncoder
from lib_embedmerge.core.statistics import measure_lengths

MAX_TOKENS = 6
"""Most tokens in the sum for one vector."""

_ROOM = 4
"""Tokens that are chosen in addition to these before those that contribute least are dropped."""

_CANDIDATES = 16
"""Tokens that one search in a token table returns for each direction."""

_ROUNDS = 10
"""Most rounds for one vector."""

_NOTHING = 1e-7
"""Relative L2 distance that float32 sums leave; a smaller residual is rounding."""

_FLOAT16 = 2.0**-11
"""Largest relative L2 distance that rounding to float16 makes; a smaller residual ends the search."""

_GAINS = ((0.5, 0.999), (_FLOAT16, 0.9), (0.0, 0.5))
"""(threshold, share): if the relative residual was above the threshold, tokens are added only if less than this share
of it is left with them. The first pair that applies counts. A small residual may be noise, of which any token explains
a little, so the share is smaller there."""

_PROGRESS = 0.99
"""A round that leaves more than this share of the residual is the last one for the vector."""

_INDEPENDENT = 1e-9
"""A row counts as spanned by the rows chosen before it if less than this share of its squared length is outside."""


@dataclass(frozen=True)
class Combination:
    """A weighted sum of token rows that approximates one vector.

    ids: the tokens, in no particular order, each once.  weights: one for each token.
    residual: L2 distance of the sum from the vector divided by the vector's L2 length, over all encoders together; 0
        for a zero vector.
    """

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    residual: float = 0.0


class JointRows:
    """Token rows of several text encoders, joined so that one sum is searched for all encoders at once.

    targets: the vectors to approximate, float64 [n, sum of the encoders' widths]. The part of each encoder is
        scaled to L2 length 1 over all vectors, so that all encoders count equally.
    """

    def __init__(
        self, encoders: Sequence[TextEncoder], vectors: Mapping[str, numpy.ndarray], vocabulary_size: int
    ) -> None:
        """vectors: encoder key -> [n, width], not all zero for any encoder.

        vocabulary_size: token ids from this one on are never candidates.
        """
        self._encoders = encoders
        self._vocabulary_size = vocabulary_size
        parts = [vectors[encoder.key].astype(numpy.float64) for encoder in encoders]
        self._scales = [1.0 / float(numpy.linalg.norm(part)) for part in parts]
        self._ends = numpy.cumsum([part.shape[1] for part in parts])[:-1]
        self.targets = numpy.hstack([part * scale for part, scale in zip(parts, self._scales, strict=True)])

    def vectors(self, ids: Sequence[int]) -> numpy.ndarray:
        """The rows of these tokens, scaled as the targets: float64 [len(ids), sum of the encoders' widths].

        Zeros for a token whose row is broken in one of the encoders.
        """
        pairs = zip(self._encoders, self._scales, strict=True)
        rows = numpy.hstack([to_numpy(encoder.vectors(ids)).astype(numpy.float64) * scale for encoder, scale in pairs])
        rows[~numpy.isfinite(rows).all(axis=1)] = 0.0
        return rows

    def find_candidates(
        self, residuals: numpy.ndarray, *, opposite: bool = True, quickly: bool = False
    ) -> list[list[int]]:
        """For each vector of [n, sum of widths], the tokens closest to it or to its opposite in any of the encoders.

        opposite: whether those closest to its opposite are wanted.
        quickly: whether only the encoder with the shortest rows is searched, which takes a third of the time in SDXL.
        """
        candidates: list[dict[int, None]] = [{} for _ in residuals]
        parts = list(zip(self._encoders, numpy.split(residuals, self._ends, axis=1), strict=True))
        if quickly:
            parts = [min(parts, key=lambda pair: pair[0].width)]
        for encoder, part in parts:
            # Only the direction matters, and very small vectors would be zero in float32.
            lengths = numpy.maximum(measure_lengths(part), 1e-300)
            directions = (part / lengths[:, None]).astype(numpy.float32)
            wanted = numpy.concatenate([directions, -directions]) if opposite else directions
            nearest = encoder.nearest(wanted, _CANDIDATES)
            for index, tokens in enumerate(nearest):
                ids = (token.id for token in tokens if token.id < self._vocabulary_size)
                candidates[index % len(residuals)].update(dict.fromkeys(ids))
        return [list(ids) for ids in candidates]


@ignore_overflow()
def pursue(rows: JointRows) -> list[Combination]:
    """The best combination of at most MAX_TOKENS tokens that is found for each target.

    CheckpointError if the model's file cannot be read, HostError if a web UI has unloaded the model.
    """
    targets = rows.targets
    lengths = measure_lengths(targets)
    combinations = [Combination(residual=float(length > 0)) for length in lengths]
    residuals = targets.copy()
    unfinished = [index for index, length in enumerate(lengths.tolist()) if length > 0]
    for _ in range(_ROUNDS):
        if not unfinished:
            break
        next_round = []
        for index, ids in zip(unfinished, rows.find_candidates(residuals[unfinished]), strict=True):
            better, residual = _combine(rows, [*dict.fromkeys((*combinations[index].ids, *ids))], targets[index])
            before = combinations[index].residual
            if not _is_worthwhile(before, better.residual):
                continue
            combinations[index], residuals[index] = better, residual
            if _FLOAT16 < better.residual < _PROGRESS * before:
                next_round.append(index)
        unfinished = next_round
    return combinations


def _combine(rows: JointRows, ids: Sequence[int], target: numpy.ndarray) -> tuple[Combination, numpy.ndarray]:
    """The best combination of some of these tokens for a target [width], and the difference that it leaves [width]."""
    atoms = rows.vectors(ids)
    problem = _LeastSquares(atoms @ atoms.T, atoms @ target, float(target @ target))
    indices = _drop_atoms(problem, _pick_atoms(problem))
    weights, rest = fit_weights(atoms[indices], target)
    residual = float(numpy.linalg.norm(rest) / numpy.linalg.norm(target))
    return Combination(tuple(ids[index] for index in indices), tuple(weights.tolist()), residual), rest


@dataclass(frozen=True)
class _LeastSquares:
    """A least-squares problem for n atoms (token rows) and a target, given by their inner products alone.

    gram: [n, n], of the atoms with each other.  products: [n], of the atoms with the target.
    size: squared L2 length of the target.
    """

    gram: numpy.ndarray
    products: numpy.ndarray
    size: float


def _pick_atoms(problem: _LeastSquares) -> list[int]:
    """Indices of at most MAX_TOKENS + _ROOM atoms, in the order in which they are picked.

    Each is the one that leaves least together with those before it (orthogonal least squares). After each pick, what
    the picked atoms span is removed from all inner products, as in a Cholesky decomposition.
    """
    gram, products, left = problem.gram, problem.products, problem.size
    least = _INDEPENDENT * gram.diagonal()
    picked: list[int] = []
    while len(picked) < min(MAX_TOKENS + _ROOM, len(products)) and left > _NOTHING**2 * problem.size:
        squares = gram.diagonal()
        gains = numpy.where(squares > least, products**2 / numpy.maximum(squares, 1e-300), 0.0)
        best = int(gains.argmax())
        gain = float(gains[best])
        if gain <= 0.0:
            break
        length = math.sqrt(squares[best])
        direction = gram[best] / length
        products = products - products[best] / length * direction
        gram = gram - numpy.outer(direction, direction)
        left -= gain
        picked.append(best)
    return picked


def _drop_atoms(problem: _LeastSquares, indices: list[int]) -> list[int]:
    """The indices of the atoms to keep: at most MAX_TOKENS, each of which contributes enough (`_GAINS`).

    One atom is dropped at a time, the one that contributes least.
    """
    while indices:
        inverse = numpy.linalg.inv(problem.gram[numpy.ix_(indices, indices)])
        products = problem.products[indices]
        weights = inverse @ products
        left = max(problem.size - float(weights @ products), 0.0)
        costs = weights**2 / inverse.diagonal()  # by how much the squared residual grows without each atom
        least = int(costs.argmin())
        without, with_it = (math.sqrt(value / problem.size) for value in (left + float(costs[least]), left))
        if len(indices) <= MAX_TOKENS and _is_worthwhile(without, with_it):
            break
        indices = indices[:least] + indices[least + 1 :]
    return indices


def _is_worthwhile(without: float, with_them: float) -> bool:
    """Whether tokens reduce the relative residual `without` enough that `with_them` is left (`_GAINS`)."""
    share = next((share for threshold, share in _GAINS if without > threshold), 0.0)
    return without > _NOTHING and with_them < share * without


def fit_weights(atoms: numpy.ndarray, target: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Least squares: the weights [n] of atoms [n, width], and the part of the target [width] that they do not give."""
    if not len(atoms):
        return numpy.zeros(0), target
    weights = numpy.linalg.lstsq(atoms.T, target, rcond=None)[0]
    return weights, target - weights @ atoms
