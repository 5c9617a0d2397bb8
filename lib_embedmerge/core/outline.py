"""Find how many vectors a source has, and which token each one comes from, without computing them.

This is the walk of core/vector_walk.py over token ids in place of vectors. It finds every mistake that depends on the
vocabulary or the model's encoders but not on vectors, and refuses sources that would take too long. It needs neither
torch nor a loaded model, so a token counter can use it after every key press.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

from lib_embedmerge.core.architecture import (
    CLIP_G,
    CLIP_L,
    ENCODER_TITLES,
    MAX_VECTORS,
    SDXL,
    VOCABULARY_SIZE,
    find_architecture,
    find_encoder_title,
)
from lib_embedmerge.core.texts import EmbeddingRun, TextReader, TokenRun
from lib_embedmerge.errors import EvaluationError, StorageError
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

Outline = tuple[int | None, ...]
"""For each vector the id of the token that it is, scaled or not, or None if it is not that of a single token."""

ENCODER_LETTERS = {"L": CLIP_L, "G": CLIP_G}

MAX_WORK = 20_000
"""Vectors that the evaluation of one source may compute in all; about a quarter of a second on a slow CPU."""

_NEAR_CALL, _NEAR_VECTOR = 700, 90
"""Cost of a search in the vocabulary, and of each vector in the search, as a number of computed vectors."""

_ORTH_SHARE = 10
"""Number of pairs of vectors in a projection that cost as much as one computed vector."""


@dataclass(frozen=True)
class Outliner:
    """Makes the outlines of sources for one model, or without a model.

    texts: reads texts into tokens and names of embeddings.  encoders: keys of the model's text encoders.
    vocabulary_size: the number of token ids, which start at 0.
    written_for: the text encoders of the model for which sources are written, if that is another one; else empty.
    """

    texts: TextReader
    encoders: Sequence[str] = SDXL.encoders
    vocabulary_size: int = VOCABULARY_SIZE
    written_for: Sequence[str] = ()

    def outline(self, source: Source) -> Outline:
        """The outline of a whole source. EvaluationError, with its place, if it has no meaning on the model."""
        return _concatenate(self.outlines(source))

    def outlines(self, source: Source) -> list[Outline]:
        """The outline of each node of a source; joined, they are the outline of the source.

        EvaluationError, with its place, if the source has no meaning on the model.
        """
        walk = _Walk(self, source.text)
        if source.kind == "expression":
            return [walk.expression(node) for node in source.expressions]
        return [walk.part(part) for part in source.parts]

    def part(self, prompt: str, part: PromptPart) -> Outline:
        """The outline of one part of a prompt; empty for a broken expression.

        EvaluationError, with its place in `prompt`, if the part has no meaning on the model.
        """
        return _Walk(self, prompt).part(part)


class _Walk:
    """One walk through a source, which adds up the cost of its evaluation."""

    def __init__(self, outliner: Outliner, source: str) -> None:
        self._texts = outliner.texts
        self._encoders = outliner.encoders
        self._written_for = outliner.written_for or outliner.encoders
        self._vocabulary_size = outliner.vocabulary_size
        self._source = source
        self._work = 0
        # The encoders whose vectors are needed: all of them, or inside L(...) and G(...) only one.
        self._needed_encoders = tuple(outliner.encoders)

    def part(self, part: PromptPart) -> Outline:
        match part:
            case PromptText():
                return self._text(part)
            case Inline():
                return self._inline(part)
            case BrokenInline():
                return ()
            case _:
                assert_never(part)

    def _inline(self, part: Inline) -> Outline:
        outline = self.expression(part.expression)
        if len(outline) > MAX_VECTORS:
            raise self._error(
                part,
                f"This expression makes {len(outline)} vectors; inside a prompt it can make at most {MAX_VECTORS}.",
                "Shorten it, or write :75 after it to keep the first 75 vectors.",
            )
        return outline

    def expression(self, node: Expression) -> Outline:
        match node:
            case Text():
                outline = self._text(node)
            case Modified():
                outline = self.expression(node.base)
                for postfix in node.postfixes:
                    outline = self._postfix(outline, postfix)
                    self._spend(postfix, len(outline))
            case Sum():
                outline = _merge([self.expression(term.operand) for term in node.terms])
            case Call():
                outline = self._call(node)
            case _:
                assert_never(node)
        self._spend(node, len(outline))
        return outline

    def _postfix(self, outline: Outline, postfix: Postfix) -> Outline:
        match postfix:
            case Scale():
                if postfix.encoder:
                    self._check_encoder(postfix, postfix.encoder)
                return outline
            case Resize():
                return outline[: postfix.count] + (None,) * (postfix.count - len(outline))
            case Rotate():
                shift = postfix.steps % len(outline) if outline else 0
                return outline[len(outline) - shift :] + outline[: len(outline) - shift]
            case AppendText():
                return outline + self._text(postfix)
            case AppendToken():
                return (*outline, self._find_token_id(postfix))
            case _:
                assert_never(postfix)

    def _call(self, node: Call) -> Outline:
        with self._needing(node.function):
            outlines = [self.expression(argument) for argument in node.arguments]
        if node.function in ENCODER_LETTERS:
            self._check_encoder(node, node.function)
            return outlines[0]
        if node.function == "cat":
            return _concatenate(outlines)
        if node.function == "pc":
            self._spend(node, len(outlines[0]) ** 2 // _ORTH_SHARE)
        if node.function in ("sum", "avg", "max", "pc"):
            return (None,) * min(1, len(outlines[0]))
        if node.function == "orth":
            left, right = map(len, outlines)
            self._spend(node, (left + right) * right // _ORTH_SHARE)
            return (None,) * left
        if node.function == "near" and not is_repeated_near(node):
            self._spend(node, _NEAR_CALL + len(outlines[0]) * _NEAR_VECTOR)
        return _merge(outlines)

    @contextlib.contextmanager
    def _needing(self, function: str) -> Iterator[None]:
        """Inside the `with` block, walk the arguments of a function. L and G need the vectors of one encoder only."""
        before = self._needed_encoders
        if function in ENCODER_LETTERS:
            self._needed_encoders = tuple(key for key in before if key == ENCODER_LETTERS[function])
        try:
            yield
        finally:
            self._needed_encoders = before

    def _text(self, node: Text | AppendText | PromptText) -> Outline:
        runs = self._texts.runs(node.text)
        if len(runs) == 1 and isinstance(runs[0], TokenRun):  # as most texts are
            self._check_vocabulary(node, max(runs[0].ids))
            return runs[0].ids
        outline: list[int | None] = []
        for run in runs:
            if isinstance(run, EmbeddingRun):
                outline += [None] * self._count_embedding_vectors(node, run.name)
            else:
                self._check_vocabulary(node, max(run.ids))
                outline += run.ids
        return tuple(outline)

    def _count_embedding_vectors(self, node: Node, name: str) -> int:
        """The number of vectors of a named embedding. EvaluationError if it cannot be used in this place."""
        try:
            vectors = self._texts.embedding(name).vectors
        except StorageError as error:
            raise self._error(node, f"The embedding {name} cannot be used: {error.message}", error.hint) from error
        if reason := self._explain_unusable(name, vectors):
            raise self._error(node, *reason)
        return len(next(vectors[key] for key in (*self._needed_encoders, *self._encoders, *vectors) if key in vectors))

    def _explain_unusable(self, name: str, vectors: Mapping[str, Sized]) -> tuple[str, str] | None:
        """(message, hint) if the vectors of an embedding cannot be used in this place, else None."""
        is_whole = len(self._needed_encoders) == len(self._encoders)
        others = [key for key in vectors if key not in ENCODER_TITLES]
        if all(key in vectors for key in self._needed_encoders) and not (others and is_whole):
            return None
        usable = [letter for letter, key in ENCODER_LETTERS.items() if key in self._encoders and key in vectors]
        hint = f"Make {name} for this model. If you do not mean the embedding, write the word in another way."
        architecture = find_architecture(tuple(vectors)) if others else None
        if architecture is None:
            return (
                f"The embedding {name} is for {_list_titles(vectors)}; this model has {_list_titles(self._encoders)}.",
                hint,
            )
        if usable and len(self._encoders) > 1:
            calls = "+".join(f"{letter}('{name}')" for letter in usable)
            hint = f"Use only the vectors that fit this model: {calls}."
        made_for = f"{architecture.title}, with vectors for {_list_titles(architecture.encoders)}"
        return f"The embedding {name} is for {made_for}; this model has {_list_titles(self._encoders)}.", hint

    def _find_token_id(self, postfix: AppendToken) -> int | None:
        if isinstance(postfix.token, str):
            tokenizer = self._texts.tokenizer
            # The id of the padding token differs between encoders, so it has none here.
            return {"start": tokenizer.start_id, "end": tokenizer.end_id}.get(postfix.token)
        self._check_vocabulary(postfix, postfix.token)
        return postfix.token

    def _check_vocabulary(self, node: Node, token: int) -> None:
        if token >= self._vocabulary_size:
            hint = f"Token ids go from 0 to {self._vocabulary_size - 1}."
            raise self._error(node, f"Token {token} is not in the vocabulary.", hint)

    def _check_encoder(self, node: Node, letter: str) -> None:
        if ENCODER_LETTERS[letter] not in self._written_for or len(self._written_for) < 2:
            raise self._error(
                node,
                f"{letter} needs a model with two text encoders; this one has {_list_titles(self._encoders)}.",
                f"Remove {letter}, or use an SDXL model.",
            )

    def _spend(self, node: Node, vectors: int) -> None:
        """Add a number of vectors to the cost. EvaluationError at `node` if the source costs more than MAX_WORK."""
        self._work += vectors
        if self._work > MAX_WORK:
            raise self._error(node, "This is too much to compute at once.", "Use fewer or shorter parts.")

    def _error(self, node: Node, message: str, hint: str | None) -> EvaluationError:
        return EvaluationError(message, source=self._source, start=node.start, end=node.end, hint=hint)


def is_repeated_near(node: Call) -> bool:
    """Whether a call is `near(near(x))`. Its argument already gives the closest tokens, so it needs no search."""
    inner = node.arguments[0]
    return node.function == "near" and isinstance(inner, Call) and inner.function == "near"


def _list_titles(encoders: Iterable[str]) -> str:
    return " and ".join(map(find_encoder_title, encoders))


def _merge(outlines: Sequence[Outline]) -> Outline:
    """The outline of parts that are combined vector by vector: as long as the longest, without token ids."""
    return (None,) * max(map(len, outlines))


def _concatenate(outlines: Sequence[Outline]) -> Outline:
    return outlines[0] if len(outlines) == 1 else tuple(token for outline in outlines for token in outline)
