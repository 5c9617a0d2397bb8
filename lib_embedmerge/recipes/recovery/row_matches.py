"""Find the vectors that are rows of a model's token tables, and the segments of text that their tokens make.

The text encoders search their tables; source_printing.py writes the segments as an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy

from lib_embedmerge.core.arrays import to_float16, to_numpy
from lib_embedmerge.core.ports import Model, TextEncoder
from lib_embedmerge.recipes.recovery.candidate_texts import Segment, WeightedText


def count_nameable_tokens(model: Model) -> int:
    """The number of tokens that an expression can name: those below it, for which every text encoder has a row."""
    return min(encoder.vocabulary_size for encoder in model.encoders)


class RowMatches:
    """For each vector of an embedding, the token whose row in the token table is equal to it in float16.

    encoders: the model's encoders for which the embedding has vectors that are not zero.
    ids: key of each of these encoders -> for each vector the first token with that row; None if there is none that an
        expression can name.
    """

    def __init__(self, vectors: Mapping[str, numpy.ndarray], model: Model) -> None:
        """vectors: encoder key -> [n, width]."""
        bound = count_nameable_tokens(model)
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
    def are_rows(self) -> list[bool]:
        """For each vector, whether it is a row in every encoder of `encoders`. Empty if there are no such encoders."""
        return [None not in tokens for tokens in zip(*self.ids.values(), strict=True)]

    def find_segments(self) -> dict[tuple[str, ...], list[Segment]] | None:
        """Keys of encoders -> the text that gives their vectors; None if not every vector is a row.

        There is one text for all encoders if one gives all their vectors, else one for each encoder.
        """
        if not self.are_rows or not all(self.are_rows):
            return None
        by_encoder = {key: [token for token in ids if token is not None] for key, ids in self.ids.items()}
        common = self._find_common_tokens(list(by_encoder.values()))
        if common:
            return {tuple(by_encoder): [_make_segment(common)]}
        return {(key,): [_make_segment(ids)] for key, ids in by_encoder.items()}

    def _find_common_tokens(self, by_encoder: Sequence[list[int]]) -> list[int] | None:
        """The tokens whose rows are the vectors in every encoder; None if some vector has no such token.

        Several tokens can have the same row in one encoder, whose search returns the first of them. The search in
        another encoder may return the token that fits both.
        by_encoder: for each encoder the token of each vector.
        """
        first, *others = by_encoder
        if all(ids == first for ids in others):
            return first
        common: list[int | None] = [None] * len(first)
        for ids in by_encoder:
            fits_all = numpy.all([self._compare_rows(encoder, ids) for encoder in self.encoders], axis=0)
            candidates = zip(common, ids, fits_all.tolist(), strict=True)
            common = [token if chosen is None and fits else chosen for chosen, token, fits in candidates]
        tokens = [token for token in common if token is not None]
        return tokens if len(tokens) == len(first) else None

    def _compare_rows(self, encoder: TextEncoder, ids: Sequence[int]) -> numpy.ndarray:
        """bool [n]: whether the row of each token is equal in float16 to the vector with the same index."""
        rows = to_float16(to_numpy(encoder.vectors(ids)))
        equal: numpy.ndarray = (rows == to_float16(self._vectors[encoder.key])).all(axis=1)
        return equal


def _make_segment(ids: Sequence[int]) -> Segment:
    return Segment(len(ids), (WeightedText(tuple(ids), 1.0),))
