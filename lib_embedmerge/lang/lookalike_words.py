"""Split a prompt into words, texts, operators and brackets, and find what looks like an expression without quotes."""

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
"""Characters that people write for an operator -> the operator of the language."""

_BRACKETS = {"<": "<", ">": ">", "{": "{", "}": "}", "＜": "<", "＞": ">", "‹": "<", "›": ">", "｛": "{", "｝": "}"}
DASHES = "-−–—"
"""Characters that people write for a minus sign."""

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
CALLS = frozenset(SIGNATURES) - {"cat", "L", "G", "max", "pc"}
"""Functions whose name hardly ever stands before a parenthesis in a prompt. Counted only with several arguments."""

_UNLIKELY = re.compile(r"[\[\]\\|]|:[\d.]+\Z|\A(?:lora|lyco|hypernet|embed|random|wildcard):", re.ASCII)
"""Syntax of other programs or an attention weight, which no text of an expression that lost its quotes contains."""

_LEAST_LETTERS = 3
_LARGEST_DIVISOR = 10


@dataclass(frozen=True)
class Token:
    """A token of a prompt. value: as typed.  start, end: its place in the prompt, as character offsets."""

    kind: Literal["space", "text", "operator", "bracket", "word", "other"]
    value: str
    start: int
    end: int


def split_tokens(prompt: str) -> Iterator[Token]:
    """The tokens of a prompt in order; together they cover the whole prompt."""
    for match in _PIECE.finditer(prompt):
        kind = match.lastgroup or "other"
        yield Token(kind, match[0], match.start(), match.end())  # type: ignore[arg-type] # the pattern's group names


def split_pieces(tokens: Sequence[Token]) -> Iterator[Piece]:
    """The tokens in pieces that may each be one expression.

    A piece ends at a comma, at a bracket, and between texts or words that no operator joins. Commas and brackets
    are pieces of their own.
    """
    piece: list[Token] = []
    previous: Token | None = None
    depth = 0
    for token in tokens:
        operator = OPERATORS.get(token.value, token.value) if token.kind == "operator" else ""
        depth += (operator == "(") - (operator == ")")
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
    """Whether two neighbouring tokens cannot belong to one expression."""
    if after.value in ("(", "（"):
        return before.kind == "text" or (before.kind == "word" and before.value not in SIGNATURES)
    return (
        {before.kind, after.kind} == {"text", "word"}
        or before.kind == after.kind == "text"
        or (before.value in (")", "）") and after.kind in ("text", "word"))
    )


class Piece:
    """Neighbouring tokens of a prompt that may be one expression.

    start, end: its place in the prompt, as character offsets.
    bracket: for a piece that is one bracket the bracket of the language, such as `<` for `＜`; else empty.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [token for token in tokens if token.kind != "space"]
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        self._function_names = {token.value for token, following in pairs if following.value == "("}
        self._is_whole_prompt = False
        self.start, self.end = tokens[0].start, tokens[-1].end
        self.bracket = _BRACKETS[tokens[0].value] if tokens[0].kind == "bracket" else ""

    def find_evidence(self, *, alone: bool) -> Token | None:
        """The first sign that this piece is an expression, or None. alone: whether the piece is the whole prompt."""
        self._is_whole_prompt = alone
        if any(token.kind == "other" or _UNLIKELY.search(token.value) for token in self._tokens):
            return None
        signs = (token for index, token in enumerate(self._tokens) if self._is_sign(index))
        return next(signs, None)

    def _is_sign(self, index: int) -> bool:
        """Whether the token at this index is an operator that shows that the piece is an expression."""
        token, before, after = self._tokens[index], self._token_at(index - 1), self._token_at(index + 1)
        if token.kind != "operator" or before is None or after is None:
            return False
        operator = OPERATORS.get(token.value, "-")
        if operator == "(":
            return before.value in CALLS and before.end == token.start and self._has_comma_after(index)
        if not (_ends_operand(before) and (_begins_operand(after) or _is_number(after))):
            return False
        check = {"*": _is_multiplied, "/": _is_divided, "+": _is_plus, "-": self._is_minus}.get(operator)
        return check is not None and check(before, token, after)

    def _has_comma_after(self, index: int) -> bool:
        """Whether the parenthesis that opens at this token has several arguments, unlike a word in brackets."""
        for token in self._tokens[index:]:
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
        is_whole = self._is_whole_prompt and len(self._tokens) == 3
        return is_whole and not is_tight and _is_plain_word(before) and _is_plain_word(after)

    def as_expression(self) -> str | None:
        """The piece as an expression, with its words in quotes, or None if that is not a valid expression."""
        written: list[str] = []
        words: list[str] = []
        for token in [*self._tokens, None]:
            if token is not None and token.kind == "word":
                words.append(token.value)
                continue
            if words:
                written.append(self._write_operand(" ".join(words), written[-1:]))
                words = []
            if token is not None:
                written.append(_write_token(token))
        expression = "".join(written)
        return expression if count_expressions(expression) and parse(expression).kind == "expression" else None

    def _write_operand(self, words: str, before: Sequence[str]) -> str:
        if before in (["*"], ["/"], [","]) and _NUMBER.fullmatch(words):
            return words
        if words in SIGNATURES and words in self._function_names:
            return words
        return print_text(words)

    def _token_at(self, index: int) -> Token | None:
        return self._tokens[index] if 0 <= index < len(self._tokens) else None


def _write_token(token: Token) -> str:
    """A token that is not a word, as an expression spells it."""
    if token.kind == "text":
        inner = token.value[1:-1]
        return print_text(inner.replace("''", "'") if token.value[0] == "'" else inner)
    return OPERATORS.get(token.value, "-" if token.value in DASHES else token.value)


def _is_multiplied(before: Token, _: Token, after: Token) -> bool:
    return _is_number(after) and not _is_number(before)


def _is_divided(before: Token, _: Token, after: Token) -> bool:
    """Whether tokens are like `cat/2`, and not like `24/7`, `f/1.8` or `may/2020`."""
    is_text = before.kind == "text" or before.value == ")"
    return (
        (is_text or _is_plain_word(before))
        and _is_number(after)
        and float(after.value.rstrip("LG")) <= _LARGEST_DIVISOR
    )


def _is_plain_word(token: Token) -> bool:
    return token.kind == "word" and len(token.value) >= _LEAST_LETTERS and token.value.isalpha()


def _is_plus(before: Token, token: Token, after: Token) -> bool:
    """Whether tokens are like `cat+dog`, and not like `6+girls` or `iphone 14+ photo`."""
    is_even = (before.end == token.start) == (token.end == after.start)
    return (is_even and not before.value[-1].isdigit()) or "text" in (before.kind, after.kind)


def _is_number(token: Token) -> bool:
    return token.kind == "word" and _NUMBER.fullmatch(token.value) is not None


def _ends_operand(token: Token) -> bool:
    return token.kind == "text" or token.value in (")", "）") or (token.kind == "word" and token.value[-1].isalnum())


def _begins_operand(token: Token) -> bool:
    return token.kind == "text" or token.value in ("(", "（") or (token.kind == "word" and token.value[0].isalnum())


def count_expressions(text: str) -> int:
    """The number of expressions in a source; 0 if the source cannot be read."""
    try:
        return len(parse(text).expressions)
    except ExpressionError:
        return 0
