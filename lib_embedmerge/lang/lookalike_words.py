"""The words, texts and signs of a prompt, and which of them look like an expression that lost its quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.printer import print_text
from lib_embedmerge.lang.scanner import LOOKALIKES
from lib_embedmerge.lang.source import parse

QUOTES = "".join(sorted(character for character, ours in LOOKALIKES.items() if ours == "'")) + "«»"
"""Characters that people take for a straight quote."""

OPERATORS = {character: ours for character, ours in LOOKALIKES.items() if ours in "+*/=()"} | {
    character: character for character in "+*/=()"
}
"""Signs, and what they are taken for, which is one of ours."""

_BRACKETS = {"<": "<", ">": ">", "{": "{", "}": "}", "＜": "<", "＞": ">", "‹": "<", "›": ">", "｛": "{", "｝": "}"}
DASHES = "-−–—"
"""What is taken for a minus sign."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)[LG]?(?![\w.])", re.ASCII)
_OPERATOR = re.escape("".join(OPERATORS) + DASHES) + ","
_PIECE = re.compile(
    rf"""(?P<space>\s+)
    |(?P<text>(?<!\w)(?:'(?:[^']|'')*'(?!\w)|[{QUOTES}][^{QUOTES}]*[{QUOTES}](?!\w)))
    |(?P<bracket>[<>{{}}＜＞‹›｛｝])
    |(?P<word>(?<=[*/×÷])[-+](?:\d+\.?\d*|\.\d+)|(?:[^\s{_OPERATOR}'{QUOTES}<>{{}}＜＞‹›｛｝]|(?<=\w)['{QUOTES}](?=\w)|(?<=\w)-(?=\w))+)
    |(?P<operator>[{_OPERATOR}])
    |(?P<other>.)""",
    re.VERBOSE,
)
CALLS = frozenset(SIGNATURES) - {"cat", "L", "G"}
"""Functions whose name before a parenthesis is no common way to write a prompt."""

_UNLIKELY = re.compile(r"[\[\]\\|]|:[\d.]+\Z|\A(?:lora|lyco|hypernet|embed|random|wildcard):", re.ASCII)
"""What no text of an expression that lost its quotes has: other syntax, or the weight of attention."""

_LEAST_LETTERS = 3
_LARGEST_DIVISOR = 10


@dataclass(frozen=True)
class Token:
    """A piece of a prompt, `value`, and its place."""

    kind: Literal["space", "text", "operator", "bracket", "word", "other"]
    value: str
    start: int
    end: int


def split_tokens(prompt: str) -> Iterator[Token]:
    """The tokens of a prompt in order, which cover every character of it."""
    for match in _PIECE.finditer(prompt):
        kind = match.lastgroup or "other"
        yield Token(kind, match[0], match.start(), match.end())  # type: ignore[arg-type] # the pattern's group names


def split_pieces(tokens: Sequence[Token]) -> Iterator[Piece]:
    """The tokens between commas, brackets, and texts or words that no operator joins; commas and brackets alone."""
    piece: list[Token] = []
    previous: Token | None = None
    depth = 0
    for token in tokens:
        ours = OPERATORS.get(token.value, token.value) if token.kind == "operator" else ""
        depth += (ours == "(") - (ours == ")")
        is_separator = token.kind == "bracket" or (token.kind == "operator" and token.value in ",，、" and depth <= 0)
        if piece and (is_separator or (previous is not None and _are_apart(previous, token))):
            yield Piece(piece)
            piece = []
        if is_separator:
            yield Piece([token])
        else:
            piece.append(token)
        if token.kind != "space":
            previous = None if is_separator else token
    if piece:
        yield Piece(piece)


def _are_apart(before: Token, after: Token) -> bool:
    """Whether two tokens that stand side by side cannot be of one expression."""
    if after.value in ("(", "（"):
        return before.kind == "text" or (before.kind == "word" and before.value not in SIGNATURES)
    return (
        {before.kind, after.kind} == {"text", "word"}
        or before.kind == after.kind == "text"
        or (before.value in (")", "）") and after.kind in ("text", "word"))
    )


class Piece:
    """Tokens of a prompt that may be an expression."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [token for token in tokens if token.kind != "space"]
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        self._called = {one.value for one, other in pairs if other.value == "("}
        self._alone = False
        self.start, self.end = tokens[0].start, tokens[-1].end
        self.bracket = _BRACKETS[tokens[0].value] if tokens[0].kind == "bracket" else ""

    def evidence(self, *, alone: bool) -> Token | None:
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
        ours = OPERATORS.get(token.value, "-")
        if ours == "(":
            return before.value in CALLS and before.end == token.start and self._has_comma_after(place)
        if not (_ends_operand(before) and (_begins_operand(after) or _is_number(after))):
            return False
        check = {"*": _is_multiplied, "/": _is_divided, "+": _is_plus, "-": self._is_minus}.get(ours)
        return check is not None and check(before, token, after)

    def _has_comma_after(self, place: int) -> bool:
        """Whether the parenthesis that opens there holds several arguments, as no word in brackets does."""
        for token in self._tokens[place:]:
            if token.value in (")", "）"):
                return False
            if OPERATORS.get(token.value, token.value) in (",", "，", "、"):
                return True
        return False

    def _is_minus(self, before: Token, token: Token, after: Token) -> bool:
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
        return expression if count_expressions(expression) and parse(expression).kind == "expression" else None

    def _operand(self, words: str, before: Sequence[str]) -> str:
        if before in (["*"], ["/"], [","]) and _NUMBER.fullmatch(words):
            return words
        if words in SIGNATURES and words in self._called:
            return words
        return print_text(words)

    def _at(self, place: int) -> Token | None:
        return self._tokens[place] if 0 <= place < len(self._tokens) else None


def _written(token: Token) -> str:
    """A token that is no word as it stands in an expression."""
    if token.kind == "text":
        inner = token.value[1:-1]
        return print_text(inner.replace("''", "'") if token.value[0] == "'" else inner)
    return OPERATORS.get(token.value, "-" if token.value in DASHES else token.value)


def _is_multiplied(before: Token, _: Token, after: Token) -> bool:
    return _is_number(after) and not _is_number(before)


def _is_divided(before: Token, _: Token, after: Token) -> bool:
    """Whether this is `cat/2`, rather than `24/7`, `f/1.8` or `may/2020`."""
    is_text = before.kind == "text" or before.value == ")"
    return (
        (is_text or _is_plain_word(before))
        and _is_number(after)
        and float(after.value.rstrip("LG")) <= _LARGEST_DIVISOR
    )


def _is_plain_word(token: Token) -> bool:
    return token.kind == "word" and len(token.value) >= _LEAST_LETTERS and token.value.isalpha()


def _is_plus(before: Token, token: Token, after: Token) -> bool:
    """Whether this is `cat+dog`, rather than `6+girls` or `iphone 14+ photo`."""
    is_even = (before.end == token.start) == (token.end == after.start)
    return (is_even and not before.value[-1].isdigit()) or "text" in (before.kind, after.kind)


def _is_number(token: Token) -> bool:
    return token.kind == "word" and _NUMBER.fullmatch(token.value) is not None


def _ends_operand(token: Token) -> bool:
    return token.kind == "text" or token.value in (")", "）") or (token.kind == "word" and token.value[-1].isalnum())


def _begins_operand(token: Token) -> bool:
    return token.kind == "text" or token.value in ("(", "（") or (token.kind == "word" and token.value[0].isalnum())


def count_expressions(text: str) -> int:
    """How many expressions a source holds; none where it cannot be read."""
    try:
        return len(parse(text).expressions)
    except ExpressionError:
        return 0
