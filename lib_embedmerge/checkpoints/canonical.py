"""One naming for all text encoders: transformers' CLIPTextModel(WithProjection), whatever the file calls its weights.

Sources: docs/embedding-files.md; ComfyUI's comfy/utils.py for the order q, k, v in open_clip's in_proj. Nothing is
read here but scales; an item says which stored numbers make one canonical weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lib_embedmerge.checkpoints.layouts import EncoderSource, Naming
from lib_embedmerge.checkpoints.quantisation import find_scale, restore_values
from lib_embedmerge.checkpoints.weights import Weight
from lib_embedmerge.core.architecture import CLIP_G, CLIP_H

TOKEN_TABLE = Naming.HUGGING_FACE.value
PROJECTION = "text_projection.weight"

_USED_LAYERS_OF_H = 23
"""SD2 takes the output of the last layer but one: single files carry the unused 24th, diffusers folders do not."""

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
"""Values read at once: 4 MB of float16, 8 MB of float32."""


@dataclass(frozen=True)
class CanonicalWeight:
    """A weight of the encoder under its canonical name: `count` values of `weight` from the first-th on.

    transposed: whether the stored matrix has to be turned.  scale: what its values are multiplied with.
    """

    name: str
    weight: Weight
    first: int
    count: int
    transposed: bool = False
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape under its canonical name."""
        stored = self.weight.shape
        if self.count != math.prod(stored):  # a third of open_clip's in_proj
            return (stored[0] // 3, *stored[1:])
        return stored[::-1] if self._is_turned else stored

    @property
    def _is_turned(self) -> bool:
        return self.transposed and len(self.weight.shape) == 2  # what is no matrix is damaged, and is taken as it is

    def values(self, first: int, count: int) -> Tensor:
        """1-D: `count` values from the first-th on, in canonical order: float16, float32 or float64, on the CPU."""
        if not self._is_turned:
            return restore_values(self.weight.read(self.first + first, count), self.scale)
        whole = restore_values(self.weight.read(self.first, self.count), self.scale).reshape(self.weight.shape)
        return whole.T.reshape(-1)[first : first + count]

    def pieces(self) -> Iterator[Tensor]:
        """All its values in canonical order, 1-D, piece by piece; whole rows of a matrix."""
        width = max(1, self.shape[-1] if self.shape else 1)
        step = max(1, _PIECE_VALUES // width) * width
        for first in range(0, self.count, step):
            yield self.values(first, min(step, self.count - first))


def canonical_weights(source: EncoderSource) -> list[CanonicalWeight]:
    """All weights that make the encoder what it is: no position_ids, no logit_scale, a projection for clip_g only.

    CheckpointError where one is quantised in a way that is not known.
    """
    tensors, prefix = source.weights.tensors, source.layout.prefix
    found: dict[str, CanonicalWeight] = {}
    for stored in tensors:
        if stored.startswith(prefix):
            for item in _items(source, stored, stored[len(prefix) :]):
                found.setdefault(item.name, item)
    if source.key == CLIP_G and PROJECTION not in found:
        for name in _loose_projections(prefix):
            if name in tensors:
                found.setdefault(PROJECTION, _whole(source, PROJECTION, name, transposed=True))
    return [item for item in found.values() if _is_used(source.key, item.name)]


def is_complete(key: str, names: set[str]) -> bool:
    """Whether canonical names make a whole encoder: every layer from 0 on with all its parts, nothing missing."""
    expected = set(_OUTSIDE_LAYERS) | ({PROJECTION} if key == CLIP_G else set())
    layers = {int(match[1]) for name in names if (match := _LAYER.fullmatch(name))}
    for layer in range(max(len(layers), 1)):
        expected |= {
            f"text_model.encoder.layers.{layer}.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")
        }
    return names == expected


def _items(source: EncoderSource, stored: str, name: str) -> Iterator[CanonicalWeight]:
    """The canonical weights that one stored tensor makes: one, three for in_proj, or none."""
    if source.layout.naming is not Naming.OPEN_CLIP:
        full = name if source.layout.naming is Naming.HUGGING_FACE or name == PROJECTION else f"text_model.{name}"
        if _is_canonical(full):
            yield _whole(source, full, stored)
        return
    if name in _OPEN_NAMES:
        yield _whole(source, _OPEN_NAMES[name], stored)
        return
    if not (match := _OPEN_LAYER.fullmatch(name)):
        return
    layer, rest = f"text_model.encoder.layers.{match[1]}.", match[2]
    if attention := _IN_PROJ.fullmatch(rest):
        yield from _thirds(source, stored, f"{layer}self_attn.{{}}_proj.{attention[1]}")
        return
    part, _, kind = rest.rpartition(".")
    if part in _OPEN_PARTS and kind in {"weight", "bias"}:
        yield _whole(source, f"{layer}{_OPEN_PARTS[part]}.{kind}", stored)


def _whole(source: EncoderSource, name: str, stored: str, *, transposed: bool = False) -> CanonicalWeight:
    weight = source.weights.tensors[stored]
    return CanonicalWeight(name, weight, 0, math.prod(weight.shape), transposed, find_scale(source.weights, stored))


def _thirds(source: EncoderSource, stored: str, name: str) -> Iterator[CanonicalWeight]:
    weight = source.weights.tensors[stored]
    if not weight.shape or weight.shape[0] % 3:  # damaged: it is no q, k and v
        return
    count = math.prod(weight.shape) // 3
    scale = find_scale(source.weights, stored)
    for index, letter in enumerate("qkv"):
        yield CanonicalWeight(name.format(letter), weight, index * count, count, scale=scale)


def _loose_projections(prefix: str) -> tuple[str, ...]:
    """Where a matrix stands that is used as x @ P, so the transpose of transformers': open_clip's, old CLIPSave's."""
    return f"{prefix}text_projection", f"{prefix.removesuffix('transformer.')}text_projection"


def _is_canonical(name: str) -> bool:
    match = _LAYER.fullmatch(name)
    return name in _OUTSIDE_LAYERS or name == PROJECTION or (match is not None and match[2] in _PARTS)


def _is_used(key: str, name: str) -> bool:
    if name == PROJECTION:
        return key == CLIP_G
    match = _LAYER.fullmatch(name)
    return key != CLIP_H or match is None or int(match[1]) < _USED_LAYERS_OF_H
