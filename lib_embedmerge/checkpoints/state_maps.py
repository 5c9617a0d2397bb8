"""Maps from one model to another that are fitted on common words: of the rows of a token table, and of states."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.common_words import list_common_words
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.core.arrays import to_tensor
from lib_embedmerge.core.ports import Progress

WORDS = 2000
ROUNDS = 2
"""How often each word is read, each time among others."""

_LENGTHS = (75, 75, 40, 8)
"""Numbers of words in a chunk, in turn: short ones have states of padding."""


class Pair(NamedTuple):
    """What a map is fitted on: [n, width of the inputs] and [n, width of the outputs]."""

    inputs: Tensor
    outputs: Tensor


_HELD_OUT = 8
"""One chunk of so many is held out."""

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties that are tried, in shares of the variance of the inputs."""


@dataclass(frozen=True)
class Side:
    """One of the models: its text encoders, and what runs them."""

    encoders: Sequence[CheckpointEncoder]
    maker: StateMaker


@dataclass(frozen=True)
class Correction:
    """What to add to the states that model B makes of guessed vectors: an affine map of A's states of its own vectors.

    matrix: [context, context].  offset: [context].  score: R² on states that were held out: 1 predicts all that B's
    own vectors change, 0 nothing. Then both are zero.
    """

    matrix: Tensor
    offset: Tensor
    score: float

    def __call__(self, states: Tensor) -> Tensor:
        return states @ self.matrix + self.offset


def fit_correction(
    a: Side,
    b: Side,
    guess: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    unknown: Sequence[int] = (),
    progress: Progress | None = None,
) -> Correction:
    """Fit the correction on 2,000 common words in random order: what B's rows of them change against guessed ones.

    guess: makes rows for B of rows of A.  unknown: token ids of words that are left out.
    progress: called with (chunks run, chunks in all).
    """
    words = [token for token in list_common_words(a.encoders[0].tokenizer, WORDS) if token not in set(unknown)]
    chunks = _arrange(words)
    pairs: tuple[list[Pair], list[Pair]] = ([], [])  # fitted, held out
    with torch.no_grad():
        for number, ids in enumerate(chunks):
            ours, theirs = ({e.key: to_tensor(e.vectors(ids)) for e in side.encoders} for side in (a, b))
            first, same, own = (
                maker.run([vectors], pooled=False).hidden[0, 1:].double().cpu()
                for maker, vectors in ((a.maker, ours), (b.maker, guess(ours)), (b.maker, theirs))
            )
            pairs[number % _HELD_OUT == 0].append(Pair(first, own - same))
            if progress is not None:
                progress(number + 1, len(chunks))
    fitted, held = (Pair(*(torch.cat(part) for part in zip(*listed, strict=True))) for listed in pairs)
    middle, target = fitted.inputs.mean(0), fitted.outputs.mean(0)
    moved = [Pair(pair.inputs - middle, pair.outputs - target) for pair in (fitted, held)]
    matrix, score = _fit_ridge(moved[0], moved[1])
    return Correction(matrix.float(), (target - middle @ matrix).float() * (score > 0), score)


@dataclass(frozen=True)
class RowMaps:
    """Ways to make rows of B's table of rows of A's, for one encoder.

    procrustes: [width, width], the turn that is best.  ridge: [width, width], the linear map that is best, from the
    identity on.  scores: of both, the share of the squared distance between the rows that it closes, for words that
    were held out; below 0 if it makes it larger.
    """

    procrustes: Tensor
    ridge: Tensor
    scores: tuple[float, float]


def fit_rows(
    a: Sequence[CheckpointEncoder], b: Sequence[CheckpointEncoder], unknown: Sequence[int] = ()
) -> Mapping[str, RowMaps]:
    """Encoder key -> the maps that are best for the rows of common words.

    unknown: token ids of words that are left out.
    """
    words = [token for token in list_common_words(a[0].tokenizer, WORDS) if token not in set(unknown)]
    maps = {}
    for first, second in zip(a, b, strict=True):
        ours, theirs = (to_tensor(encoder.vectors(words)).double().cpu() for encoder in (first, second))
        is_held = torch.arange(len(words)) % _HELD_OUT == 0
        gap = theirs - ours
        left, _, right = torch.linalg.svd(ours[~is_held].T @ theirs[~is_held])
        turn = left @ right
        change, score = _fit_ridge(Pair(ours[~is_held], gap[~is_held]), Pair(ours[is_held], gap[is_held]))
        missed = (ours[is_held] @ turn - theirs[is_held]).square().sum() / gap[is_held].square().sum().clamp_min(1e-30)
        identity = torch.eye(len(change), dtype=change.dtype)
        maps[first.key] = RowMaps(turn.float(), (identity + change).float(), (1 - missed.item(), score))
    return maps


def _fit_ridge(fitted: Pair, held: Pair) -> tuple[Tensor, float]:
    """The linear map from inputs to outputs with the penalty that is best for held-out pairs, float64, and its score.

    The score is the share of the squares of the outputs that it explains. If it explains nothing, the map is zero.
    """
    inputs, outputs = fitted
    values, turn = torch.linalg.eigh(inputs.T @ inputs)
    values = values.clamp_min(0)
    product = turn.T @ (inputs.T @ outputs)
    best, best_score = torch.zeros(inputs.shape[1], outputs.shape[1], dtype=inputs.dtype), 0.0
    whole = held[1].square().sum().clamp_min(1e-30)
    for share in _PENALTIES:
        matrix = turn @ (product / (values + (share * values.mean()).clamp_min(1e-12))[:, None])
        score = 1 - ((held[1] - held[0] @ matrix).square().sum() / whole).item()
        if score > best_score:
            best, best_score = matrix, score
    return best, best_score


def _arrange(words: Sequence[int]) -> list[list[int]]:
    """All words in chunks, several times in different orders."""
    order = random.Random(0)  # noqa: S311 -- the order of words is no secret
    chunks: list[list[int]] = []
    for _ in range(ROUNDS):
        shuffled = order.sample(list(words), len(words))
        while shuffled:
            size = _LENGTHS[len(chunks) % len(_LENGTHS)]
            chunks.append(shuffled[:size])
            shuffled = shuffled[size:]
    return chunks
