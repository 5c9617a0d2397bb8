"""Hosts for the tests of actions: a small model in memory, and one that has none."""

from __future__ import annotations

from pathlib import Path

import numpy
from memory_model import MemoryModel, random_model

from lib_embedmerge.core.architecture import SD1
from lib_embedmerge.embeddings.embedding import Embedding
from lib_embedmerge.errors import EmbedMergeError, HostError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.port import ActiveModel

ROWS = 6000
"""Tokens: the words of the tests are among them."""

MODEL = random_model(ROWS)
SD1_MODEL = MemoryModel(MODEL.encoders[:1], architecture=SD1)


class NoModelHost(MemoryHost):
    """A host whose model cannot be used. error: why."""

    error: EmbedMergeError = HostError("No model is loaded.", hint="Choose a checkpoint.")

    def __init__(self, folder: Path) -> None:
        super().__init__(MODEL, folder)

    def active(self) -> ActiveModel:
        raise self.error


def write(path: Path, count: int = 2, value: float = 0.5, *, keys: tuple[str, ...] = ("clip_l", "clip_g")) -> Path:
    """An embedding file without a tag."""
    widths = {"clip_l": 768, "clip_g": 1280}
    vectors = {key: numpy.full((count, widths[key]), value) for key in keys}
    return Embedding(path.stem, vectors).save(path.parent)
