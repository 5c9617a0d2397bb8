"""Read a source: one expression, or a prompt that may contain inline expressions. The entry to the language.

`parse` raises the first mistake; `read_prompt` never raises and keeps each mistake as a part of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, cast

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang import mistakes
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import (
    BrokenInline,
    Expression,
    Inline,
    PromptPart,
    PromptText,
    collect_texts,
)
from lib_embedmerge.lang.openings import FUNCTION_NAME
from lib_embedmerge.lang.parser import parse_expression
from lib_embedmerge.lang.printer import print_concatenation, print_expression, print_prompt, print_text

MAX_LENGTH = 20_000
"""Longest source, in characters: far beyond 75 vectors, short enough to answer at once."""

_SPACE = re.compile(r"\s*")
_OPERATORS_AND_NUMBERS = re.compile(r"[-+*/=0-9.(\s]*")
# The extension Embedding Merge leaves such names in prompts for expressions that it moves to the infotext.
_EM_NAME = re.compile(r"'EM[-_/][0-9]+'")
_BRACKET = re.compile("[<{]")
_LEFT_OUT = re.compile(r"'(?:\d0s|\d\d|n|til|tis|twas|cause|em|round|bout)\b", re.IGNORECASE | re.ASCII)
_APOSTROPHE = (
    "An apostrophe after {bracket} starts a text. To use {bracket}' as plain text, put a space between the two, or "
    "write the apostrophe \u2019."
)
_CLOSING = {"<": ">", "{": "}"}
# Characters that every tokenizer splits at. Others that Python counts as spaces are removed when texts are repaired.
_SEPARATORS = frozenset(" \t\n\r")


@dataclass(frozen=True)
class Source:
    """A source as a tree.

    kind: whether it is one expression or a prompt.  text: the source itself.
    nodes: the one expression, or the parts of the prompt in order, which cover all of it.
    """

    kind: Literal["expression", "prompt"]
    text: str
    nodes: tuple[Expression, ...] | tuple[PromptPart, ...]

    @property
    def canonical(self) -> str:
        """The canonical spelling of the source: sources with the same meaning have the same one."""
        if self.kind == "expression":
            return "".join(print_expression(node) for node in self.expressions)
        return print_prompt(self.parts, self.text)

    def as_expression(self) -> str:
        """The source as one expression with the same vectors; broken inline expressions of a prompt are left out."""
        if self.kind == "expression":
            return self.text.strip()
        arguments: list[str] = []
        for part in self.parts:
            match part:
                case PromptText():
                    arguments.append(print_text(part.text))
                case Inline():
                    arguments.append(print_expression(part.expression))
                case BrokenInline():
                    pass
                case _:
                    assert_never(part)
        return print_concatenation(arguments or ["''"])

    @property
    def parts(self) -> tuple[PromptPart, ...]:
        """The parts of a prompt; empty if the source is an expression."""
        return cast("tuple[PromptPart, ...]", self.nodes) if self.kind == "prompt" else ()

    def texts(self) -> tuple[str, ...]:
        """Each text that becomes tokens: the text of a prompt outside expressions, then the texts in expressions.

        Equal expressions of a prompt count once.
        """
        return self._texts

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        texts = [part.text for part in self.parts if isinstance(part, PromptText)]
        for expression in {id(expression): expression for expression in self.expressions}.values():
            collect_texts(expression, texts)
        return tuple(texts)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The one expression, or the inline expressions of a prompt that can be read."""
        if self.kind == "prompt":
            return tuple(part.expression for part in self.parts if isinstance(part, Inline))
        return cast("tuple[Expression, ...]", self.nodes)


def parse(source: str) -> Source:
    """Read a source as an expression if it begins like one, else as a prompt.

    ExpressionError, with its place in `source`, for the first mistake.
    """
    check_length(source)
    if _is_expression_start(source, _skip_space(source, 0)) or _is_mistaken_expression(source):
        return Source("expression", source, (_parse_whole_expression(source),))
    return parse_prompt(source)


def _parse_whole_expression(source: str) -> Expression:
    try:
        return parse_expression(source)
    except ExpressionError as error:
        if _LEFT_OUT.match(source, _skip_space(source, 0)):
            error.hint = "A quote at the beginning starts an expression. For a prompt, write the apostrophe \u2019."
        raise


def parse_prompt(source: str) -> Source:
    """Read a source as a prompt, even if it begins like an expression.

    ExpressionError, with its place in `source`, for the first mistake.
    """
    check_length(source)
    parts = read_prompt(source)
    for part in parts:
        if isinstance(part, BrokenInline):
            raise part.error
    return Source("prompt", source, parts)


