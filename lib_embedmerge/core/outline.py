"""How many vectors a source comes to, and which token each stands for: known before anything is computed.

The same walk as core/evaluate.py, over token ids in place of vectors. It finds every mistake that needs the vocabulary
or the model's encoders but no vectors, and refuses what could not be answered at once. Needs neither torch nor a
loaded model, so a token counter can use it on every keystroke.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, ENCODER_TITLES, MAX_VECTORS, SDXL, VOCABULARY_SIZE
from lib_embedmerge.core.texts import EmbeddingRun, Texts
from lib_embedmerge.errors import EvaluationError, StorageError
from lib_embedmerge.lang.nodes import (
    AppendText,
    AppendToken,
    BrokenInline,
    Call,
    Expression,
    Inline,
    Node,
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

_NEAR_WORK = 100
"""Cost of one search through the vocabulary, in vectors handled."""

_ORTH_SHARE = 10
"""A projection costs one vector handled for every so many pairs of vectors."""


@dataclass
class Outliner:
    """Outlines of expressions and prompts for one reading of texts.

    texts: how texts become tokens and names.  encoders: keys of the model's text encoders.
    vocabulary_size: token ids below this exist.
    """

    texts: Texts
    encoders: Sequence[str] = SDXL.encoders
    vocabulary_size: int = VOCABULARY_SIZE
    _source: str = field(default="", init=False)
    _work: int = field(default=0, init=False)

    def outline(self, source: Source) -> Outline:
        """The outline of a whole source. EvaluationError, placed, for what has no meaning here."""
        self._source, self._work = source.text, 0
        if source.kind == "expression":
            return _concatenated([self._expression(node) for node in source.expressions])
        return _concatenated([self.part(source.text, part) for part in source.parts])

    def part(self, source: str, part: PromptText | Inline | BrokenInline) -> Outline:
        """The outline of one part of a prompt. A part that cannot be read counts as nothing."""
        self._source = source
        if isinstance(part, PromptText):
            return self._text(part)
        if isinstance(part, BrokenInline):
            return ()
        outline = self._expression(part.expression)
        if len(outline) > MAX_VECTORS:
            raise self._error(
                part,
                f"This expression makes {len(outline)} vectors; inside a prompt it can make {MAX_VECTORS}.",
                "Shorten it, or cut the result with :75.",
            )
        return outline

    def _expression(self, node: Expression) -> Outline:
        if isinstance(node, Text):
            outline = self._text(node)
        elif isinstance(node, Sum):
            outline = _merged([self._expression(term.operand) for term in node.terms])
        elif isinstance(node, Call):
            outline = self._call(node)
        else:
            outline = self._expression(node.base)
            for postfix in node.postfixes:
                outline = self._postfix(outline, postfix)
                self._spend(postfix, len(outline))
        self._spend(node, len(outline))
        return outline

    def _postfix(self, outline: Outline, postfix: Node) -> Outline:
        if isinstance(postfix, Resize):
            return outline[: postfix.count] + (None,) * (postfix.count - len(outline))
        if isinstance(postfix, Rotate):
            shift = postfix.steps % len(outline) if outline else 0
            return outline[len(outline) - shift :] + outline[: len(outline) - shift]
        if isinstance(postfix, AppendText):
            return outline + self._text(postfix)
        if isinstance(postfix, AppendToken):
            return (*outline, self._token(postfix))
        if isinstance(postfix, Scale) and postfix.encoder:
            self._check_encoder(postfix, postfix.encoder)
        return outline

    def _call(self, node: Call) -> Outline:
        outlines = [self._expression(argument) for argument in node.arguments]
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
        if node.function == "near":
            self._spend(node, len(outlines[0]) * _NEAR_WORK)
        return _merged(outlines)

    def _text(self, node: Text | AppendText | PromptText) -> Outline:
        outline: list[int | None] = []
        for run in self.texts.runs(node.text):
            if isinstance(run, EmbeddingRun):
                outline += [None] * self._embedding_count(node, run.name)
            else:
                outline += run.ids
        return tuple(outline)

    def _embedding_count(self, node: Node, name: str) -> int:
        try:
            vectors = self.texts.embedding(name).vectors
        except StorageError as error:
            raise self._error(node, f"The embedding {name} cannot be used: {error.message}", error.hint) from error
        missing = [key for key in self.encoders if key not in vectors]
        if missing:
            raise self._error(
                node,
                f"The embedding {name} is for {_titles(vectors)}; this model has {_titles(self.encoders)}.",
                f"Write the name in another way if you do not mean the embedding, or make {name} for this model.",
            )
        return len(vectors[self.encoders[0]])

    def _token(self, postfix: AppendToken) -> int | None:
        if isinstance(postfix.token, str):
            tokenizer = self.texts.tokenizer
            # Padding differs between encoders, so it is no single token's.
            return {"start": tokenizer.start_id, "end": tokenizer.end_id}.get(postfix.token)
        if postfix.token >= self.vocabulary_size:
            raise self._error(
                postfix,
                f"Token {postfix.token} is not in the vocabulary.",
                f"Token ids go from 0 to {self.vocabulary_size - 1}.",
            )
        return postfix.token

    def _check_encoder(self, node: Node, letter: str) -> None:
        if ENCODER_LETTERS[letter] not in self.encoders or len(self.encoders) < 2:
            raise self._error(
                node,
                f"{letter} needs a model with two text encoders; this one has {_titles(self.encoders)}.",
                f"Leave {letter} out, or use an SDXL model.",
            )

    def _spend(self, node: Node, vectors: int) -> None:
        self._work += vectors
        if self._work > MAX_WORK:
            raise self._error(node, "This is too much to compute at once.", "Use fewer or shorter parts.")

    def _error(self, node: Node, message: str, hint: str | None) -> EvaluationError:
        return EvaluationError(message, source=self._source, start=node.start, end=node.end, hint=hint)


def _titles(encoders: Iterable[str]) -> str:
    return " and ".join(ENCODER_TITLES.get(key, key) for key in encoders)


def _merged(outlines: Sequence[Outline]) -> Outline:
    """Parts blended vector by vector: as long as the longest, tokens of none."""
    return (None,) * max(map(len, outlines))


def _concatenated(outlines: Sequence[Outline]) -> Outline:
    return tuple(token for outline in outlines for token in outline)
