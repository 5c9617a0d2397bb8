"""Vectors as sums of a few token rows: sparse combinations over the token tables of a model.

Orthogonal matching pursuit (Y. C. Pati et al., 1993) with replacement, as subspace pursuit has it (W. Dai and
O. Milenkovic, 2009): each round asks the tables for the tokens closest to what is left, in both directions, and chooses
anew among these and the ones it had. Token rows share a strong common direction, so that a row near the mean can look
better than any of those that a sum was made of; more are chosen than may stay, and the ones that add least are dropped.

The texts behind the combinations are not known here (recovery_texts.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.core.ports import TextEncoder

MAX_TOKENS = 6
"""Tokens that one vector is at most taken for a sum of."""

_ROOM = 4
"""Tokens chosen beyond these before the ones that add least are dropped."""

_CANDIDATES = 16
"""Tokens that one question to a table gives, in each direction."""

_ROUNDS = 10

_NOTHING = 1e-7
"""Relative L2 distance that float32 sums leave; below it there is nothing more to find."""

_FLOAT16 = 2.0**-11
"""Relative L2 distance that rounding to float16 makes at most; who leaves less has found what there is."""

_GAINS = ((0.5, 0.999), (_FLOAT16, 0.9), (0.0, 0.5))
"""(more than this was left, a token is worth having that leaves less than this share of it). Where most is explained,
the rest may be noise, of which some tokens always take a little."""

_PROGRESS = 0.99
"""A round that leaves more than this share of what the one before it left is the last."""

_INDEPENDENT = 1e-9
"""Share of a row's squared length below which what others do not span of it is rounding."""


@dataclass(frozen=True)
class Combination:
    """One vector as a sum of token rows times weights. Tokens in no particular order, none twice.

    residual: L2 length of what is left over that of the vector, all encoders together; 0 for a zero vector.
    """

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    residual: float = 0.0


class Rows:
    """Token rows and vectors of some text encoders side by side, so that one sum is looked for in all of them.

    targets: float64 CPU [n, width of all], each encoder's part scaled so that all parts matter equally.
    """

    def __init__(self, encoders: Sequence[TextEncoder], vectors: Mapping[str, Tensor], vocabulary_size: int) -> None:
        """vectors: encoder key -> [n, width], not all zero for any.  vocabulary_size: tokens from here on are no
        candidates."""
        self._encoders = encoders
        self._vocabulary_size = vocabulary_size
        parts = [vectors[encoder.key].double().cpu() for encoder in encoders]
        self._scales = [1.0 / part.norm().item() for part in parts]
        self._widths = [part.shape[1] for part in parts]
        self.targets = torch.cat([part * scale for part, scale in zip(parts, self._scales, strict=True)], dim=1)

    def of(self, ids: Sequence[int]) -> Tensor:
        """float64 CPU [len(ids), width of all], scaled as the targets are."""
        pairs = zip(self._encoders, self._scales, strict=True)
        return torch.cat([encoder.vectors(ids).double().cpu() * scale for encoder, scale in pairs], dim=1)

    def candidates(self, rests: Tensor) -> list[list[int]]:
        """For each of [n, width of all] the tokens closest to it and to its opposite, in any of the encoders."""
        found: list[dict[int, None]] = [{} for _ in rests]
        for encoder, part in zip(self._encoders, torch.split(rests, self._widths, dim=1), strict=True):
            # Lengths mean nothing here, and float32 has no room for very small ones.
            directions = torch.nn.functional.normalize(part, eps=1e-300).float()
            nearest = encoder.nearest(torch.cat([directions, -directions]), _CANDIDATES)
            for place, tokens in enumerate(nearest):
                ids = (token.id for token in tokens if token.id < self._vocabulary_size)
                found[place % len(rests)].update(dict.fromkeys(ids))
        return [list(ids) for ids in found]


