"""Where in a prompt each of its tokens is."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.core.parts import Part
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import Source


def find_token_spans(source: Source, parts: Sequence[Part]) -> list[tuple[int, int]]:
    """(start, end) in the text of a source for each of its parts by tokens, which `find_parts` gives.

    A token is found by its letters, after the one before it. A token whose letters are not there as they are, because
    the tokenizer repaired them, gets an empty span where it would be. What an expression gives has the span of the
    expression.
    """
    text = "".join(character.lower() if len(character.lower()) == 1 else character for character in source.text)
    inline = iter([(node.start, node.end) for node in source.nodes if isinstance(node, Inline)])
    spans: list[tuple[int, int]] = []
    at = 0
    for part in parts:
        if part.kind == "expression" and source.kind == "prompt":
            span = next(inline, (at, at))
        elif part.kind == "expression":
            span = 0, len(source.text)
        else:
            start = text.find(part.text.lower(), at) if part.text else -1
            span = (at, at) if start < 0 else (start, start + len(part.text))
        spans.append(span)
        at = span[1] if part.kind != "expression" or source.kind == "prompt" else 0
    return spans
