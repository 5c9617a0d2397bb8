"""Where a web UI's model object keeps its token tables. Found by what an object has, never by its class's name.

A1111 and reForge have a conditioner with embedders, each wrapped or not, in the layout of
transformers or of open_clip; Forge has a text processing engine for each encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.errors import HostError

_CLIP_ENGINES = ("text_processing_engine", "text_processing_engine_l", "text_processing_engine_g")
_OTHER_ENGINES = ("text_processing_engine_t5",)

_TABLES = (
    ("transformer", "text_model", "embeddings", "token_embedding"),  # transformers' CLIPTextModel and its likes
    ("model", "token_embedding"),  # open_clip
)


def find_clip_engines(model: object) -> Iterator[Any]:
    """The text processing engines of a Forge model: one for each CLIP encoder; none elsewhere."""
    for name in _CLIP_ENGINES:
        if (engine := getattr(model, name, None)) is not None:
            yield engine


def find_token_tables(model: object) -> dict[str, torch.nn.Module]:
    """Encoder key -> the embedding layer with the token table. Empty for an object that is no loaded model.

    HostError for a model that reads prompts with other encoders too, so that CLIP's vectors are not all of it.
    """
    if any(getattr(model, name, None) is not None for name in _OTHER_ENGINES):
        raise _not_only_clip()
    found: dict[str, torch.nn.Module] = {}
    for encoder in _encoders(model):
        layer = _embedding_layer(encoder)
        key = _key_of(layer)
        if layer is not None and key is not None:
            found[key] = layer
    if not found and getattr(model, "cond_stage_model", None) is not None:
        raise _not_only_clip()
    return found


def _encoders(model: object) -> Iterator[object]:
    engines = list(find_clip_engines(model))
    if engines:
        yield from (getattr(engine, "text_encoder", None) for engine in engines)
        return
    for holder in (getattr(model, "conditioner", None), getattr(model, "cond_stage_model", None)):
        if holder is not None:
            embedders = getattr(holder, "embedders", None)
            yield from [holder] if embedders is None else embedders
            return


def _embedding_layer(encoder: object) -> torch.nn.Module | None:
    for path in _TABLES:
        place = _unwrapped(encoder)
        for name in path:
            place = getattr(place, name, None)
        if place is not None:
            layer = _unwrapped(place)
            return layer if isinstance(layer, torch.nn.Module) else None
    return None


def _unwrapped(place: object) -> object:
    """What a web UI's hook was put around. A bound method of that name (A1111's for SD3) is none."""
    wrapped = getattr(place, "wrapped", None)
    return wrapped if isinstance(wrapped, torch.nn.Module) else place


def _key_of(layer: torch.nn.Module | None) -> str | None:
    shape: tuple[int, ...] = tuple(getattr(getattr(layer, "weight", None), "shape", ()))
    if len(shape) != 2:
        return None
    keys: Mapping[int, str] = {width: key for key, width in WIDTHS.items()}
    return keys.get(shape[1])


def _not_only_clip() -> HostError:
    return HostError(
        "The loaded model has other text encoders than CLIP-L, CLIP-G or CLIP-H, so EmbedMerge cannot make"
        " an embedding for it.",
        expected="an SDXL, Stable Diffusion 1 or Stable Diffusion 2 model",
        hint="Choose such a checkpoint.",
    )
