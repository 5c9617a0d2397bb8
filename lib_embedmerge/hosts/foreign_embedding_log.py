"""Log when expressions in prompts name embeddings that were made for another model than the one in use."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lib_embedmerge.core.evaluate import make_text_readers
from lib_embedmerge.core.ports import Model
from lib_embedmerge.lang.nodes import Inline
from lib_embedmerge.lang.source import Source, read_prompt
from lib_embedmerge.recipes.foreign_embeddings import find_foreign_embeddings

_log = logging.getLogger(__name__)

_MAX_REMEMBERED = 500
"""Most prompts that are remembered as checked."""


class ForeignEmbeddingLog:
    """Logs embeddings of other models, each once for each model. A prompt is checked once for each model."""

    def __init__(self) -> None:
        self._checked: set[tuple[str, str]] = set()
        self._logged: set[str] = set()

    def log(self, prompts: Sequence[str], model: Model) -> None:
        """Log the embeddings in the expressions of these prompts that were made for another model."""
        for prompt in prompts:
            key = (model.facts.title, prompt)
            if key in self._checked:
                continue
            if len(self._checked) >= _MAX_REMEMBERED:
                self._checked.clear()
            self._checked.add(key)
            parts = tuple(part for part in read_prompt(prompt) if isinstance(part, Inline))
            if parts:
                self._log_source(Source("prompt", prompt, parts), model)

    def _log_source(self, source: Source, model: Model) -> None:
        for embedding in find_foreign_embeddings(source, make_text_readers(model), model):
            if embedding.sentence not in self._logged:
                self._logged.add(embedding.sentence)
                _log.warning("EmbedMerge: %s", embedding.sentence)
