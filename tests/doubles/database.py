"""The web UIs' database of embeddings, and how a prompt becomes chunks of tokens with embeddings in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import safetensors.torch
import torch

Tokenize = Callable[[Sequence[str]], list[list[int]]]


class Fix(NamedTuple):
    """Where in a chunk an embedding's vectors go."""

    offset: int
    embedding: Any


@dataclass
class Chunk:
    """75 tokens between start and end; 0 where an embedding's vector goes."""

    tokens: list[int] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)


class EmbeddingDatabase:
    """Names by the token ids that they are made of: the longest one is found, of equal ones the first registered."""

    def __init__(self, expected_shape: int = -1) -> None:
        self.ids_lookup: dict[int, list[tuple[list[int], Any]]] = {}
        self.word_embeddings: dict[str, Any] = {}
        self.skipped_embeddings: dict[str, Any] = {}
        self.expected_shape = expected_shape
        self.fixes: object = []

    def load_from_file(self, path: str, filename: str) -> None:
        name, suffix = Path(filename).stem, Path(filename).suffix.lower()
        if suffix != ".safetensors":
            return
        embedding = _read(path, name)
        if self.expected_shape in (-1, embedding.shape):
            self._register_loaded(embedding)
        else:
            self.skipped_embeddings[name] = embedding

    def load_folder(self, folder: str) -> None:
        for known in (self.ids_lookup, self.word_embeddings, self.skipped_embeddings):
            known.clear()
        for path in sorted(Path(folder).rglob("*.safetensors")):
            self.load_from_file(str(path), path.name)

    def find_embedding_at_position(self, tokens: list[int], offset: int) -> tuple[Any, int | None]:
        for ids, embedding in self.ids_lookup.get(tokens[offset], ()):
            if tokens[offset : offset + len(ids)] == ids:
                return embedding, len(ids)
        return None, None

    def _register_loaded(self, embedding: Any) -> None:
        raise NotImplementedError

    def _register(self, embedding: Any, name: str, ids: list[int]) -> None:
        found = self.ids_lookup.get(ids[0], [])
        if name in self.word_embeddings:
            found = [(known, one) for known, one in found if one.name != name]
        if embedding is None:
            self.word_embeddings.pop(name, None)
        else:
            found = [*found, (ids, embedding)]
            self.word_embeddings[name] = embedding
        self.ids_lookup[ids[0]] = sorted(found, key=lambda entry: -len(entry[0]))
        if not self.ids_lookup[ids[0]]:
            del self.ids_lookup[ids[0]]


class SharedDatabase(EmbeddingDatabase):
    """A1111's and reForge's: one for all models, which must have one loaded to tokenize a name with."""

    def __init__(self, current_model: Callable[[], Any]) -> None:
        super().__init__()
        self._current_model = current_model

    def register_embedding_by_name(self, embedding: Any, model: Any, name: str) -> None:
        self._register(embedding, name, model.cond_stage_model.tokenize([name])[0])

    def _register_loaded(self, embedding: Any) -> None:
        self.register_embedding_by_name(embedding, self._current_model(), embedding.name)


class EngineDatabase(EmbeddingDatabase):
    """Forge's: one in each engine, gone with the model."""

    def __init__(self, tokenize: Tokenize, expected_shape: int) -> None:
        super().__init__(expected_shape)
        self._tokenize = tokenize

    def register_embedding_by_name(self, embedding: Any, name: str) -> None:
        self._register(embedding, name, self._tokenize([name])[0])

    def _register_loaded(self, embedding: Any) -> None:
        self.register_embedding_by_name(embedding, embedding.name)


def chunks_of(ids: list[int], database: EmbeddingDatabase) -> list[Chunk]:
    """A prompt's chunks: an embedding that does not fit into one starts the next."""
    chunks = [Chunk()]
    position = 0
    while position < len(ids):
        embedding, length = database.find_embedding_at_position(ids, position)
        vectors = 1 if embedding is None else int(embedding.vectors)
        if len(chunks[-1].tokens) + vectors > 75:
            chunks.append(Chunk())
        if embedding is None:
            chunks[-1].tokens.append(ids[position])
            position += 1
            continue
        chunks[-1].fixes.append(Fix(len(chunks[-1].tokens), embedding))
        chunks[-1].tokens += [0] * vectors
        position += length or 1
    return [Chunk([49406, *one.tokens, *[49407] * (76 - len(one.tokens))], one.fixes) for one in chunks]


def _read(path: str, name: str) -> Any:
    tensors = safetensors.torch.load_file(path)
    if {"clip_l", "clip_g"} <= set(tensors):
        vectors: Any = {key: tensor.float() for key, tensor in tensors.items()}
        count, shape = len(tensors["clip_g"]), tensors["clip_l"].shape[-1] + tensors["clip_g"].shape[-1]
    else:
        (tensor,) = tensors.values()
        vectors, count, shape = tensor.float(), len(tensor), tensor.shape[-1]
    return SimpleNamespace(vec=vectors, name=name, vectors=count, shape=shape, filename=path)


def spliced(rows: torch.Tensor, fixes: Sequence[Fix], key: str) -> torch.Tensor:
    """A chunk's rows [77, width] with the embeddings' vectors in their places, behind the start token."""
    for offset, embedding in fixes:
        vectors = embedding.vec[key] if isinstance(embedding.vec, dict) else embedding.vec
        vectors = vectors.to(rows)
        rows = torch.cat([rows[: offset + 1], vectors, rows[offset + 1 + len(vectors) :]])
    return rows
