"""What a source text means, as a tree: frozen dataclasses, each with its place in the text.

The place (`start`, `end`, character offsets) is left out of comparisons: two spellings of the same thing are equal.
Postfixes and sums are flat tuples, so that a long expression is not a deep tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lib_embedmerge.errors import ExpressionError

Special = Literal["padding", "end", "start"]
EncoderLetter = Literal["L", "G"]
Sign = Literal["+", "-"]


@dataclass(frozen=True)
class Node:
    """Anything that stands somewhere in the source text."""

    start: int = field(default=0, compare=False, kw_only=True)
    end: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Text(Node):
    """A text in quotes, without the quotes and with '' read as one quote."""

    text: str


@dataclass(frozen=True)
class Number(Node):
    """A number as a function's argument."""

    value: float


@dataclass(frozen=True)
class Scale(Node):
    """`*number` or `/number`, in one encoder (`L`, `G`) or in all (None)."""

    number: float
    divide: bool = False
    encoder: EncoderLetter | None = None


@dataclass(frozen=True)
class Resize(Node):
    """`:count`, the first vectors, with zero vectors behind where there are fewer."""

    count: int


@dataclass(frozen=True)
class Rotate(Node):
    """`:+steps` (positive) or `:-steps` (negative), in a circle to the right or left."""

    steps: int


@dataclass(frozen=True)
class AppendToken(Node):
    """`,token`: the vector of one token id, or of a special token of each encoder."""

    token: int | Special


@dataclass(frozen=True)
class AppendText(Node):
    """`,'text'`."""

    text: str


Postfix = Scale | Resize | Rotate | AppendToken | AppendText


@dataclass(frozen=True)
class Modified(Node):
    """A base and the postfixes behind it, applied from left to right."""

    base: Expression
    postfixes: tuple[Postfix, ...]


@dataclass(frozen=True)
class Term(Node):
    """One operand of a sum with the sign before it; the first operand's sign is +."""

    sign: Sign
    operand: Expression


@dataclass(frozen=True)
class Sum(Node):
    """Two or more operands, added and subtracted from left to right."""

    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Call(Node):
    """A function with its expressions and, where it takes one and it was given, its number."""

    function: str
    arguments: tuple[Expression, ...]
    number: Number | None = None


Expression = Text | Modified | Sum | Call


@dataclass(frozen=True)
class PromptText(Node):
    """A stretch of a prompt that is not ours, as typed."""

    text: str


@dataclass(frozen=True)
class Inline(Node):
    """An expression in a prompt, with its brackets."""

    expression: Expression
    bracket: Literal["<", "{"] = field(default="<", compare=False)


@dataclass(frozen=True)
class BrokenInline(Node):
    """An inline expression that cannot be read, and why."""

    error: ExpressionError = field(compare=False)


PromptPart = PromptText | Inline | BrokenInline


def with_postfixes(base: Expression, postfixes: tuple[Postfix, ...], *, start: int, end: int) -> Expression:
    """`base` with postfixes behind its own, one flat node."""
    if not postfixes:
        return base
    if isinstance(base, Modified):
        return Modified(base.base, base.postfixes + postfixes, start=start, end=end)
    return Modified(base, postfixes, start=start, end=end)
