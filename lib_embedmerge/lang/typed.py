"""The step in front of the language: what a user types is read as a web UI reads a prompt, and written as a source.

To the language a prompt is its characters (source.py). A web UI reads more into them: attention brackets, escapes,
tags of extra networks, comments. `read_typed` undoes or rewrites these, so that an embedding gets the tokens that a web
UI would give to the same prompt. The rewritten source is what is shown, built and kept as the recipe: a recipe is never
rewritten, so it never changes its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lib_embedmerge.errors import ExpressionError, quote
from lib_embedmerge.lang.attention import read_attention
from lib_embedmerge.lang.choices import Attention, ReadAs
from lib_embedmerge.lang.lookalikes import LikelyMeaning, find_likely_meaning
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.parser import parse_expression
from lib_embedmerge.lang.rewriting import Writer, remove_what_is_never_encoded
from lib_embedmerge.lang.source import Source, check_length, parse, parse_prompt, read_prompt

_ESCAPES = {ord(character): f"\\{character}" for character in "()[]\\"}

_REWRITTEN = re.compile(r"[()\[\]\\#]|<\w+:")
"""What a prompt has where anything of it is rewritten."""

_IN_QUOTES = re.compile(
    r"\\[()\[\]\\]|\([^()]*:\s*[+-]?[.\d]+\s*\)|\(\(|\[\[|<\w+:[^>]+>|\bembedding:\S+|\{[^{}]*\|[^{}]*\}|__[\w/*-]+__"
    r"|\[[^\[\]]*(?::\s*[+-]?[.\d]+\s*|\|[^\[\]]*)\]"
)


@dataclass(frozen=True)
class Typed:
    """A text as it was typed, and the source that is built from it.

    source: in the language; equal to `typed` where nothing had to be rewritten.
    remarks: what was rewritten, one sentence each.
    meant: the expression that the text looks like although it is read as a prompt, None where it looks like none.
    kind: as what the text is read; the source of a prompt can be an expression, where it has to stand in quotes.
    """

    typed: str
    source: str
    kind: Literal["expression", "prompt"] = "prompt"
    remarks: tuple[str, ...] = ()
    meant: LikelyMeaning | None = None
    _places: tuple[tuple[int, int], ...] = field(default=(), repr=False, compare=False)

    @property
    def is_rewritten(self) -> bool:
        """Whether the source is another text than what was typed."""
        return self.source != self.typed

    @property
    def all_remarks(self) -> tuple[str, ...]:
        """What to tell the user of how the text was read, one sentence each."""
        if self.meant is None:
            return self.remarks
        return (f"{self.meant.reason} Did you mean {self.meant.source} ?", *self.remarks)

    def placed(self, error: ExpressionError) -> ExpressionError:
        """An error in the source as one in the text as typed, at the place that it comes from."""
        if not self.is_rewritten or error.source != self.source:
            return error
        placed = _placed(error, self.typed, self._places)
        if not self.source.strip() and self.remarks:
            placed.hint = self.remarks[0]  # all of it was removed
        return placed


def _placed(error: ExpressionError, typed: str, places: Sequence[tuple[int, int]]) -> ExpressionError:
    """An error in a text that was made of what was typed, at the place in that. places: (offset in it, offset in what
    was typed), in order."""
    start, end = (
        _typed_place(offset or 0, len(error.source or ""), typed, places) for offset in (error.start, error.end)
    )
    return type(error)(
        error.message, source=typed, start=start, end=max(start, end), expected=error.expected, hint=error.hint
    )


def _typed_place(offset: int, length: int, typed: str, places: Sequence[tuple[int, int]]) -> int:
    if offset >= length:
        return len(typed)
    ours, theirs = max((pair for pair in places if pair[0] <= offset), default=(0, 0))
    return min(theirs + offset - ours, len(typed))


def read_typed(typed: str, attention: Attention = "drop", read_as: ReadAs = "auto") -> Typed:
    """What a user typed, as a source. ExpressionError, with its place in `typed`, for the first mistake."""
    check_length(typed)
    if read_as == "expression":
        parse_expression(typed)
        return Typed(typed, typed, "expression", _remarks_on_quotes(parse(typed)))
    read = parse_prompt(typed) if read_as == "prompt" else parse(typed)
    if read.kind == "expression":
        return Typed(typed, typed, "expression", _remarks_on_quotes(read))
    meant = find_likely_meaning(typed) if read_as == "auto" else None
    if attention == "keep":
        return _as_prompt(Typed(typed, typed, "prompt", _remarks_on_quotes(read), meant))
    return _rewritten(typed, attention, meant)


def as_typed(source: str) -> str:
    """A source, such as a recipe, as it is typed to be read as that source again."""
    if not _REWRITTEN.search(source):
        return source
    try:
        read = parse(source)
    except ExpressionError:  # a file's recipe can be anything
        return source
    if read.kind == "expression":
        return source
    escaped = escape_prompt(source)
    return escaped if _is_read_as(escaped, source) else read.as_expression()


def _is_read_as(typed: str, source: str) -> bool:
    try:
        return parse(typed).kind == "prompt" and _rewritten(typed, "drop", None).source == source
    except ExpressionError:
        return False


def escape_prompt(prompt: str) -> str:
    """A prompt of the language as it is typed into a web UI: its brackets and backslashes with a backslash before."""
    return "".join(
        part.text.translate(_ESCAPES) if not isinstance(part, (Inline, BrokenInline)) else prompt[part.start : part.end]
        for part in read_prompt(prompt)
    )


def _as_prompt(found: Typed) -> Typed:
    """The same in quotes, where the source of a prompt opens as an expression does."""
    if _kind_of(found.source) == "prompt":
        return found
    source = parse_prompt(found.source).as_expression()
    return Typed(found.typed, source, "prompt", (*found.remarks, _QUOTED), found.meant)


def _kind_of(source: str) -> str:
    try:
        return parse(source).kind
    except ExpressionError:
        return "expression"


def _rewritten(typed: str, attention: Attention, meant: LikelyMeaning | None) -> Typed:
    plain, networks, comments = remove_what_is_never_encoded(typed)
    try:
        read = parse_prompt(plain.text)
        found = read_attention(plain.text, read.parts)
        writer = Writer(plain)
        for run in found.runs:
            writer.write(run, scale=attention == "scale")
    except ExpressionError as error:
        raise _placed(error, typed, plain.places) from error
    source, places = writer.result()
    remarks: list[str] = []
    if _kind_of(source) == "expression":
        remarks.append(_QUOTED)
    if found.brackets:
        remarks.append(_SCALED if attention == "scale" else _DROPPED)
    if found.escapes:
        first = found.escapes[0].rstrip("\r\n")
        remarks.append(f"Backslashes were removed, as web UIs do: {first} is read as {first[1:] or 'nothing'}.")
    calls = [tag for tag in networks if tag.startswith("<embed:")]
    if others := [tag for tag in networks if tag not in calls]:
        remarks.append(f"Removed {_listed(others)}: extra networks such as LoRA cannot be part of an embedding.")
    if calls:
        remarks.append(
            f"Removed {_listed(calls)}: only SwarmUI calls an embedding like this; here write the name alone."
        )
    if comments:
        remarks.append(f"Removed {_listed(comments)}: web UIs ignore text from # to the end of the line as a comment.")
    remarks += _remarks_on_quotes(read)
    return Typed(typed, source, "prompt", tuple(remarks), meant, places)


_QUOTED = "This is built as a prompt. Its recipe shows the same text in quotes."
_DROPPED = (
    "Attention brackets and weights were removed: an embedding cannot hold attention. Write (name:1.2) in a prompt "
    "instead."
)
_SCALED = (
    "Attention was replaced by multiplication. The effect differs: attention acts after the text encoder, "
    "multiplication before it."
)


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(text.strip()[:40] for text in found[:3])
    return shown + (", …" if len(found) > 3 else "")


def _remarks_on_quotes(read: Source) -> tuple[str, ...]:
    """What stands in the quotes of expressions and would mean something in a prompt."""
    texts = (text for node in read.expressions for text in Source("expression", "", (node,)).texts())
    found = next((match[0] for match in map(_IN_QUOTES.search, texts) if match), None)
    if found is None:
        return ()
    return (
        f"{quote(found[:40])} is inside quotes, where every character is read as it is. Nothing was changed there.",
    )
