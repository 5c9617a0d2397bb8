"""Prompts that look like expressions: what their writer may have meant.

A shell takes quotes away, a word processor bends them, a copied text brings invisible characters along. The result is
still a prompt to the language, but hardly ever meant as one. `find_meant` gives the source that was meant, if there is
one that can be read; it changes nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.invisible import is_invisible, remove_invisible
from lib_embedmerge.lang.nodes import Text
from lib_embedmerge.lang.printer import quoted
from lib_embedmerge.lang.scanner import LOOKALIKES
from lib_embedmerge.lang.source import parse

_QUOTES = "".join(sorted(character for character, ours in LOOKALIKES.items() if ours == "'")) + "«»"
_OPERATORS = {character: ours for character, ours in LOOKALIKES.items() if ours in "+*/=()"} | {
    character: character for character in "+*/=()"
}
_BRACKETS = {"<": "<", ">": ">", "{": "{", "}": "}", "＜": "<", "＞": ">", "‹": "<", "›": ">", "｛": "{", "｝": "}"}
_PAIRS = ("<>", "{}")
_DASHES = "-−–—"
_SPACED_BRACKET = re.compile(r"(?<=[<{])\s+(?=(?:[A-Za-z]+\s*)?(?:\(\s*)*')")
_BETWEEN_QUOTES = re.compile(r"'\s*[-+*/]|[-+]\s*'")
_NUMBER_FIRST = re.compile(r"(?<![\w.)*/'])(\d+\.?\d*|\.\d+)(\s*\*\s*)([A-Za-z]\w*)", re.ASCII)
_DECIMAL_COMMA = re.compile(r"(?<=[*/×÷])(\s*\d+),(?=\d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)[LG]?(?![\w.])", re.ASCII)
_OPERATOR = re.escape("".join(_OPERATORS) + _DASHES) + ","
_PIECE = re.compile(
    rf"""(?P<space>\s+)
    |(?P<text>(?<!\w)(?:'(?:[^']|'')*'(?!\w)|[{_QUOTES}][^{_QUOTES}]*[{_QUOTES}](?!\w)))
    |(?P<bracket>[<>{{}}＜＞‹›｛｝])
    |(?P<word>(?<=[*/×÷])[-+](?:\d+\.?\d*|\.\d+)|(?:[^\s{_OPERATOR}'{_QUOTES}<>{{}}＜＞‹›｛｝]|(?<=\w)['{_QUOTES}](?=\w)|(?<=\w)-(?=\w))+)
    |(?P<operator>[{_OPERATOR}])
    |(?P<other>.)""",
    re.VERBOSE,
)
_WRAPPING = frozenset(_QUOTES + "'")
_CALLS = frozenset(SIGNATURES) - {"cat", "L", "G"}
"""Functions whose name before a parenthesis is no common way to write a prompt."""

_UNLIKELY = re.compile(r"[\[\]\\|]|:[\d.]+\Z|\A(?:lora|lyco|hypernet|embed|random|wildcard):", re.ASCII)
"""What no text of an expression that lost its quotes has: other syntax, or the weight of attention."""

_MAY_BE_ONE = re.compile(
    rf"[{re.escape(''.join(sign for sign, ours in _OPERATORS.items() if ours in '+*='))}{_QUOTES}]"
    rf"|'\s*[{re.escape(_DASHES)}/]|[{re.escape(_DASHES)}/]\s*'|\s[{re.escape(_DASHES)}]\s|[/÷∕⁄／]\s*[\d.]"
    rf"|\b(?:{'|'.join(sorted(_CALLS))})[(（]"
)
"""A quick look at what every such prompt has, since one is asked for at each key."""

_LEAST_LETTERS = 3
_LARGEST_DIVISOR = 10


@dataclass(frozen=True)
class Meant:
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


def find_meant(prompt: str) -> Meant | None:
    """The expression that a prompt looks like, None where it looks like none."""
    return (
        _with_invisible(prompt)
        or _with_spaced_bracket(prompt)
        or _in_other_quotes(prompt)
        or _without_outer_quote(prompt)
        or _with_operators(prompt)
    )


def _with_invisible(prompt: str) -> Meant | None:
    place = next((place for place, character in enumerate(prompt) if is_invisible(character)), None)
    if place is None:
        return None
    cleaned = remove_invisible(prompt)
    if _count_expressions(cleaned) > _count_expressions(prompt):
        reason = f"The invisible character U+{ord(prompt[place]):04X} keeps this from being read as an expression."
        return Meant(cleaned, place, place + 1, reason)
    found = _with_operators(cleaned)
    return found and Meant(found.source, place, place + 1, found.reason)


def _with_spaced_bracket(prompt: str) -> Meant | None:
    match = _SPACED_BRACKET.search(prompt)
    if match is None:
        return None
    closed = _SPACED_BRACKET.sub("", prompt)
    if _count_expressions(closed) <= _count_expressions(prompt):
        return None
    bracket = prompt[match.start() - 1]
    reason = f"A space after {bracket} makes this plain text."
    return Meant(closed, match.start() - 1, match.end(), reason, is_certain=False)


def _in_other_quotes(prompt: str) -> Meant | None:
    """An expression that a shell, a script or a page left in quotes, or with backslashes or entities for its quotes."""
    text = prompt.strip()
    is_wrapped = len(text) > 2 and text[0] in _WRAPPING and text[-1] in _WRAPPING
    candidates = [text.replace("\\'", "'").replace('\\"', '"'), html.unescape(text)]
    for source in [text[1:-1], *candidates] if is_wrapped else candidates:
        if source != text and _is_formula(source):
            reason = "This is an expression in quotes or escapes of its own, which make it a prompt."
            return Meant(source, prompt.index(text), prompt.index(text) + len(text), reason)
    return None


def _is_formula(source: str) -> bool:
    """Whether a source holds an expression that is more than a text."""
    try:
        return any(not isinstance(node, Text) for node in parse(source).expressions)
    except ExpressionError:
        return False


def _without_outer_quote(prompt: str) -> Meant | None:
    """`cat'+'dog'`, where the first or last quote was not copied."""
    match = _BETWEEN_QUOTES.search(prompt)
    if match is None:
        return None
    text = prompt.strip()
    for source in (f"'{text}", f"{text}'", f"'{text}'"):
        if _count_expressions(source) and parse(source).kind == "expression":
            return Meant(source, match.start(), match.end(), "A quote is missing at one end of this expression.")
    return None


def _count_expressions(text: str) -> int:
    """How many expressions a source holds; none where it cannot be read."""
    try:
        return len(parse(text).expressions)
    except ExpressionError:
        return 0


@dataclass(frozen=True)
class _Token:
    kind: Literal["space", "text", "operator", "bracket", "word", "other"]
    value: str
    start: int
    end: int


def _with_operators(prompt: str) -> Meant | None:
    if not _MAY_BE_ONE.search(prompt):
        return None
    prompt = _DECIMAL_COMMA.sub(r"\1.", _NUMBER_FIRST.sub(r"\3\2\1", prompt))  # of the same length: 2*cat, cat*0,5
    pieces = list(_pieces(list(_tokens(prompt))))
    written = [prompt[piece.start : piece.end] for piece in pieces]
    signs: list[_Token] = []
    for place, piece in enumerate(pieces):
        sign = piece.evidence(alone=len(pieces) == 1)
        expression = piece.expression() if sign else None
        if sign and expression:
            signs.append(sign)
            _write_expression(written, pieces, place, expression)
    source = "".join(written)
    if not signs or _count_expressions(source) <= _count_expressions(prompt):
        return None
    reason = "This looks like an expression, but reads as a prompt: the texts of an expression stand in quotes, 'cat'."
    is_certain = any(_OPERATORS.get(sign.value) != "/" for sign in signs)
    return Meant(source, signs[0].start, signs[0].end, reason, is_certain)


def _write_expression(written: list[str], pieces: Sequence[_Piece], place: int, expression: str) -> None:
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


def _tokens(prompt: str) -> Iterator[_Token]:
    for match in _PIECE.finditer(prompt):
        kind = match.lastgroup or "other"
        yield _Token(kind, match[0], match.start(), match.end())  # type: ignore[arg-type] # the pattern's group names


def _pieces(tokens: Sequence[_Token]) -> Iterator[_Piece]:
    """The tokens between commas, brackets, and texts or words that no operator joins; commas and brackets alone."""
    piece: list[_Token] = []
    previous: _Token | None = None
    depth = 0
    for token in tokens:
        ours = _OPERATORS.get(token.value, token.value) if token.kind == "operator" else ""
        depth += (ours == "(") - (ours == ")")
        is_separator = token.kind == "bracket" or (token.kind == "operator" and token.value in ",，、" and depth <= 0)
        if piece and (is_separator or (previous is not None and _are_apart(previous, token))):
            yield _Piece(piece)
            piece = []
        if is_separator:
            yield _Piece([token])
        else:
            piece.append(token)
        if token.kind != "space":
            previous = None if is_separator else token
    if piece:
        yield _Piece(piece)


def _are_apart(before: _Token, after: _Token) -> bool:
    """Whether two tokens that stand side by side cannot be of one expression."""
    if after.value in ("(", "（"):
        return before.kind == "text" or (before.kind == "word" and before.value not in SIGNATURES)
    return (
        {before.kind, after.kind} == {"text", "word"}
        or before.kind == after.kind == "text"
        or (before.value in (")", "）") and after.kind in ("text", "word"))
    )


class _Piece:
    """Tokens of a prompt that may be an expression."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = [token for token in tokens if token.kind != "space"]
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        self._called = {one.value for one, other in pairs if other.value == "("}
        self._alone = False
        self.start, self.end = tokens[0].start, tokens[-1].end
        self.bracket = _BRACKETS[tokens[0].value] if tokens[0].kind == "bracket" else ""

    def evidence(self, *, alone: bool) -> _Token | None:
        """The first sign that this is an expression. alone: whether it is the whole prompt."""
        self._alone = alone
        if any(token.kind == "other" or _UNLIKELY.search(token.value) for token in self._tokens):
            return None
        signs = (token for place, token in enumerate(self._tokens) if self._is_sign(place))
        return next(signs, None)

    def _is_sign(self, place: int) -> bool:
        token, before, after = self._tokens[place], self._at(place - 1), self._at(place + 1)
        if token.kind != "operator" or before is None or after is None:
            return False
        ours = _OPERATORS.get(token.value, "-")
        if ours == "(":
            return before.value in _CALLS and before.end == token.start and self._has_comma_after(place)
        if not (_ends_operand(before) and (_begins_operand(after) or _is_number(after))):
            return False
        check = {"*": _is_multiplied, "/": _is_divided, "+": _is_plus, "-": self._is_minus}.get(ours)
        return check is not None and check(before, token, after)

    def _has_comma_after(self, place: int) -> bool:
        """Whether the parenthesis that opens there holds several arguments, as no word in brackets does."""
        for token in self._tokens[place:]:
            if token.value in (")", "）"):
                return False
            if _OPERATORS.get(token.value, token.value) in (",", "，", "、"):
                return True
        return False

    def _is_minus(self, before: _Token, token: _Token, after: _Token) -> bool:
        is_tight = before.end == token.start and token.end == after.start
        texts = (before.kind, after.kind).count("text")
        if texts:
            return texts == 2 or is_tight
        is_whole = self._alone and len(self._tokens) == 3
        return is_whole and not is_tight and _is_plain_word(before) and _is_plain_word(after)

    def expression(self) -> str | None:
        """The piece as an expression, its words in quotes; None where that cannot be read."""
        written: list[str] = []
        words: list[str] = []
        for token in [*self._tokens, None]:
            if token is not None and token.kind == "word":
                words.append(token.value)
                continue
            if words:
                written.append(self._operand(" ".join(words), written[-1:]))
                words = []
            if token is not None:
                written.append(_written(token))
        expression = "".join(written)
        return expression if _count_expressions(expression) and parse(expression).kind == "expression" else None

    def _operand(self, words: str, before: Sequence[str]) -> str:
        if before in (["*"], ["/"], [","]) and _NUMBER.fullmatch(words):
            return words
        if words in SIGNATURES and words in self._called:
            return words
        return quoted(words)

    def _at(self, place: int) -> _Token | None:
        return self._tokens[place] if 0 <= place < len(self._tokens) else None


