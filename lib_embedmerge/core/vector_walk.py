"""The walk over the nodes of a source that computes their vectors, and what each function of the language computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lib_embedmerge.core import operations
from lib_embedmerge.core.architecture import ENCODER_TITLES
from lib_embedmerge.core.arrays import Array, find_library, place_like
from lib_embedmerge.core.outline import ENCODER_LETTERS, Outline, is_repeated_near
from lib_embedmerge.core.ports import TextEncoder
from lib_embedmerge.core.texts import Run, TokenRun
from lib_embedmerge.core.token_rows import EncoderGroup
from lib_embedmerge.errors import EvaluationError
from lib_embedmerge.lang.never import assert_never
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Call,
    Expression,
    Inline,
    Modified,
    Node,
    Postfix,
    PromptPart,
    PromptText,
    Resize,
    Rotate,
    Scale,
    Sum,
    Text,
)
from lib_embedmerge.lang.source import Source


class VectorWalk:
    """The evaluation of one source for a group of text encoders.

    vectors: of the whole source; may be a view of the rows. All methods return theirs side by side as well: float32
        [n, sum of the widths].
    """

    def __init__(self, group: EncoderGroup, source: Source, outline: Outline) -> None:
        """outline: of the source. EvaluationError if this group reads the source as another number of tokens."""
        self._group = group
        self._texts = group.texts
        self._source = source
        nodes: Sequence[Expression | PromptPart] = source.nodes
        self._values = [self._value(node) for node in nodes]
        self.vectors: Array = operations.concatenate(self._values) if nodes else group.empty
        if self.vectors.shape[0] != len(outline):
            raise self._error(
                nodes[0] if len(nodes) == 1 else None,
                f"The two text encoders read this as {len(outline)} and {len(self.vectors)} tokens.",
                "Remove special texts such as <|endoftext|>: the two text encoders read these differently.",
            )

    def find_infinite(self) -> EvaluationError | None:
        """The error for the first part with a value that is not finite, or None."""
        for node, value in zip(self._source.nodes, self._values, strict=True):
            if not operations.is_finite(value):
                return self._error(
                    node,
                    "The result contains values that are not finite numbers.",
                    "Use smaller numbers. If yours are not large, the model or an embedding named here is broken.",
                )
        return None

    def _value(self, node: Expression | PromptPart) -> Array:
        match node:
            case PromptText():
                return self._text(node.text)
            case Inline():
                return self._expression(node.expression)
            case BrokenInline():
                raise node.error
            case _:
                return self._expression(node)

    def _expression(self, node: Expression) -> Array:
        match node:
            case Text():
                return self._text(node.text)
            case Sum():
                return self._sum(node)
            case Modified():
                vectors = self._expression(node.base)
                for postfix in node.postfixes:
                    vectors = self._postfix(vectors, postfix)
                return vectors
            case Call():
                return self._call(node)
            case _:
                assert_never(node)

    def _sum(self, node: Sum) -> Array:
        first, *rest = node.terms
        total = self._expression(first.operand)
        for term in rest:
            operation = operations.add if term.sign == "+" else operations.subtract
            total = operation(total, self._expression(term.operand))
        return total

    def _call(self, node: Call) -> Array:
        if is_repeated_near(node):
            return self._expression(node.arguments[0])
        arguments = [self._expression(argument) for argument in node.arguments]
        function, number = FUNCTIONS[node.function], node.number.value if node.number else None
        if node.function in _NUMBER_BY_NUMBER:
            return function(self._group.encoders[0], arguments, number)
        split = zip(*map(self._group.split, arguments), strict=True)
        parts = zip(self._group.encoders, split, strict=True)
        return self._group.join([function(encoder, of_encoder, number) for encoder, of_encoder in parts])

    def _postfix(self, vectors: Array, postfix: Postfix) -> Array:
        match postfix:
            case Scale():
                return self._scale(vectors, postfix)
            case Resize():
                return operations.resize(vectors, postfix.count)
            case Rotate():
                return operations.rotate(vectors, postfix.steps)
            case AppendText():
                return operations.concatenate((vectors, self._text(postfix.text)))
            case AppendToken():
                rows = [encoder.vectors([_find_token_id(encoder, postfix)]) for encoder in self._group.encoders]
                return operations.concatenate((vectors, self._group.join(rows)))
            case _:
                assert_never(postfix)

    def _scale(self, vectors: Array, postfix: Scale) -> Array:
        operation = operations.divide if postfix.divide else operations.scale
        if postfix.encoder is None:
            return operation(vectors, postfix.number)
        columns = self._group.columns.get(ENCODER_LETTERS[postfix.encoder], slice(0))
        copy = find_library(vectors).copy(vectors)
        copy[:, columns] = operation(vectors[:, columns], postfix.number)
        scaled: Array = copy
        return scaled

    def _text(self, text: str) -> Array:
        runs = self._texts.runs(text)
        return operations.concatenate([self._run(run) for run in runs]) if runs else self._group.empty

    def _run(self, run: Run) -> Array:
        if isinstance(run, TokenRun):
            return self._group.runs[run.ids]
        by_encoder = self._texts.embedding(run.name).vectors
        count = len(next(by_encoder[key] for key in (*ENCODER_TITLES, *by_encoder) if key in by_encoder))
        empty, parts = self._group.empty, []
        for encoder in self._group.encoders:
            vectors = by_encoder.get(encoder.key)
            if vectors is None:
                # The outline has checked that only another encoder needs the vectors, as in L('x').
                parts.append(find_library(empty).zeros(count, encoder.width, empty))
            else:
                copy = find_library(vectors).copy(vectors)  # so that nobody changes the embedding's own
                parts.append(place_like(copy, empty))
        return self._group.join(parts)

    def _error(self, node: Node | None, message: str, hint: str) -> EvaluationError:
        text = self._source.text
        start, end = (node.start, node.end) if node else (0, len(text))
        return EvaluationError(message, source=text, start=start, end=end, hint=hint)


def _find_token_id(encoder: TextEncoder, postfix: AppendToken) -> int:
    if isinstance(postfix.token, int):
        return postfix.token
    tokenizer = encoder.tokenizer
    special = {"padding": encoder.padding_id, "start": tokenizer.start_id, "end": tokenizer.end_id}
    return special[postfix.token]


def _make_encoder_filter(letter: str) -> Callable[[TextEncoder, Sequence[Array], float | None], Array]:
    key = ENCODER_LETTERS[letter]
    return lambda encoder, args, _: args[0] if encoder.key == key else find_library(args[0]).full(args[0], 0.0)


def _normalise(encoder: TextEncoder, args: Sequence[Array], number: float | None) -> Array:
    return operations.normalise(args[0], encoder.mean_length() * (1.0 if number is None else number))


def _replace_by_nearest(encoder: TextEncoder, args: Sequence[Array], _: float | None) -> Array:
    vectors = find_library(args[0]).copy(args[0])
    nearest = [(row, tokens[0].id) for row, tokens in enumerate(encoder.nearest(vectors, 1)) if tokens]
    if nearest:
        vectors[[row for row, _ in nearest]] = encoder.vectors([token for _, token in nearest])
    replaced: Array = vectors
    return replaced


FUNCTIONS: Mapping[str, Callable[[TextEncoder, Sequence[Array], float | None], Array]] = {
    "L": _make_encoder_filter("L"),
    "G": _make_encoder_filter("G"),
    "cat": lambda _, args, __: operations.concatenate(args),
    "mean": lambda _, args, __: operations.mean(args),
    "lerp": lambda _, args, t: operations.lerp(args[0], args[1], t or 0.0),
    "slerp": lambda _, args, t: operations.slerp(args[0], args[1], t or 0.0),
    "sum": lambda _, args, __: operations.sum_rows(args[0]),
    "avg": lambda _, args, __: operations.average(args[0]),
    "max": lambda _, args, __: operations.choose_strongest(args[0]),
    "pc": lambda _, args, __: operations.find_main_direction(args[0]),
    "norm": _normalise,
    "orth": lambda _, args, __: operations.orthogonalise(args[0], args[1]),
    "near": _replace_by_nearest,
}
"""Name of a function in lang/functions.py -> what it computes for one text encoder.

Each takes the encoder, the vectors of the arguments, [n, width], and the number or None.
"""

_NUMBER_BY_NUMBER = frozenset({"cat", "mean", "lerp", "sum", "avg", "max"})
"""Functions that compute each number by itself, so that they act on the vectors of several text encoders at once."""
