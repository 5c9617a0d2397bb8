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
from typing import Any, NamedTuple

import numpy

from lib_embedmerge.core.architecture import CLIP_G, SDXL
from lib_embedmerge.core.arrays import Array, hash_rows, to_numpy
from lib_embedmerge.core.evaluate import Preparation, Vectors, evaluate_together, make_text_readers
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model, NamedEmbedding
from lib_embedmerge.core.texts import TextReader
from lib_embedmerge.errors import ExpressionError, StorageError
from lib_embedmerge.lang.nodes import BrokenInline, Inline, PromptPart
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


class _EvaluatedExpression(NamedTuple):
    """The result of an expression.

    name: what replaces it in the prompt: of its embedding, or nothing if it has no vectors.
    cost: vectors that it takes in the cache, at least 1.
    temporary: its embedding, or None if it has no vectors.  uses: name -> embedding for those that it names.
    """

    name: str
    cost: int
    temporary: InlineEmbedding | None
    uses: Mapping[str, NamedEmbedding]

    def is_current(self, names: EmbeddingNames) -> bool:
        """Whether all embeddings that it names are still the same."""
        return _are_current(self.uses, names)


class _ReplacedPrompt(NamedTuple):
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
        outcomes = self._evaluate(prompt, parts, evaluator)
        mistakes = 0

        def replacement(part: Inline | BrokenInline) -> str | None:
            nonlocal mistakes
            outcome = part.error if isinstance(part, BrokenInline) else outcomes[id(part.expression)]
            if isinstance(outcome, ExpressionError):
                mistakes += 1
                on_mistake(outcome, part)
                return None
            return outcome.name

        text = replace_expressions(prompt, parts, replacement)
        results = [outcome for outcome in outcomes.values() if not isinstance(outcome, ExpressionError)]
        temporaries = {result.name: result.temporary for result in results if result.temporary}
        uses = {name: embedding for result in results for name, embedding in result.uses.items()}
        replaced = _ReplacedPrompt(text, temporaries, uses)
        if not mistakes:
            self._prompts[prompt] = replaced
            while len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)
        return replaced

    def _evaluate(
        self, prompt: str, parts: Sequence[PromptPart], evaluator: _PromptEvaluator
    ) -> dict[int, _EvaluatedExpression | ExpressionError]:
        """id of each expression in the parts of a prompt -> its result, from the cache if that is still valid."""
        outcomes: dict[int, _EvaluatedExpression | ExpressionError] = {}
        new: dict[int, Inline] = {}
        for part in parts:
            if not isinstance(part, Inline) or (key := id(part.expression)) in outcomes or key in new:
                continue  # equal expressions share their nodes
            kept = self._expressions.get(_typed_expression(prompt, part))
            if kept is not None and kept.is_current(evaluator.names):
                outcomes[key] = kept
                self._expressions.move_to_end(_typed_expression(prompt, part))
            else:
                new[key] = part
        if new:
            found = evaluator.evaluate(prompt, list(new.values()))
            outcomes.update(zip(new, found, strict=True))
            for part, result in zip(new.values(), found, strict=True):
                if not isinstance(result, ExpressionError):
                    self._keep(_typed_expression(prompt, part), result)
        return outcomes

    def _keep(self, text: str, result: _EvaluatedExpression) -> None:
        """Keep the result of an expression for the next prompts, and forget those that were not used for longest."""
        before = self._expressions.pop(text, None)
        self._expressions[text] = result
        self._vectors_kept += result.cost - (before.cost if before else 0)
        while self._vectors_kept > MAX_KEPT:
            self._vectors_kept -= self._expressions.popitem(last=False)[1].cost


class _PromptEvaluator:
    """Evaluates the expressions of some prompts on a model. It prepares nothing until the first expression needs it."""

    def __init__(self, model: Model) -> None:
        self.names = model.embeddings
        self._model = model

    @cached_property
    def _preparation(self) -> Preparation:
        text_readers = make_text_readers(self._model)
        return Preparation(text_readers, _make_outliner(self._model, text_readers[0]))

    def evaluate(self, prompt: str, parts: Sequence[Inline]) -> list[_EvaluatedExpression | ExpressionError]:
        """The result of each of these expressions of a prompt, in order, or what is wrong with it."""
        sources = [Source("prompt", prompt, (part,)) for part in parts]
        waiting = iter(sources)
        results: list[_EvaluatedExpression | ExpressionError] = []
        for batch in evaluate_together(sources, self._model, self._preparation):
            hashes = hash_rows([to_numpy(rows) for rows in batch.vectors.values()])
            for place, source in zip(batch.places, waiting, strict=False):
                if isinstance(place, ExpressionError):
                    results.append(place)
                    continue
                vectors = {key: rows[place] for key, rows in batch.vectors.items()}
                results.append(self._make_result(vectors, hashes[place], source))
        return results

    def _make_result(self, vectors: Vectors, hashes: numpy.ndarray, source: Source) -> _EvaluatedExpression:
        """hashes: of the vectors, by `hash_rows`."""
        uses = self._find_uses(source)
        if not len(hashes):
            return _EvaluatedExpression("", 1, None, uses)
        temporary = _make_embedding(vectors, hashes, tuple(uses.values()))
        return _EvaluatedExpression(temporary.name, len(hashes), temporary, uses)

    def _find_uses(self, source: Source) -> Mapping[str, NamedEmbedding]:
        """Name -> embedding for those that an expression names."""
        reader = self._preparation.text_readers[0]
        return {name: self.names.load(name) for name in reader.find_names(source.texts())} if reader.has_names else {}


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


def make_inline_embedding(vectors: Vectors) -> InlineEmbedding:
    """The temporary embedding with these vectors. Equal vectors give equal names.

    vectors: encoder key -> float32 [n, width], n > 0.
    """
    return _make_embedding(vectors, hash_rows([to_numpy(rows) for rows in vectors.values()]))


def _make_embedding(vectors: Vectors, hashes: numpy.ndarray, uses: tuple[NamedEmbedding, ...] = ()) -> InlineEmbedding:
    """hashes: of the vectors, by `hash_rows`; to hash the vectors themselves with blake2b would take far longer."""
    content = hashlib.blake2b(hashes.tobytes(), digest_size=DIGEST_SIZE, key=" ".join(vectors).encode())
    return InlineEmbedding(make_stand_in(content.digest()), vectors, uses)
