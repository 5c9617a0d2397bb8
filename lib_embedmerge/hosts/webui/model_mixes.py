"""The console told of expressions in prompts that name embeddings of another model than the one that encodes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lib_embedmerge.core.evaluate import make_text_readers
from lib_embedmerge.core.ports import Model
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import Source, read_prompt
from lib_embedmerge.recipes.mixing import find_foreign_embeddings

_log = logging.getLogger(__name__)

_REMEMBERED = 500


class MixedModels:
    """What was said already: nothing is said, or looked at, twice for a prompt on one model."""

    def __init__(self) -> None:
        self._looked_at: set[tuple[str, str]] = set()
        self._said: set[str] = set()

    def tell(self, prompts: Sequence[str], model: Model) -> None:
        """Say which embeddings in the expressions of these prompts were made for another model, each once a model."""
        for prompt in prompts:
            key = (model.facts.title, prompt)
            if key in self._looked_at:
                continue
            if len(self._looked_at) >= _REMEMBERED:
                self._looked_at.clear()
            self._looked_at.add(key)
            parts = tuple(part for part in read_prompt(prompt) if isinstance(part, Inline))
            if parts:
                self._look(Source("prompt", prompt, parts), model)

    def _look(self, source: Source, model: Model) -> None:
        for mixed in find_foreign_embeddings(source, make_text_readers(model), model):
            if mixed.sentence not in self._said:
                self._said.add(mixed.sentence)
                _log.warning("EmbedMerge: %s", mixed.sentence)
