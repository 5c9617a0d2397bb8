"""Find the token tables in a web UI's model object, by the attributes that it has, never by the name of its class.

A1111 and reForge have a conditioner with one or more embedders, each in the layout of transformers or of open_clip and
possibly wrapped. Forge and Forge Neo have a text processing engine for each encoder.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.errors import HostError

_ENGINE = "text_processing_engine"
_CLIP_ENGINES = (_ENGINE, f"{_ENGINE}_l", f"{_ENGINE}_g")
"""Attributes of a model with an engine for CLIP. Those for other encoders end in _t5, _gemma, _qwen, _anima, ..."""

_HOLDERS = ("conditioner", "cond_stage_model")
"""Attributes of a model that have its text encoders in A1111 and reForge."""

_TABLE_PATHS = (
    ("transformer", "text_model", "embeddings", "token_embedding"),  # transformers' CLIPTextModel and its likes
    ("model", "token_embedding"),  # open_clip
)

_KEYS = {width: key for key, width in WIDTHS.items()}
"""Width of a token table -> key of the text encoder."""


class TokenTables:
    """Finds the token tables in a web UI's model again and again, as every prompt with an expression wants it.

    It remembers where the tables of the last model are, if a conditioner has them, as in A1111 and reForge. To go there
    takes a quarter of the time of a search. If one table is no longer in its place, because a part of the model was
    replaced, the model is searched again. Models of Forge are searched each time.
    """

    def __init__(self) -> None:
        self._known: tuple[weakref.ref[torch.nn.Module], Mapping[str, Sequence[str]]] | None = None
        """The model that was searched last, and encoder key -> names of the parts on the way to the table."""

    def find(self, model: object) -> dict[str, torch.nn.Module]:
        """The result of `find_token_tables`, with its errors."""
        return self._follow(model) or self._search(model)

    def _follow(self, model: object) -> dict[str, torch.nn.Module]:
        """The tables where they were; none if the model is another one, or if one of them is not there."""
        if self._known is None or not isinstance(model, torch.nn.Module) or self._known[0]() is not model:
            return {}
        layers: dict[str, torch.nn.Module] = {}
        for key, way in self._known[1].items():
            layer = _follow_path(model, way)
            if not isinstance(layer, torch.nn.Module) or _find_encoder_key(layer) != key:
                return {}
            layers[key] = layer
        return layers

    def _search(self, model: object) -> dict[str, torch.nn.Module]:
        layers = find_token_tables(model)
        if isinstance(model, torch.nn.Module):
            ways = {key: way for key, layer in layers.items() if (way := _find_way(model, layer)) is not None}
            if ways.keys() == layers.keys():
                self._known = weakref.ref(model), ways
        return layers


def find_clip_engines(model: object) -> list[Any] | None:
    """The text processing engines of a Forge model, one for each CLIP encoder; None for a model of another web UI.

    A model of Forge, or of a fork of it, that has other text encoders alone has an empty list.
    """
    engines = _find_engines(model)
    return [engines[name] for name in _CLIP_ENGINES if name in engines] if engines else None


def find_token_tables(model: object) -> dict[str, torch.nn.Module]:
    """Encoder key -> the embedding layer with the token table. Empty if `model` is not a loaded model.

    HostError if the model has text encoders other than CLIP, because an embedding needs vectors for all of them.
    """
    engines = _find_engines(model)
    if not engines.keys() <= set(_CLIP_ENGINES):
        raise _make_unsupported_error()
    encoders = [getattr(engine, "text_encoder", None) for engine in engines.values()] or _find_embedders(model)
    layers: dict[str, torch.nn.Module] = {}
    for encoder in encoders:
        layer = _find_embedding_layer(encoder)
        key = _find_encoder_key(layer)
        if layer is not None and key is not None:
            layers[key] = layer
    if not layers and getattr(model, "cond_stage_model", None) is not None:
        raise _make_unsupported_error()
    return layers


def _find_engines(model: object) -> dict[str, Any]:
    """Attribute of a model -> the text processing engine in it, of whatever encoder."""
    attributes = getattr(model, "__dict__", {})
    every = (*attributes, *attributes.get("_modules", ()))  # dir() would take as long as all else for a prompt
    names = [name for name in every if name.startswith(_ENGINE)]
    return {name: engine for name in names if (engine := getattr(model, name, None)) is not None}


def _find_embedders(model: object) -> Iterable[object]:
    """The embedders of a model's conditioner, or the conditioner itself if it is the only one."""
    for name in _HOLDERS:
        if (holder := _find_part(model, name)) is not None:
            embedders: Iterable[object] | None = _find_part(holder, "embedders")
            return [holder] if embedders is None else embedders
    return ()


def _find_way(model: torch.nn.Module, layer: torch.nn.Module) -> list[str] | None:
    """The names of the parts on the way from a model to a layer of its text encoders; None if not all are modules."""
    for name in _HOLDERS:
        if (holder := model._modules.get(name)) is not None:
            for path, module in holder.named_modules():
                if module is layer:
                    return [name, *path.split(".")]
    return None


def _find_embedding_layer(encoder: object) -> torch.nn.Module | None:
    """The layer of a text encoder that has the token table, or None."""
    unwrapped = _unwrap(encoder)
    for path in _TABLE_PATHS:
        if (module := _follow_path(unwrapped, path)) is not None:
            layer = _unwrap(module)
            return layer if isinstance(layer, torch.nn.Module) else None
    return None


def _follow_path(module: object, path: Iterable[str]) -> Any:
    """The attribute of an attribute, and so on, of a module; None if one is missing."""
    for name in path:
        if (module := _find_part(module, name)) is None:
            return None
    return module


def _find_part(module: object, name: str) -> Any:
    """The attribute of a module, or None.

    torch's own look-up takes ten times as long where there is none, and this is done for each prompt. It is asked only
    where it could find more than the parts of the module.
    """
    if isinstance(module, torch.nn.Module):
        if (part := module._modules.get(name)) is not None:
            return part
        kind: type[torch.nn.Module] = type(module)
        finds_more = kind.__getattr__ is not torch.nn.Module.__getattr__ or name in vars(module) or hasattr(kind, name)
        if not finds_more:
            return None
    return getattr(module, name, None)


def _unwrap(module: object) -> object:
    """The module that a web UI's hook wraps, or the argument itself. In A1111 for SD3, `wrapped` is a method."""
    wrapped = _find_part(module, "wrapped")
    return wrapped if isinstance(wrapped, torch.nn.Module) else module


def _find_encoder_key(layer: torch.nn.Module | None) -> str | None:
    """The key of the encoder that a token table belongs to, by its width; None if it is not that of a CLIP encoder."""
    shape: tuple[int, ...] = tuple(getattr(getattr(layer, "weight", None), "shape", ()))
    return _KEYS.get(shape[1]) if len(shape) == 2 else None


def _make_unsupported_error() -> HostError:
    return HostError(
        "The loaded model has other text encoders than CLIP-L, CLIP-G or CLIP-H, so EmbedMerge cannot make"
        " an embedding for it.",
        expected="an SDXL, Stable Diffusion 1 or Stable Diffusion 2 model",
        hint="Choose such a checkpoint.",
    )
