"""Find the characters of a text that some of its token ids came from."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from lib_embedmerge.core.ports import Tokenizer

_BOUNDARY = re.compile(r"(?<=\s)(?=\S)|(?<=\S)(?=\s)|(?<=\w)(?=[^\w\s])|(?<=[^\w\s])(?=\w)|(?<=\d)(?=\w)|(?<=\D)(?=\d)")
"""Matches where a token can begin: between words, marks, digits and white space."""


class TokenizedText:
    """A text and its token ids, by which it can be cut."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._ids = tokenizer.encode(text)

    def find_text(self, first: int, end: int) -> str | None:
        """The characters whose tokens are ids[first:end], without white space around them.

        None if no characters have exactly these tokens, for example if one of the ends is inside a word.
        """
        span = self.find_span(first, end)
        return None if span is None else self._text[slice(*span)]

    def find_span(self, first: int, end: int) -> tuple[int, int] | None:
        """(start, end) in the text of the characters that `find_text` returns; None if it returns None."""
        start, stop = self._find_offset(first), self._find_offset(end)
        if start is None or stop is None:
            return None
        text = self._text[start:stop]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if list(self._tokenizer.encode(text)) != list(self._ids[first:end]):
            return None
        return start, start + len(text)

    def _find_offset(self, count: int) -> int | None:
        """The smallest number of characters whose tokens are the first `count` ones, or None if there is none."""
        index = bisect_left(self._candidate_offsets, count, key=self._count_tokens)
        if index == len(self._candidate_offsets) or self._count_tokens(self._candidate_offsets[index]) != count:
            return None
        return self._candidate_offsets[index]

    def _count_tokens(self, offset: int) -> int:
        """The number of tokens of the text before an offset."""
        return len(self._tokenizer.encode(self._text[:offset]))

    @cached_property
    def _candidate_offsets(self) -> Sequence[int]:
        """The offsets at which a token can begin, ascending, with those of the beginning and end."""
        inner = (match.start() for match in _BOUNDARY.finditer(self._text))
        return sorted({0, *inner, len(self._text)})