def check_length(source: str) -> None:
    """Raise ExpressionError if a source is longer than MAX_LENGTH."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(
            f"This text is too long: it has {len(source)} characters.",
            source=source,
            start=MAX_LENGTH,
            end=MAX_LENGTH,
            expected=f"at most {MAX_LENGTH} characters",
        )


@lru_cache(maxsize=8)
def read_prompt(prompt: str) -> tuple[PromptPart, ...]:
    """The parts of a prompt in order, which cover all of it. Never raises. The last few prompts are cached.

    An expression with a mistake is a BrokenInline; one that is never closed extends to the end of the prompt. Equal
    expressions without a mistake share their nodes, with the places of the first one.
    """
    parts: list[PromptPart] = []
    parsed: dict[str, Expression] = {}
    position = 0
    last, last_text = None, ""  # the last expression without a mistake, and its text with the brackets
    for match in _BRACKET.finditer(prompt):
        start = match.start()
        if start < position:
            continue
        part: Inline | BrokenInline
        if last is not None and prompt.startswith(last_text, start):
            part = Inline(last.expression, last.bracket, start=start, end=start + len(last_text))
        elif _is_expression_start(prompt, start + 1):
            end = _find_closing_bracket(prompt, start)
            if end is not None and _EM_NAME.fullmatch(prompt, start + 1, end - 1):
                continue
            part = _parse_inline(prompt, start, end, parsed)
            if isinstance(part, Inline):
                last, last_text = part, prompt[start : part.end]
            elif end is not None and _is_choice(prompt[start:end]):
                continue
        else:
            continue
        if start > position:
            parts.append(PromptText(prompt[position:start], start=position, end=start))
        parts.append(part)
        position = part.end
    if position < len(prompt):
        parts.append(PromptText(prompt[position:], start=position, end=len(prompt)))
    return tuple(parts)


def replace_expressions(
    prompt: str, parts: Iterable[PromptPart], replacement: Callable[[Inline | BrokenInline], str | None]
) -> str:
    """The prompt with each inline expression replaced, and a space between a replacement and its neighbours.

    parts: the result of `read_prompt` for this prompt.
    replacement: returns the text for an expression, which may be empty, or None to leave the expression as typed.
    """
    pieces: list[str] = []
    last, is_replaced = " ", False  # the last character so far, and whether the part before was replaced
    for part in parts:
        replaced = None if isinstance(part, PromptText) else replacement(part)
        piece = prompt[part.start : part.end] if replaced is None else replaced
        if piece:
            touches = last not in _SEPARATORS and piece[0] not in _SEPARATORS
            if touches and (is_replaced or replaced is not None):
                pieces.append(" ")
            pieces.append(piece)
            last = piece[-1]
        is_replaced = replaced is not None
    return "".join(pieces)


def _is_expression_start(text: str, position: int) -> bool:
    """Whether an expression begins at this offset: with a quote, perhaps after parentheses and function names.

    A name that is no function of the language must touch its parenthesis: `foo('a')` is a mistyped function, `portrait
    ('mona lisa')` is a prompt.
    """
    while not text.startswith("'", position):
        if name := FUNCTION_NAME.match(text, position):
            position = _skip_space(text, name.end()) if name.group() in SIGNATURES else name.end()
        if not text.startswith("(", position):
            return False
        position = _skip_space(text, position + 1)
    return True


def _is_mistaken_expression(text: str) -> bool:
    """Whether a text is like `-'cat'` or `2*('cat')`, which no prompt is. Its error as an expression helps the user."""
    head, quote, _ = text.partition("'")
    return (
        bool(quote) and bool(_OPERATORS_AND_NUMBERS.fullmatch(head)) and head.rstrip().rstrip("( ")[-1:] in set("-+*/=")
    )


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _parse_inline(prompt: str, start: int, end: int | None, parsed: dict[str, Expression]) -> Inline | BrokenInline:
    """parsed: text of an expression -> its node, for those before this one; the node of this one is added."""
    try:
        if end is None:
            raise mistakes.unclosed_bracket(prompt, start, _CLOSING[prompt[start]])
        text = prompt[start + 1 : end - 1]
        expression = parsed.get(text)
        if expression is None:
            expression = parsed[text] = parse_expression(prompt, start + 1, end - 1)
    except ExpressionError as error:
        if _is_apostrophe_start(prompt, start):
            error.hint = _APOSTROPHE.format(bracket=prompt[start])
        return BrokenInline(error, start=start, end=len(prompt) if end is None else end)
    return Inline(expression, "<" if prompt[start] == "<" else "{", start=start, end=end)


def _is_apostrophe_start(prompt: str, start: int) -> bool:
    """Whether the quote after the bracket at `start` is an apostrophe, as in `{'80s anime|'90s anime}`."""
    return _LEFT_OUT.match(prompt, start + 1) is not None


def _is_choice(text: str) -> bool:
    """Whether a text in brackets is a choice of Dynamic Prompts whose first option has a text in quotes: `{'a'|'b'}`.

    An option with an operator of the language is a mistake, not a choice: `{'a'*|2}`.
    """
    outside = "".join(text[1:-1].split("'")[::2])
    first, bar, _ = outside.partition("|")
    return text[0] == "{" and bool(bar) and not set(first) & set("+-*/:,=") and not set(outside) & set("{<")


def _find_closing_bracket(prompt: str, start: int) -> int | None:
    """The offset after the bracket that closes the one at `start`, outside quotes, or None if there is none."""
    closing = _CLOSING[prompt[start]]
    position = start + 1
    while True:
        bracket = prompt.find(closing, position)
        quote = prompt.find("'", position)
        if bracket < 0:
            return None
        if quote < 0 or bracket < quote:
            return bracket + 1
        position = prompt.find("'", quote + 1) + 1
        if position == 0:
            return None
