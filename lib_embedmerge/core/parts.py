"""A source taken apart for people: by prompt part, comma, word, token or vector, with token ids. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.groupings import Grouping
from lib_embedmerge.core.outline import Outline, Outliner
from lib_embedmerge.core.ports import Tokenizer
from lib_embedmerge.core.texts import EmbeddingRun
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import (
    BrokenInline,
    Call,
    Inline,
    Modified,
    PromptText,
    Sum,
    Text,
)
from lib_embedmerge.lang.printer import print_expression
from lib_embedmerge.lang.source import Source

COMMA_BACKTRACK = 20
"""How far before a full chunk a comma may stand to be cut at: the web UIs' default of `comma_padding_backtrack`."""


@dataclass(frozen=True)
class Part:
    """Some neighbouring vectors of a source.

    kind: what they come from.  text: that text, expression or embedding name.
    ids: for each vector its token id, None where it is no token's.  first: place of the first vector, from 0.
    """

    kind: Literal["text", "embedding", "expression"]
    text: str
    ids: Outline
    first: int

    def as_json(self) -> dict[str, object]:
        """kind, text, ids, vectors (their number) and first."""
        return {
            "kind": self.kind,
            "text": self.text,
            "ids": list(self.ids),
            "vectors": len(self.ids),
            "first": self.first,
        }


def find_parts(source: Source, outliner: Outliner, by: Grouping = "parts") -> list[Part]:
    """The parts of a source in order. EvaluationError for what has no meaning on the outliner's model."""
    segments = list(_segments(source, outliner))
    tokenizer = outliner.texts.tokenizer
    if by == "parts":
        return segments
    if by == "none":
        return [_whole(segments)] if segments else []
    return [part for segment in segments for part in _split(segment, tokenizer, by)]


def find_cut_points(outline: Outline, segments: Sequence[Part], comma: int) -> list[tuple[int, int]]:
    """Where to cut a source's vectors into runs of at most MAX_VECTORS, as the web UIs cut prompts (A1111
    modules/sd_hijack_clip.py, tokenize_line).

    Where the next token would not fit and is no comma itself, behind a comma that stands near; else where the run is
    full. An embedding or inline expression goes as a whole into the next run.
    """
    whole = {place: part.first for part in segments if part.kind != "text" for place in _inside(part)}
    cuts, start = [], 0
    while len(outline) - start > MAX_VECTORS:
        end = start + MAX_VECTORS
        near = [place for place in range(end - COMMA_BACKTRACK, end) if outline[place] == comma]
        stop = near[-1] + 1 if near and outline[end] != comma else end
        stop = whole.get(stop, stop)
        stop = stop if stop > start else end
        cuts.append((start, stop))
        start = stop
    return [*cuts, (start, len(outline))]


def _inside(part: Part) -> range:
    """Where a cut would divide a part that fits one run."""
    return range(part.first + 1, part.first + len(part.ids)) if len(part.ids) <= MAX_VECTORS else range(0)


def _segments(source: Source, outliner: Outliner) -> Iterator[Part]:
    first = 0
    for node, outline in zip(source.nodes, outliner.outlines(source), strict=True):
        match node:
            case PromptText():
                yield from _text_segments(node, outliner, first)
            case Inline():
                yield Part("expression", print_expression(node.expression), outline, first)
            case Text() | Modified() | Sum() | Call():
                yield Part("expression", source.text.strip(), outline, first)
            case BrokenInline():
                pass
            case _:
                assert_never(node)
        first += len(outline)


def _text_segments(node: PromptText, outliner: Outliner, first: int) -> Iterator[Part]:
    for run in outliner.texts.runs(node.text):
        if isinstance(run, EmbeddingRun):
            (vectors, *_) = outliner.texts.embedding(run.name).vectors.values()
            part = Part("embedding", run.name, (None,) * len(vectors), first)
        else:
            part = Part("text", outliner.texts.tokenizer.decode(run.ids).strip(), run.ids, first)
        yield part
        first += len(part.ids)


def _whole(segments: list[Part]) -> Part:
    kinds = {segment.kind for segment in segments}
    kind = segments[0].kind if len(kinds) == 1 else "text"
    ids = tuple(token for segment in segments for token in segment.ids)
    return Part(kind, " ".join(segment.text for segment in segments), ids, 0)


def _split(segment: Part, tokenizer: Tokenizer, by: Grouping) -> list[Part]:
    if by == "vectors":
        return [_taken(segment, place, place + 1, tokenizer) for place in range(len(segment.ids))]
    if segment.kind != "text":
        return [segment]
    ids = [token for token in segment.ids if token is not None]
    if by == "tokens":
        ends = list(accumulate(map(len, tokenizer.groups(ids))))
        return [_taken(segment, start, end, tokenizer) for start, end in pairwise([0, *ends])]
    if by == "words":
        ends = [place + 1 for place, token in enumerate(ids) if tokenizer.ends_word(token)]
        return [_taken(segment, start, end, tokenizer) for start, end in pairwise(sorted({0, *ends, len(ids)}))]
    commas = [place for place, token in enumerate(ids) if token == tokenizer.comma_id]
    edges = pairwise([-1, *commas, len(ids)])
    return [_taken(segment, start + 1, end, tokenizer) for start, end in edges if start + 1 < end]


def _taken(segment: Part, start: int, end: int, tokenizer: Tokenizer) -> Part:
    """The vectors start..end of a segment as a part of their own."""
    ids = segment.ids[start:end]
    known = [token for token in ids if token is not None]
    text = tokenizer.decode(known).strip() if len(known) == len(ids) else segment.text
    return replace(segment, text=text, ids=ids, first=segment.first + start)
