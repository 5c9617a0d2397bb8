"""The weights of a text encoder under canonical names, those of transformers' CLIPTextModel(WithProjection).

A CanonicalWeight says which stored numbers make one canonical weight. Listing them reads nothing but the scales of
quantised weights. Sources: docs/embedding-files.md; ComfyUI's comfy/utils.py for the order q, k, v in open_clip's
in_proj.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from lib_embedmerge.checkpoints.layouts import EncoderSource, Naming
from lib_embedmerge.checkpoints.quantisation import find_scale, restore_values
from lib_embedmerge.checkpoints.weights import Weight
from lib_embedmerge.core.architecture import CLIP_G, CLIP_H

TOKEN_TABLE = Naming.HUGGING_FACE.value
PROJECTION = "text_projection.weight"

_LAYERS_USED_OF_H = 23
"""Layers of CLIP-H that SD2 uses. Single files also contain the last one, the 24th; diffusers folders do not."""

_PARTS = (
    "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2",
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
)  # fmt: skip
_LAYER = re.compile(r"text_model\.encoder\.layers\.(0|[1-9][0-9]{0,3})\.(.+)\.(weight|bias)", re.ASCII)
_OPEN_LAYER = re.compile(r"transformer\.resblocks\.(0|[1-9][0-9]{0,3})\.(.+)", re.ASCII)
_OUTSIDE_LAYERS = frozenset(
    {
        TOKEN_TABLE,
        "text_model.embeddings.position_embedding.weight",
        "text_model.final_layer_norm.weight",
        "text_model.final_layer_norm.bias",
    }
)
_OPEN_NAMES = {
    "token_embedding.weight": TOKEN_TABLE,
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_PARTS = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip
_IN_PROJ = re.compile(r"attn\.in_proj_(weight|bias)")

_PIECE_VALUES = 2 * 1024 * 1024
"""Number of values that are read at once: 4 MB of float16, 8 MB of float32."""


@dataclass(frozen=True)
class CanonicalWeight:
    """A weight of a text encoder under its canonical name.

    weight, first, count: it consists of `count` values of the stored `weight`, from index `first` on.
    transposed: whether the stored matrix is the transpose of the canonical one.
    scale: factor that turns stored values into the model's values.
    """

    name: str
    weight: Weight
    first: int
    count: int
    transposed: bool = False
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the canonical weight, which may differ from the stored one."""
        stored = self.weight.shape
        if self.count != math.prod(stored):  # a third of open_clip's in_proj
            return (stored[0] // 3, *stored[1:])
        return stored[::-1] if self._is_transposed else stored

    @property
    def _is_transposed(self) -> bool:
        return self.transposed and len(self.weight.shape) == 2  # anything but a matrix is damaged, and stays as it is

    def values(self, first: int, count: int) -> numpy.ndarray:
        """`count` values from index `first` on, in canonical order: 1-D, float16, float32 or float64."""
        if not self._is_transposed:
            return restore_values(self.weight.read(self.first + first, count), self.scale)
        whole = restore_values(self.weight.read(self.first, self.count), self.scale).reshape(self.weight.shape)
        values: numpy.ndarray = whole.T.reshape(-1)[first : first + count]
        return values

    def pieces(self) -> Iterator[numpy.ndarray]:
        """All values in canonical order, as 1-D arrays of at most 2 Mi values; a matrix is cut between rows."""
        width = max(1, self.shape[-1] if self.shape else 1)
        step = max(1, _PIECE_VALUES // width) * width
        for first in range(0, self.count, step):
            yield self.values(first, min(step, self.count - first))


def find_canonical_weights(source: EncoderSource) -> list[CanonicalWeight]:
    """The weights that an encoder's output depends on: no position_ids, no logit_scale, a projection only for clip_g.

    CheckpointError if a weight is quantised in an unknown way.
    """
    tensors, prefix = source.weights.tensors, source.layout.prefix
    weights: dict[str, CanonicalWeight] = {}
    for stored in tensors:
        if stored.startswith(prefix):
            for item in _convert(source, stored, stored[len(prefix) :]):
                weights.setdefault(item.name, item)
    if source.key == CLIP_G and PROJECTION not in weights:
        for name in _list_bare_projections(prefix):
            if name in tensors:
                weights.setdefault(PROJECTION, _make_whole(source, PROJECTION, name, transposed=True))
    return [item for item in weights.values() if _is_used(source.key, item.name)]


def is_complete(key: str, names: set[str]) -> bool:
    """Whether `names` are exactly the canonical names of a whole encoder, every layer from 0 on with all its parts.

    key: clip_l, clip_g or clip_h.
    """
    expected = set(_OUTSIDE_LAYERS) | ({PROJECTION} if key == CLIP_G else set())
    layers = {int(match[1]) for name in names if (match := _LAYER.fullmatch(name))}
    for layer in range(max(len(layers), 1)):
        expected |= {
            f"text_model.encoder.layers.{layer}.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")
        }
    return names == expected


def _convert(source: EncoderSource, stored: str, name: str) -> Iterator[CanonicalWeight]:
    """The canonical weights in one stored tensor: one, three in an in_proj, or none.

    stored: its name in the file.  name: the same without the prefix of the layout.
    """
    if source.layout.naming is not Naming.OPEN_CLIP:
        full = name if source.layout.naming is Naming.HUGGING_FACE or name == PROJECTION else f"text_model.{name}"
        if _is_canonical(full):
            yield _make_whole(source, full, stored)
        return
    if name in _OPEN_NAMES:
        yield _make_whole(source, _OPEN_NAMES[name], stored)
        return
    if not (match := _OPEN_LAYER.fullmatch(name)):
        return
    layer, rest = f"text_model.encoder.layers.{match[1]}.", match[2]
    if attention := _IN_PROJ.fullmatch(rest):
        yield from _split_in_proj(source, stored, f"{layer}self_attn.{{}}_proj.{attention[1]}")
        return
    part, _, kind = rest.rpartition(".")
    if part in _OPEN_PARTS and kind in {"weight", "bias"}:
        yield _make_whole(source, f"{layer}{_OPEN_PARTS[part]}.{kind}", stored)


def _make_whole(source: EncoderSource, name: str, stored: str, *, transposed: bool = False) -> CanonicalWeight:
    """A canonical weight that consists of a whole stored tensor."""
    weight = source.weights.tensors[stored]
    return CanonicalWeight(name, weight, 0, math.prod(weight.shape), transposed, find_scale(source.weights, stored))


def _split_in_proj(source: EncoderSource, stored: str, name: str) -> Iterator[CanonicalWeight]:
    """The weights of q, k and v in an in_proj of open_clip. name: their name with `{}` for the letter."""
    weight = source.weights.tensors[stored]
    if not weight.shape or weight.shape[0] % 3:  # damaged: it does not consist of q, k and v
        return
    count = math.prod(weight.shape) // 3
    scale = find_scale(source.weights, stored)
    for index, letter in enumerate("qkv"):
        yield CanonicalWeight(name.format(letter), weight, index * count, count, scale=scale)


def _list_bare_projections(prefix: str) -> tuple[str, ...]:
    """Names of a projection without `.weight`, as open_clip and old versions of ComfyUI's CLIPSave write it.

    It is used as x @ P, so it is the transpose of the canonical one.
    """
    return f"{prefix}text_projection", f"{prefix.removesuffix('transformer.')}text_projection"


def _is_canonical(name: str) -> bool:
    """Whether a name is one that a weight of an encoder has in transformers."""
    match = _LAYER.fullmatch(name)
    return name in _OUTSIDE_LAYERS or name == PROJECTION or (match is not None and match[2] in _PARTS)


def _is_used(key: str, name: str) -> bool:
    """Whether the output of the encoder `key` depends on a weight."""
    if name == PROJECTION:
        return key == CLIP_G
    match = _LAYER.fullmatch(name)
    return key != CLIP_H or match is None or int(match[1]) < _LAYERS_USED_OF_H
