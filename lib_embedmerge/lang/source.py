"""What a user gives: one expression, or a prompt that may hold inline expressions. The door to the language.

`parse` reads strictly and raises the first mistake; `read_prompt` never raises and keeps a mistake as a part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Call,
    Expression,
    Inline,
    Modified,
    PromptPart,
    PromptText,
    Resize,
    Rotate,
    Scale,
    Sum,
    Text,
)
from lib_embedmerge.lang.parser import parse_expression
from lib_embedmerge.lang.printer import print_concatenation, print_expression, print_prompt, print_text

MAX_LENGTH = 20_000
"""Longest source, in characters: far beyond 75 vectors, short enough to answer at once."""

_PARTS = (PromptText, Inline, BrokenInline)

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_SPACE = re.compile(r"\s*")
_OPERATORS_AND_NUMBERS = re.compile(r"[-+*/=0-9.(\s]*")
# What EM left in prompts whose expressions it moved to the infotext: a name, not an expression.
_EM_NAME = re.compile(r"'EM[-_/][0-9]+'")
_BRACKET = re.compile("[<{]")
_MAY_OPEN = re.compile(rf"[<{{](?:(?:{_NAME.pattern}\s*)?\(\s*)*'")
_LEFT_OUT = re.compile(r"'(?:\d0s|\d\d|n|til|tis|twas|cause|em|round|bout)\b", re.IGNORECASE | re.ASCII)
_APOSTROPHE = (
    "An apostrophe after {bracket} starts a text. To use {bracket}' as plain text, put a space between the two, or "
    "write the apostrophe \u2019."
)
_CLOSING = {"<": ">", "{": "}"}
# What every tokenizer splits at. Others that Python takes for spaces are taken out by the repair of texts.
_SEPARATORS = frozenset(" \t\n\r")


@dataclass(frozen=True)
class Source:
    """A source text that was read: `kind`, the text as typed, and what it holds.

    nodes: one expression, or the parts of a prompt in order; together they cover the whole prompt.
    """

    kind: Literal["expression", "prompt"]
    text: str
    nodes: tuple[Expression, ...] | tuple[PromptPart, ...]

    @property
    def canonical(self) -> str:
        """The one spelling of this meaning."""
        if self.kind == "expression":
            return "".join(print_expression(node) for node in self.expressions)
        return print_prompt(self.parts, self.text)

    def as_expression(self) -> str:
        """One expression with the same vectors: a prompt's parts one behind the other."""
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
        """The parts of a prompt; none of an expression."""
        return tuple(node for node in self.nodes if isinstance(node, _PARTS))

    def texts(self) -> Iterator[str]:
        """Every text that is read with the tokenizer."""
        for part in self.parts:
            match part:
                case PromptText():
                    yield part.text
                case Inline() | BrokenInline():
                    pass
                case _:
                    assert_never(part)
        for expression in self.expressions:
            yield from _texts_in(expression)

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression in it."""
        if self.kind == "prompt":
            return tuple(part.expression for part in self.parts if isinstance(part, Inline))
        return tuple(node for node in self.nodes if not isinstance(node, _PARTS))


def _texts_in(node: Expression) -> Iterator[str]:
    match node:
        case Text():
            yield node.text
        case Sum():
            for term in node.terms:
                yield from _texts_in(term.operand)
        case Modified():
            yield from _texts_in(node.base)
            for postfix in node.postfixes:
                match postfix:
                    case AppendText():
                        yield postfix.text
                    case Scale() | Resize() | Rotate() | AppendToken():
                        pass
                    case _:
                        assert_never(postfix)
        case Call():
            for argument in node.arguments:
                yield from _texts_in(argument)
        case _:
            assert_never(node)


def parse(source: str) -> Source:
    """Read a source as a user types it into the text box or on the command line.

    Raises ExpressionError, with the place in `source`, for the first mistake.
    """
    check_length(source)
    if _opens_expression(source, _skip_space(source, 0)) or _is_mistaken_expression(source):
        return Source("expression", source, (_whole_expression(source),))
    return parse_prompt(source)


def _whole_expression(source: str) -> Expression:
    try:
        return parse_expression(source)
    except ExpressionError as error:
        if _LEFT_OUT.match(source, _skip_space(source, 0)):
            error.hint = "A quote at the beginning starts an expression. For a prompt, write the apostrophe \u2019."
        raise


def parse_prompt(source: str) -> Source:
    """Read a source as a prompt, also where it opens as an expression does.

    Raises ExpressionError, with the place in `source`, for the first mistake.
    """
    check_length(source)
    parts = read_prompt(source)
    for part in parts:
        if isinstance(part, BrokenInline):
            raise part.error
    return Source("prompt", source, parts)


def check_length(source: str) -> None:
    """Raise ExpressionError where a source is too long to be meant."""
    if len(source) > MAX_LENGTH:
        raise ExpressionError(
            f"This text is too long: it has {len(source)} characters.",
            source=source,
            start=MAX_LENGTH,
            end=MAX_LENGTH,
            expected=f"at most {MAX_LENGTH} characters",
        )


def holds_expressions(prompt: str) -> bool:
    """Whether a prompt holds anything that `read_prompt` may take for an expression. Quick where it holds none."""
    return "'" in prompt and _MAY_OPEN.search(prompt) is not None


def read_prompt(prompt: str) -> tuple[PromptPart, ...]:
    """The parts of a prompt in order, covering every character of it; mistakes are parts too.

    An expression that is never closed takes the rest of the prompt.
    """
    parts: list[PromptPart] = []
    position = 0
    for match in _BRACKET.finditer(prompt):
        start = match.start()
        if start < position or not _opens_expression(prompt, start + 1):
            continue
        end = _closing(prompt, start)
        if end is not None and _EM_NAME.fullmatch(prompt, start + 1, end - 1):
            continue
        part = _inline(prompt, start, end)
        if isinstance(part, BrokenInline) and end is not None and _is_choice(prompt[start:end]):
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
    """The prompt with something else in place of its expressions, apart from what stands beside it by a space.

    parts: what `read_prompt` gives.
    replacement: gives what stands for an expression, which may be nothing; None leaves it as it was typed.
    """
    text, is_apart = "", False
    for part in parts:
        found = None if isinstance(part, PromptText) else replacement(part)
        piece = prompt[part.start : part.end] if found is None else found
        if (is_apart or found is not None) and text and piece and _SEPARATORS.isdisjoint((text[-1], piece[0])):
            text += " "
        text += piece
        is_apart = found is not None
    return text


def _opens_expression(text: str, position: int) -> bool:
    """Whether a quote stands there, optionally behind parentheses and function names.

    A name that is no function of ours must touch its parenthesis: `foo('a')` is a mistyped function, `portrait
    ('mona lisa')` is a prompt.
    """
    while not text.startswith("'", position):
        if name := _NAME.match(text, position):
            position = _skip_space(text, name.end()) if name.group() in SIGNATURES else name.end()
        if not text.startswith("(", position):
            return False
        position = _skip_space(text, position + 1)
    return True


def _is_mistaken_expression(text: str) -> bool:
    """Whether this is like `-'cat'` or `2*('cat')`. No prompt looks so; read as an expression, its error helps."""
    head, quote, _ = text.partition("'")
    return (
        bool(quote) and bool(_OPERATORS_AND_NUMBERS.fullmatch(head)) and head.rstrip().rstrip("( ")[-1:] in set("-+*/=")
    )


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _inline(prompt: str, start: int, end: int | None) -> Inline | BrokenInline:
    try:
        if end is None:
            raise _unclosed(prompt, start)
        expression = parse_expression(prompt, start + 1, end - 1)
    except ExpressionError as error:
        if _opens_apostrophe(prompt, start):
            error.hint = _APOSTROPHE.format(bracket=prompt[start])
        return BrokenInline(error, start=start, end=len(prompt) if end is None else end)
    return Inline(expression, "<" if prompt[start] == "<" else "{", start=start, end=end)


def _opens_apostrophe(prompt: str, start: int) -> bool:
    """Whether this is like `{'80s anime|'90s anime}`, whose first quote stands for something left out of a word."""
    return _LEFT_OUT.match(prompt, start + 1) is not None


def _is_choice(text: str) -> bool:
    """Whether this is `{'a'|'b'}`, a choice of Dynamic Prompts whose first option has a text in quotes, but no operator
    of ours: `{'a'*|2}` is a mistake, not a choice."""
    outside = "".join(text[1:-1].split("'")[::2])
    first, bar, _ = outside.partition("|")
    return text[0] == "{" and bool(bar) and not set(first) & set("+-*/:,=") and not set(outside) & set("{<")


def _closing(prompt: str, start: int) -> int | None:
    """The offset behind the first matching bracket that is not inside quotes, or None."""
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


def _unclosed(prompt: str, start: int) -> ExpressionError:
    closing = _CLOSING[prompt[start]]
    return ExpressionError(
        f"This {prompt[start]} starts an expression that is never closed.",
        source=prompt,
        start=start,
        end=start + 1,
        expected=f"{closing} after the expression, outside its quotes",
        hint="Write an apostrophe inside a text twice: 'don''t'. "
        f"To use {prompt[start]}' as plain text, put a space between the two.",
    )
