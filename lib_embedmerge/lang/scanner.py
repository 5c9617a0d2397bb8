"""Split an expression into tokens, each with its place. Reads one token ahead, so the first mistake is reported."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.invisible import is_invisible

Kind = Literal["text", "number", "name", "symbol", "end"]

_SPACE = re.compile(r"\s*")
# Numbers and names are ASCII only: \d would take digits of every script.
_TOKEN = re.compile(
    r"""
    \s* (?:
        (?P<text> '[^']*(?:''[^']*)*'(?!') )
      | (?P<symbol> [-+*/:,=()] )
      | (?P<number> [0-9]+\.?[0-9]* | \.[0-9]+ )
      | (?P<name> [A-Za-z_][A-Za-z_0-9]* )
    )""",
    re.VERBOSE,
)

LOOKALIKES = MappingProxyType(
    {
        **dict.fromkeys("‘’‚‛`´′＇", "'"),
        **dict.fromkeys('"“”„″＂', "'"),
        **dict.fromkeys("−–—‐‑‒―﹣－", "-"),
        **dict.fromkeys("×✕✖·∙•⋅∗＊", "*"),
        **dict.fromkeys("÷∕⁄／", "/"),
        **dict.fromkeys("＋", "+"),
        **dict.fromkeys("：", ":"),
        **dict.fromkeys("，、", ","),
        **dict.fromkeys("＝", "="),
        **dict.fromkeys("（", "("),
        **dict.fromkeys("）", ")"),
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
    }
)
"""Characters that keyboards and word processors write in place of those of the language -> those of the language."""

_HINTS = MappingProxyType(
    {
        "%": "Write 0.5 for 50%.",
        ";": "Separate parts with a comma.",
        "^": "Powers are not supported; to multiply, write *.",
        "<": "Remove tags such as <lora:name:1> from the expression.",
        "{": "Remove choices and braces from the expression.",
        "[": "Write prompt editing around an expression, in a prompt: [<'cat'>:<'dog'>:0.5].",
    }
)
"""Characters without a meaning in the language that people use -> what to write instead."""


class Token(NamedTuple):
    """A token of an expression.

    value: a text without its quotes, any other token as typed.  start, end: its place, as character offsets.
    """

    kind: Kind
    value: str
    start: int
    end: int


class Scanner:
    """Reads the tokens of source[start:end].

    current: the next token to read.  previous: the token read last.
    ExpressionError for characters that are no token, as soon as they come next.
    """

    def __init__(self, source: str, start: int = 0, end: int | None = None) -> None:
        self.source = source
        self._position = start
        self._stop = len(source) if end is None else end
        self.previous = Token("end", "", start, start)
        self.current = self._scan()

    def advance(self) -> Token:
        """Read the current token and return it; the one after it becomes current."""
        token = self.previous = self.current
        self.current = self._scan()
        return token

    def _scan(self) -> Token:
        match = _TOKEN.match(self.source, self._position, self._stop)
        if match is None:
            return self._scan_end()
        kind: Any = match.lastgroup  # one of Kind
        start, self._position = match.span(kind)
        if kind == "text":
            return Token(kind, self.source[start + 1 : self._position - 1].replace("''", "'"), start, self._position)
        return Token(kind, self.source[start : self._position], start, self._position)

    def _scan_end(self) -> Token:
        """The token after the last one. ExpressionError if there is something else."""
        match = _SPACE.match(self.source, self._position, self._stop)
        position = match.end() if match else self._position
        if position < self._stop:
            raise self._make_error(self.source[position], position)
        self._position = self._stop
        return Token("end", "", self._stop, self._stop)

    def _make_error(self, character: str, position: int) -> ExpressionError:
        """The error for a character with which no token begins. For a quote: it is never closed."""
        if character != "'":
            return self._make_character_error(character, position)
        return ExpressionError(
            "This quote is never closed.",
            source=self.source,
            start=position,
            end=position + 1,
            expected="a text between two quotes, 'like this'",
            hint="Write ' after the text. Write an apostrophe inside a text twice: 'don''t'.",
        )

    def _make_character_error(self, character: str, position: int) -> ExpressionError:
        """The error for a character that no token begins with."""
        ours = LOOKALIKES.get(character)
        shown = character if character.isprintable() else f"U+{ord(character):04X}"
        message, hint = f"The character {shown} has no meaning here.", f"Did you mean {ours} ?" if ours else None
        if is_invisible(character):
            message, hint = f"There is an invisible character here: U+{ord(character):04X}.", "Remove it."
        return ExpressionError(
            message,
            source=self.source,
            start=position,
            end=position + 1,
            expected="a text in quotes, a number, or one of + - * / : , = ( )",
            hint=hint or _HINTS.get(character),
        )
