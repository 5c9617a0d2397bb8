"""EmbedMerge: model-tagged textual-inversion embeddings from text.

The public names below are all that scripts need; each is imported when it is first used, so that `import
lib_embedmerge` costs nothing. Everything a user can get wrong is an EmbedMergeError.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lib_embedmerge.version import __version__

if TYPE_CHECKING:
    from lib_embedmerge.errors import EmbedMergeError as EmbedMergeError
    from lib_embedmerge.facade import Embedding as Embedding
    from lib_embedmerge.facade import load_embedding as load_embedding
    from lib_embedmerge.facade import open_checkpoint as open_checkpoint
    from lib_embedmerge.lang.source import parse as parse

_HOMES = {
    "Embedding": "lib_embedmerge.facade",
    "EmbedMergeError": "lib_embedmerge.errors",
    "load_embedding": "lib_embedmerge.facade",
    "open_checkpoint": "lib_embedmerge.facade",
    "parse": "lib_embedmerge.lang.source",
}

__all__ = ["EmbedMergeError", "Embedding", "__version__", "load_embedding", "open_checkpoint", "parse"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
