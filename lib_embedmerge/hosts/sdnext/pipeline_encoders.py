"""The CLIP text encoders of a pipeline of diffusers, with their tokenizers and token tables.

A pipeline has them as `text_encoder` and `tokenizer`, `text_encoder_2` and `tokenizer_2`, and so on. A program that
loads embeddings adds tokens to the tokenizers, and rows for them at the end of the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.errors import HostError
from lib_embedmerge.tokenizer import clip_tokenizer

OWN_ROWS = 49408
"""Rows of a CLIP token table; those after them are of embeddings."""

_SUFFIXES = ("", "_2", "_3", "_4")


@dataclass(frozen=True)
class PipelineEncoder:
    """A CLIP text encoder of a pipeline. key: clip_l, clip_g or clip_h.  tokenizer: of transformers."""

    key: str
    text_encoder: Any
    tokenizer: Any

    @property
    def layer(self) -> torch.nn.Module:
        """The embedding layer with the token table, whose `weight` is [rows, width]."""
        layer: torch.nn.Module = self.text_encoder.get_input_embeddings()
        return layer

    @property
    def weight(self) -> torch.Tensor:
        """The token table with the rows of embeddings, [rows, width]."""
        return _find_weight(self.layer)


def find_pipeline(model: Any) -> Any:
    """The pipeline in SD.Next's model object, which is one or holds one."""
    return model if hasattr(model, "text_encoder") else getattr(model, "pipe", model)


def find_encoders(model: Any) -> list[PipelineEncoder]:
    """The CLIP text encoders of SD.Next's model object, in the order of the pipeline. Empty if it has none in memory.

    HostError if the model has other text encoders, because an embedding needs vectors for all of them.
    """
    pipeline = find_pipeline(model)
    encoders = [_find_encoder(*pair) for pair in _find_pairs(pipeline)]
    found = [encoder for encoder in encoders if encoder is not None]
    if len(found) < len(encoders) or (not found and getattr(model, "sd_checkpoint_info", None) is not None):
        raise HostError(
            "The loaded model has other text encoders than CLIP-L, CLIP-G or CLIP-H, so EmbedMerge cannot make"
            " an embedding for it.",
            expected="an SDXL, Stable Diffusion 1 or Stable Diffusion 2 model",
            hint="Choose such a checkpoint.",
        )
    # A table whose values are elsewhere, as with sequential offloading, or that is being unloaded, cannot be read.
    return [] if any(encoder.weight.is_meta for encoder in found) else found


def _find_pairs(pipeline: Any) -> Iterator[tuple[Any, Any]]:
    """(text encoder, tokenizer) of each text encoder that the pipeline has."""
    for suffix in _SUFFIXES:
        text_encoder = getattr(pipeline, f"text_encoder{suffix}", None)
        if text_encoder is not None:
            yield text_encoder, getattr(pipeline, f"tokenizer{suffix}", None)


def _find_encoder(text_encoder: Any, tokenizer: Any) -> PipelineEncoder | None:
    """The text encoder if it is one of CLIP, else None: it has CLIP's widths and special tokens."""
    if not hasattr(text_encoder, "get_input_embeddings"):
        return None
    rows, width = _find_weight(text_encoder.get_input_embeddings()).shape
    key = next((key for key, known in WIDTHS.items() if known == width), None)
    ours = clip_tokenizer()
    marks = getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None)
    if key is None or rows < OWN_ROWS or marks != (ours.start_id, ours.end_id):
        return None
    return PipelineEncoder(key, text_encoder, tokenizer)


def _find_weight(layer: Any) -> torch.Tensor:
    weight: torch.Tensor = layer.weight
    return weight
