"""The functions of the language: their names, arguments and one line of help each.

What they compute is in core/vector_walk.py; tests/test_language.py compares the names in both tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Signature:
    """How a function is called.

    usage: an example of a call.  help: what the function gives.
    least, most: how many expressions it takes; most is None if there is no upper bound.
    number: name of the number that follows the expressions, or None.  number_optional: whether it may be left out.
    """

    usage: str
    help: str
    least: int
    most: int | None
    number: str | None = None
    number_optional: bool = False

    @property
    def needs(self) -> str:
        """The arguments that a call must have, in words: `two expressions and a number`."""
        expressions = "one expression" if self.least == 1 else "two expressions"
        if self.most is None:
            expressions += " or more"
        return expressions + (" and a number" if self.number and not self.number_optional else "")


SIGNATURES = MappingProxyType(
    {
        "L": Signature("L(x)", "x in CLIP-L, zero vectors in CLIP-G", 1, 1),
        "G": Signature("G(x)", "x in CLIP-G, zero vectors in CLIP-L", 1, 1),
        "cat": Signature("cat(a, b, ...)", "one after the other", 2, None),
        "mean": Signature("mean(a, b, ...)", "the mean, vector by vector", 2, None),
        "lerp": Signature("lerp(a, b, t)", "from a to b on a straight line", 2, 2, "t"),
        "slerp": Signature("slerp(a, b, t)", "from a to b on an arc", 2, 2, "t"),
        "sum": Signature("sum(x)", "the sum of all vectors of x, as one vector", 1, 1),
        "avg": Signature("avg(x)", "the average of all vectors of x, as one vector", 1, 1),
        "max": Signature("max(x)", "the strongest value of all vectors of x in each dimension, as one vector", 1, 1),
        "pc": Signature("pc(x)", "the main direction of all vectors of x, at their mean length, as one vector", 1, 1),
        "norm": Signature(
            "norm(x, n)", "every vector scaled to n times the model's mean length", 1, 1, "n", number_optional=True
        ),
        "orth": Signature("orth(a, b)", "a without what it has in common with b", 2, 2),
        "near": Signature("near(x)", "every vector replaced by that of the closest token", 1, 1),
    }
)
