"""A model in memory for tests: token tables given as tensors, everything else as a checkpoint has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from lib_embedmerge.core.architecture import CLIP_L, SDXL, Architecture
from lib_embedmerge.core.ports import (
    EmbeddingNames,
    Fingerprint,
    ModelFacts,
    NearestToken,
    Progress,
    Tokenizer,
)
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass
class MemoryEncoder:
    """A text encoder over a table, or over some rows of one: `rows_by_id` maps token ids to rows of `table`."""

    key: str
    table: torch.Tensor
    rows_by_id: Mapping[int, int] | None = None
    tokenizer: Tokenizer = field(default_factory=clip_tokenizer)
    vocabulary_size: int = 49408

    @property
    def width(self) -> int:
        return self.table.shape[1]

    @property
    def padding_id(self) -> int:
        return 49407 if self.key == CLIP_L else 0

    def vectors(self, ids: Sequence[int]) -> torch.Tensor:
        places = list(ids) if self.rows_by_id is None else [self.rows_by_id[token] for token in ids]
        return self.table[torch.tensor(places, dtype=torch.int64)].float()

    def mean_length(self) -> float:
        return self._mean_length

    @cached_property
    def _mean_length(self) -> float:
        return self.table.double().norm(dim=1).mean().float().item()

    def nearest(self, vectors: torch.Tensor, count: int = 1) -> list[list[NearestToken]]:
        found: list[list[NearestToken]] = []
        for vector in vectors:
            cosines = self._directions @ torch.nn.functional.normalize(vector.double(), dim=0)
            best = torch.topk(cosines, count).indices.tolist() if vector.any() else []
            found.append([NearestToken(i, self.tokenizer.token(i), cosines[i].item()) for i in best])
        return found

    @cached_property
    def _directions(self) -> torch.Tensor:
        return torch.nn.functional.normalize(self.table.double(), dim=1)

    def rows_equal_to(self, vectors: torch.Tensor) -> list[int | None]:
        equal = [(self.table.half() == vector.half()).all(dim=1).nonzero().flatten().tolist() for vector in vectors]
        return [places[0] if places else None for places in equal]


@dataclass
class MemoryModel:
    """A model over such encoders."""

    encoders: Sequence[MemoryEncoder]
    embeddings: EmbeddingNames = field(default_factory=NoEmbeddings)
    architecture: Architecture = SDXL

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts("memory", "memory.safetensors", self.architecture)

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        return {encoder.key: Fingerprint("0" * 64, None, encoder.mean_length()) for encoder in self.encoders}


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
    """An SDXL model with random float32 tables of `rows` rows."""
    generator = torch.Generator().manual_seed(seed)
    return MemoryModel(
        [
            MemoryEncoder("clip_l", torch.randn(rows, 768, generator=generator) * 0.02, vocabulary_size=rows),
            MemoryEncoder("clip_g", torch.randn(rows, 1280, generator=generator) * 0.02, vocabulary_size=rows),
        ]
    )
