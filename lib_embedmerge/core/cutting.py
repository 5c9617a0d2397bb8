"""A text cut at its tokens: which of its characters gave some of its token ids."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

from lib_embedmerge.core.ports import Tokenizer

_BOUNDARY = re.compile(r"(?<=\s)(?=\S)|(?<=\S)(?=\s)|(?<=\w)(?=[^\w\s])|(?<=[^\w\s])(?=\w)|(?<=\d)(?=\w)|(?<=\D)(?=\d)")
"""Where a token can begin: between words, marks, digits and white space."""


class CutText:
    """A text and its token ids."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._ids = tokenizer.encode(text)

    def between(self, first: int, end: int) -> str | None:
        """The characters whose tokens are ids[first:end], as they were typed, without white space around them.

        None where no characters have just these tokens: inside a word, say.
        """
        start, stop = self._offset(first), self._offset(end)
        if start is None or stop is None:
            return None
        text = self._text[start:stop].strip()
        return text if list(self._tokenizer.encode(text)) == list(self._ids[first:end]) else None

    def _offset(self, count: int) -> int | None:
        """How many characters the first `count` tokens take, at least."""
        place = bisect_left(self._offsets, count, key=self._count)
        if place == len(self._offsets) or self._count(self._offsets[place]) != count:
            return None
        return self._offsets[place]

    def _count(self, offset: int) -> int:
        return len(self._tokenizer.encode(self._text[:offset]))

    @cached_property
    def _offsets(self) -> Sequence[int]:
        inner = (match.start() for match in _BOUNDARY.finditer(self._text))
        return sorted({0, *inner, len(self._text)})