def pursue(rows: Rows) -> list[Combination]:
    """The best combination that is found for each of the targets, of at most MAX_TOKENS tokens.

    What the tables raise where a model's file cannot be read, or a model has been unloaded, goes through.
    """
    targets = rows.targets
    lengths = targets.norm(dim=1)
    found = [Combination(residual=float(length > 0)) for length in lengths]
    rests = targets.clone()
    looking = [place for place, length in enumerate(lengths.tolist()) if length > 0]
    for _ in range(_ROUNDS):
        if not looking:
            break
        still = []
        for place, ids in zip(looking, rows.candidates(rests[looking]), strict=True):
            better, rest = _chosen(rows, [*dict.fromkeys((*found[place].ids, *ids))], targets[place])
            before = found[place].residual
            if not _is_worth(before, better.residual):
                continue
            found[place], rests[place] = better, rest
            if _FLOAT16 < better.residual < _PROGRESS * before:
                still.append(place)
        looking = still
    return found


def _chosen(rows: Rows, ids: Sequence[int], target: Tensor) -> tuple[Combination, Tensor]:
    """The best combination of some of these tokens, and what it leaves of the target."""
    atoms = rows.of(ids)
    atoms = torch.where(atoms.isfinite().all(dim=1, keepdim=True), atoms, 0.0)  # broken in one of the encoders alone
    problem = _Problem(atoms @ atoms.T, atoms @ target, target.square().sum().item())
    places = _dropped(problem, _picked(problem))
    weights, rest = fit_weights(atoms[places], target)
    residual = (rest.norm() / target.norm()).item()
    return Combination(tuple(ids[place] for place in places), tuple(weights.tolist()), residual), rest


@dataclass(frozen=True)
class _Problem:
    """Least squares by products alone, small next to the atoms themselves.

    gram: [n, n], of the atoms with each other.  shares: [n], of them with the target.  size: the target's with itself.
    """

    gram: Tensor
    shares: Tensor
    size: float


def _picked(problem: _Problem) -> list[int]:
    """Atoms one by one, each the one that leaves least together with those before it (orthogonal least squares).

    The products are kept those of what the picked ones do not span, as Cholesky's elimination does it.
    """
    gram, shares, left = problem.gram, problem.shares, problem.size
    least = _INDEPENDENT * gram.diagonal()
    picked: list[int] = []
    while len(picked) < min(MAX_TOKENS + _ROOM, len(shares)) and left > _NOTHING**2 * problem.size:
        squares = gram.diagonal()
        gains = torch.where(squares > least, shares.square() / squares.clamp_min(1e-300), 0.0)
        best = int(gains.argmax())
        gain = gains[best].item()
        if gain <= 0.0:
            break
        direction = gram[best] / squares[best].sqrt()
        shares = shares - shares[best] / squares[best].sqrt() * direction
        gram = gram - torch.outer(direction, direction)
        left -= gain
        picked.append(best)
    return picked


def _dropped(problem: _Problem, places: list[int]) -> list[int]:
    """The places without the atoms that add nothing to speak of, and without those that add least where they are too
    many."""
    while places:
        inverse = torch.linalg.inv(problem.gram[places][:, places])
        shares = problem.shares[places]
        weights = inverse @ shares
        left = max(problem.size - (weights @ shares).item(), 0.0)
        costs = weights.square() / inverse.diagonal()  # what the squared rest grows by without each of them
        least = int(costs.argmin())
        without, having = (math.sqrt(value / problem.size) for value in (left + costs[least].item(), left))
        if len(places) <= MAX_TOKENS and _is_worth(without, having):
            break
        places = places[:least] + places[least + 1 :]
    return places


def _is_worth(without: float, having: float) -> bool:
    """Whether tokens are worth having that leave `having` in place of `without`, relative L2 distances."""
    gain = next((gain for more, gain in _GAINS if without > more), 0.0)
    return without > _NOTHING and having < gain * without


def fit_weights(atoms: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares: the weights [n] of atoms [n, width], and what they leave of the target [width]."""
    if not len(atoms):
        return target.new_zeros(0), target
    weights = torch.linalg.lstsq(atoms.T, target[:, None]).solution[:, 0]
    return weights, target - weights @ atoms
