"""The meaning of a source text as a tree of frozen dataclasses, each with its place in the text.

The place (`start`, `end`, character offsets) does not count in comparisons: two spellings of the same thing are equal.
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
    """The base of all nodes. start, end: place in the source text, as character offsets."""

    start: int = field(default=0, compare=False, kw_only=True)
    end: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Text(Node):
    """A text in quotes. text: without the quotes, and with one quote for each pair ''."""

    text: str


@dataclass(frozen=True)
class Number(Node):
    """A number as a function's argument."""

    value: float


@dataclass(frozen=True)
class Scale(Node):
    """`*number`, or `/number` if `divide`. encoder: `L` or `G` for one text encoder only, None for all."""

    number: float
    divide: bool = False
    encoder: EncoderLetter | None = None


@dataclass(frozen=True)
class Resize(Node):
    """`:count`: the first `count` vectors, followed by zero vectors if there are fewer."""

    count: int


@dataclass(frozen=True)
class Rotate(Node):
    """`:+steps` or `:-steps`: the vectors shifted in a circle, to the right if `steps` is positive, or to the left."""

    steps: int


@dataclass(frozen=True)
class AppendToken(Node):
    """`,token`: append the vector of a token id, or of a special token, whose id depends on the text encoder."""

    token: int | Special


@dataclass(frozen=True)
class AppendText(Node):
    """`,'text'`: append the vectors of a text. text: without the quotes, as in Text."""

    text: str


Postfix = Scale | Resize | Rotate | AppendToken | AppendText


@dataclass(frozen=True)
class Modified(Node):
    """An expression and the postfixes after it, which apply from left to right."""

    base: Expression
    postfixes: tuple[Postfix, ...]


@dataclass(frozen=True)
class Term(Node):
    """One operand of a sum and the sign before it, which is + for the first operand."""

    sign: Sign
    operand: Expression


@dataclass(frozen=True)
class Sum(Node):
    """Two or more operands, added and subtracted from left to right."""

    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Call(Node):
    """A call of a function. arguments: the expressions.  number: the number after them, or None."""

    function: str
    arguments: tuple[Expression, ...]
    number: Number | None = None


Expression = Text | Modified | Sum | Call


@dataclass(frozen=True)
class PromptText(Node):
    """The text of a prompt between inline expressions, as typed."""

    text: str


@dataclass(frozen=True)
class Inline(Node):
    """An expression in brackets in a prompt. start, end: with the brackets."""

    expression: Expression
    bracket: Literal["<", "{"] = field(default="<", compare=False)


@dataclass(frozen=True)
class BrokenInline(Node):
    """An expression in brackets in a prompt that cannot be read. error: why."""

    error: ExpressionError = field(compare=False)


PromptPart = PromptText | Inline | BrokenInline


def with_postfixes(base: Expression, postfixes: tuple[Postfix, ...], *, start: int, end: int) -> Expression:
    """One flat node for `base` with more postfixes after its own; `base` itself if there are none."""
    if not postfixes:
        return base
    if isinstance(base, Modified):
        return Modified(base.base, base.postfixes + postfixes, start=start, end=end)
    return Modified(base, postfixes, start=start, end=end)
