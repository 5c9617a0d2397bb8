"""The torch modules around a token table, in the two layouts that text encoders come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from doubles.database import Chunk, Tokenize, chunks_of, encoded, spliced, used


class TableWithEmbeddings(torch.nn.Module):
    """A1111's EmbeddingsWithFixes: the table's layer, and embeddings put into what it gives."""

    def __init__(self, wrapped: torch.nn.Embedding, embeddings: Any, key: str = "clip_l") -> None:
        super().__init__()
        self.wrapped = wrapped
        self.embeddings = embeddings
        self.textual_inversion_key = key
        self.weight = wrapped.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        fixes, self.embeddings.fixes = self.embeddings.fixes, None
        rows = self.wrapped(ids)
        if not fixes:
            return rows
        return torch.stack(
            [spliced(one, mine, self.textual_inversion_key) for one, mine in zip(rows, fixes, strict=True)]
        )


class Node(torch.nn.Module):
    """A module that is only there to hold others."""

    def __init__(self, **children: torch.nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def table_layer(table: torch.Tensor) -> torch.nn.Embedding:
    """The embedding layer over a table, which is not copied."""
    return torch.nn.Embedding(table.shape[0], table.shape[1], _weight=table)


def like_transformers(layer: torch.nn.Module) -> Node:
    """With the table at transformer.text_model.embeddings.token_embedding."""
    return Node(transformer=Node(text_model=Node(embeddings=Node(token_embedding=layer))))


def like_open_clip(layer: torch.nn.Module) -> Node:
    """With the table at model.token_embedding."""
    return Node(model=Node(token_embedding=layer))


class Embedder(torch.nn.Module):
    """A1111's hijacked text encoder: `wrapped` is the bare one. hijack: has the database, and carries the fixes."""

    def __init__(self, wrapped: torch.nn.Module, hijack: Any, tokenize: Tokenize, options: Any) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.hijack = hijack
        self._tokenize = tokenize
        self._options = options

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenize(texts)

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        return chunks_of(line, self.tokenize, self.hijack.embedding_db)

    def forward(self, texts: list[str]) -> torch.Tensor:
        """The conditioning of some texts. The infotext then tells the embeddings' hashes."""
        chunks = [self.tokenize_line(text)[0] for text in texts]
        if self._options.use_old_emphasis_implementation:
            for name, embedding in used(chunks).items():
                self.hijack.comments.append(f"Used embeddings: {name} [{embedding.checksum()}]")
        (layer,) = (one for one in self.modules() if isinstance(one, TableWithEmbeddings))
        rows = encoded(chunks, layer, self.hijack, padding_id(layer))
        hashes = [f"{name}: {one.shorthash}" for name, one in used(chunks).items() if one.shorthash]
        if hashes:
            hashes += filter(None, [self.hijack.extra_generation_params.get("TI hashes")])
            self.hijack.extra_generation_params["TI hashes"] = ", ".join(hashes)
        return rows


class Conditioner(torch.nn.Module):
    """sgm's: text encoders, then embedders of numbers. Tokenizes with the first."""

    def __init__(self, *embedders: torch.nn.Module) -> None:
        super().__init__()
        self.embedders = torch.nn.ModuleList([*embedders, torch.nn.Identity(), torch.nn.Identity()])

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        first: Any = self.embedders[0]
        found: list[list[int]] = first.tokenize(texts)
        return found


class Model(torch.nn.Module):
    """A model object: what is given, and the checkpoint that it is of."""

    def __init__(self, info: Any, **parts: Any) -> None:
        super().__init__()
        self.sd_checkpoint_info = info
        self.cond_stage_model = None
        for name, part in parts.items():
            setattr(self, name, part)

    def get_learned_conditioning(self, texts: Any) -> Any:
        """One tensor of one encoder without a conditioner, else as SDXL has it."""
        conditioner = getattr(self, "conditioner", None)
        if conditioner is None:
            holder: Any = self.cond_stage_model
            return holder(texts)
        embedders = [one for one in conditioner.embedders if isinstance(one, Embedder)]
        return conditioning_of([one(texts) for one in embedders], texts)


def conditioning_of(rows: Sequence[torch.Tensor], texts: Any) -> dict[str, torch.Tensor]:
    """SDXL's conditioning of some texts, which are SdConditioning: sizes too, and zeros for no negative prompt.

    rows: of each encoder, [texts, tokens, width].
    """
    crossattn = torch.cat(list(rows), dim=2)
    if texts.is_negative_prompt and not any(texts):
        crossattn = torch.zeros_like(crossattn)
    return {"crossattn": crossattn, "vector": torch.tensor([[texts.width or 0, texts.height or 0]] * len(texts))}


def padding_id(layer: TableWithEmbeddings) -> int:
    """What follows the first end token: the end token again for CLIP-L, 0 for the others."""
    return 49407 if layer.weight.shape[1] == 768 else 0
