"""Inline expressions of prompts that are about to be encoded: each becomes the name of a temporary embedding.

A name is the address of its content: equal vectors have one name, other vectors another. So whoever keeps what a
prompt was encoded to by the prompt's text keeps the right thing. What names look like: lang/stand_ins.py.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from lib_embedmerge.core.architecture import CLIP_G, SDXL
from lib_embedmerge.core.evaluate import Preparation, Rows, Vectors, evaluate_prepared, make_text_readers
from lib_embedmerge.core.outline import Outliner
from lib_embedmerge.core.outliners import make_outliner
from lib_embedmerge.core.ports import EmbeddingNames, Model, NamedEmbedding
from lib_embedmerge.core.texts import EmbeddingRun, TextReader
from lib_embedmerge.errors import ExpressionError, StorageError
from lib_embedmerge.lang.nodes import BrokenInline, Inline
from lib_embedmerge.lang.source import Source, read_prompt, replace_expressions
from lib_embedmerge.lang.stand_ins import DIGEST_SIZE, make_stand_in

MAX_KEPT, MAX_PROMPTS = 2000, 8
"""Vectors of expressions, and whole prompts, that are kept for the next prompts; 2000 vectors are 16 MB for SDXL."""

OnMistake = Callable[[ExpressionError, Inline | BrokenInline], None]
"""Told of a mistake, and the part of the prompt that has it."""


@dataclass(frozen=True, eq=False)
class Temporary:
    """An embedding without a file. vectors: encoder key -> float32 [n, width], n > 0, on the encoder's device."""

    name: str
    vectors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Evaluated:
    """What an expression came to; temporary is None for no vectors. uses: the embeddings that it named."""

    temporary: Temporary | None
    uses: Mapping[str, NamedEmbedding]

    @property
    def cost(self) -> int:
        return len(next(iter(self.temporary.vectors.values()))) if self.temporary else 1

    def holds(self, names: EmbeddingNames) -> bool:
        """Whether the names still mean the same embeddings."""
        try:
            return all(names.load(name) is embedding for name, embedding in self.uses.items())
        except StorageError:
            return False


@dataclass(frozen=True)
class _Replaced:
    """A prompt without mistakes, and what its expressions came to."""

    text: str
    found: tuple[_Evaluated, ...]


class Substitution:
    """Prompts with names in place of expressions.

    An expression is evaluated once for each model and state of the embeddings that it names. Holds no reference to a
    model itself. For one thread at a time, as web UIs generate.
    """

    def __init__(self) -> None:
        self._state: tuple[object, object] | None = None
        self._prompts: OrderedDict[str, _Replaced] = OrderedDict()
        self._expressions: OrderedDict[str, _Evaluated] = OrderedDict()
        self._kept = 0

    def replace(
        self, prompts: Sequence[str], model: Model, on_mistake: OnMistake
    ) -> tuple[list[str], dict[str, Temporary]]:
        """The prompts, and the temporary embeddings by the names that now stand in them.

        An expression that comes to no vectors vanishes. on_mistake is called with each ExpressionError; where it
        returns, that expression stays as it was typed.
        """
        self._forget_unless(model)
        walk = _Walk(model)
        replaced = [self._replaced(prompt, walk, on_mistake) for prompt in prompts]
        temporaries = [found.temporary for one in replaced for found in one.found if found.temporary]
        return [one.text for one in replaced], {temporary.name: temporary for temporary in temporaries}

    def _forget_unless(self, model: Model) -> None:
        state = model.encoders, model.embeddings.state
        if self._state is None or any(old is not new for old, new in zip(self._state, state, strict=True)):
            self._state = state
            self._prompts.clear()
            self._expressions.clear()
            self._kept = 0

    def _replaced(self, prompt: str, walk: _Walk, on_mistake: OnMistake) -> _Replaced:
        known = self._prompts.get(prompt)
        if known is not None and all(found.holds(walk.names) for found in known.found):
            self._prompts.move_to_end(prompt)
            return known
        parts = read_prompt(prompt)
        walk.fetch([one for one in parts if isinstance(one, Inline) and _text(prompt, one) not in self._expressions])
        found: list[_Evaluated] = []
        mistakes = 0

        def replacement(part: Inline | BrokenInline) -> str | None:
            nonlocal mistakes
            try:
                if isinstance(part, BrokenInline):
                    raise part.error
                found.append(self._evaluated(prompt, part, walk))
            except ExpressionError as error:
                mistakes += 1
                on_mistake(error, part)
                return None
            return found[-1].temporary.name if found[-1].temporary else ""

        replaced = _Replaced(replace_expressions(prompt, parts, replacement), tuple(found))
        if not mistakes:
            self._prompts[prompt] = replaced
            while len(self._prompts) > MAX_PROMPTS:
                self._prompts.popitem(last=False)
        return replaced

    def _evaluated(self, prompt: str, part: Inline, walk: _Walk) -> _Evaluated:
        text = _text(prompt, part)
        known = self._expressions.pop(text, None)
        if known is not None:
            self._kept -= known.cost
        found = known if known is not None and known.holds(walk.names) else walk.evaluated(prompt, part)
        self._expressions[text] = found
        self._kept += found.cost
        while self._kept > MAX_KEPT:
            self._kept -= self._expressions.popitem(last=False)[1].cost
        return found


class _Walk:
    """One reading of some prompts on a model. Nothing of it is made where all their expressions are known."""

    def __init__(self, model: Model) -> None:
        self.names = model.embeddings
        self._model = model

    @cached_property
    def _prepared(self) -> Preparation:
        readings = make_text_readers(self._model)
        return Preparation(readings, _outliner(self._model, readings[0]))

    def fetch(self, parts: Sequence[Inline]) -> None:
        """Fetch the rows for all expressions of a prompt together, which is most of what they take."""
        if parts:
            texts = (text for part in parts for text in Source("prompt", "", (part,)).texts())
            rows = Rows(self._model, self._prepared.readings, texts)
            self._prepared = replace(self._prepared, rows=rows)

    def evaluated(self, prompt: str, part: Inline) -> _Evaluated:
        source = Source("prompt", prompt, (part,))
        vectors = evaluate_prepared(source, self._model, self._prepared)
        uses = {
            run.name: self.names.load(run.name)
            for text in source.texts()
            for run in self._prepared.readings[0].runs(text)
            if isinstance(run, EmbeddingRun)
        }
        return _Evaluated(_temporary(vectors), uses)


def _text(prompt: str, part: Inline) -> str:
    """An expression as it is typed."""
    return prompt[part.start + 1 : part.end - 1]


def _outliner(model: Model, texts: TextReader) -> Outliner:
    """A refiner has only one of the two encoders that the prompts of its base model are written for."""
    outliner = make_outliner(model, texts)
    return replace(outliner, written_for=SDXL.encoders) if outliner.encoders == [CLIP_G] else outliner


def _temporary(vectors: Vectors) -> Temporary | None:
    if not len(next(iter(vectors.values()))):
        return None
    content = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for key, rows in vectors.items():
        content.update(f"{key} {len(rows)} ".encode())
        content.update(rows.contiguous().cpu().numpy().data)
    # A copy: the vectors of a lone text are views of all that was fetched.
    return Temporary(make_stand_in(content.digest()), {key: rows.clone() for key, rows in vectors.items()})
