"""Find the places in a prompt where an embedding is called, with and without `embedding:`.

ComfyUI finds `embedding:NAME` only after white space or a bracket, and NAME only up to the next white space, with the
same capitals as the file. Whatever it does not find is lost or read as plain words. Here the rule is that of the web
UIs: the longest name whose tokens the text continues with. What ComfyUI finds keeps its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from lib_embedmerge.core.cutting import TokenizedText
from lib_embedmerge.core.ports import EmbeddingNames, Tokenizer

MARK = "embedding:"
"""What ComfyUI expects before a name."""

_BRACKETS = re.compile(r"\\[()]|[()]")


class Names(Enum):
    """Which names are found in prompts."""

    BARE = "catdog and embedding:catdog"
    MARKED = "embedding:catdog only"
    COMFYUI = "as ComfyUI does"


@dataclass(frozen=True)
class NameCall:
    """A place where an embedding is called.

    start, end: in the text, with `embedding:` if it is there.  name: of the embedding in the library; for a file that
        ComfyUI finds itself, the path by which it is called.
    file: the file that ComfyUI finds itself, else None.
    is_marked: whether `embedding:` is there.
    """

    start: int
    end: int
    name: str
    file: Path | None = None
    is_marked: bool = False


@dataclass(frozen=True)
class LostCall:
    """`embedding:` with a name that nothing has.

    start, end: of `embedding:` and the next word.  name: that word without commas.  word: as typed.
    """

    start: int
    end: int
    name: str
    word: str
    file: None = None


_Call = TypeVar("_Call", bound="NameCall | LostCall")

FindFile = Callable[[str], Path | None]
"""Returns the file that ComfyUI finds for the word after `embedding:`, or None."""


class NameFinder:
    """Finds calls in texts."""

    def __init__(self, names: EmbeddingNames, tokenizer: Tokenizer, which: Names, find_file: FindFile) -> None:
        """names: of the library.  which: calls to look for."""
        self._names = names
        self._tokenizer = tokenizer
        self._which = which
        self._find_file = find_file

    def find(self, text: str) -> Iterator[NameCall | LostCall]:
        """The calls in a text without expressions, in order."""
        for start, end in _split_at_brackets(text):
            yield from self._find_in_segment(_Unescaped(text, start, end))

    def _find_in_segment(self, segment: _Unescaped) -> Iterator[NameCall | LostCall]:
        position = 0
        while (mark := segment.text.find(MARK, position)) >= 0:
            yield from self._find_bare(segment, position, mark)
            call = self._read_marked(segment, mark)
            if call is None:  # ComfyUI reads it as plain words
                position = mark + len(MARK)
                continue
            yield segment.shift(call)
            position = max(call.end, mark + len(MARK))
        yield from self._find_bare(segment, position, len(segment.text))

    def _read_marked(self, segment: _Unescaped, mark: int) -> NameCall | LostCall | None:
        """The call at an `embedding:`. None if there is none and it has no word after it."""
        first = mark + len(MARK)
        rest = segment.text[first:]
        words = rest.split()
        is_seen = mark == 0 or segment.text[mark - 1] in " \n"
        if is_seen and words:
            for word in dict.fromkeys((words[0], words[0].strip(","))):
                if word and (file := self._find_file(word)) is not None:
                    start = first + rest.index(words[0]) + words[0].index(word)
                    return NameCall(mark, start + len(word), word, file, is_marked=True)
        if self._which is not Names.COMFYUI:
            ids = self._tokenizer.encode(rest)
            match = self._names.find(ids, 0) if ids else None
            span = TokenizedText(rest, self._tokenizer).find_span(0, match[1]) if match else None
            if match and span and not rest[: span[0]].strip():
                return NameCall(mark, first + span[1], match[0], is_marked=True)
        if not words:
            return None
        return LostCall(mark, first + rest.index(words[0]) + len(words[0]), words[0].strip(","), words[0])

    def _find_bare(self, segment: _Unescaped, start: int, end: int) -> Iterator[NameCall]:
        """The names without `embedding:` in a part of a segment."""
        text = segment.text[start:end]
        if self._which is not Names.BARE or not text.strip():
            return
        ids = self._tokenizer.encode(text)
        matches = list(_find_all(ids, self._names))
        if not matches:
            return
        tokenized = TokenizedText(text, self._tokenizer)
        for first, length, name in matches:
            span = tokenized.find_span(first, first + length)
            if span is not None:
                yield segment.shift(NameCall(start + span[0], start + span[1], name))


def _find_all(ids: Sequence[int], names: EmbeddingNames) -> Iterator[tuple[int, int, str]]:
    """(first token, number of tokens, name) of each name in a text, as web UIs find them."""
    position = 0
    while position < len(ids):
        match = names.find(ids, position)
        if match is None:
            position += 1
            continue
        yield position, match[1], match[0]
        position += match[1]


def _split_at_brackets(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the runs of text between brackets that mean weights."""
    start = 0
    for match in _BRACKETS.finditer(text):
        if match[0].startswith("\\"):
            continue
        if start < match.start():
            yield start, match.start()
        start = match.end()
    if start < len(text):
        yield start, len(text)


class _Unescaped:
    """A run of text without the backslashes before its brackets. text: the run."""

    def __init__(self, whole: str, start: int, end: int) -> None:
        kept: list[str] = []
        self._offsets: list[int] = []
        position = start
        while position < end:
            first = position
            if whole.startswith(("\\(", "\\)"), position, end):
                position += 1
            kept.append(whole[position])
            self._offsets.append(first)
            position += 1
        self._offsets.append(end)
        self.text = "".join(kept)

    def shift(self, call: _Call) -> _Call:
        """The call with its place in the whole text."""
        return replace(call, start=self._offsets[call.start], end=self._offsets[call.end])