def _written(token: _Token) -> str:
    """A token that is no word as it stands in an expression."""
    if token.kind == "text":
        inner = token.value[1:-1]
        return quoted(inner.replace("''", "'") if token.value[0] == "'" else inner)
    return _OPERATORS.get(token.value, "-" if token.value in _DASHES else token.value)


def _is_multiplied(before: _Token, _: _Token, after: _Token) -> bool:
    return _is_number(after) and not _is_number(before)


def _is_divided(before: _Token, _: _Token, after: _Token) -> bool:
    """Whether this is `cat/2`, rather than `24/7`, `f/1.8` or `may/2020`."""
    is_text = before.kind == "text" or before.value == ")"
    return (
        (is_text or _is_plain_word(before))
        and _is_number(after)
        and float(after.value.rstrip("LG")) <= _LARGEST_DIVISOR
    )


def _is_plain_word(token: _Token) -> bool:
    return token.kind == "word" and len(token.value) >= _LEAST_LETTERS and token.value.isalpha()


def _is_plus(before: _Token, token: _Token, after: _Token) -> bool:
    """Whether this is `cat+dog`, rather than `6+girls` or `iphone 14+ photo`."""
    is_even = (before.end == token.start) == (token.end == after.start)
    return (is_even and not before.value[-1].isdigit()) or "text" in (before.kind, after.kind)


def _is_number(token: _Token) -> bool:
    return token.kind == "word" and _NUMBER.fullmatch(token.value) is not None


def _ends_operand(token: _Token) -> bool:
    return token.kind == "text" or token.value in (")", "）") or (token.kind == "word" and token.value[-1].isalnum())


def _begins_operand(token: _Token) -> bool:
    return token.kind == "text" or token.value in ("(", "（") or (token.kind == "word" and token.value[0].isalnum())
