r"""Attention brackets of a prompt, read by the web UIs' own grammar.

The grammar is that of `parse_prompt_attention` in AUTOMATIC1111's modules/prompt_parser.py, which Forge, reForge and
their kin share: `(x)` multiplies the weight of x by 1.1, `[x]` divides it by 1.1, `(x:1.2)` multiplies it by 1.2;
`\( \) \[ \] \\` are those characters themselves, any other backslash is dropped; a bracket that is never closed counts
to the end. Brackets of prompt editing, `[a:b:0.5]` and `[a|b]`, mean something else: a web UI reads these first
(`get_learned_conditioning_prompt_schedules` there), and here they stay as they are typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptPart, PromptText

MAX_DEPTH = 100
"""How deep attention may nest; far beyond use, and each level costs a walk through what stands inside."""

_ROUND, _SQUARE = 1.1, 1 / 1.1

_MARK = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_NUMBER_AT_END = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*")
_BREAK_AT_END, _BREAK_AT_START = re.compile(r"\bBREAK\Z"), re.compile(r"BREAK\b")
_TO_MATCH = re.compile(r"\\.|\\|[()\[\]|:]")


@dataclass(frozen=True)
class Piece:
    """A part of a run: a text without brackets and escapes, or an inline expression.

    start: where it begins in the prompt.  is_expression: whether it is one, with its brackets.
    """

    text: str
    start: int
    is_expression: bool = False


@dataclass
class Run:
    """Neighbouring pieces of one weight, which a web UI reads with its tokenizer as one text."""

    weight: float
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True)
class Attention:
    """A prompt as a web UI reads it.

    runs: in order.  brackets: how many attention brackets are in none of them.
    escapes: the backslashes that are in none of them, each with the character after it.
    """

    runs: tuple[Run, ...]
    brackets: int
    escapes: tuple[str, ...]


def read_attention(prompt: str, parts: Sequence[PromptPart]) -> Attention:
    """The runs of a prompt. parts: what `read_prompt` gives of it, without a broken one.

    ExpressionError, with its place in `prompt`, for a weight that is no number, such as `1.2.3`.
    """
    reader = _Reader(prompt, _without_expressions(prompt, parts))
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


def _without_expressions(prompt: str, parts: Sequence[PromptPart]) -> str:
    """The prompt with its expressions as words of as many characters: a web UI sees a name there."""
    return "".join(
        prompt[part.start : part.end] if isinstance(part, PromptText) else "x" * (part.end - part.start)
        for part in parts
    )


class _Reader:
    """One walk through a prompt. Brackets remember how many pieces stood before them."""

    def __init__(self, prompt: str, plain: str) -> None:
        """plain: the prompt with its expressions overwritten by other characters."""
        self._prompt = prompt
        self._editing = _editing_spans(plain)
        self._edited_until = 0
        self._pieces: list[tuple[Piece, float]] = []
        self._open: dict[str, list[int]] = {"(": [], "[": []}
        self._brackets = 0
        self._escapes: list[str] = []

    def read(self, start: int, end: int) -> None:
        """Read the text that stands at start..end of the prompt."""
        position = start
        while position < end:
            if position < self._edited_until or position in self._editing:
                self._edited_until = max(self._edited_until, self._editing.get(position, 0))
                stop = min(self._edited_until, end)
                self.add(Piece(self._prompt[position:stop], position))
                position = stop
            elif match := _MARK.match(self._prompt, position, end):
                # A text ends where prompt editing begins, which is at a bracket, so no match is cut.
                self._take(match)
                position = match.end()

    def add(self, piece: Piece) -> None:
        """Add a piece as it is."""
        self._pieces.append((piece, 1.0))

    def result(self) -> Attention:
        """What was read; brackets that are still open close here."""
        for opening, factor in (("(", _ROUND), ("[", _SQUARE)):
            for first in self._open[opening]:
                self._multiply(first, factor)
        runs: list[Run] = []
        for piece, weight in self._pieces:
            if not piece.text:
                continue
            if not runs or runs[-1].weight != weight:
                runs.append(Run(weight))
            elif _parts_at_break(runs[-1].pieces[-1].text, piece.text):
                runs[-1].pieces.append(Piece(" ", piece.start))
            runs[-1].pieces.append(piece)
        return Attention(tuple(runs), self._brackets, tuple(self._escapes))

    def _take(self, match: re.Match[str]) -> None:
        text, weight = match[0], match[1]
        if text.startswith("\\"):
            self._escapes.append(self._prompt[match.start() : match.start() + 2])
            self.add(Piece(text[1:], match.start() + 1))
        elif text in self._open:
            self._brackets += 1
            self._open[text].append(len(self._pieces))
            self._check_depth(match.start())
        elif weight is not None and self._open["("]:
            self._close("(", self._number(match))
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
        for place in range(first, len(self._pieces)):
            piece, weight = self._pieces[place]
            self._pieces[place] = piece, weight * factor

    def _number(self, match: re.Match[str]) -> float:
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


def _parts_at_break(before: str, after: str) -> bool:
    """Whether the word BREAK, which a web UI reads by itself, would grow together with what stands beside it."""
    return bool(
        (_BREAK_AT_END.search(before) and after[0].isalnum()) or (_BREAK_AT_START.match(after) and before[-1].isalnum())
    )


def _editing_spans(prompt: str) -> dict[int, int]:
    """Where prompt editing and alternation begin -> where they end, of the outermost ones; none where a web UI cannot
    make sense of all of the prompt, and then edits nothing."""
    spans: list[tuple[int, int]] = []
    stack: list[_Bracket] = []
    for match in _TO_MATCH.finditer(prompt):
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
    """An open bracket, and what stands in it outside of inner brackets.

    colons: where its colons end.  is_odd: whether brackets in it do not match, or hold colons that mean nothing.
    """

    kind: str
    start: int
    has_bar: bool = False
    colons: list[int] = field(default_factory=list)
    is_odd: bool = False

    def add(self, mark: str, end: int) -> None:
        """Note a colon or bar."""
        if mark == "|":
            self.has_bar = True
        else:
            self.colons.append(end)

    @property
    def is_alternation(self) -> bool:
        """Whether this is `[a|b]`."""
        return self.has_bar and self.kind == "[" and not self.colons and not self.is_odd

    def is_timed(self, prompt: str, end: int) -> bool:
        """Whether this, closed at `end`, is `[a:b:0.5]` or `[a:0.5]`."""
        if self.kind != "[" or self.is_odd or len(self.colons) not in (1, 2):
            return False
        return _NUMBER_AT_END.fullmatch(prompt, self.colons[-1], end) is not None


def _keep_outermost(spans: list[tuple[int, int]], span: tuple[int, int]) -> None:
    """Add a span and remove those that lie in it, which are the last ones."""
    while spans and spans[-1][0] > span[0]:
        spans.pop()
    spans.append(span)


def _mark_odd(stack: list[_Bracket]) -> None:
    for bracket in stack:
        bracket.is_odd = True
