"""The web UIs' database of embeddings, and how a text becomes chunks of tokens with embeddings in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import safetensors.torch
import torch

from doubles.prompts import BREAK, parse_prompt_attention

Tokenize = Callable[[Sequence[str]], list[list[int]]]

_LENGTH, _START, _END, _COMMA = 75, 49406, 49407, 267
_BACKTRACK = 20
"""How far before a chunk's end a comma may be, for what follows it to go into the next one."""


class Fix(NamedTuple):
    """Where in a chunk an embedding's vectors go."""

    offset: int
    embedding: Any


@dataclass
class Chunk:
    """75 tokens between start and end; 0 where an embedding's vector goes. multipliers: of attention, for each."""

    tokens: list[int] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)

    def closed(self) -> Chunk:
        """With start, and ends up to the length that the encoder takes."""
        ends = _LENGTH + 1 - len(self.tokens)
        multipliers = [1.0, *self.multipliers, *[1.0] * ends]
        return Chunk([_START, *self.tokens, *[_END] * ends], multipliers, self.fixes)


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

    def __init__(self, current_model: Callable[[], Any], folder: Path) -> None:
        super().__init__()
        self._current_model = current_model
        self._folder = folder
        self._seen: int | None = None

    def load_textual_inversion_embeddings(self, force_reload: bool = False) -> None:
        """Where the folder has changed since: everything is gone, and read again."""
        changed = self._folder.stat().st_mtime_ns if self._folder.is_dir() else None
        if force_reload or changed != self._seen:
            self._seen = changed
            layers = [one for one in self._current_model().modules() if isinstance(one, torch.nn.Embedding)]
            self.expected_shape = sum(layer.embedding_dim for layer in layers)
            self.load_folder(str(self._folder))

    def register_embedding_by_name(self, embedding: Any, model: Any, name: str) -> None:
        self._register(embedding, name, model.cond_stage_model.tokenize([name])[0])

    def _register_loaded(self, embedding: Any) -> None:
        embedding.shorthash = hashlib.sha256(Path(embedding.filename).read_bytes()).hexdigest()[:12]
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


def chunks_of(line: str, tokenize: Tokenize, database: EmbeddingDatabase) -> tuple[list[Chunk], int]:
    """A text's chunks, and how many tokens it has: an embedding that does not fit into one starts the next."""
    pieces = parse_prompt_attention(line)
    chunks = [Chunk()]
    last_comma = None
    for ids, (text, weight) in zip(tokenize([text for text, _ in pieces]), pieces, strict=True):
        if text == "BREAK" and weight == BREAK:
            chunks.append(Chunk())
            last_comma = None
            continue
        position = 0
        while position < len(ids):
            full = len(chunks[-1].tokens) == _LENGTH
            if ids[position] == _COMMA:
                last_comma = len(chunks[-1].tokens)
            elif full and last_comma is not None and _LENGTH - last_comma <= _BACKTRACK:
                chunks.append(_moved(chunks[-1], last_comma + 1))
                full, last_comma = False, None
            embedding, length = database.find_embedding_at_position(ids, position)
            vectors = 1 if embedding is None else int(embedding.vectors)
            if full or len(chunks[-1].tokens) + vectors > _LENGTH:
                chunks.append(Chunk())
                last_comma = None
            if embedding is not None:
                chunks[-1].fixes.append(Fix(len(chunks[-1].tokens), embedding))
            chunks[-1].tokens += [ids[position]] if embedding is None else [0] * vectors
            chunks[-1].multipliers += [weight] * vectors
            position += length or 1
    if len(chunks) > 1 and not chunks[-1].tokens:
        chunks.pop()
    return [chunk.closed() for chunk in chunks], (len(chunks) - 1) * _LENGTH + len(chunks[-1].tokens)


def _moved(chunk: Chunk, start: int) -> Chunk:
    """A new chunk with what stands from there on; the fixes stay where they were, as in the web UIs."""
    moved = Chunk(chunk.tokens[start:], chunk.multipliers[start:])
    del chunk.tokens[start:], chunk.multipliers[start:]
    return moved


def encoded(chunks: Sequence[Sequence[Chunk]], layer: Any, fixes: Any, padding_id: int) -> torch.Tensor:
    """What stands for the encoders here: the token layer's own output, [texts, 77 * chunks, width], with attention.

    fixes: what carries them to the layer.
    """
    found = []
    for place in range(max(map(len, chunks))):
        batch = [some[place] if place < len(some) else Chunk().closed() for some in chunks]
        ids = torch.tensor([chunk.tokens for chunk in batch])
        for row, chunk in zip(ids, batch, strict=True):
            if padding_id != _END:
                row[chunk.tokens.index(_END) + 1 :] = padding_id
        fixes.fixes = [chunk.fixes for chunk in batch]
        rows = layer(ids)
        found.append(rows * torch.tensor([chunk.multipliers for chunk in batch]).to(rows)[..., None])
    return torch.hstack(found)


def used(chunks: Sequence[Sequence[Chunk]]) -> dict[str, Any]:
    """The embeddings that stand in some texts, by their names."""
    return {fix.embedding.name: fix.embedding for some in chunks for chunk in some for fix in chunk.fixes}


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
    """A chunk's rows [77, width] with the embeddings' vectors in their places, after the start token."""
    for offset, embedding in fixes:
        vectors = embedding.vec[key] if isinstance(embedding.vec, dict) else embedding.vec
        vectors = vectors.to(rows)[: len(rows) - offset - 1]
        rows = torch.cat([rows[: offset + 1], vectors, rows[offset + 1 + len(vectors) :]])
    return rows
