"""The part of a U-Net that reads text: the cross-attentions, and in SDXL the layer that reads the pooled vector.

A text acts on the U-Net only through these: each cross-attention makes keys and values of the states of the text
encoders (`to_k`, `to_v`) and asks them with queries of the picture (`to_q`), and `label_emb` takes the pooled output of
CLIP-G. Opening reads only headers; a matrix is read when it is needed. Sources for the names: sgm and ldm
modules/attention.py and openaimodel.py; diffusers UNet2DConditionModel, whose SDXL models have `add_embedding`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

from lib_embedmerge.checkpoints.quantisation import find_scale, restore_values
from lib_embedmerge.checkpoints.sources import open_unet_weights
from lib_embedmerge.checkpoints.weights import Weights
from lib_embedmerge.core.arrays import to_float32
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.errors import CheckpointError, quote

_PIECE_VALUES = 4 * 1024 * 1024
"""Number of values that are read at once for a fingerprint: 8 MB of float16."""

_PREFIX = r"(?:model\.diffusion_model\.|diffusion_model\.|unet\.|)"
_SGM = re.compile(
    _PREFIX
    + r"(input_blocks|middle_block|output_blocks)\.(?:(\d+)\.)?\d+\.transformer_blocks\.(\d+)\.attn2\.to_k\.weight",
    re.ASCII,
)
_DIFFUSERS = re.compile(
    _PREFIX + r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?attentions\.(\d+)\.transformer_blocks\.(\d+)"
    r"\.attn2\.to_k\.weight",
    re.ASCII,
)
_STAGES = {"input_blocks": 0, "down_blocks": 0, "middle_block": 1, "mid_block": 1, "output_blocks": 2, "up_blocks": 2}
_STAGE_TITLES = ("input", "middle", "output")

_POOLED = tuple(
    prefix + name
    for prefix in ("model.diffusion_model.", "diffusion_model.", "unet.", "")
    for name in ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
)
"""Names of the first linear layer that reads the pooled vector."""

_POOLED_WIDTH = 1280
"""Width of the pooled output of CLIP-G, which comes first; numbers for the size of the picture follow."""

_HEAD_WIDTH, _SD1_CONTEXT, _SD1_HEADS = 64, 768, 8
"""SDXL, its refiner and SD2 have heads of 64 values, SD1 has 8 heads in each layer."""

CONTEXTS = (768, 1024, 1280, 2048)
"""Widths of the states that U-Nets read: SD1, SD2, the SDXL refiner, SDXL."""


@dataclass(frozen=True)
class UnetMatrix:
    """A matrix of a U-Net. name: in its file.  columns: how many of its first columns are meant."""

    weights: Weights
    name: str
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.weights.tensors[self.name].shape[0], self.columns

    def read(self) -> numpy.ndarray:
        """The matrix as float32 [rows, columns]. CheckpointError if it cannot be read."""
        weight = self.weights.tensors[self.name]
        scale = find_scale(self.weights, self.name)
        stored = weight.read(0, math.prod(weight.shape))
        whole = to_float32(restore_values(stored, scale)).reshape(weight.shape)
        return whole[:, : self.columns]


@dataclass(frozen=True)
class CrossAttention:
    """A cross-attention of a U-Net.

    place: where it is, for people and to tell layers apart: `input 4, 0` is the first one of the fourth block with any.
    key, value: matrices [inner, context], which read states.  query: [inner, channels], which reads the picture.
    """

    place: str
    key: UnetMatrix
    value: UnetMatrix
    query: UnetMatrix

    @property
    def inner(self) -> int:
        """Width of its keys and values, of all heads together."""
        return self.key.shape[0]

    @property
    def heads(self) -> int:
        """Number of its heads."""
        if self.key.shape[1] == _SD1_CONTEXT:
            return _SD1_HEADS
        return max(1, self.inner // _HEAD_WIDTH)


@dataclass(frozen=True)
class TextReader:
    """What reads text in a U-Net.

    name: of its file, for messages.  layers: all cross-attentions, in the order of the U-Net.
    context: width of the states that they read.  pooled: the matrix [rows, 1280] that reads the pooled output of
    CLIP-G; None for models that do not read it (SD1, SD2).  files: which it is read from.
    """

    name: str
    layers: tuple[CrossAttention, ...]
    context: int
    pooled: UnetMatrix | None
    files: tuple[Path, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(inner, context) of each layer. Layers of two U-Nets correspond to each other only if these are equal."""
        return tuple(layer.key.shape for layer in self.layers)

    def matrices(self) -> Iterator[UnetMatrix]:
        """The matrices that act on text: keys and values of each layer, then that of the pooled vector."""
        for layer in self.layers:
            yield layer.key
            yield layer.value
        if self.pooled is not None:
            yield self.pooled

    def count_values(self) -> int:
        """The number of values in `matrices()`."""
        return sum(math.prod(matrix.weights.tensors[matrix.name].shape) for matrix in self.matrices())

    def fingerprint(self, progress: Progress | None = None) -> str:
        """sha256, in hex, of `matrices()` as they are stored, with their shapes and dtypes. Reads all of them once.

        progress: called with (values read, values in all).  CheckpointError if the file cannot be read.
        """
        digest = hashlib.sha256()
        done, total = 0, self.count_values()
        for matrix in self.matrices():
            weight = matrix.weights.tensors[matrix.name]
            digest.update(f"{weight.dtype} {weight.shape} {find_scale(matrix.weights, matrix.name)!r}\n".encode())
            size = math.prod(weight.shape)
            for first in range(0, size, _PIECE_VALUES):
                count = min(_PIECE_VALUES, size - first)
                digest.update(weight.read(first, count).view_bytes())
                done += count
                if progress is not None:
                    progress(done, total)
        return digest.hexdigest()


