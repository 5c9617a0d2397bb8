"""Log when expressions in prompts name embeddings that were made for another model than the one in use."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from lib_embedmerge.core.ports import Model, NamedEmbedding
from lib_embedmerge.recipes.foreign_embeddings import find_foreign

_log = logging.getLogger(__name__)

_MAX_REMEMBERED = 500
"""Most embeddings that are remembered as checked."""


class ForeignEmbeddingLog:
    """Logs embeddings of other models, each once for each model. An embedding is checked once for each model."""

    def __init__(self) -> None:
        self._checked: dict[tuple[str, str], NamedEmbedding] = {}
        self._logged: set[str] = set()

    def log(self, embeddings: Iterable[NamedEmbedding], model: Model) -> None:
        """Log those of the embeddings, which expressions in prompts name, that were made for another model."""
        title = model.facts.title
        new = [embedding for embedding in embeddings if self._checked.get((title, embedding.name)) is not embedding]
        if not new:
            return
        if len(self._checked) + len(new) > _MAX_REMEMBERED:
            self._checked.clear()
        self._checked.update({(title, embedding.name): embedding for embedding in new})
        for foreign in find_foreign(new, model):
            if foreign.sentence not in self._logged:
                self._logged.add(foreign.sentence)
                _log.warning("EmbedMerge: %s", foreign.sentence)
