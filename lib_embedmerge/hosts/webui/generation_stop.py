"""What a web UI is told when a prompt cannot be used: one sentence for its page, the place for its API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from fastapi.exceptions import HTTPException

from lib_embedmerge.errors import EmbedMergeError, ExpressionError, escape_unprintable
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt

_FIELDS = {
    False: {"prompt": "prompt", "hr_prompt": "hires prompt"},
    True: {"negative_prompt": "negative prompt", "hr_negative_prompt": "hires negative prompt"},
}
"""Whether negative -> the API's name of a prompt -> its name for people."""

_SHOWN = 60

_HALF = re.compile("[\ud800-\udfff]")


class EmbedMerge(HTTPException):
    """Stops a generation. Pages show it as `EmbedMerge: text`, hence its name.

    The API answers 422, without a trace in the log since this is an HTTPException.

    detail: for the API: message, field (prompt, negative_prompt, hr_prompt or hr_negative_prompt), source (that prompt
        as typed), start and end in it, expected and hint. Where nobody typed it, field is None and source is what would
        have been encoded; field, source, start and end are None where there is no place.
    """

    is_mistake_in_prompt = True
    """For those who must know it without importing this (console.py)."""

    def __init__(self, text: str, detail: dict[str, object]) -> None:
        super().__init__(422, detail)
        self.text = text

    def __str__(self) -> str:
        return self.text


def stop_in_prompt(error: ExpressionError, part: Inline | BrokenInline, p: Any, *, negative: bool) -> EmbedMerge:
    """A mistake in a prompt of `p`, a StableDiffusionProcessing, placed in what the user typed."""
    encoded = error.source or ""
    text = encoded[part.start : part.end]
    for field, title, typed in _typed(p, negative=negative):
        if text in typed:
            return _placed(error, text, _Where(field, title, typed, typed.find(text) - part.start))
    if found := _begun(text, p, negative=negative):
        where, typed_part = found
        return _placed(typed_part.error, where.typed[typed_part.start : typed_part.end], where)
    # A style, a wildcard or another extension wrote it.
    return _placed(error, text, _Where(None, "negative prompt" if negative else "prompt", encoded))


def stop_in_other_text(error: ExpressionError, part: Inline | BrokenInline) -> EmbedMerge:
    """A mistake in a text that another extension has encoded."""
    encoded = error.source or ""
    where = _Where(None, "text that another extension encodes", encoded)
    return _placed(error, encoded[part.start : part.end], where)


@dataclass(frozen=True)
class _Where:
    """A prompt that has a mistake. field: None where nobody typed it.  shift: from places in the error to its own."""

    field: str | None
    title: str
    typed: str
    shift: int = 0


def _begun(text: str, p: Any, *, negative: bool) -> tuple[_Where, BrokenInline] | None:
    """The typed beginning of an expression: one that is never closed goes on through a style behind it, or through the
    place that a LoRA was taken out of."""
    best, length = None, text.find("'")
    for field, title, typed in _typed(p, negative=negative):
        for part in read_prompt(typed):
            alike = _alike(typed[part.start :], text)
            if isinstance(part, BrokenInline) and alike > length:
                best, length = (_Where(field, title, typed), part), alike
    return best


def _alike(one: str, other: str) -> int:
    """How many characters at the beginning are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _placed(error: ExpressionError, text: str, where: _Where) -> EmbedMerge:
    start, end = (error.start or 0) + where.shift, (error.end or 0) + where.shift
    error = type(error)(
        error.message, source=where.typed, start=start, end=end, expected=error.expected, hint=error.hint
    )
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    place = f"character {start + 1} of the {where.title}, in {escape_unprintable(shown)}"
    return _told(error, place, {"field": where.field, "source": where.typed})


def stop_without_place(error: EmbedMergeError) -> EmbedMerge:
    """A fault without a place: there is no model that expressions have a meaning on."""
    return _told(error, "an inline expression", {"field": None, "source": None})


def _told(error: EmbedMergeError, place: str, where: dict[str, object]) -> EmbedMerge:
    text = f"{escape_unprintable(error.message)} (At {place}.)" + (
        f" {escape_unprintable(error.hint)}" if error.hint else ""
    )
    fields = error.as_json() | where
    # Half of a surrogate pair, which JSON can bring, cannot be sent back.
    sent = {key: _HALF.sub("\N{REPLACEMENT CHARACTER}", f) if isinstance(f, str) else f for key, f in fields.items()}
    return EmbedMerge(text, sent)


def _typed(p: Any, *, negative: bool) -> Iterator[tuple[str, str, str]]:
    """(field, title, text) of the prompts as the user typed them; styles are not in them yet."""
    for field, title in _FIELDS[negative].items():
        given = getattr(p, field, None)
        for text in given if isinstance(given, list) else [given]:
            if isinstance(text, str):
                yield field, title, text
