"""Prompts that look like expressions: what their writer may have meant.

A shell takes quotes away, a word processor bends them, a copied text brings invisible characters along. The result is
still a prompt to the language, but hardly ever meant as one. `find_meant` gives the source that was meant, if there is
one that can be read; it changes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.printer import quoted
from lib_embedmerge.lang.scanner import LOOKALIKES
from lib_embedmerge.lang.source import parse

_QUOTES = "".join(sorted(character for character, ours in LOOKALIKES.items() if ours == "'")) + "«»‹›"
_OPERATORS = {character: ours for character, ours in LOOKALIKES.items() if ours in "+*/=()"} | {
    character: character for character in "+*/=()"
}
_DASHES = "-−–—"
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\ufe0e\ufe0f")
"""Characters that show nothing although Unicode counts them among letters, symbols and marks."""

_SPACED_BRACKET = re.compile(r"(?<=[<{])\s+(?=(?:[A-Za-z]+\s*)?(?:\(\s*)*')")
_BETWEEN_QUOTES = re.compile(r"'\s*[-+]\s*'")
_NUMBER_FIRST = re.compile(r"(?<![\w.)*/'])(\d+\.?\d*|\.\d+)(\s*\*\s*)([A-Za-z]\w*)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?![\w.])", re.ASCII)
_OPERATOR = re.escape("".join(_OPERATORS) + _DASHES) + ","
_PIECE = re.compile(
    rf"""(?P<space>\s+)
    |(?P<text>(?<!\w)(?:'(?:[^']|'')*'(?!\w)|[{_QUOTES}][^{_QUOTES}]*[{_QUOTES}](?!\w)))
    |(?P<word>(?<=[*/×÷])[-+](?:\d+\.?\d*|\.\d+)|(?:[^\s{_OPERATOR}'{_QUOTES}]|(?<=\w)['{_QUOTES}](?=\w)|(?<=\w)[{re.escape(_DASHES)}](?=\w))+)
    |(?P<operator>[{_OPERATOR}])
    |(?P<other>.)""",
    re.VERBOSE,
)
_CALLS = frozenset(SIGNATURES) - {"cat", "L", "G"}
"""Functions whose name before a parenthesis is no common way to write a prompt."""

_UNLIKELY = re.compile(r"[<>{}\[\]\\]|:[\d.]+\Z", re.ASCII)
"""What no text of an expression that lost its quotes has: other syntax, or the weight of attention."""

_MAY_BE_ONE = re.compile(
    rf"[{re.escape(''.join(sign for sign, ours in _OPERATORS.items() if ours in '+*='))}{_QUOTES}]"
    rf"|'\s*[{re.escape(_DASHES)}/]|[{re.escape(_DASHES)}/]\s*'|\s[{re.escape(_DASHES)}]\s|[/÷∕⁄／]\s*[\d.]"
    rf"|\b(?:{'|'.join(sorted(_CALLS))})[(（]"
)
"""A quick look at what every such prompt has, since one is asked for at each key."""

_FEW_WORDS = 2
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
        or _without_outer_quote(prompt)
        or _with_operators(prompt)
    )


def remove_invisible(text: str) -> str:
    """A text without characters that nobody sees; spaces, tabs and line breaks stay."""
    return "".join(character for character in text if not is_invisible(character))


def is_invisible(character: str) -> bool:
    """Whether a character shows nothing and takes no room."""
    if character in "\t\n\r":
        return False
    return unicodedata.category(character) in ("Cf", "Cc") or character in _BLANK


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
    kind: Literal["space", "text", "operator", "word", "other"]
    value: str
    start: int
    end: int


def _with_operators(prompt: str) -> Meant | None:
    if not _MAY_BE_ONE.search(prompt):
        return None
    prompt = _NUMBER_FIRST.sub(r"\3\2\1", prompt)  # 2*cat
    tokens = list(_tokens(prompt))
    pieces = list(_between_commas(tokens))
    evidence: _Token | None = None
    written: list[str] = []
    for piece in pieces:
        found = _Piece(piece, alone=len(pieces) == 1)
        sign = found.evidence()
        expression = found.expression() if sign else None
        if sign and expression:
            evidence = evidence or sign
            lead, trail = found.margins(prompt)
            written.append(expression if len(pieces) == 1 else f"{lead}<{expression}>{trail}")
        else:
            written.append(prompt[piece[0].start : piece[-1].end] if piece else "")
    source = ",".join(written)
    if evidence is None or not _count_expressions(source):
        return None
    reason = "This looks like an expression, but reads as a prompt: the texts of an expression stand in quotes, 'cat'."
    return Meant(source, evidence.start, evidence.end, reason)


def _tokens(prompt: str) -> Iterator[_Token]:
    for match in _PIECE.finditer(prompt):
        kind = match.lastgroup or "other"
        yield _Token(kind, match[0], match.start(), match.end())  # type: ignore[arg-type] # the pattern's group names


def _between_commas(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    """The tokens between commas that stand in no parenthesis."""
    piece: list[_Token] = []
    depth = 0
    for token in tokens:
        ours = _OPERATORS.get(token.value, token.value) if token.kind == "operator" else ""
        depth += (ours == "(") - (ours == ")")
        if ours == "," and depth <= 0:
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


class _Piece:
    """What stands between two commas of a prompt."""

    def __init__(self, tokens: Sequence[_Token], *, alone: bool) -> None:
        """alone: whether the prompt has no commas."""
        self._all = tokens
        self._tokens = [token for token in tokens if token.kind != "space"]
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        self._called = {one.value for one, other in pairs if other.value == "("}
        self._alone = alone
        self._is_tight = alone and len(self._tokens) == len(tokens)

    def margins(self, prompt: str) -> tuple[str, str]:
        """The white space on either side."""
        whole = prompt[self._all[0].start : self._all[-1].end]
        return whole[: len(whole) - len(whole.lstrip())], whole[len(whole.rstrip()) :]

    def evidence(self) -> _Token | None:
        """The first sign that this is an expression."""
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
            return before.value in _CALLS and before.end == token.start
        if not (_ends_operand(before) and (_begins_operand(after) or _is_number(after))):
            return False
        check = {"*": _is_multiplied, "/": _is_divided, "+": _is_plus, "-": self._is_minus}.get(ours)
        return check is not None and check(before, token, after)

    def _is_minus(self, before: _Token, token: _Token, after: _Token) -> bool:
        is_tight = before.end == token.start and token.end == after.start
        texts = (before.kind, after.kind).count("text")
        if texts:
            return texts == 2 or is_tight
        sizes = [len(words) for words in self._operands()]
        return self._alone and token.value == "-" and not is_tight and max(sizes, default=0) <= _FEW_WORDS

    def _operands(self) -> Iterator[list[_Token]]:
        """The words between operators."""
        words: list[_Token] = []
        for token in self._tokens:
            if token.kind == "word":
                words.append(token)
            elif words:
                yield words
                words = []
        if words:
            yield words

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
        if self._is_tight and "-" in words:  # a shell takes the quotes of 'king'-'man'+'woman' only
            return "-".join(map(quoted, words.split("-")))
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
    is_word = len(before.value) >= _LEAST_LETTERS and before.value.isalpha()
    return (is_text or is_word) and _is_number(after) and float(after.value) <= _LARGEST_DIVISOR


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
