r"""Read the attention brackets of a prompt by the web UIs' own grammar.

The grammar is defined by `parse_prompt_attention` in AUTOMATIC1111's modules/prompt_parser.py, which Forge, reForge and
related web UIs share: `(x)` multiplies the weight of x by 1.1, `[x]` divides it by 1.1, `(x:1.2)` multiplies it by 1.2;
`\( \) \[ \] \\` are those characters themselves, any other backslash is dropped; a bracket that is never closed extends
to the end. Brackets of prompt editing, `[a:b:0.5]` and `[a|b]`, mean something else: a web UI reads them first
(`get_learned_conditioning_prompt_schedules` there), and here they stay as typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptPart, PromptText

MAX_DEPTH = 100
"""How deep attention may nest: far deeper than anyone needs. Each level costs a walk through its content."""

_ROUND, _SQUARE = 1.1, 1 / 1.1

_MARK = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_NUMBER_AT_END = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*")
_BREAK_AT_END, _BREAK_AT_START = re.compile(r"\bBREAK\Z"), re.compile(r"BREAK\b")
_BRACKET_OR_MARK = re.compile(r"\\.|\\|[()\[\]|:]")


@dataclass(frozen=True)
class Piece:
    """A part of a run: a text without attention brackets and escapes, or an inline expression with its brackets.

    start: its offset in the prompt, in characters.  is_expression: whether it is an inline expression.
    """

    text: str
    start: int
    is_expression: bool = False


@dataclass
class Run:
    """Neighbouring pieces with the same weight, which a web UI tokenizes as one text."""

    weight: float
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True)
class WeightedPrompt:
    """A prompt as a web UI reads it: runs of text with a weight each.

    runs: in the order of the prompt.  brackets: how many attention brackets were removed.
    escapes: the backslashes that were removed, each with the character after it.
    """

    runs: tuple[Run, ...]
    brackets: int
    escapes: tuple[str, ...]


def read_attention(prompt: str, parts: Sequence[PromptPart]) -> WeightedPrompt:
    """Read the attention brackets of a prompt. parts: the result of `read_prompt` for it, without broken expressions.

    ExpressionError, with its place in `prompt`, if a weight is not a number, such as `1.2.3`, or if brackets are nested
    too deep.
    """
    reader = _Reader(prompt, _mask_expressions(prompt, parts))
    for part in parts:
        match part:
            case Inline():
                reader.add(Piece(prompt[part.start : part.end], part.start, is_expression=True))
            case PromptText():
                reader.read(part.start, part.end)
            case BrokenInline():
                pass
            case _:
                assert_never(part)
    return reader.result()


def _mask_expressions(prompt: str, parts: Sequence[PromptPart]) -> str:
    """The prompt with each inline expression replaced by a word of the same length, as a web UI sees a name there."""
    return "".join(
        prompt[part.start : part.end] if isinstance(part, PromptText) else "x" * (part.end - part.start)
        for part in parts
    )


class _Reader:
    """Reads one prompt. For each open bracket it keeps the number of pieces before it."""

    def __init__(self, prompt: str, masked: str) -> None:
        """masked: the prompt with its inline expressions replaced by words of the same length."""
        self._prompt = prompt
        self._editing_ends = _find_editing_spans(masked)
        self._editing_end = 0
        self._pieces: list[tuple[Piece, float]] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}
        self._brackets = 0
        self._escapes: list[str] = []

    def read(self, start: int, end: int) -> None:
        """Read prompt[start:end], which holds no inline expression."""
        position = start
        while position < end:
            if position < self._editing_end or position in self._editing_ends:
                self._editing_end = max(self._editing_end, self._editing_ends.get(position, 0))
                stop = min(self._editing_end, end)
                self.add(Piece(self._prompt[position:stop], position))
                position = stop
            elif match := _MARK.match(self._prompt, position, end):
                # Prompt editing begins at a bracket, which ends a match of text, so no match reaches into it.
                self._read_mark(match)
                position = match.end()

    def add(self, piece: Piece) -> None:
        """Append a piece with the weight 1; brackets that are open now multiply it when they close."""
        self._pieces.append((piece, 1.0))

    def result(self) -> WeightedPrompt:
        """The whole prompt as read. Brackets that are still open end here."""
        for opening, factor in (("(", _ROUND), ("[", _SQUARE)):
            for first in self._open[opening]:
                self._multiply(first, factor)
        runs: list[Run] = []
        for piece, weight in self._pieces:
            if not piece.text:
                continue
            if not runs or runs[-1].weight != weight:
                runs.append(Run(weight))
            elif _needs_space_at_break(runs[-1].pieces[-1].text, piece.text):
                runs[-1].pieces.append(Piece(" ", piece.start))
            runs[-1].pieces.append(piece)
        return WeightedPrompt(tuple(runs), self._brackets, tuple(self._escapes))

    def _read_mark(self, match: re.Match[str]) -> None:
        text, weight = match[0], match[1]
        if text.startswith("\\"):
            self._escapes.append(self._prompt[match.start() : match.start() + 2])
            self.add(Piece(text[1:], match.start() + 1))
        elif text in self._open:
            self._brackets += 1
            self._open[text].append(len(self._pieces))
            self._check_depth(match.start())
        elif weight is not None and self._open["("]:
            self._close("(", self._parse_weight(match))
        elif text == ")" and self._open["("]:
            self._close("(", _ROUND)
        elif text == "]" and self._open["["]:
            self._close("[", _SQUARE)
        else:
            self.add(Piece(text, match.start()))

    def _check_depth(self, position: int) -> None:
        if len(self._open["("]) + len(self._open["["]) > MAX_DEPTH:
            raise ExpressionError(
                f"Brackets are nested more than {MAX_DEPTH} levels deep.",
                source=self._prompt,
                start=position,
                end=position + 1,
                expected="fewer brackets inside brackets, or a weight such as (x:1.5)",
            )

    def _close(self, opening: str, factor: float) -> None:
        self._brackets += 1
        self._multiply(self._open[opening].pop(), factor)

    def _multiply(self, first: int, factor: float) -> None:
        for index in range(first, len(self._pieces)):
            piece, weight = self._pieces[index]
            self._pieces[index] = piece, weight * factor

    def _parse_weight(self, match: re.Match[str]) -> float:
        try:
            return float(match[1])
        except ValueError:
            raise ExpressionError(
                f"{match[1][:20]} is not a weight.",
                source=self._prompt,
                start=match.start(1),
                end=match.end(1),
                expected="a number such as 1.2 or -0.5",
                hint=r"To use these brackets as plain characters, write \( and \).",
            ) from None


def _needs_space_at_break(before: str, after: str) -> bool:
    """Whether the word BREAK, at the end of `before` or the start of `after`, would join a word of the other text.

    A web UI recognises BREAK only as a word of its own.
    """
    return bool(
        (_BREAK_AT_END.search(before) and after[0].isalnum()) or (_BREAK_AT_START.match(after) and before[-1].isalnum())
    )


def _find_editing_spans(prompt: str) -> dict[int, int]:
    """Start -> end of each outermost `[...]` of prompt editing or alternation, as offsets in characters.

    Empty if a web UI cannot parse the prompt as a whole, because then it edits nothing.
    """
    spans: list[tuple[int, int]] = []
    stack: list[_Bracket] = []
    for match in _BRACKET_OR_MARK.finditer(prompt):
        mark = match[0]
        if mark in "([":
            stack.append(_Bracket(mark, match.start()))
        elif mark in ")]" and stack and stack[-1].kind + mark in ("()", "[]"):
            bracket = stack.pop()
            if bracket.has_bar and not bracket.is_alternation:
                return {}
            if bracket.is_alternation or bracket.is_timed(prompt, match.start()):
                _keep_outermost(spans, (bracket.start, match.end()))
            else:
                _mark_odd(stack if len(bracket.colons) > (mark == ")") else [])
        elif mark in ")]":
            _mark_odd(stack)
        elif mark in ":|" and stack:
            stack[-1].add(mark, match.end())
        elif mark in ("|", "\\"):
            return {}
    return {} if any(bracket.has_bar for bracket in stack) else dict(spans)


@dataclass
class _Bracket:
    """An open bracket and the marks in it, without those in inner brackets.

    kind: `(` or `[`.  start: its offset.  has_bar: whether `|` is in it.  colons: the offset after each colon in it.
    is_odd: whether brackets inside it do not match, or have colons without a meaning.
    """

    kind: str
    start: int
    has_bar: bool = False
    colons: list[int] = field(default_factory=list)
    is_odd: bool = False

    def add(self, mark: str, end: int) -> None:
        """Record a colon or bar inside the bracket. end: the offset after it."""
        if mark == "|":
            self.has_bar = True
        else:
            self.colons.append(end)

    @property
    def is_alternation(self) -> bool:
        """Whether this is alternation, `[a|b]`."""
        return self.has_bar and self.kind == "[" and not self.colons and not self.is_odd

    def is_timed(self, prompt: str, end: int) -> bool:
        """Whether this is prompt editing, `[a:b:0.5]` or `[a:0.5]`. end: the offset of its closing bracket."""
        if self.kind != "[" or self.is_odd or len(self.colons) not in (1, 2):
            return False
        return _NUMBER_AT_END.fullmatch(prompt, self.colons[-1], end) is not None


def _keep_outermost(spans: list[tuple[int, int]], span: tuple[int, int]) -> None:
    """Append a span and remove the spans inside it, which are the last ones."""
    while spans and spans[-1][0] > span[0]:
        spans.pop()
    spans.append(span)


def _mark_odd(stack: list[_Bracket]) -> None:
    for bracket in stack:
        bracket.is_odd = True
