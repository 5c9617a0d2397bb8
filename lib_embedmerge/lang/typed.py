"""Rewrite what a user types as a source, after reading it as a web UI reads a prompt.

To the language a prompt is its characters (source.py). A web UI also knows attention brackets, escapes, tags of extra
networks and comments. `read_typed` removes or rewrites these, so that an embedding gets the tokens that a web UI would
give to the same prompt. The rewritten source is shown, built and kept as the recipe. A recipe is never rewritten again,
so its meaning never changes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lib_embedmerge.errors import ExpressionError, quote
from lib_embedmerge.lang.choices import Attention, ReadAs
from lib_embedmerge.lang.nodes import PromptText
from lib_embedmerge.lang.parser import parse_expression
from lib_embedmerge.lang.source import Source, check_length, parse, parse_prompt, read_prompt

if TYPE_CHECKING:
    from lib_embedmerge.lang.lookalikes import LikelyMeaning

_ESCAPES = {ord(character): f"\\{character}" for character in "()[]\\"}

_REWRITTEN = re.compile(r"[()\[\]\\#]|<\w+:")
"""Matches every prompt in which something would be rewritten."""

_IN_QUOTES = re.compile(
    r"\\[()\[\]\\]|\([^()]*:\s*[+-]?[.\d]+\s*\)|\(\(|\[\[|<\w+:[^>]+>|\bembedding:\S+|\{[^{}]*\|[^{}]*\}|__[\w/*-]+__"
    r"|\[[^\[\]]*(?::\s*[+-]?[.\d]+\s*|\|[^\[\]]*)\]"
)


@dataclass(frozen=True)
class Typed:
    """A text as typed, and the source for it.

    source: in the language; equal to `typed` if nothing had to be rewritten.
    kind: how the text is read. The source for a prompt is an expression if the prompt has to be in quotes.
    remarks: what was rewritten, one sentence each.
    meant: the expression that a prompt looks like, or None if it does not look like one.
    """

    typed: str
    source: str
    kind: Literal["expression", "prompt"] = "prompt"
    remarks: tuple[str, ...] = ()
    meant: LikelyMeaning | None = None
    _offsets: tuple[tuple[int, int], ...] = field(default=(), repr=False, compare=False)

    @functools.cached_property
    def parsed(self) -> Source:
        """The source, parsed once. ExpressionError, with its place in `source`, if it cannot be read."""
        return parse(self.source)

    @property
    def is_rewritten(self) -> bool:
        """Whether the source differs from the typed text."""
        return self.source != self.typed

    @property
    def all_remarks(self) -> tuple[str, ...]:
        """All remarks for the user on how the text was read, one sentence each."""
        if self.meant is None:
            return self.remarks
        return (f"{self.meant.reason} Did you mean {self.meant.source} ?", *self.remarks)

    def find_place(self, offset: int) -> int:
        """The offset in the typed text for one in the source."""
        return _map_offset(offset, len(self.source), self.typed, self._offsets) if self.is_rewritten else offset

    def map_error(self, error: ExpressionError) -> ExpressionError:
        """The same error with its place in the typed text, if its place is in the rewritten source."""
        if not self.is_rewritten or error.source != self.source:
            return error
        mapped = _map_error(error, self.typed, self._offsets)
        if not self.source.strip() and self.remarks:
            mapped.hint = self.remarks[0]  # all of the text was removed
        return mapped


def _map_error(error: ExpressionError, typed: str, offsets: Sequence[tuple[int, int]]) -> ExpressionError:
    """An error in a rewritten text, with its place in the typed text instead.

    offsets: (offset in the rewritten text, offset of the same character in the typed text), ascending.
    """
    start, end = (
        _map_offset(offset or 0, len(error.source or ""), typed, offsets) for offset in (error.start, error.end)
    )
    return type(error)(
        error.message,
        source=typed,
        start=start,
        end=max(start, end),
        expected=error.expected,
        hint=error.hint,
        remedy=error.remedy,
    )


def _map_offset(offset: int, length: int, typed: str, offsets: Sequence[tuple[int, int]]) -> int:
    """The offset in the typed text for an offset in a rewritten text of this length."""
    if offset >= length:
        return len(typed)
    rewritten_start, typed_start = max((pair for pair in offsets if pair[0] <= offset), default=(0, 0))
    return min(typed_start + offset - rewritten_start, len(typed))


def read_typed(typed: str, attention: Attention = "drop", read_as: ReadAs = "auto") -> Typed:
    """Read a typed text as a web UI reads a prompt, or as an expression, and write it as a source.

    attention: what to do with attention brackets.  read_as: whether it is an expression or a prompt.
    ExpressionError, with its place in `typed`, for the first mistake.
    """
    check_length(typed)
    if read_as == "expression":
        parse_expression(typed)
        return Typed(typed, typed, "expression", _find_remarks_on_quotes(parse(typed)))
    read = parse_prompt(typed) if read_as == "prompt" else parse(typed)
    if read.kind == "expression":
        return Typed(typed, typed, "expression", _find_remarks_on_quotes(read))
    meant = _find_likely_meaning(typed) if read_as == "auto" else None
    if attention == "keep":
        return _quote_if_expression(Typed(typed, typed, "prompt", _find_remarks_on_quotes(read), meant))
    return _rewrite(typed, attention, meant)


def _find_likely_meaning(prompt: str) -> LikelyMeaning | None:
    from lib_embedmerge.lang.lookalikes import find_likely_meaning  # expressions do without this module

    return find_likely_meaning(prompt)


def as_typed(source: str) -> str:
    """The text that a user would type to get this source, such as a recipe: `read_typed` gives the source again."""
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
        return parse(typed).kind == "prompt" and _rewrite(typed, "drop", None).source == source
    except ExpressionError:
        return False


def escape_prompt(prompt: str) -> str:
    """A prompt of the language as a user types it into a web UI: with a backslash before each bracket and backslash.

    Inline expressions stay as they are.
    """
    return "".join(
        part.text.translate(_ESCAPES) if isinstance(part, PromptText) else prompt[part.start : part.end]
        for part in read_prompt(prompt)
    )


def _quote_if_expression(prompt: Typed) -> Typed:
    """A prompt whose source is put in quotes if it would be read as an expression."""
    if _find_kind(prompt.source) == "prompt":
        return prompt
    source = parse_prompt(prompt.source).as_expression()
    return Typed(prompt.typed, source, "prompt", (*prompt.remarks, _QUOTED), prompt.meant)


def _find_kind(source: str) -> str:
    """How `parse` reads a source; one with a mistake counts as an expression."""
    try:
        return parse(source).kind
    except ExpressionError:
        return "expression"


def _rewrite(typed: str, attention: Attention, meant: LikelyMeaning | None) -> Typed:
    """Read a typed text as a web UI reads a prompt, and write it as a source, with remarks on the changes."""
    from lib_embedmerge.lang.attention import read_attention  # expressions do without these modules
    from lib_embedmerge.lang.rewriting import Writer, remove_tags_and_comments

    plain, networks, comments = remove_tags_and_comments(typed)
    try:
        read = parse_prompt(plain.text)
        weighted = read_attention(plain.text, read.parts)
        writer = Writer(plain)
        for run in weighted.runs:
            writer.write(run, scale=attention == "scale")
    except ExpressionError as error:
        raise _map_error(error, typed, plain.offsets) from error
    source, offsets = writer.result()
    remarks: list[str] = []
    if _find_kind(source) == "expression":
        remarks.append(_QUOTED)
    if weighted.brackets:
        remarks.append(_SCALED if attention == "scale" else _DROPPED)
    if weighted.escapes:
        first = weighted.escapes[0].rstrip("\r\n")
        remarks.append(f"Backslashes were removed, as web UIs do: {first} is read as {first[1:] or 'nothing'}.")
    calls = [tag for tag in networks if tag.startswith("<embed:")]
    if others := [tag for tag in networks if tag not in calls]:
        remarks.append(f"Removed {_list_first(others)}: extra networks such as LoRA cannot be part of an embedding.")
    if calls:
        remarks.append(
            f"Removed {_list_first(calls)}: only SwarmUI calls an embedding like this; here write the name alone."
        )
    if comments:
        remarks.append(
            f"Removed {_list_first(comments)}: web UIs ignore text from # to the end of the line as a comment."
        )
    remarks += _find_remarks_on_quotes(read)
    return Typed(typed, source, "prompt", tuple(remarks), meant, offsets)


_QUOTED = "This is built as a prompt. Its recipe shows the same text in quotes."
_DROPPED = (
    "Attention brackets and weights were removed: an embedding cannot hold attention. Write (name:1.2) in a prompt "
    "instead."
)
_SCALED = (
    "Attention was replaced by multiplication. The effect differs: attention acts after the text encoder, "
    "multiplication before it."
)


def _list_first(removed: Sequence[str]) -> str:
    """The first three of some removed texts, for a remark."""
    shown = ", ".join(text.strip()[:40] for text in removed[:3])
    return shown + (", …" if len(removed) > 3 else "")


def _find_remarks_on_quotes(read: Source) -> tuple[str, ...]:
    """A remark on the first syntax in quotes that would act in a prompt outside of them; empty if there is none."""
    texts = (text for node in read.expressions for text in Source("expression", "", (node,)).texts())
    syntax = next((match[0] for match in map(_IN_QUOTES.search, texts) if match), None)
    if syntax is None:
        return ()
    return (
        f"{quote(syntax[:40])} is inside quotes, where every character is read as it is. Nothing was changed there.",
    )
