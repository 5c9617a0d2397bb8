"""Make an embedding for models of another architecture: SD1 or SD2 to SDXL, and back.

What is text is named by the text encoder that both have, and built again, which is exact. Of what is not text the
vectors of that encoder are kept. In the other encoder it becomes the words that explain most of it, and what these
leave goes through a linear map, if one that was fitted on most tokens of the model predicts the rest of them.
What nothing explains is zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import Model, TextEncoder
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.pursuit import Combination, JointRows, pursue
from lib_embedmerge.recipes.recovery.recover import recover
from lib_embedmerge.recipes.recovery.recovery_results import Recovery
from lib_embedmerge.recipes.recovery.row_matches import count_nameable_tokens
from lib_embedmerge.recipes.recovery.shared_encoders import share_encoders

_EXPLAINED = 0.8
"""A vector becomes words if they leave at most this share of its length. Any six words leave 0.9 of a random one."""

_FORETELLS = 0.3
"""Least mean cosine with held-out rows for the linear map to be used."""

_HELD_OUT = 10
"""One of so many tokens is held out."""

_PIECE = 8192
"""Tokens whose rows are read at once."""

_RIDGE = 1e-2
"""Ridge penalty, in shares of the mean squared length of a dimension."""


@dataclass(frozen=True)
class Carried:
    """An embedding that was made for another model.

    vectors: encoder key -> float32 [n, width], for every encoder of the model.
    recovery: what its vectors are.  text: the expression that gives the vectors on the model; None if they are not all
        text.  notes: what became of vectors that are not text, one sentence each.
    """

    vectors: Mapping[str, numpy.ndarray]
    recovery: Recovery
    text: str | None
    notes: tuple[str, ...] = ()


def carry(embedding: Embedding, target: Model, naming: Model | None = None, *, only_shared: bool = False) -> Carried:
    """Make an embedding for a model of another architecture.

    naming: a model that has a text encoder of the embedding, which names its words; None for the target.
    only_shared: leave the other encoders zero for vectors that are not text.
    StorageError if the two have no text encoder in common, or if the embedding cannot be read.
    """
    naming = naming or target
    shared = share_encoders(naming, embedding.vectors)
    if not shared.encoders:
        titles = " and ".join(ENCODER_TITLES.get(key, key) for key in embedding.vectors)
        message = f"{embedding.name} has vectors only for {titles}, which {naming.facts.title} does not have."
        raise StorageError(
            message, hint="Give a model of its own architecture as well, which is needed to find its words."
        )
    source = Embedding(
        embedding.name,
        {encoder.key: embedding.vectors[encoder.key] for encoder in shared.encoders},
        embedding.metadata,
        embedding.path,
    )
    recovery = recover(source, naming)
    if recovery.is_text:
        made = {key: to_numpy(rows) for key, rows in evaluate(parse(recovery.expression), target).items()}
        return Carried(made, recovery, recovery.expression)
    return _Carrier(source, recovery, shared.encoders, target, only_shared).carry()


@dataclass(frozen=True)
class _Carrier:
    """Carries an embedding that is not all text. encoders: those that name its words."""

    source: Embedding
    recovery: Recovery
    encoders: Sequence[TextEncoder]
    target: Model
    only_shared: bool

    def carry(self) -> Carried:
        """The vectors for every encoder of the target."""
        named = self.recovery.vectors
        known = [index for index, vector in enumerate(named) if vector.token is not None]
        unknown = [index for index, vector in enumerate(named) if vector.token is None]
        made: dict[str, numpy.ndarray] = {}
        notes: list[str] = []
        for encoder in self.target.encoders:
            rows = numpy.zeros((self.source.count, encoder.width), numpy.float32)
            if known:
                tokens = [named[index].token or 0 for index in known]
                weights = numpy.array([named[index].stretch for index in known], numpy.float32)
                rows[known] = to_numpy(encoder.vectors(tokens)) * weights[:, None]
            if encoder.key in self.source.vectors:
                rows[unknown] = self.source.vectors[encoder.key][unknown]
            elif not self.only_shared:
                rows[unknown], sentences = self._predict(encoder, unknown)
                notes += sentences
            else:
                notes.append(f"{ENCODER_TITLES[encoder.key]} is zero for the vectors that are not text.")
            made[encoder.key] = rows
        return Carried(made, self.recovery, None, tuple(notes))

    def _predict(self, encoder: TextEncoder, indices: Sequence[int]) -> tuple[numpy.ndarray, list[str]]:
        """Rows of an encoder for vectors that are not text, float32 [n, width], and what became of them."""
        vectors = {part.key: self.source.vectors[part.key][list(indices)] for part in self.encoders}
        bound = min(count_nameable_tokens(self.target), *(part.vocabulary_size for part in self.encoders))
        rows = JointRows(self.encoders, vectors, bound)
        combinations = pursue(rows)
        first = self.encoders[0]
        link = fit_link(first, encoder, bound)
        made = numpy.zeros((len(indices), encoder.width), numpy.float32)
        sentences = []
        for place, (index, combination) in enumerate(zip(indices, combinations, strict=True)):
            words = combination if combination.ids and combination.residual <= _EXPLAINED else Combination()
            rest = vectors[first.key][place].astype(numpy.float64)
            if words.ids:
                weights = numpy.array(words.weights)
                made[place] += (weights @ to_numpy(encoder.vectors(words.ids))).astype(numpy.float32)
                rest = rest - weights @ to_numpy(first.vectors(words.ids))
            if link.score >= _FORETELLS:
                made[place] += (rest @ link.map).astype(numpy.float32)
            sentences.append(self._describe(index, encoder, words, link))
        return made, sentences

    def _describe(self, index: int, encoder: TextEncoder, words: Combination, link: Link) -> str:
        """What became of a vector in an encoder, in one sentence."""
        title = ENCODER_TITLES[encoder.key]
        if words.ids:
            tokenizer = encoder.tokenizer
            names = ", ".join(tokenizer.token(token).removesuffix("</w>") for token in words.ids)
            share = f"{1 - words.residual**2:.0%}"
            by = f"in {title} it was replaced by the closest words, which match {share} of it: {names}"
        elif link.score >= _FORETELLS:
            cosine = f"the cosine is {link.score:.2f}"
            by = f"in {title} it was estimated; for tokens that the estimate had not seen, {cosine}"
        else:
            by = f"in {title} it is zero, because no words there come close to it"
        return f"Vector {index + 1} is not text; {by}."


@dataclass(frozen=True)
class Link:
    """A linear map from the rows of one text encoder to those of another.

    map: float64 [width, other width].  score: mean cosine of its results with the rows of the tokens held out.
    """

    map: numpy.ndarray
    score: float


def fit_link(first: TextEncoder, second: TextEncoder, bound: int) -> Link:
    """Fit a map (ridge regression) from the rows of one encoder to those of the other, for tokens below `bound`."""
    square = numpy.zeros((first.width, first.width))
    product = numpy.zeros((first.width, second.width))
    held: list[tuple[numpy.ndarray, numpy.ndarray]] = []
    for start in range(0, bound, _PIECE):
        ids = numpy.arange(start, min(start + _PIECE, bound))
        left, right = (to_numpy(encoder.vectors(ids.tolist())) for encoder in (first, second))
        finite = numpy.isfinite(left).all(axis=1) & numpy.isfinite(right).all(axis=1)
        is_held = ids % _HELD_OUT == 0
        fitted = finite & ~is_held
        square += left[fitted].T @ left[fitted]
        product += left[fitted].T @ right[fitted]
        held.append((left[finite & is_held], right[finite & is_held]))
    penalty = max(_RIDGE * float(square.trace()) / first.width, 1e-12)
    fitted_map = numpy.linalg.solve(square + penalty * numpy.eye(first.width), product)
    left, right = (numpy.concatenate(part) for part in zip(*held, strict=True))
    predicted = left @ fitted_map
    lengths = numpy.linalg.norm(predicted, axis=1) * numpy.linalg.norm(right, axis=1)
    cosines = (predicted * right).sum(axis=1) / numpy.maximum(lengths, 1e-300)
    return Link(fitted_map, float(cosines.mean()) if len(cosines) else 0.0)
