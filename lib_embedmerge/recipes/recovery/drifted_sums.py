"""Find the texts whose weighted sum the vectors of one file are, made on another model.

pursuit.py explains a vector until nothing is left of it. Here something is always left: rows of another model have
drifted. So a token is added only if it explains the same in every text encoder, where the rows drift independently of
each other; weights must be common to several vectors of the file; and the whole is refused unless a few texts explain
the vectors of the file about as well as drifted rows can.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy

from lib_embedmerge.core.operations import ignore_overflow
from lib_embedmerge.recipes.recovery.candidate_texts import BeginsWithWord, Segment, find_segments
from lib_embedmerge.recipes.recovery.pursuit import JointRows

_MOST_TOKENS = 4
"""Most tokens in the sum for one vector."""

_SAMPLE = 5
"""So many of the first vectors of a file, and of the others, tell how many texts there are."""

_TRIED = 6
"""Tokens that are tried for one vector in one round, those closest to the residual in all text encoders together."""

_LEFT = 0.5
"""Greatest share of a vector's length that a sum may leave."""

_GAIN = 0.88
"""A token is added if at most this share of the squared residual is left with it. The best of 49,408 random rows
leaves 0.97."""

_NOTHING = 0.02
"""A residual below this share of a vector's length is not searched."""

_INDEPENDENT = 1e-12
"""Directions that atoms share are dropped below this share of the greatest eigenvalue of their inner products."""

_WEIGHTS_APART = 0.35
"""A token's weights in two text encoders are at most this share of the larger one apart, and..."""

_WEIGHTS_NEAR = 0.06
"""...this much always, in shares of the vector's length."""

_NEIGHBOUR, _TOWARDS = 0.5, 0.4
"""Rows whose cosine is at least the first are neighbours. A neighbour with at most the second share of a token's own
part in a vector only tells how the token has drifted."""

_ALIKE = 0.13
"""Weights of two vectors belong together if they differ by less than this share."""

_SUPPORT = 0.25
"""Share of the vectors that must have a small weight, for it to be that of a text."""

_SMALL = 0.35
"""A weight below this share of the greatest one is small."""

_MOST_TEXTS, _MOST_SEGMENTS = 4, 3
"""More texts in a segment, or more segments, are not what a person wrote."""

_ROUNDED = 0.03
"""A weight is written with the fewest digits that change it by at most this share, and..."""

_ROUNDED_BY = 0.01
"""...this much always."""


@dataclass(frozen=True)
class DriftedSums:
    """Segments that explain the vectors of a file.

    residuals: what they leave of each vector, in shares of its length; 0 for zero vectors.  cosines: of each vector
    with its sum. Both are float64 [n, encoders].
    """

    segments: tuple[Segment, ...]
    residuals: numpy.ndarray
    cosines: numpy.ndarray


@ignore_overflow()
def find_drifted_sums(rows: JointRows, widths: Sequence[int], begins_with_word: BeginsWithWord) -> DriftedSums | None:
    """The sums of texts that the vectors of one file are, or None if no few texts explain them.

    rows: the vectors and the token tables of the text encoders.  widths: of these encoders.
    begins_with_word: as for `find_segments`.
    """
    search = _Search(rows, numpy.cumsum(widths)[:-1])
    tokens = search.find_tokens()
    levels = _find_levels(tokens)
    if not levels:
        return None
    snapped = [_snap(weights, levels) for weights in tokens]
    segments = find_segments(snapped, begins_with_word)
    if len(segments) > _MOST_SEGMENTS or any(len(segment.texts) > _MOST_TEXTS for segment in segments):
        return None
    fitted = [_round_weights(segment) for segment in search.fit(segments)]
    residuals, cosines = search.measure(fitted)
    return DriftedSums(tuple(fitted), residuals, cosines) if residuals.max() <= _LEFT else None


