"""Nodes to canonical text: one spelling for each meaning. Parsing the text of a node gives an equal node."""

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
            return _print_operand(first.operand) + "".join(
                f" {term.sign} {_print_operand(term.operand)}" for term in rest
            )
        case Modified():
            return _print_operand(node.base) + "".join(_print_postfix(postfix) for postfix in node.postfixes)
        case Call():
            arguments = [_print_argument(argument) for argument in node.arguments]
            if node.number is not None:
                arguments.append(print_number(node.number.value))
            return f"{node.function}({', '.join(arguments)})"
        case _:
            assert_never(node)


def print_prompt(parts: Sequence[PromptPart], source: str) -> str:
    """A prompt with each inline expression in its canonical spelling and all other text as typed.

    parts: the parts of the prompt.  source: the prompt itself.
    """
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
    """One expression for the vectors of several, one after the other. expressions: their spellings, at least one."""
    return expressions[0] if len(expressions) == 1 else f"cat({', '.join(f'({text})' for text in expressions)})"


def print_text(text: str) -> str:
    """A text as an expression: in quotes, with its own quotes doubled."""
    return "'" + text.replace("'", "''") + "'"


def _print_operand(node: Expression) -> str:
    text = print_expression(node)
    return f"({text})" if isinstance(node, Sum) else text


def _print_argument(node: Expression) -> str:
    """An argument of a function, in parentheses if it has a comma in the open, which would end the argument."""
    text = print_expression(node)
    return f"({text})" if _has_open_comma(node) else text


def _has_open_comma(node: Expression) -> bool:
    """Whether the spelling of an expression has a comma outside parentheses, from a postfix that appends."""
    match node:
        case Modified():
            return any(isinstance(postfix, (AppendText, AppendToken)) for postfix in node.postfixes) or (
                not isinstance(node.base, Sum) and _has_open_comma(node.base)
            )
        case Sum():
            return any(not isinstance(term.operand, Sum) and _has_open_comma(term.operand) for term in node.terms)
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
