"""Take a source apart for people: by prompt part, comma, word, token or vector, with token ids. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import PartAnswer

COMMA_BACKTRACK = 20
"""The last comma among so many tokens at the end of a full chunk is where the chunk is cut: the web UIs' default of
`comma_padding_backtrack`."""


@dataclass(frozen=True)
class Part:
    """Some neighbouring vectors of a source.

    kind: what they come from.  text: the text, name of the embedding, or expression.
    ids: for each vector its token id, or None if it is not that of a single token.
    first: index of the first vector in the source, from 0.
    """

    kind: Literal["text", "embedding", "expression"]
    text: str
    ids: Outline
    first: int

    def as_json(self) -> PartAnswer:
        """kind, text, ids, vectors (their number) and first."""
        return {
            "kind": self.kind,
            "text": self.text,
            "ids": list(self.ids),
            "vectors": len(self.ids),
            "first": self.first,
        }


def find_parts(source: Source, outliner: Outliner, by: Grouping = "parts") -> list[Part]:
    """The parts of a source in order. EvaluationError if the source has no meaning on the outliner's model.

    by: how to group the vectors. With `comma`, the commas between the parts are left out.
    """
    segments = list(_find_segments(source, outliner))
    tokenizer = outliner.texts.tokenizer
    if by == "parts":
        return segments
    if by == "none":
        return [_merge_segments(segments)] if segments else []
    return [part for segment in segments for part in _split_segment(segment, tokenizer, by)]


def join_outline(segments: Sequence[Part]) -> Outline:
    """The outline of a source: the token ids of all its parts."""
    return tuple(token for segment in segments for token in segment.ids)


def find_cut_points(segments: Sequence[Part], comma: int) -> list[tuple[int, int]]:
    """Cut the vectors of a source into runs of at most MAX_VECTORS: (start, end) of each run, as indices of vectors.

    The cuts are those of the web UIs (A1111 modules/sd_hijack_clip.py, tokenize_line): after the last comma near the
    end of a full run, unless the next token is a comma itself; else after the full run. An embedding or inline
    expression is not divided but goes into the next run, if one run can hold it.
    segments: the result of `find_parts` by parts.  comma: token id of the comma.
    """
    outline = join_outline(segments)
    starts = {index: part.first for part in segments if part.kind != "text" for index in _find_inner_indices(part)}
    cuts, start = [], 0
    while len(outline) - start > MAX_VECTORS:
        end = start + MAX_VECTORS
        commas = [index for index in range(end - COMMA_BACKTRACK, end) if outline[index] == comma]
        stop = commas[-1] + 1 if commas and outline[end] != comma else end
        stop = starts.get(stop, stop)
        stop = stop if stop > start else end
        cuts.append((start, stop))
        start = stop
    return [*cuts, (start, len(outline))]


def _find_inner_indices(part: Part) -> range:
    """The indices at which a cut would divide a part; none if the part does not fit into one run."""
    return range(part.first + 1, part.first + len(part.ids)) if len(part.ids) <= MAX_VECTORS else range(0)


def _find_segments(source: Source, outliner: Outliner) -> Iterator[Part]:
    first = 0
    for node, outline in zip(source.nodes, outliner.outlines(source), strict=True):
        match node:
            case PromptText():
                yield from _find_text_segments(node, outliner, first)
            case Inline():
                yield Part("expression", print_expression(node.expression), outline, first)
            case Text() | Modified() | Sum() | Call():
                yield Part("expression", source.text.strip(), outline, first)
            case BrokenInline():
                pass
            case _:
                assert_never(node)
        first += len(outline)


def _find_text_segments(node: PromptText, outliner: Outliner, first: int) -> Iterator[Part]:
    for run in outliner.texts.runs(node.text):
        if isinstance(run, EmbeddingRun):
            (vectors, *_) = outliner.texts.embedding(run.name).vectors.values()
            part = Part("embedding", run.name, (None,) * len(vectors), first)
        else:
            part = Part("text", outliner.texts.tokenizer.decode(run.ids).strip(), run.ids, first)
        yield part
        first += len(part.ids)


def _merge_segments(segments: list[Part]) -> Part:
    """All segments of a source as one part, which is a text if they are of several kinds."""
    kinds = {segment.kind for segment in segments}
    kind = segments[0].kind if len(kinds) == 1 else "text"
    ids = tuple(token for segment in segments for token in segment.ids)
    return Part(kind, " ".join(segment.text for segment in segments), ids, 0)


def _split_segment(segment: Part, tokenizer: Tokenizer, by: Grouping) -> list[Part]:
    if by == "vectors":
        return [_cut_segment(segment, index, index + 1, tokenizer) for index in range(len(segment.ids))]
    if segment.kind != "text":
        return [segment]
    ids = [token for token in segment.ids if token is not None]
    if by == "tokens":
        ends = list(accumulate(map(len, tokenizer.groups(ids))))
        return [_cut_segment(segment, start, end, tokenizer) for start, end in pairwise([0, *ends])]
    if by == "words":
        ends = [index + 1 for index, token in enumerate(ids) if tokenizer.ends_word(token)]
        return [_cut_segment(segment, start, end, tokenizer) for start, end in pairwise(sorted({0, *ends, len(ids)}))]
    commas = [index for index, token in enumerate(ids) if token == tokenizer.comma_id]
    edges = pairwise([-1, *commas, len(ids)])
    return [_cut_segment(segment, start + 1, end, tokenizer) for start, end in edges if start + 1 < end]


def _cut_segment(segment: Part, start: int, end: int, tokenizer: Tokenizer) -> Part:
    """The vectors [start:end] of a segment as a part. Its text is that of the tokens, if all vectors are tokens."""
    ids = segment.ids[start:end]
    tokens = [token for token in ids if token is not None]
    text = tokenizer.decode(tokens).strip() if len(tokens) == len(ids) else segment.text
    return replace(segment, text=text, ids=ids, first=segment.first + start)
