"""Replace the inline expressions of prompts, before they are encoded, by names of temporary embeddings.

A name is a hash of its vectors: equal vectors have the same name, other vectors another one. So a program that caches
encoded prompts by their text never finds the wrong ones. The form of the names is in lang/stand_ins.py.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy

from lib_embedmerge.core.architecture import CLIP_G, SDXL
from lib_embedmerge.core.arrays import Array, hash_words, to_numpy
from lib_embedmerge.core.evaluate import Preparation, Vectors, evaluate_prepared, make_text_readers
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model, NamedEmbedding
from lib_embedmerge.core.texts import TextReader
from lib_embedmerge.core.token_rows import TokenRows
from lib_embedmerge.errors import ExpressionError, StorageError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import Source, read_prompt, replace_expressions
from lib_embedmerge.lang.stand_ins import DIGEST_SIZE, make_stand_in

MAX_KEPT, MAX_PROMPTS = 2000, 8
"""How many vectors of expressions, and how many prompts, are cached; 2,000 vectors take 16 MB for SDXL."""

OnMistake = Callable[[ExpressionError, Inline | BrokenInline], None]
"""Called with a mistake and the part of the prompt that has it."""


@dataclass(frozen=True, eq=False)
class InlineEmbedding:
    """An embedding without a file.

    name: a stand-in, by which a prompt calls it.
    vectors: encoder key -> float32 [n, width], n > 0, on the encoder's device.
    uses: the embeddings that its expression names.
    made: what a host makes of it for its program and keeps as long as it: device -> that.
    """

    name: str
    vectors: Mapping[str, Array]
    uses: tuple[NamedEmbedding, ...] = ()
    made: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _EvaluatedExpression:
    """The result of an expression.

    temporary: its embedding, or None if it has no vectors.  uses: name -> embedding for those that it names.
    """

    temporary: InlineEmbedding | None
    uses: Mapping[str, NamedEmbedding]

    @property
    def cost(self) -> int:
        """Vectors that it takes in the cache, at least 1."""
        return len(next(iter(self.temporary.vectors.values()))) if self.temporary else 1

    def is_current(self, names: EmbeddingNames) -> bool:
        """Whether all embeddings that it names are still the same."""
        return _are_current(self.uses, names)


@dataclass(frozen=True)
class _ReplacedPrompt:
    """A prompt with names in place of expressions.

    temporaries: name -> embedding of these.  uses: name -> embedding for those that the expressions name.
    """

    text: str
    temporaries: Mapping[str, InlineEmbedding]
    uses: Mapping[str, NamedEmbedding]

    def is_current(self, names: EmbeddingNames) -> bool:
        """Whether all embeddings that its expressions name are still the same."""
        return _are_current(self.uses, names)


class ExpressionReplacer:
    """Replaces expressions in prompts, and caches their vectors for the next prompts.

    An expression is evaluated again only when the model or an embedding that it names changes. Keeps no reference to
    the model itself. Not for several threads at once; web UIs generate in one.
    """

    def __init__(self) -> None:
        self._state: tuple[object, object] | None = None
        self._prompts: OrderedDict[str, _ReplacedPrompt] = OrderedDict()
        self._expressions: OrderedDict[str, _EvaluatedExpression] = OrderedDict()
        self._vectors_kept = 0

    def replace(
        self, prompts: Sequence[str], model: Model, on_mistake: OnMistake
    ) -> tuple[list[str], Mapping[str, InlineEmbedding]]:
        """The prompts with names in place of expressions, and name -> temporary embedding.

        An expression without vectors is removed. on_mistake is called for each mistake; if it returns, the expression
        stays as typed.
        """
        self._reset_if_changed(model)
        evaluator = _PromptEvaluator(model)
        replaced = [self._replace_prompt(prompt, evaluator, on_mistake) for prompt in prompts]
        if len(replaced) == 1:
            return [replaced[0].text], replaced[0].temporaries
        temporaries = {name: temporary for prompt in replaced for name, temporary in prompt.temporaries.items()}
        return [prompt.text for prompt in replaced], temporaries

    def _reset_if_changed(self, model: Model) -> None:
        """Empty the cache if the model, or the set of embeddings that texts may name, is not the one of last time."""
        state = model.encoders, model.embeddings.state
        if self._state is None or any(old is not new for old, new in zip(self._state, state, strict=True)):
            self._state = state
            self._prompts.clear()
            self._expressions.clear()
            self._vectors_kept = 0

    def _replace_prompt(self, prompt: str, evaluator: _PromptEvaluator, on_mistake: OnMistake) -> _ReplacedPrompt:
        cached = self._prompts.get(prompt)
        if cached is not None and cached.is_current(evaluator.names):
            self._prompts.move_to_end(prompt)
            return cached
        parts = read_prompt(prompt)
        inlines: dict[int, Inline] = {}
        for part in parts:
            if isinstance(part, Inline):
                inlines.setdefault(id(part.expression), part)  # equal ones share it
        new = [part for part in inlines.values() if _typed_expression(prompt, part) not in self._expressions]
        evaluator.fetch(prompt, new)
        results: dict[int, _EvaluatedExpression] = {}
        mistakes = 0

        def replacement(part: Inline | BrokenInline) -> str | None:
            nonlocal mistakes
            try:
                if isinstance(part, BrokenInline):
                    raise part.error
                result = results.get(id(part.expression))
                if result is None:
                    result = results[id(part.expression)] = self._evaluate(prompt, part, evaluator)
            except ExpressionError as error:
                mistakes += 1
                on_mistake(error, part)
                return None
            temporary = result.temporary
            return temporary.name if temporary else ""

        text = replace_expressions(prompt, parts, replacement)
        temporaries = {result.temporary.name: result.temporary for result in results.values() if result.temporary}
        uses = {name: embedding for result in results.values() for name, embedding in result.uses.items()}
        replaced = _ReplacedPrompt(text, temporaries, uses)
        if not mistakes:
            self._prompts[prompt] = replaced
            while len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)
        return replaced

    def _evaluate(self, prompt: str, part: Inline, evaluator: _PromptEvaluator) -> _EvaluatedExpression:
        """The result of an expression, from the cache if it is still valid. EvaluationError for a mistake."""
        text = _typed_expression(prompt, part)
        result = self._expressions.pop(text, None)
        if result is not None:
            self._vectors_kept -= result.cost
        if result is None or not result.is_current(evaluator.names):
            result = evaluator.evaluate(prompt, part)
        self._expressions[text] = result
        self._vectors_kept += result.cost
        while self._vectors_kept > MAX_KEPT:
            self._vectors_kept -= self._expressions.popitem(last=False)[1].cost
        return result


class _PromptEvaluator:
    """Evaluates the expressions of some prompts on a model. It prepares nothing until the first expression needs it."""

    def __init__(self, model: Model) -> None:
        self.names = model.embeddings
        self._model = model
        self._sources: dict[int, Source] = {}
        """id of an expression's part in the prompt -> its source, for those that were fetched."""

    @cached_property
    def _preparation(self) -> Preparation:
        text_readers = make_text_readers(self._model)
        return Preparation(text_readers, _make_outliner(self._model, text_readers[0]))

    def fetch(self, prompt: str, parts: Sequence[Inline]) -> None:
        """Fetch the token vectors for all these expressions at once; fetching takes most of the time."""
        if parts:
            self._sources = {id(part): Source("prompt", prompt, (part,)) for part in parts}
            texts = (text for source in self._sources.values() for text in source.texts())
            rows = TokenRows(self._model, self._preparation.text_readers, texts)
            self._preparation = replace(self._preparation, rows=rows)

    def evaluate(self, prompt: str, part: Inline) -> _EvaluatedExpression:
        """The result of one expression. EvaluationError if it has no meaning on the model."""
        source = self._sources.get(id(part)) or Source("prompt", prompt, (part,))
        vectors = evaluate_prepared(source, self._model, self._preparation)
        names = self._preparation.text_readers[0].find_names(source.texts())
        uses = {name: self.names.load(name) for name in names}
        return _EvaluatedExpression(_make_temporary(vectors, uses), uses)


