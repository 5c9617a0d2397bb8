"""Find prompts that look like expressions, and the expression that was probably meant.

A shell removes quotes, a word processor bends them, a copied text contains invisible characters. To the language the
result is a prompt, but hardly anybody means it as one. `find_likely_meaning` gives the source that was meant, if that
is valid; it changes nothing.
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
_MAY_HAVE_OPERATORS = re.compile(
    rf"[{re.escape(''.join(sign for sign, ours in OPERATORS.items() if ours in '+*='))}{QUOTES}]"
    rf"|'\s*[{re.escape(DASHES)}/]|[{re.escape(DASHES)}/]\s*'|\s[{re.escape(DASHES)}]\s|[/÷∕⁄／]\s*[\d.]"
    rf"|\b(?:{'|'.join(sorted(CALLS))})[(（]"
)
"""Matches every prompt with an operator or call that may be meant: a quick test, needed after each key press."""


@dataclass(frozen=True)
class LikelyMeaning:
    """What the writer of a prompt probably meant.

    source: the source that was meant; it is valid.
    start, end: place in the prompt of the characters that suggest it, as character offsets.
    reason: what is wrong with the prompt, in one sentence.
    is_certain: whether nobody would write such a prompt, so that faces should ask before they build it.
    """

    source: str
    start: int
    end: int
    reason: str
    is_certain: bool = True


def find_likely_meaning(prompt: str) -> LikelyMeaning | None:
    """The expression that a prompt looks like, or None if it looks like a prompt."""
    return (
        _explain_invisible_character(prompt)
        or _explain_spaced_bracket(prompt)
        or _explain_extra_quotes(prompt)
        or _explain_missing_quote(prompt)
        or _explain_bare_words(prompt)
    )


def _explain_invisible_character(prompt: str) -> LikelyMeaning | None:
    """The expression in a prompt that only an invisible character keeps from being one."""
    offset = next((offset for offset, character in enumerate(prompt) if is_invisible(character)), None)
    if offset is None:
        return None
    cleaned = remove_invisible(prompt)
    if count_expressions(cleaned) > count_expressions(prompt):
        reason = f"The invisible character U+{ord(prompt[offset]):04X} keeps this from being read as an expression."
        return LikelyMeaning(cleaned, offset, offset + 1, reason)
    meaning = _explain_bare_words(cleaned)
    return meaning and LikelyMeaning(meaning.source, offset, offset + 1, meaning.reason)


def _explain_spaced_bracket(prompt: str) -> LikelyMeaning | None:
    """The expression in a prompt with a space after its opening bracket: `< 'cat'>`."""
    match = _SPACED_BRACKET.search(prompt)
    if match is None:
        return None
    closed = _SPACED_BRACKET.sub("", prompt)
    if count_expressions(closed) <= count_expressions(prompt):
        return None
    bracket = prompt[match.start() - 1]
    reason = f"A space after {bracket} makes this plain text."
    return LikelyMeaning(closed, match.start() - 1, match.end(), reason, is_certain=False)


def _explain_extra_quotes(prompt: str) -> LikelyMeaning | None:
    """The expression in a prompt to which a shell, script or page added quotes, backslashes or HTML entities."""
    text = prompt.strip()
    is_wrapped = len(text) > 2 and text[0] in _WRAPPING and text[-1] in _WRAPPING
    candidates = [text.replace("\\'", "'").replace('\\"', '"'), html.unescape(text)]
    for source in [text[1:-1], *candidates] if is_wrapped else candidates:
        if source != text and _has_more_than_text(source):
            reason = "Extra quotes, backslashes or HTML codes make this expression a prompt."
            return LikelyMeaning(source, prompt.index(text), prompt.index(text) + len(text), reason)
    return None


def _has_more_than_text(source: str) -> bool:
    """Whether a source has an expression that is more than one text in quotes."""
    try:
        return any(not isinstance(node, Text) for node in parse(source).expressions)
    except ExpressionError:
        return False


def _explain_missing_quote(prompt: str) -> LikelyMeaning | None:
    """The expression in a prompt whose first or last quote is missing: `cat'+'dog'`."""
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


def _explain_bare_words(prompt: str) -> LikelyMeaning | None:
    """The expressions in a prompt whose texts have no quotes or other quotes: `cat+dog*0.5`."""
    if not _MAY_HAVE_OPERATORS.search(prompt):
        return None
    prompt = _DECIMAL_COMMA.sub(r"\1.", _NUMBER_FIRST.sub(r"\3\2\1", prompt))  # of the same length: 2*cat, cat*0,5
    pieces = list(split_pieces(list(split_tokens(prompt))))
    written = [prompt[piece.start : piece.end] for piece in pieces]
    signs: list[Token] = []
    for index, piece in enumerate(pieces):
        sign = piece.find_evidence(alone=len(pieces) == 1)
        expression = piece.as_expression() if sign else None
        if sign and expression:
            signs.append(sign)
            _write_expression(written, pieces, index, expression)
    source = "".join(written)
    if not signs or count_expressions(source) <= count_expressions(prompt):
        return None
    reason = "This looks like an expression, but is read as a prompt: in an expression, texts are in quotes, 'cat'."
    is_certain = any(OPERATORS.get(sign.value) != "/" for sign in signs)
    return LikelyMeaning(source, signs[0].start, signs[0].end, reason, is_certain)


def _write_expression(written: list[str], pieces: Sequence[Piece], index: int, expression: str) -> None:
    """Replace written[index] by an expression, in angle brackets unless it is in brackets already or the only piece.

    written: the text of each piece.
    """
    before, after = (pieces[beside].bracket if 0 <= beside < len(pieces) else "" for beside in (index - 1, index + 1))
    if before + after in _PAIRS:
        written[index - 1 : index + 2] = [before, expression, after]
    elif len(pieces) == 1:
        written[index] = expression
    else:
        text = written[index]
        lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        written[index] = f"{lead}<{expression}>{trail}"
