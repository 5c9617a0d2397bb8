"""Vectors that are rows of a model's token tables, read off exactly: which tokens, and the segments that they make.

Which rows a table has is its encoder's knowledge; how the segments are written down that of recovery_source.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lib_embedmerge.core.ports import Model
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText


def find_nameable_tokens(model: Model) -> int:
    """Tokens from this id on no expression can name: not every text encoder has a row for them (core/outline.py)."""
    return min(encoder.vocabulary_size for encoder in model.encoders)


class TokenRows:
    """Vectors as rows of token tables, the same in float16.

    encoders: those of the model whose vectors are not all zero, which is no row.
    ids: encoder key -> for each vector a token with that row, None where no expression names one.
    """

    def __init__(self, vectors: Mapping[str, Tensor], model: Model) -> None:
        """vectors: encoder key -> [n, width]."""
        bound = find_nameable_tokens(model)
        self._vectors = vectors
        self.encoders = [encoder for encoder in model.encoders if vectors[encoder.key].any()]
        self.ids: dict[str, list[int | None]] = {
            encoder.key: [
                token if token is not None and token < bound else None
                for token in encoder.find_equal_rows(vectors[encoder.key])
            ]
            for encoder in self.encoders
        }

    @property
    def known(self) -> list[bool]:
        """For each vector whether it is a row in each of these encoders."""
        return [None not in tokens for tokens in zip(*self.ids.values(), strict=True)]

    def segments(self) -> dict[tuple[str, ...], list[Segment]] | None:
        """Encoder keys -> the text that gives their vectors: one text where it gives all, else one for each encoder.

        None where not every vector is a row.
        """
        if not self.known or not all(self.known):
            return None
        found = {key: [token for token in ids if token is not None] for key, ids in self.ids.items()}
        together = self._together(list(found.values()))
        return {tuple(found): [_text(together)]} if together else {(key,): [_text(ids)] for key, ids in found.items()}

    def _together(self, found: Sequence[list[int]]) -> list[int] | None:
        """The tokens whose rows are the vectors of every encoder; None where there are none.

        Several tokens can have one row in one of the encoders, of which the first is told; another encoder may know
        which one was meant.
        """
        first, *others = found
        if all(ids == first for ids in others):
            return first
        together: list[int | None] = [None] * len(first)
        for ids in found:
            same = torch.stack([self._are_rows(place, ids) for place in range(len(self.encoders))]).all(dim=0)
            fit = zip(together, ids, same.tolist(), strict=True)
            together = [token if known is None and is_same else known for known, token, is_same in fit]
        tokens = [token for token in together if token is not None]
        return tokens if len(tokens) == len(first) else None

    def _are_rows(self, place: int, ids: Sequence[int]) -> Tensor:
        """bool [n]: where the rows of these tokens are the vectors of one of the encoders."""
        encoder = self.encoders[place]
        return (encoder.vectors(ids).cpu().half() == self._vectors[encoder.key].half()).all(dim=1)


def _text(ids: Sequence[int]) -> Segment:
    return Segment(len(ids), (WeightedText(tuple(ids), 1.0),))
