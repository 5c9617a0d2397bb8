"""Nodes to canonical text: `parse(print_node(n))` gives n again. One spelling for each meaning."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Call,
    Expression,
    Inline,
    Modified,
    Postfix,
    PromptPart,
    PromptText,
    Resize,
    Rotate,
    Scale,
    Sum,
    Text,
)
from lib_embedmerge.lang.numbers import print_number

SPECIAL_TOKENS = {"padding": "00", "end": "000", "start": "0000"}


def print_expression(node: Expression) -> str:
    """The canonical spelling of an expression."""
    match node:
        case Text():
            return print_text(node.text)
        case Sum():
            first, *rest = node.terms
            return _operand(first.operand) + "".join(f" {term.sign} {_operand(term.operand)}" for term in rest)
        case Modified():
            return _operand(node.base) + "".join(_print_postfix(postfix) for postfix in node.postfixes)
        case Call():
            arguments = [_argument(argument) for argument in node.arguments]
            if node.number is not None:
                arguments.append(print_number(node.number.value))
            return f"{node.function}({', '.join(arguments)})"
        case _:
            assert_never(node)


def print_prompt(parts: Sequence[PromptPart], source: str) -> str:
    """A prompt with every inline expression in its canonical spelling; all other text as typed."""
    return "".join(_print_part(part, source) for part in parts)


def _print_part(part: PromptPart, source: str) -> str:
    match part:
        case Inline():
            return f"<{print_expression(part.expression)}>"
        case PromptText() | BrokenInline():
            return source[part.start : part.end]
        case _:
            assert_never(part)


def print_concatenation(expressions: Sequence[str]) -> str:
    """One expression that puts printed expressions one behind the other; each in parentheses, as it may hold commas."""
    return expressions[0] if len(expressions) == 1 else f"cat({', '.join(f'({text})' for text in expressions)})"


def print_text(text: str) -> str:
    """A text between quotes, its own quotes doubled."""
    return "'" + text.replace("'", "''") + "'"


def _operand(node: Expression) -> str:
    text = print_expression(node)
    return f"({text})" if isinstance(node, Sum) else text


def _argument(node: Expression) -> str:
    """An argument; a comma that appends would end it, so such an argument stands in parentheses."""
    text = print_expression(node)
    return f"({text})" if _appends(node) else text


def _appends(node: Expression) -> bool:
    """Whether a comma of an appending postfix stands in the open when this is printed."""
    match node:
        case Modified():
            return any(isinstance(postfix, (AppendText, AppendToken)) for postfix in node.postfixes) or (
                not isinstance(node.base, Sum) and _appends(node.base)
            )
        case Sum():
            return any(not isinstance(term.operand, Sum) and _appends(term.operand) for term in node.terms)
        case Text() | Call():
            return False
        case _:
            assert_never(node)


def _print_postfix(postfix: Postfix) -> str:
    match postfix:
        case Scale():
            return ("/" if postfix.divide else "*") + print_number(postfix.number) + (postfix.encoder or "")
        case Resize():
            return f":{postfix.count}"
        case Rotate():
            return f":{postfix.steps:+d}"
        case AppendText():
            return "," + print_text(postfix.text)
        case AppendToken():
            return "," + (SPECIAL_TOKENS[postfix.token] if isinstance(postfix.token, str) else str(postfix.token))
        case _:
            assert_never(postfix)
