"""Nodes to canonical text: `parse(print_node(n))` gives n again. One spelling for each meaning."""

from __future__ import annotations

from collections.abc import Sequence

from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Expression,
    Inline,
    Modified,
    Postfix,
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
    if isinstance(node, Text):
        return print_text(node.text)
    if isinstance(node, Sum):
        first, *rest = node.terms
        return _operand(first.operand) + "".join(f" {term.sign} {_operand(term.operand)}" for term in rest)
    if isinstance(node, Modified):
        return _operand(node.base) + "".join(_print_postfix(postfix) for postfix in node.postfixes)
    arguments = [_argument(argument) for argument in node.arguments]
    if node.number is not None:
        arguments.append(print_number(node.number.value))
    return f"{node.function}({', '.join(arguments)})"


def print_prompt(parts: tuple[PromptText | Inline | BrokenInline, ...], source: str) -> str:
    """A prompt with every inline expression in its canonical spelling; all other text as typed."""
    return "".join(
        f"<{print_expression(part.expression)}>" if isinstance(part, Inline) else source[part.start : part.end]
        for part in parts
    )


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
    if isinstance(node, Modified):
        return any(isinstance(p, AppendText | AppendToken) for p in node.postfixes) or (
            not isinstance(node.base, Sum) and _appends(node.base)
        )
    return isinstance(node, Sum) and any(
        not isinstance(term.operand, Sum) and _appends(term.operand) for term in node.terms
    )


def _print_postfix(postfix: Postfix) -> str:
    if isinstance(postfix, Scale):
        return ("/" if postfix.divide else "*") + print_number(postfix.number) + (postfix.encoder or "")
    if isinstance(postfix, Resize):
        return f":{postfix.count}"
    if isinstance(postfix, Rotate):
        return f":{postfix.steps:+d}"
    if isinstance(postfix, AppendText):
        return "," + print_text(postfix.text)
    return "," + (SPECIAL_TOKENS[postfix.token] if isinstance(postfix.token, str) else str(postfix.token))