class _Search:
    """The pursuit for all vectors of a file. bounds: where the parts of the text encoders end, but for the last."""

    def __init__(self, rows: JointRows, bounds: numpy.ndarray) -> None:
        self._rows = rows
        self._bounds = bounds

    def find_tokens(self) -> list[dict[int, float]]:
        """For each vector its tokens and their weights; empty if no vector of a sample is a sum of several."""
        targets = self._rows.targets
        used = [index for index, target in enumerate(targets) if target.any()]
        first, later = used[:_SAMPLE], used[_SAMPLE:]
        sample = [*first, *later[:: max(1, len(later) // _SAMPLE)][:_SAMPLE]]
        found: list[dict[int, float]] = [{} for _ in targets]
        self._pursue(sample, found, _MOST_TOKENS, opposite=True)
        tokens = max((len(found[index]) for index in sample), default=0)
        if tokens < 2:
            return []
        negative = any(weight < 0 for index in sample for weight in found[index].values())
        self._pursue(sorted({*used} - {*sample}), found, tokens, opposite=negative)
        return found

    def _pursue(self, active: list[int], found: list[dict[int, float]], rounds: int, *, opposite: bool) -> None:
        """Find the tokens of some vectors, at most one in each round.

        opposite: whether weights may be negative.
        """
        targets = self._rows.targets
        residuals = targets.copy()
        for _ in range(rounds):
            if not active:
                break
            candidates = self._rows.find_candidates(residuals[active], opposite=opposite, quickly=True)
            tokens = sorted({*chain(*candidates), *chain(*(found[index] for index in active))})
            rows, places = self._rows.vectors(tokens), {token: place for place, token in enumerate(tokens)}
            remaining = []
            for index, ids in zip(active, candidates, strict=True):
                chosen = list(found[index])
                new = [token for token in ids if token not in chosen]
                atoms = rows[[places[token] for token in (*chosen, *new)]]
                better = self._add_token(targets[index], residuals[index], atoms, len(chosen))
                if better is None:
                    continue
                added, weights, residuals[index] = better
                found[index] = dict(zip([*chosen, new[added]], weights.tolist(), strict=True))
                if numpy.linalg.norm(residuals[index]) > _NOTHING * numpy.linalg.norm(targets[index]):
                    remaining.append(index)
            active = remaining

    def _add_token(
        self, target: numpy.ndarray, residual: numpy.ndarray, atoms: numpy.ndarray, taken: int
    ) -> tuple[int, numpy.ndarray, numpy.ndarray] | None:
        """The best atom to add to the first `taken` ones: its index after these, the weights with it, what is left.

        atoms: float64 [n, width].  None if none is worth it.
        """
        extra = atoms[taken:]
        likely = numpy.abs(extra @ residual) / numpy.maximum(numpy.linalg.norm(extra, axis=1), 1e-300)
        tried = numpy.argsort(-likely)[:_TRIED]
        if not len(tried):
            return None
        atoms = numpy.vstack([atoms[:taken], extra[tried]])
        # What is tried: the taken atoms and one more, for each of these.
        more = numpy.arange(len(tried))[:, None]
        sets = numpy.hstack([numpy.tile(numpy.arange(taken), (len(tried), 1)), taken + more])
        parts = numpy.split(atoms, self._bounds, axis=1)
        goals = numpy.split(target, self._bounds)
        grams = numpy.stack([part @ part.T for part in parts])[:, sets[:, :, None], sets[:, None, :]]
        products = numpy.stack([part @ goal for part, goal in zip(parts, goals, strict=True)])[:, sets]
        joint, both = products.sum(axis=0), grams.sum(axis=0)
        weights = _solve(both, joint)
        left = float(target @ target) - (joint * weights).sum(axis=1)
        worth = (left <= _GAIN * float(residual @ residual)) & _agree(weights, _solve(grams, products)[..., -1])
        worth &= ~_explain_drift(weights, both)
        if not worth.any():
            return None
        best = int(numpy.where(worth, left, numpy.inf).argmin())
        return int(tried[best]), weights[best], target - weights[best] @ atoms[sets[best]]

    def fit(self, segments: Sequence[Segment]) -> list[Segment]:
        """The segments with the weights that fit best.

        Least squares makes weights too small for rows that were turned, and right for rows to which something was
        added; the lengths of the vectors make them right and too large. The geometric mean is within 1% of both.
        """
        fitted = []
        start = 0
        for segment in segments:
            target = self._rows.targets[start : start + segment.count]
            start += segment.count
            if not segment.texts:
                fitted.append(segment)
                continue
            atoms = self._make_atoms(segment).reshape(len(segment.texts), -1)
            weights = numpy.linalg.lstsq(atoms.T, target.reshape(-1), rcond=None)[0]
            length = float(numpy.linalg.norm(weights @ atoms))
            factor = numpy.sqrt(float(numpy.linalg.norm(target)) / length) if length else 1.0
            pairs = zip(segment.texts, (weights * factor).tolist(), strict=True)
            fitted.append(Segment(segment.count, tuple(replace(text, weight=weight) for text, weight in pairs)))
        return fitted

    def measure(self, segments: Sequence[Segment]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(what the segments leave of each vector, the cosines with their sums) as DriftedSums has them."""
        sums = [
            numpy.tensordot([text.weight for text in segment.texts], self._make_atoms(segment), 1)
            if segment.texts
            else numpy.zeros((segment.count, self._rows.targets.shape[1]))
            for segment in segments
        ]
        residuals, cosines = [], []
        for wanted, made in zip(
            numpy.split(self._rows.targets, self._bounds, axis=1),
            numpy.split(numpy.vstack(sums), self._bounds, axis=1),
            strict=True,
        ):
            length, other = numpy.linalg.norm(wanted, axis=1), numpy.linalg.norm(made, axis=1)
            residuals.append(numpy.linalg.norm(wanted - made, axis=1) / numpy.maximum(length, 1e-300))
            cosines.append(numpy.einsum("ij,ij->i", wanted, made) / numpy.maximum(length * other, 1e-300))
        return numpy.stack(residuals, axis=1), numpy.stack(cosines, axis=1)

    def _make_atoms(self, segment: Segment) -> numpy.ndarray:
        """The rows of each text of a segment, with zeros after its end: float64 [texts, count, width]."""
        atoms = numpy.zeros((len(segment.texts), segment.count, self._rows.targets.shape[1]))
        for index, text in enumerate(segment.texts):
            atoms[index, : len(text.ids)] = self._rows.vectors(text.ids)
        return atoms


def _find_levels(vectors: Sequence[dict[int, float]]) -> list[float]:
    """The weights of texts: those that several vectors have, and great ones that are near none of these."""
    weights = sorted(weight for tokens in vectors for weight in tokens.values())
    groups: list[list[float]] = []
    for weight in weights:
        if groups and weight - groups[-1][-1] <= _ALIKE * abs(weight):
            groups[-1].append(weight)
        else:
            groups.append([weight])
    greatest = max(map(abs, weights), default=0.0)
    levels: list[float] = []
    for group in sorted(groups, key=len, reverse=True):
        level = statistics.median(group)
        is_common = len(group) >= _SUPPORT * len(vectors)
        is_new = all(abs(level - other) > 2 * _ALIKE * abs(other) for other in levels)
        if is_common or (is_new and abs(level) >= _SMALL * greatest):
            levels.append(level)
    return levels


def _snap(tokens: dict[int, float], levels: Sequence[float]) -> dict[int, float]:
    """The tokens with the weight that is closest to theirs among the levels; without those that are near no level."""
    snapped = {}
    for token, weight in tokens.items():
        closest = min(levels, key=lambda level: abs(level - weight))
        if abs(closest - weight) <= 2 * _ALIKE * abs(closest):
            snapped[token] = closest
    return snapped


def _round_weights(segment: Segment) -> Segment:
    """The segment with weights of few digits, the heaviest text first."""
    texts = (replace(text, weight=round_weight(text.weight)) for text in segment.texts)
    kept = [text for text in texts if text.weight]
    return Segment(segment.count, tuple(sorted(kept, key=lambda text: -text.weight)))


def round_weight(weight: float) -> float:
    """The weight with as few digits as drift leaves certain: 0.7 for 0.692."""
    allowed = _ROUNDED * abs(weight) + _ROUNDED_BY
    return next((rounded for digits in range(4) if abs((rounded := round(weight, digits)) - weight) <= allowed), weight)


def _solve(grams: numpy.ndarray, products: numpy.ndarray) -> numpy.ndarray:
    """The weights of least squares, [..., n], from inner products of atoms [..., n, n] and with a target [..., n].

    Atoms that others already explain get the smallest weights, as from `numpy.linalg.lstsq`.
    """
    inverses = numpy.linalg.pinv(grams, rcond=_INDEPENDENT, hermitian=True)
    weights: numpy.ndarray = (inverses @ products[..., None])[..., 0]
    return weights


def _explain_drift(weights: numpy.ndarray, grams: numpy.ndarray) -> numpy.ndarray:
    """Whether the last atom explains no more than how an atom before it has drifted: bool [sets].

    A row that drifted towards its neighbour looks like a sum of both. weights, grams: as for `_solve`.
    """
    lengths = numpy.sqrt(numpy.maximum(numpy.diagonal(grams, axis1=1, axis2=2), 1e-300))
    cosines = grams[:, -1, :-1] / (lengths[:, -1:] * lengths[:, :-1])
    sizes = numpy.abs(weights) * lengths
    drifted: numpy.ndarray = ((cosines >= _NEIGHBOUR) & (sizes[:, -1:] <= _TOWARDS * sizes[:, :-1])).any(axis=1)
    return drifted


def _agree(weights: numpy.ndarray, alone: numpy.ndarray) -> numpy.ndarray:
    """Whether the weight of the last atom is about the same in every text encoder alone: bool [sets].

    weights: [sets, n], for all text encoders together.  alone: [encoders, sets], of the last atom in each alone.
    """
    allowed = numpy.maximum(_WEIGHTS_APART * abs(weights[:, -1]), _WEIGHTS_NEAR * abs(weights).max(axis=1))
    agreed: numpy.ndarray = numpy.ptp(alone, axis=0) <= allowed
    return agreed
