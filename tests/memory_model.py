"""Models in memory for tests: random ones, rows of a few tokens only, and embeddings without files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy
import torch
from checkpoint_files import WIDTHS

from lib_embedmerge.core.architecture import PADDING_IDS
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.texts import PlainEmbedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.hosts.memory_host import MemoryEncoder, MemoryModel
from lib_embedmerge.tokenizer import clip_tokenizer

__all__ = [
    "MemoryEncoder",
    "MemoryModel",
    "MemoryNames",
    "SparseEncoder",
    "copy_tables",
    "own_random_model",
    "random_model",
]


@dataclass
class SparseEncoder(MemoryEncoder):
    """An encoder of a full vocabulary of which some rows are there: `rows_by_id` maps token ids to rows of `table`.

    Nothing can be searched in it.
    """

    rows_by_id: Mapping[int, int] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocabulary_size = 49408

    def vectors(self, ids: Sequence[int]) -> Array:
        return super().vectors([self.rows_by_id[token] for token in ids])


class MemoryNames:
    """Embeddings that texts may name, matched on token ids as A1111 does: longest first."""

    def __init__(self, embeddings: Mapping[str, Mapping[str, Array]]) -> None:
        self._embeddings = embeddings
        tokenizer = clip_tokenizer()
        self._ids = sorted(((tuple(tokenizer.encode(name)), name) for name in embeddings), key=lambda i: -len(i[0]))
        self.state: object = self

    def find(self, ids: Sequence[int], position: int) -> tuple[str, int] | None:
        for wanted, name in self._ids:
            if tuple(ids[position : position + len(wanted)]) == wanted:
                return name, len(wanted)
        return None

    def load(self, name: str) -> PlainEmbedding:
        if name not in self._embeddings:
            raise StorageError(f"There is no embedding named {name}.")
        return PlainEmbedding(name, self._embeddings[name])

    def with_vectors(self, sha256: str, count: int | None, encoders: Collection[str]) -> None:
        """These have no hashes."""


class RandomEncoder(MemoryEncoder):
    """An encoder whose table is made when it is first needed, and once for all tests: nobody may change it."""

    def __init__(self, key: str, rows: int, seed: int) -> None:
        self.key = key
        self.tokenizer = clip_tokenizer()
        self.vocabulary_size, self.width = rows, WIDTHS[key]
        self.padding_id = PADDING_IDS[key]
        self._seed = seed

    @cached_property
    def table(self) -> numpy.ndarray:  # type: ignore[override] # made late, and then an attribute like any other
        """float32 [vocabulary_size, width]"""
        return _random_tables(self.vocabulary_size, self._seed)[self.key]


def random_model(rows: int = 49408, *, seed: int = 1) -> MemoryModel:
    """An SDXL model with random float32 tables of `rows` rows. Nobody may change its encoders."""
    return MemoryModel([_random_encoder(key, rows, seed) for key in ("clip_l", "clip_g")])


def own_random_model(rows: int) -> MemoryModel:
    """The same model for a test that changes it."""
    return MemoryModel([MemoryEncoder(key, table) for key, table in copy_tables(random_model(rows)).items()])


def copy_tables(model: MemoryModel) -> dict[str, numpy.ndarray]:
    """Encoder key -> token table, for a test that changes it."""
    return {encoder.key: to_numpy(encoder.table).copy() for encoder in model.encoders}


@cache
def _random_encoder(key: str, rows: int, seed: int) -> RandomEncoder:
    return RandomEncoder(key, rows, seed)


@cache
def _random_tables(rows: int, seed: int) -> dict[str, numpy.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    return {key: (torch.randn(rows, WIDTHS[key], generator=generator) * 0.02).numpy() for key in ("clip_l", "clip_g")}
