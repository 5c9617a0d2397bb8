"""The meaning of a source text as a tree of nodes, each with its place in the text. Nobody may change a node.

The place (`start`, `end`, character offsets) does not count in comparisons: two spellings of the same thing are equal.
Postfixes and sums are flat tuples, so that a long expression is not a deep tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lib_embedmerge.errors import ExpressionError
from lib_embedmerge.lang.never import assert_never

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # typing has it from Python 3.11 on

    def dataclass_transform(**_: object) -> Any:
        return lambda decorator: decorator


_Kind = TypeVar("_Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def _node(kind: type[_Kind]) -> type[_Kind]:
    """A dataclass that is frozen for the type checker alone.

    A prompt has hundreds of nodes, and one that refuses changes at run time takes three times as long to make.
    """
    return dataclass(eq=False, repr=False)(kind)


Special = Literal["padding", "end", "start"]
EncoderLetter = Literal["L", "G"]
Sign = Literal["+", "-"]


@_node
class Node:
    """The base of all nodes. start, end: place in the source text, as character offsets."""

    start: int = field(default=0, compare=False, kw_only=True)
    end: int = field(default=0, compare=False, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash((type(self), *self._meaning()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))
        return f"{type(self).__name__}({shown})"

    def _meaning(self) -> tuple[object, ...]:
        """The fields that count in comparisons."""
        return tuple(getattr(self, one.name) for one in fields(self) if one.compare)


@_node
class Text(Node):
    """A text in quotes. text: without the quotes, and with one quote for each pair ''."""

    text: str


@_node
class Number(Node):
    """A number as a function's argument."""

    value: float


@_node
class Scale(Node):
    """`*number`, or `/number` if `divide`. encoder: `L` or `G` for one text encoder only, None for all."""

    number: float
    divide: bool = False
    encoder: EncoderLetter | None = None


@_node
class Resize(Node):
    """`:count`: the first `count` vectors, followed by zero vectors if there are fewer."""

    count: int


@_node
class Rotate(Node):
    """`:+steps` or `:-steps`: the vectors shifted in a circle, to the right if `steps` is positive, or to the left."""

    steps: int


@_node
class AppendToken(Node):
    """`,token`: append the vector of a token id, or of a special token, whose id depends on the text encoder."""

    token: int | Special


@_node
class AppendText(Node):
    """`,'text'`: append the vectors of a text. text: without the quotes, as in Text."""

    text: str


Postfix = Scale | Resize | Rotate | AppendToken | AppendText


@_node
class Modified(Node):
    """An expression and the postfixes after it, which apply from left to right."""

    base: Expression
    postfixes: tuple[Postfix, ...]


@_node
class Term(Node):
    """One operand of a sum and the sign before it, which is + for the first operand."""

    sign: Sign
    operand: Expression


@_node
class Sum(Node):
    """Two or more operands, added and subtracted from left to right."""

    terms: tuple[Term, ...]


@_node
class Call(Node):
    """A call of a function. arguments: the expressions.  number: the number after them, or None."""

    function: str
    arguments: tuple[Expression, ...]
    number: Number | None = None


Expression = Text | Modified | Sum | Call


@_node
class PromptText(Node):
    """The text of a prompt between inline expressions, as typed."""

    text: str


@_node
class Inline(Node):
    """An expression in brackets in a prompt. start, end: with the brackets."""

    expression: Expression
    bracket: Literal["<", "{"] = field(default="<", compare=False)


@_node
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


def collect_texts(node: Expression, texts: list[str]) -> None:
    """Add the texts in an expression, in order, to a list."""
    match node:
        case Text():
            texts.append(node.text)
        case Sum():
            for term in node.terms:
                collect_texts(term.operand, texts)
        case Modified():
            collect_texts(node.base, texts)
            for postfix in node.postfixes:
                match postfix:
                    case AppendText():
                        texts.append(postfix.text)
                    case Scale() | Resize() | Rotate() | AppendToken():
                        pass
                    case _:
                        assert_never(postfix)
        case Call():
            for argument in node.arguments:
                collect_texts(argument, texts)
        case _:
            assert_never(node)
