"""Recovered sums of texts written down: their weights fitted and rounded, their tokens spelled, one expression.

What the texts are is found in recovery_texts.py. Whether the expression gives the vectors is not known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, groupby

import torch
from torch import Tensor

from lib_embedmerge.core.outline import ENCODER_LETTERS
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.texts import TextReader, TokenRun
from lib_embedmerge.lang.numbers import print_number
from lib_embedmerge.lang.printer import print_concatenation, print_text
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.candidate_texts import Segment
from lib_embedmerge.recipes.recovery.pursuit import Rows, fit_weights

_DIGITS = 9
"""Of a weight, at most: as many as float32 has."""

WEIGHTS_ROUNDED = 1e-6
"""Relative L2 distance that rounding the weights may always make. Beyond that, it may add a hundredth to what is
left anyway."""

_SPACE_BEFORE_MARK = re.compile(r" (?=[,.;:!?)'])")
"""Where a decoded text has a space that nobody types, and that mostly makes no difference."""


class Speller:
    """Token ids to what gives their vectors on a model, whatever embeddings its texts may name."""

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.encoders[0].tokenizer
        self._texts = TextReader(self._tokenizer, model.embeddings)
        self._text = lru_cache(maxsize=None)(self._find_text)

    def text(self, ids: Sequence[int]) -> str | None:
        """A text of exactly these tokens, one or more, in which no embedding is named; None where there is none."""
        return self._text(tuple(ids))

    def starts_well(self, ids: Sequence[int]) -> bool:
        """Whether the first word of these tokens can be written as text."""
        ends = (place for place, token in enumerate(ids, 1) if self._ends_word(token))
        return self.text(ids[: next(ends, len(ids))]) is not None

    def source(self, ids: Sequence[int]) -> str:
        """An expression: the text in quotes, or behind one another what of it can be text, and ids: `'a cat',85`."""
        whole = self.text(ids)
        if whole is not None:
            return print_text(whole)
        pieces: list[str] = []
        for spelled, words in groupby(self._words(ids), key=lambda word: self.text(word) is not None):
            run = [*chain.from_iterable(words)]
            text = self.text(run) if spelled else None
            pieces += map(str, run) if text is None else [print_text(text)]
        return ",".join(pieces if pieces[0].startswith("'") else ["''", *pieces])

    def _words(self, ids: Sequence[int]) -> list[list[int]]:
        words: list[list[int]] = [[]]
        for token in ids:
            words[-1].append(token)
            if self._ends_word(token):
                words.append([])
        return [word for word in words if word]

    def _ends_word(self, token: int) -> bool:
        return self._is_known(token) and self._tokenizer.ends_word(token)

    def _find_text(self, ids: tuple[int, ...]) -> str | None:
        text = self._tokenizer.spell(ids) if all(map(self._is_known, ids)) else None
        if text is None:
            return None
        usual = _SPACE_BEFORE_MARK.sub("", text)
        return next((one for one in (usual, text) if self._texts.runs(one) == (TokenRun(ids),)), None)

    def _is_known(self, token: int) -> bool:
        """Tables can have rows beyond the vocabulary."""
        return token < self._tokenizer.vocabulary_size


def print_weighted_sum(segments: Sequence[Segment], rows: Rows) -> tuple[list[Segment], float]:
    """The segments with the weights that fit their vectors best, in as few digits as do that.

    Behind them the relative L2 distance that they leave of all targets, as `TokenRows` scales them.
    """
    targets = torch.split(rows.targets, [segment.count for segment in segments])
    found = [_weighed(segment, rows, target) for segment, target in zip(segments, targets, strict=True)]
    left = math.hypot(*(rest for _, rest in found)) / float(rows.targets.norm())
    return [segment for segment, _ in found], left


def _weighed(segment: Segment, rows: Rows, target: Tensor) -> tuple[Segment, float]:
    """The segment with its weights, and the L2 length of what it leaves of the target [count, width]."""
    sums = torch.zeros(len(segment.texts), *target.shape, dtype=torch.float64)
    for place, text in enumerate(segment.texts):
        sums[place, : len(text.ids)] = rows.of(text.ids)
    atoms, whole = sums.flatten(1), target.flatten()
    best, rest = fit_weights(atoms, whole)
    allowed = max(1.01 * rest.norm(), WEIGHTS_ROUNDED * whole.norm())
    for digits in range(1, _DIGITS + 1):
        weights = [float(f"{weight:.{digits}g}") for weight in best.tolist()]
        left = (whole - torch.tensor(weights, dtype=torch.float64) @ atoms).norm()
        if left <= allowed:
            break
    texts = (replace(text, weight=weight) for text, weight in zip(segment.texts, weights, strict=True))
    return Segment(segment.count, tuple(sorted(texts, key=lambda text: -text.weight))), left.item()


def print_segments(parts: Mapping[tuple[str, ...], Sequence[Segment]], model: Model, speller: Speller) -> str:
    """The expression of some segments for each set of encoders, by their keys; zero vectors in any others."""
    by_encoders = {keys: _written(segments, speller) for keys, segments in parts.items()}
    everywhere = by_encoders.get(tuple(encoder.key for encoder in model.encoders))
    if everywhere is not None:
        return parse(everywhere).canonical
    letters = {key: letter for letter, key in ENCODER_LETTERS.items()}
    terms = [f"{letters[key]}(({source}))" for keys, source in by_encoders.items() for key in keys]
    return parse(" + ".join(terms)).canonical


def _written(segments: Sequence[Segment], speller: Speller) -> str:
    return print_concatenation([_sum(segment, speller) for segment in segments])


def _sum(segment: Segment, speller: Speller) -> str:
    """The texts of a segment in their order, each with its weight; a minus can stand between two, not before all."""
    if not segment.texts:
        return f"'':{segment.count}"
    terms = ""
    for text in segment.texts:
        weight = abs(text.weight) if terms else text.weight
        sign = "" if not terms else " - " if text.weight < 0 else " + "
        terms += sign + speller.source(text.ids) + ("" if weight == 1 else f"*{print_number(weight)}")
    return terms
