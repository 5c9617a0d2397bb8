"""The exception that stops a generation if a prompt has a mistake: a sentence for the page, details for the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from fastapi.exceptions import HTTPException

from lib_embedmerge.errors import EmbedMergeError, ExpressionError
from lib_embedmerge.hosts.mistake_sentences import describe_position, make_sentence
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import read_prompt

_FIELDS = {
    False: {"prompt": "prompt", "hr_prompt": "hires prompt", "refiner_prompt": "refine prompt"},
    True: {
        "negative_prompt": "negative prompt",
        "hr_negative_prompt": "hires negative prompt",
        "refiner_negative": "refine negative prompt",
    },
}
"""Whether the prompt is negative -> name of each such prompt in the API -> its name for people. SD.Next's
`refiner_prompt` is for hires fix and the refiner."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class EmbedMerge(HTTPException):
    """Stops a generation. Web UIs show the class's name and the text, `EmbedMerge: text`, hence the name.

    The API answers with status 422, and writes no traceback to the log because this is an HTTPException.

    text: the mistake and its position, for the page.
    detail: for the API: message, field (a key of _FIELDS), source (that prompt
        as typed), start and end in it, expected and hint. If the user typed it in none of these prompts, field is None
        and source is the text that would have been encoded. If the mistake has no position, field, source, start and
        end are None.
    """

    is_mistake_in_prompt = True
    """Identifies the class for modules that do not import it, because it needs fastapi (console.py)."""

    def __init__(self, text: str, detail: dict[str, object]) -> None:
        super().__init__(422, detail)
        self.text = text

    def __str__(self) -> str:
        return self.text


def make_stop_in_prompt(error: ExpressionError, part: Inline | BrokenInline, p: Any, *, negative: bool) -> EmbedMerge:
    """The exception for a mistake in a prompt, with its position in the prompt as the user typed it.

    error, part: the mistake and the part of the encoded prompt that has it.
    p: the StableDiffusionProcessing with the typed prompts.  negative: whether it is in a negative prompt.
    """
    encoded = error.source or ""
    text = encoded[part.start : part.end]
    for field, title, typed in _read_typed_prompts(p, negative=negative):
        if text in typed:
            return _make_stop_at(error, text, _TypedPrompt(field, title, typed, typed.find(text) - part.start))
    if unclosed := _find_unclosed(text, p, negative=negative):
        prompt, typed_part = unclosed
        return _make_stop_at(typed_part.error, prompt.text[typed_part.start : typed_part.end], prompt)
    # A style, a wildcard or another extension wrote it.
    return _make_stop_at(error, text, _TypedPrompt(None, "negative prompt" if negative else "prompt", encoded))


def make_stop_in_other_text(error: ExpressionError, part: Inline | BrokenInline) -> EmbedMerge:
    """The exception for a mistake in a text that another extension has the web UI encode."""
    encoded = error.source or ""
    prompt = _TypedPrompt(None, "text that another extension encodes", encoded)
    return _make_stop_at(error, encoded[part.start : part.end], prompt)


@dataclass(frozen=True)
class _TypedPrompt:
    """A prompt that has a mistake.

    field: its name in the API; None if the user did not type it.  title: its name for people.  text: as typed.
    shift: what to add to positions in the error to get positions in `text`.
    """

    field: str | None
    title: str
    text: str
    shift: int = 0


def _find_unclosed(text: str, p: Any, *, negative: bool) -> tuple[_TypedPrompt, BrokenInline] | None:
    """The typed prompt, and the part of it, that has the beginning of a broken expression; None if none has.

    An expression that is never closed continues in the text of a style that follows it, or after a LoRA that the web UI
    has removed, so the typed prompts do not contain it as a whole.
    text: the expression in the encoded prompt.
    """
    best, best_length = None, text.find("'")
    for field, title, typed in _read_typed_prompts(p, negative=negative):
        for part in read_prompt(typed):
            length = _count_common_characters(typed[part.start :], text)
            if isinstance(part, BrokenInline) and length > best_length:
                best, best_length = (_TypedPrompt(field, title, typed), part), length
    return best


def _count_common_characters(left: str, right: str) -> int:
    """Length of the longest common beginning of two texts."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def _make_stop_at(error: ExpressionError, text: str, prompt: _TypedPrompt) -> EmbedMerge:
    """The exception for a mistake at a position of a prompt. text: the mistaken expression."""
    start, end = (error.start or 0) + prompt.shift, (error.end or 0) + prompt.shift
    error = type(error)(
        error.message, source=prompt.text, start=start, end=end, expected=error.expected, hint=error.hint
    )
    position = describe_position(start, prompt.title, text)
    return _make_stop(error, position, {"field": prompt.field, "source": prompt.text})


def make_stop_without_place(error: EmbedMergeError) -> EmbedMerge:
    """The exception for a fault that has no position, for example that no usable model is loaded."""
    return _make_stop(error, "an inline expression", {"field": None, "source": None})


def _make_stop(error: EmbedMergeError, position: str, fields: dict[str, object]) -> EmbedMerge:
    """The exception for an error. position: for the text.  fields: what to add to the error's JSON."""
    text = make_sentence(error, position)
    detail = {
        # Half of a surrogate pair can arrive in JSON, but cannot be sent.
        key: _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value
        for key, value in (error.as_json() | fields).items()
    }
    return EmbedMerge(text, detail)


def _read_typed_prompts(p: Any, *, negative: bool) -> Iterator[tuple[str, str, str]]:
    """(field, title, text) of each prompt as the user typed it, without the texts of styles."""
    for field, title in _FIELDS[negative].items():
        value = getattr(p, field, None)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield field, title, text