def _typed_expression(prompt: str, part: Inline | BrokenInline) -> str:
    """The text of an inline expression, without its brackets."""
    return prompt[part.start + 1 : part.end - 1]


def _make_outliner(model: Model, texts: TextReader) -> Outliner:
    """The outliner for a model. For an SDXL refiner, which has only CLIP-G, prompts are those written for its base."""
    outliner = make_outliner(model, texts)
    return replace(outliner, written_for=SDXL.encoders) if outliner.encoders == [CLIP_G] else outliner


def _are_current(uses: Mapping[str, NamedEmbedding], names: EmbeddingNames) -> bool:
    """Whether each name still belongs to the same embedding."""
    try:
        return all(names.load(name) is embedding for name, embedding in uses.items())
    except StorageError:
        return False


def _make_temporary(vectors: Vectors, uses: Mapping[str, NamedEmbedding]) -> InlineEmbedding | None:
    """The temporary embedding for the vectors of an expression, or None if there are none.

    uses: name -> embedding for those that the expression names.
    """
    return make_inline_embedding(vectors, tuple(uses.values())) if len(next(iter(vectors.values()))) else None


def make_inline_embedding(vectors: Vectors, uses: tuple[NamedEmbedding, ...] = ()) -> InlineEmbedding:
    """The temporary embedding with these vectors. Equal vectors give equal names.

    vectors: encoder key -> float32 [n, width], n > 0.  uses: the embeddings that its expression names.
    """
    arrays = [to_numpy(rows) for rows in vectors.values()]
    kind = f"{' '.join(vectors)} {len(arrays[0])} ".encode()
    # Hashing the vectors themselves with blake2b would take most of the time.
    words = hash_words(numpy.concatenate([rows.reshape(-1) for rows in arrays]))
    content = hashlib.blake2b(kind + words, digest_size=DIGEST_SIZE)
    return InlineEmbedding(make_stand_in(content.digest()), vectors, uses)
