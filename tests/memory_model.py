"""Models in memory for tests: random ones, rows of a few tokens only, and embeddings without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch

from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryModel
from lib_embedmerge.tokenizer import clip_tokenizer

__all__ = ["MemoryEncoder", "MemoryModel", "MemoryNames", "SparseEncoder", "random_model"]


@dataclass
class SparseEncoder(MemoryEncoder):
    """An encoder of a full vocabulary of which some rows are there: `rows_by_id` maps token ids to rows of `table`.

    Nothing can be searched in it.
    """

    rows_by_id: Mapping[int, int] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocabulary_size = 49408

    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        return super().vectors([self.rows_by_id[token] for token in ids])


@dataclass(frozen=True)
class MemoryEmbedding:
    name: str
    vectors: Mapping[str, torch.Tensor]


class MemoryNames:
    """Embeddings that texts may name, matched on token ids as A1111 does: longest first."""

    def __init__(self, embeddings: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        self._embeddings = embeddings
        tokenizer = clip_tokenizer()
        self._ids = sorted(((tuple(tokenizer.encode(name)), name) for name in embeddings), key=lambda i: -len(i[0]))
        self.state: object = self

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        for wanted, name in self._ids:
            if tuple(ids[position : position + len(wanted)]) == wanted:
                return name, len(wanted)
        return None

    def load(self, name: str) -> MemoryEmbedding:
        if name not in self._embeddings:
            raise StorageError(f"There is no embedding named {name}.")
        return MemoryEmbedding(name, self._embeddings[name])


def random_model(rows: int = 49408, *, seed: int = 1) -> MemoryModel:
    """An SDXL model with random float32 tables of `rows` rows. Its encoders are made once; nobody may change them."""
    return MemoryModel(list(_random_encoders(rows, seed)))


@cache
def _random_encoders(rows: int, seed: int) -> tuple[MemoryEncoder, MemoryEncoder]:
    generator = torch.Generator().manual_seed(seed)
    return (
        MemoryEncoder("clip_l", torch.randn(rows, 768, generator=generator) * 0.02),
        MemoryEncoder("clip_g", torch.randn(rows, 1280, generator=generator) * 0.02),
    )
