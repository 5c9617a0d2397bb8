"""EmbedMerge: model-tagged textual-inversion embeddings from text.

The public names below are all that scripts need; each is imported when it is first used, so that `import
lib_embedmerge` costs nothing. Everything a user can get wrong is an EmbedMergeError.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lib_embedmerge.version import __version__

if TYPE_CHECKING:
    from lib_embedmerge.checkpoints.model import open_checkpoint as open_checkpoint
    from lib_embedmerge.errors import EmbedMergeError as EmbedMergeError
    from lib_embedmerge.lang.source import parse as parse
    from lib_embedmerge.storage.embedding import Embedding as Embedding
    from lib_embedmerge.storage.embedding import load_embedding as load_embedding

_HOMES = {
    "Embedding": "lib_embedmerge.storage.embedding",
    "EmbedMergeError": "lib_embedmerge.errors",
    "load_embedding": "lib_embedmerge.storage.embedding",
    "open_checkpoint": "lib_embedmerge.checkpoints.model",
    "parse": "lib_embedmerge.lang.source",
}

__all__ = ["EmbedMergeError", "Embedding", "__version__", "load_embedding", "open_checkpoint", "parse"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