def open_text_reader(path: Path) -> TextReader:
    """Find what reads text in the U-Net of a checkpoint: a file, or a diffusers folder.

    CheckpointError if there is no U-Net, or one whose cross-attentions are not those of a Stable Diffusion model.
    """
    return find_text_reader(open_unet_weights(path))


def find_text_reader(weights: Weights) -> TextReader:
    """Find what reads text among the weights of a model. Errors are those of `open_text_reader`."""
    found: dict[tuple[int, ...], tuple[str, CrossAttention]] = {}
    for name in weights.tensors:
        if (position := _find_position(name)) is not None and position not in found:
            found[position] = name, _make_layer(weights, name)
    if not found:
        message = f"{quote(weights.name)} contains no U-Net with cross-attentions."
        hint = "Choose a whole checkpoint: what a text does to a picture depends on its U-Net."
        raise CheckpointError(message, expected="the U-Net of SD1, SD2, SDXL or its refiner", hint=hint)
    positions = sorted(found)
    places = _name_places(positions)
    layers = tuple(
        CrossAttention(places[position], layer.key, layer.value, layer.query)
        for position, (_, layer) in sorted(found.items())
    )
    contexts = {layer.key.shape[1] for layer in layers}
    if len(contexts) > 1 or not contexts <= set(CONTEXTS):
        message = f"The U-Net in {quote(weights.name)} reads states of {_join(contexts)} values."
        raise CheckpointError(message, expected=f"one of {_join(CONTEXTS)}")
    return TextReader(weights.name, layers, contexts.pop(), _find_pooled(weights), weights.files)


def _find_position(name: str) -> tuple[int, ...] | None:
    """A sort key for the cross-attention that a tensor `…attn2.to_k.weight` belongs to; None for other tensors.

    The order is the same in both namings, so that layers of two files can be compared one by one.
    """
    if not name.endswith(".attn2.to_k.weight"):
        return None
    if match := _SGM.fullmatch(name):
        return _STAGES[match[1]], int(match[2] or 0), 0, int(match[3])
    if match := _DIFFUSERS.fullmatch(name):
        return _STAGES[match[1]], int(match[2] or 0), int(match[3]), int(match[4])
    return None


def _name_places(positions: list[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
    """Position -> its name, the same in both namings: the stage, the number of the transformer in it, and the layer."""
    numbers: dict[tuple[int, ...], int] = {}
    counts = [0] * len(_STAGE_TITLES)
    for position in positions:
        if position[:3] not in numbers:
            numbers[position[:3]] = counts[position[0]]
            counts[position[0]] += 1
    return {position: f"{_STAGE_TITLES[position[0]]} {numbers[position[:3]]}, {position[3]}" for position in positions}


def _make_layer(weights: Weights, key_name: str) -> CrossAttention:
    """The cross-attention whose keys have this name. CheckpointError if a matrix is missing or of another shape."""
    start = key_name.removesuffix("to_k.weight")
    matrices = []
    for part in ("to_k", "to_v", "to_q"):
        name = f"{start}{part}.weight"
        weight = weights.tensors.get(name)
        if weight is None or len(weight.shape) != 2:
            message = f"The U-Net in {quote(weights.name)} is damaged: {quote(name)} is missing or no matrix."
            raise CheckpointError(message, hint="Download the file again.")
        matrices.append(UnetMatrix(weights, name, weight.shape[1]))
    key, value, query = matrices
    if key.shape != value.shape or key.shape[0] != query.shape[0]:
        message = f"The U-Net in {quote(weights.name)} is damaged: the matrices at {quote(start)} do not fit together."
        raise CheckpointError(message, hint="Download the file again.")
    return CrossAttention("", key, value, query)


def _find_pooled(weights: Weights) -> UnetMatrix | None:
    """The matrix that reads the pooled vector, or None."""
    for name in _POOLED:
        weight = weights.tensors.get(name)
        if weight is not None and len(weight.shape) == 2 and weight.shape[1] >= _POOLED_WIDTH:
            return UnetMatrix(weights, name, _POOLED_WIDTH)
    return None


def _join(numbers: object) -> str:
    assert isinstance(numbers, (set, tuple))
    return ", ".join(map(str, sorted(numbers)))
