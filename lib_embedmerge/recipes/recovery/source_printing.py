"""Write recovered sums of texts as one expression: fit and round their weights, and spell their tokens.

candidate_texts.py finds the texts, and recover.py checks whether the expression gives the vectors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, groupby

import numpy

from lib_embedmerge.core.outline import ENCODER_LETTERS
from lib_embedmerge.core.ports import Model
from lib_embedmerge.core.texts import TextReader, TokenRun
from lib_embedmerge.lang.numbers import print_number
from lib_embedmerge.lang.printer import print_concatenation, print_text
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.recovery.candidate_texts import Segment
from lib_embedmerge.recipes.recovery.pursuit import JointRows, fit_weights

_DIGITS = 9
"""Most digits of a weight: as many as float32 has."""

WEIGHTS_ROUNDED = 1e-6
"""Relative L2 distance that rounding the weights may always add. It may also add a hundredth of the distance that is
left without it."""

_SPACE_BEFORE_MARK = re.compile(r" (?=[,.;:!?)'])")
"""Finds the spaces in a decoded text that nobody types and that seldom change its tokens."""


class Speller:
    """Writes token ids as texts or expressions that have exactly these tokens on a model, and name no embedding."""

    def __init__(self, model: Model) -> None:
        self._tokenizer = model.encoders[0].tokenizer
        self._texts = TextReader(self._tokenizer, model.embeddings)
        self._find_text_cached = lru_cache(maxsize=None)(self._find_text)

    def spell_text(self, ids: Sequence[int]) -> str | None:
        """A text with exactly these tokens, at least one, in which no embedding is named; None if there is none."""
        return self._find_text_cached(tuple(ids))

    def begins_with_word(self, ids: Sequence[int]) -> bool:
        """Whether the tokens up to the first end of a word can be written as text."""
        ends = (end for end, token in enumerate(ids, 1) if self._ends_word(token))
        return self.spell_text(ids[: next(ends, len(ids))]) is not None

    def spell_expression(self, ids: Sequence[int]) -> str:
        """An expression with these tokens: a text in quotes, with token ids for what no text gives, as `'a cat',85`."""
        whole = self.spell_text(ids)
        if whole is not None:
            return print_text(whole)
        pieces: list[str] = []
        for has_text, words in groupby(self._split_words(ids), key=lambda word: self.spell_text(word) is not None):
            run = [*chain.from_iterable(words)]
            text = self.spell_text(run) if has_text else None
            pieces += map(str, run) if text is None else [print_text(text)]
        return ",".join(pieces if pieces[0].startswith("'") else ["''", *pieces])

    def _split_words(self, ids: Sequence[int]) -> list[list[int]]:
        words: list[list[int]] = [[]]
        for token in ids:
            words[-1].append(token)
            if self._ends_word(token):
                words.append([])
        return [word for word in words if word]

    def _ends_word(self, token: int) -> bool:
        return self._is_in_vocabulary(token) and self._tokenizer.ends_word(token)

    def _find_text(self, ids: tuple[int, ...]) -> str | None:
        text = self._tokenizer.spell(ids) if all(map(self._is_in_vocabulary, ids)) else None
        if text is None:
            return None
        as_typed = _SPACE_BEFORE_MARK.sub("", text)
        return next((wording for wording in (as_typed, text) if self._texts.runs(wording) == (TokenRun(ids),)), None)

    def _is_in_vocabulary(self, token: int) -> bool:
        """Whether the vocabulary has this token. Token tables can have more rows than the vocabulary has tokens."""
        return token < self._tokenizer.vocabulary_size


def fit_segments(segments: Sequence[Segment], rows: JointRows) -> tuple[list[Segment], float]:
    """The segments with the weights that fit the targets of `rows` best, rounded to as few digits as fit equally well.

    The float is the relative L2 distance of their sums from the targets, as `JointRows` scales these. The weights of
    `segments` itself are ignored; together these have as many vectors as there are targets.
    """
    ends = numpy.cumsum([segment.count for segment in segments])[:-1]
    targets = numpy.split(rows.targets, ends)
    fitted = [_fit_segment(segment, rows, target) for segment, target in zip(segments, targets, strict=True)]
    distance = math.hypot(*(gap for _, gap in fitted)) / float(numpy.linalg.norm(rows.targets))
    return [segment for segment, _ in fitted], distance


def _fit_segment(segment: Segment, rows: JointRows, target: numpy.ndarray) -> tuple[Segment, float]:
    """The segment with the best weights, and the L2 distance of its sum from the target [count, width]."""
    sums = numpy.zeros((len(segment.texts), *target.shape))
    for index, text in enumerate(segment.texts):
        sums[index, : len(text.ids)] = rows.vectors(text.ids)
    atoms, whole = sums.reshape(len(sums), target.size), target.reshape(-1)
    best, rest = fit_weights(atoms, whole)
    allowed = max(1.01 * numpy.linalg.norm(rest), WEIGHTS_ROUNDED * numpy.linalg.norm(whole))
    for digits in range(1, _DIGITS + 1):
        weights = [float(f"{weight:.{digits}g}") for weight in best.tolist()]
        gap = numpy.linalg.norm(whole - numpy.array(weights) @ atoms)
        if gap <= allowed:
            break
    texts = (replace(text, weight=weight) for text, weight in zip(segment.texts, weights, strict=True))
    return Segment(segment.count, tuple(sorted(texts, key=lambda text: -text.weight))), float(gap)


def print_segments(parts: Mapping[tuple[str, ...], Sequence[Segment]], model: Model, speller: Speller) -> str:
    """The expression that gives some segments. ExpressionError if it is too long or has a number beyond float32.

    parts: keys of text encoders -> the segments for these encoders. Other encoders get zero vectors.
    """
    by_encoders = {keys: _print_concatenation(segments, speller) for keys, segments in parts.items()}
    everywhere = by_encoders.get(tuple(encoder.key for encoder in model.encoders))
    if everywhere is not None:
        return parse(everywhere).canonical
    letters = {key: letter for letter, key in ENCODER_LETTERS.items()}
    terms = [f"{letters[key]}(({source}))" for keys, source in by_encoders.items() for key in keys]
    return parse(" + ".join(terms)).canonical


def _print_concatenation(segments: Sequence[Segment], speller: Speller) -> str:
    return print_concatenation([_print_sum(segment, speller) for segment in segments])


def _print_sum(segment: Segment, speller: Speller) -> str:
    """The weighted sum of a segment's texts, in their order. An expression cannot begin with a minus."""
    if not segment.texts:
        return f"'':{segment.count}"
    terms = ""
    for text in segment.texts:
        weight = abs(text.weight) if terms else text.weight
        sign = "" if not terms else " - " if text.weight < 0 else " + "
        terms += sign + speller.spell_expression(text.ids) + ("" if weight == 1 else f"*{print_number(weight)}")
    return terms
