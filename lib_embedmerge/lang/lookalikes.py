"""Prompts that look like expressions: what their writer may have meant.

A shell removes quotes, a word processor bends them, a copied text brings invisible characters along. The result is
still a prompt to the language, but hardly ever meant as one. `find_likely_meaning` gives the source that was meant, if
one can be read; it changes nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.invisible import is_invisible, remove_invisible
from lib_embedmerge.lang.lookalike_words import (
    CALLS,
    DASHES,
    OPERATORS,
    QUOTES,
    Piece,
    Token,
    count_expressions,
    split_pieces,
    split_tokens,
)
from lib_embedmerge.lang.nodes import Text
from lib_embedmerge.lang.source import parse

_PAIRS = ("<>", "{}")
_SPACED_BRACKET = re.compile(r"(?<=[<{])\s+(?=(?:[A-Za-z]+\s*)?(?:\(\s*)*')")
_BETWEEN_QUOTES = re.compile(r"'\s*[-+*/]|[-+]\s*'")
_NUMBER_FIRST = re.compile(r"(?<![\w.)*/'])(\d+\.?\d*|\.\d+)(\s*\*\s*)([A-Za-z]\w*)", re.ASCII)
_DECIMAL_COMMA = re.compile(r"(?<=[*/×÷])(\s*\d+),(?=\d)", re.ASCII)
_WRAPPING = frozenset(QUOTES + "'")
_MAY_BE_ONE = re.compile(
    rf"[{re.escape(''.join(sign for sign, ours in OPERATORS.items() if ours in '+*='))}{QUOTES}]"
    rf"|'\s*[{re.escape(DASHES)}/]|[{re.escape(DASHES)}/]\s*'|\s[{re.escape(DASHES)}]\s|[/÷∕⁄／]\s*[\d.]"
    rf"|\b(?:{'|'.join(sorted(CALLS))})[(（]"
)
"""A quick look at what every such prompt has, since one is asked for at each key."""


@dataclass(frozen=True)
class LikelyMeaning:
    """What a prompt may have been meant as.

    source: the source that was meant, which can be read.  start, end: what gives it away, in the prompt.
    reason: what is wrong with the prompt, one sentence.
    is_certain: whether nobody would write such a prompt, so that it is better not built without asking.
    """

    source: str
    start: int
    end: int
    reason: str
    is_certain: bool = True


def find_likely_meaning(prompt: str) -> LikelyMeaning | None:
    """The expression that a prompt looks like, None where it looks like none."""
    return (
        _with_invisible(prompt)
        or _with_spaced_bracket(prompt)
        or _in_other_quotes(prompt)
        or _without_outer_quote(prompt)
        or _with_operators(prompt)
    )


def _with_invisible(prompt: str) -> LikelyMeaning | None:
    place = next((place for place, character in enumerate(prompt) if is_invisible(character)), None)
    if place is None:
        return None
    cleaned = remove_invisible(prompt)
    if count_expressions(cleaned) > count_expressions(prompt):
        reason = f"The invisible character U+{ord(prompt[place]):04X} keeps this from being read as an expression."
        return LikelyMeaning(cleaned, place, place + 1, reason)
    found = _with_operators(cleaned)
    return found and LikelyMeaning(found.source, place, place + 1, found.reason)


def _with_spaced_bracket(prompt: str) -> LikelyMeaning | None:
    match = _SPACED_BRACKET.search(prompt)
    if match is None:
        return None
    closed = _SPACED_BRACKET.sub("", prompt)
    if count_expressions(closed) <= count_expressions(prompt):
        return None
    bracket = prompt[match.start() - 1]
    reason = f"A space after {bracket} makes this plain text."
    return LikelyMeaning(closed, match.start() - 1, match.end(), reason, is_certain=False)


def _in_other_quotes(prompt: str) -> LikelyMeaning | None:
    """An expression that a shell, a script or a page left in quotes, or with backslashes or entities for its quotes."""
    text = prompt.strip()
    is_wrapped = len(text) > 2 and text[0] in _WRAPPING and text[-1] in _WRAPPING
    candidates = [text.replace("\\'", "'").replace('\\"', '"'), html.unescape(text)]
    for source in [text[1:-1], *candidates] if is_wrapped else candidates:
        if source != text and _is_formula(source):
            reason = "Extra quotes, backslashes or HTML codes make this expression a prompt."
            return LikelyMeaning(source, prompt.index(text), prompt.index(text) + len(text), reason)
    return None


def _is_formula(source: str) -> bool:
    """Whether a source holds an expression that is more than a text."""
    try:
        return any(not isinstance(node, Text) for node in parse(source).expressions)
    except ExpressionError:
        return False


def _without_outer_quote(prompt: str) -> LikelyMeaning | None:
    """`cat'+'dog'`, where the first or last quote was not copied."""
    match = _BETWEEN_QUOTES.search(prompt)
    if match is None:
        return None
    text = prompt.strip()
    for source in (f"'{text}", f"{text}'", f"'{text}'"):
        if count_expressions(source) and parse(source).kind == "expression":
            return LikelyMeaning(
                source, match.start(), match.end(), "A quote is missing at one end of this expression."
            )
    return None


def _with_operators(prompt: str) -> LikelyMeaning | None:
    if not _MAY_BE_ONE.search(prompt):
        return None
    prompt = _DECIMAL_COMMA.sub(r"\1.", _NUMBER_FIRST.sub(r"\3\2\1", prompt))  # of the same length: 2*cat, cat*0,5
    pieces = list(split_pieces(list(split_tokens(prompt))))
    written = [prompt[piece.start : piece.end] for piece in pieces]
    signs: list[Token] = []
    for place, piece in enumerate(pieces):
        sign = piece.evidence(alone=len(pieces) == 1)
        expression = piece.expression() if sign else None
        if sign and expression:
            signs.append(sign)
            _write_expression(written, pieces, place, expression)
    source = "".join(written)
    if not signs or count_expressions(source) <= count_expressions(prompt):
        return None
    reason = "This looks like an expression, but is read as a prompt: in an expression, texts are in quotes, 'cat'."
    is_certain = any(OPERATORS.get(sign.value) != "/" for sign in signs)
    return LikelyMeaning(source, signs[0].start, signs[0].end, reason, is_certain)


def _write_expression(written: list[str], pieces: Sequence[Piece], place: int, expression: str) -> None:
    """Put an expression into the place of a piece, with angle brackets unless it stands in brackets or alone."""
    before, after = (pieces[beside].bracket if 0 <= beside < len(pieces) else "" for beside in (place - 1, place + 1))
    if before + after in _PAIRS:
        written[place - 1 : place + 2] = [before, expression, after]
    elif len(pieces) == 1:
        written[place] = expression
    else:
        text = written[place]
        lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        written[place] = f"{lead}<{expression}>{trail}"
