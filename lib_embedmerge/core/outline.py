"""How many vectors a source comes to, and which token each stands for: known before anything is computed.

The same walk as core/evaluate.py, over token ids in place of vectors. It finds every mistake that needs the vocabulary
or the model's encoders but no vectors, and refuses what could not be answered at once. Needs neither torch nor a
loaded model, so a token counter can use it on every keystroke.
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
    architecture_of,
    encoder_title,
)
from lib_embedmerge.core.texts import EmbeddingRun, TextReader
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
"""For each vector the id of the token that stands there (scaled or not), or None where it is no single token's."""

ENCODER_LETTERS = {"L": CLIP_L, "G": CLIP_G}

MAX_WORK = 20_000
"""Vectors that one source may handle on the way to its result; about a quarter of a second on a slow CPU."""

_NEAR_CALL, _NEAR_VECTOR = 700, 90
"""Cost of searching the vocabulary, in vectors handled: of every search, and of each vector in it."""

_ORTH_SHARE = 10
"""A projection costs one vector handled for every so many pairs of vectors."""


@dataclass(frozen=True)
class Outliner:
    """Outlines of sources for one reading of texts.

    texts: how texts become tokens and names.  encoders: keys of the model's text encoders.
    vocabulary_size: token ids below this exist.
    written_for: the text encoders of the model that sources are written for, where it is another one.
    """

    texts: TextReader
    encoders: Sequence[str] = SDXL.encoders
    vocabulary_size: int = VOCABULARY_SIZE
    written_for: Sequence[str] = ()

    def outline(self, source: Source) -> Outline:
        """The outline of a whole source. EvaluationError, placed, for what has no meaning here."""
        return _concatenated(self.outlines(source))

    def outlines(self, source: Source) -> list[Outline]:
        """The outline of each of the source's nodes, which one behind the other make the whole."""
        walk = _Walk(self, source.text)
        if source.kind == "expression":
            return [walk.expression(node) for node in source.expressions]
        return [walk.part(part) for part in source.parts]

    def part(self, prompt: str, part: PromptPart) -> Outline:
        """The outline of one part of a prompt by itself. A part that cannot be read counts as nothing."""
        return _Walk(self, prompt).part(part)


class _Walk:
    """One walk through a source, with what it may still cost."""

    def __init__(self, outliner: Outliner, source: str) -> None:
        self._texts = outliner.texts
        self._encoders = outliner.encoders
        self._written_for = outliner.written_for or outliner.encoders
        self._vocabulary_size = outliner.vocabulary_size
        self._source = source
        self._work = 0
        # Which of the encoders count here: all of them, but for what stands in L(...) and G(...).
        self._asked = tuple(outliner.encoders)

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
                "Shorten it, or cut the result with :75.",
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
                outline = _merged([self.expression(term.operand) for term in node.terms])
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
                return (*outline, self._token(postfix))
            case _:
                assert_never(postfix)

    def _call(self, node: Call) -> Outline:
        with self._asking(node.function):
            outlines = [self.expression(argument) for argument in node.arguments]
        if node.function in ENCODER_LETTERS:
            self._check_encoder(node, node.function)
            return outlines[0]
        if node.function == "cat":
            return _concatenated(outlines)
        if node.function in ("sum", "avg"):
            return (None,) * min(1, len(outlines[0]))
        if node.function == "orth":
            left, right = map(len, outlines)
            self._spend(node, (left + right) * right // _ORTH_SHARE)
            return (None,) * left
        if node.function == "near" and not is_settled(node):
            self._spend(node, _NEAR_CALL + len(outlines[0]) * _NEAR_VECTOR)
        return _merged(outlines)

    @contextlib.contextmanager
    def _asking(self, function: str) -> Iterator[None]:
        """While inside, L and G ask their argument for one encoder's vectors alone."""
        before = self._asked
        if function in ENCODER_LETTERS:
            self._asked = tuple(key for key in before if key == ENCODER_LETTERS[function])
        try:
            yield
        finally:
            self._asked = before

    def _text(self, node: Text | AppendText | PromptText) -> Outline:
        outline: list[int | None] = []
        for run in self._texts.runs(node.text):
            if isinstance(run, EmbeddingRun):
                outline += [None] * self._embedding_count(node, run.name)
            else:
                self._check_vocabulary(node, max(run.ids))
                outline += run.ids
        return tuple(outline)

    def _embedding_count(self, node: Node, name: str) -> int:
        try:
            vectors = self._texts.embedding(name).vectors
        except StorageError as error:
            raise self._error(node, f"The embedding {name} cannot be used: {error.message}", error.hint) from error
        if reason := self._not_usable(name, vectors):
            raise self._error(node, *reason)
        return len(next(vectors[key] for key in (*self._asked, *self._encoders, *vectors) if key in vectors))

    def _not_usable(self, name: str, vectors: Mapping[str, Sized]) -> tuple[str, str] | None:
        """Why an embedding's vectors cannot stand here, and what to write instead; None where they can."""
        is_whole = len(self._asked) == len(self._encoders)
        others = [key for key in vectors if key not in ENCODER_TITLES]
        if all(key in vectors for key in self._asked) and not (others and is_whole):
            return None
        usable = [letter for letter, key in ENCODER_LETTERS.items() if key in self._encoders and key in vectors]
        hint = f"Make {name} for this model. If you do not mean the embedding, write the word in another way."
        architecture = architecture_of(tuple(vectors)) if others else None
        if architecture is None:
            return f"The embedding {name} is for {_titles(vectors)}; this model has {_titles(self._encoders)}.", hint
        if usable and len(self._encoders) > 1:
            asked = "+".join(f"{letter}('{name}')" for letter in usable)
            hint = f"Use only the vectors that fit this model: {asked}."
        made_for = f"{architecture.title}, with vectors for {_titles(architecture.encoders)}"
        return f"The embedding {name} is for {made_for}; this model has {_titles(self._encoders)}.", hint

    def _token(self, postfix: AppendToken) -> int | None:
        if isinstance(postfix.token, str):
            tokenizer = self._texts.tokenizer
            # Padding differs between encoders, so it is no single token's.
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
                f"{letter} needs a model with two text encoders; this one has {_titles(self._encoders)}.",
                f"Remove {letter}, or use an SDXL model.",
            )

    def _spend(self, node: Node, vectors: int) -> None:
        self._work += vectors
        if self._work > MAX_WORK:
            raise self._error(node, "This is too much to compute at once.", "Use fewer or shorter parts.")

    def _error(self, node: Node, message: str, hint: str | None) -> EvaluationError:
        return EvaluationError(message, source=self._source, start=node.start, end=node.end, hint=hint)


def is_settled(node: Call) -> bool:
    """Whether this is `near(near(x))`, whose vectors are the closest tokens already, so that no search is needed."""
    inner = node.arguments[0]
    return node.function == "near" and isinstance(inner, Call) and inner.function == "near"


def _titles(encoders: Iterable[str]) -> str:
    return " and ".join(map(encoder_title, encoders))


def _merged(outlines: Sequence[Outline]) -> Outline:
    """Parts blended vector by vector: as long as the longest, tokens of none."""
    return (None,) * max(map(len, outlines))


def _concatenated(outlines: Sequence[Outline]) -> Outline:
    return tuple(token for outline in outlines for token in outline)
