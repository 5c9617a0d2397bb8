"""Hypothesis strategies, named as the field's vocabulary."""

from __future__ import annotations

from hypothesis import strategies as st

from lib_embedmerge.lang.functions import SIGNATURES
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    Call,
    Expression,
    Number,
    Postfix,
    Resize,
    Rotate,
    Scale,
    Sum,
    Term,
    Text,
    with_postfixes,
)
from lib_embedmerge.lang.numbers import to_float32

texts = st.text(max_size=12)
words = st.sampled_from(["cat", "dog", "photo of a cat", "", "a, b", "it's", "猫", "masterpiece"])
numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.0, 1.0, -0.5, 1 / 3, 1e-7])
divisors = numbers.filter(lambda number: bool(to_float32(number)))


def postfixes(content: st.SearchStrategy[str]) -> st.SearchStrategy[Postfix]:
    letters = st.sampled_from([None, "L", "G"])
    return (
        st.builds(Scale, numbers, st.just(False), letters)
        | st.builds(Scale, divisors, st.just(True), letters)
        | st.builds(Resize, st.integers(0, 20))
        | st.builds(Rotate, st.integers(-9, 9))
        | st.builds(AppendText, content)
        | st.builds(AppendToken, st.integers(0, 49407) | st.sampled_from(["padding", "end", "start"]))
    )


def expressions(content: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Expression]:
    """Whole expressions of every form, some levels deep."""
    return st.recursive(st.builds(Text, content), lambda inner: _compound(inner, content), max_leaves=8)


def _compound(inner: st.SearchStrategy[Expression], content: st.SearchStrategy[str]) -> st.SearchStrategy[Expression]:
    first = inner.map(lambda node: Term("+", node))
    term = st.builds(Term, st.sampled_from(["+", "-"]), inner)
    sums = st.tuples(first, st.lists(term, min_size=1, max_size=3)).map(lambda t: Sum((t[0], *t[1])))
    changed = st.tuples(inner, st.lists(postfixes(content), min_size=1, max_size=3)).map(
        lambda pair: with_postfixes(pair[0], tuple(pair[1]), start=0, end=0)
    )
    return sums | changed | st.sampled_from(sorted(SIGNATURES)).flatmap(lambda name: _calls(name, inner))


def _calls(name: str, inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    signature = SIGNATURES[name]
    arguments = st.lists(inner, min_size=signature.least, max_size=signature.most or signature.least + 2).map(tuple)
    number: st.SearchStrategy[Number | None] = st.none()
    if signature.number:
        number = st.builds(Number, numbers)
        if signature.number_optional:
            number |= st.none()
    return st.builds(Call, st.just(name), arguments, number)


sources = st.text(alphabet=st.sampled_from(list("'''<>{}()+-*/:,=.0123456789LG catslerpnorm\n")), max_size=40)
"""Texts that are often nearly expressions."""
