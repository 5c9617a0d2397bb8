"""CLIP's text encoder from its vectors on, computed by torch with the weights from a checkpoint's file.

Layers are read one at a time and let go after all texts went through them, so that CLIP-G needs 0.2 GB, not 2.6; or
they are kept, for callers that run the encoder often. Gradients flow to the vectors if these require them. The
computation is that of transformers' CLIPTextModelWithProjection (models/clip/modeling_clip.py), with which the tests
compare it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lib_embedmerge.checkpoints.canonical import PROJECTION, TOKEN_TABLE, CanonicalWeight, is_complete
from lib_embedmerge.checkpoints.comparison import Report, find_layer_weights
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.core.architecture import CLIP_L, ENCODER_TITLES, MAX_VECTORS
from lib_embedmerge.core.arrays import find_device
from lib_embedmerge.errors import CheckpointError, quote

_LAYER = "text_model.encoder.layers."
_POSITIONS = "text_model.embeddings.position_embedding.weight"
_NORM = "text_model.final_layer_norm"
_INNER = f"{_LAYER}0.mlp.fc1.weight"

_HEAD_WIDTH = 64
"""Width of an attention head in all three encoders, which have 12, 16 and 20 heads."""

_EPSILON = 1e-5
"""Of the layer norms."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a text encoder.

    skip: how many of the last layers the hidden states leave out: 1 for those of the penultimate layer.
    normed: whether the hidden states go through the final norm.  pooled: whether the pooled output is wanted, too.
    batch: how many texts go through a layer at once. With 1, the last bits do not depend on the other texts.
    """

    skip: int = 0
    normed: bool = True
    pooled: bool = True
    batch: int = 16


@dataclass(frozen=True)
class TransformerOutput:
    """What a text encoder makes of some texts.

    hidden: float32 [texts, positions, width].  pooled: float32 [texts, width of the projection], at the end token,
    after all layers, the final norm and the projection; None for encoders other than CLIP-G.
    """

    hidden: Tensor
    pooled: Tensor | None


class TextTransformer:
    """A text encoder that can be run. width: of its vectors.  positions: how many it reads at a time.

    layers: their number.  values: the number of values of all its weights but the token table.
    """

    def __init__(self, encoder: CheckpointEncoder, *, keep: bool = False, report: Report | None = None) -> None:
        """keep: whether weights stay in memory, as float32, once they are read.

        report: called with the number of values of each weight that is read, or that turns out not to be needed.
        CheckpointError if the encoder is incomplete or its weights have shapes that no CLIP has.
        """
        self._title = f"{ENCODER_TITLES[encoder.key]} of {quote(encoder.source.weights.name)}"
        self._weights = find_layer_weights(encoder.source)
        self._check_all(encoder)
        self._device = find_device(encoder.vectors(()))
        self._report: Report = report or (lambda _: None)
        self._kept: dict[str, Tensor] | None = {} if keep else None
        self._activate = _quick_gelu if encoder.key == CLIP_L else functional.gelu
        self.width = encoder.width
        self.positions = self._weights[_POSITIONS].shape[0]
        self.layers = sum(name.endswith(".mlp.fc1.weight") for name in self._weights)
        self.values = sum(weight.count for weight in self._weights.values())

    def run(self, vectors: Tensor, ends: Tensor, wanted: Wanted) -> TransformerOutput:
        """Run the encoder on float32 [texts, n, width] on its device, which include the start and end tokens.

        ends: int64 [texts], the position of each text's end token, where the pooled output is taken.
        CheckpointError if the encoder reads fewer than n positions or has too few layers, or if a weight cannot be
        read.
        """
        skip = wanted.skip
        self._check_input(vectors.shape[1], skip)
        pooling = wanted.pooled and PROJECTION in self._weights
        used = self.layers if pooling else self.layers - skip
        position = self._read(_POSITIONS)[: vectors.shape[1]]
        states = [texts.to(self._device) + position for texts in torch.split(vectors, wanted.batch)]
        hidden = states
        for layer in range(used):
            states = self._run_all(layer, states)
            if layer == self.layers - skip - 1:
                hidden = states
                if layer < used - 1:  # only what the pooled output is taken from: a position sees none after it
                    states = [texts[:, : ends.max() + 1] for texts in states]
        for layer in range(used, self.layers):
            self._report(sum(self._weights[name].count for name in self._list_names(layer)))
        weight, bias = self._read(f"{_NORM}.weight"), self._read(f"{_NORM}.bias")
        whole = torch.cat(hidden)
        if wanted.normed:
            whole = functional.layer_norm(whole, (self.width,), weight, bias, _EPSILON)
        if not pooling:
            if PROJECTION in self._weights:
                self._report(self._weights[PROJECTION].count)
            return TransformerOutput(whole, None)
        last = torch.cat(states)[torch.arange(len(ends), device=self._device), ends.to(self._device)]
        pooled = functional.layer_norm(last, (self.width,), weight, bias, _EPSILON) @ self._read(PROJECTION).T
        return TransformerOutput(whole, pooled)

    def _check_all(self, encoder: CheckpointEncoder) -> None:
        if not is_complete(encoder.key, {TOKEN_TABLE, *self._weights}):
            raise CheckpointError(f"{self._title} is incomplete, so it cannot be run.", hint="Download the file again.")
        for name in (_POSITIONS, _INNER, PROJECTION):
            if name in self._weights:
                self._check(name, dimensions=2)
        width, inner = encoder.width, self._weights[_INNER].shape[0]
        for name in self._weights:
            self._check(name, _find_shape(name, self._weights, width, inner))

    def _check(self, name: str, shape: tuple[int, ...] = (), dimensions: int = 0) -> None:
        """CheckpointError if a weight has another shape, or for an empty `shape` another number of dimensions."""
        actual = self._weights[name].shape
        if actual != shape if shape else len(actual) != dimensions:
            message = f"{self._title} cannot be run: its {name} is {_format_shape(actual)}."
            raise CheckpointError(message, expected=_format_shape(shape) if shape else f"{dimensions} dimensions")

    def _check_input(self, count: int, skip: int) -> None:
        if count > self.positions:
            message = f"{self._title} reads {self.positions} tokens at a time; the text has {count}."
            raise CheckpointError(message, expected=f"a text encoder for {MAX_VECTORS + 2} tokens")
        if skip >= self.layers:
            message = f"{self._title} has {self.layers} layers, so the last {skip} cannot be left out."
            raise CheckpointError(message, expected=f"a clip skip of 1 to {self.layers}")

    def _read(self, name: str) -> Tensor:
        """A weight as float32 on the device. CheckpointError if it cannot be read."""
        if self._kept is not None and name in self._kept:
            return self._kept[name]
        weight = self._weights[name]
        values = torch.from_numpy(weight.values(0, weight.count)).to(self._device, torch.float32)
        tensor = values.reshape(weight.shape)
        self._report(weight.count)
        if self._kept is not None:
            self._kept[name] = tensor
        return tensor

    def _read_layer(self, layer: int) -> Mapping[str, Tensor]:
        """The weights of a layer by their names within it."""
        start = f"{_LAYER}{layer}."
        return {name.removeprefix(start): self._read(name) for name in self._list_names(layer)}

    def _list_names(self, layer: int) -> list[str]:
        start = f"{_LAYER}{layer}."
        return [name for name in self._weights if name.startswith(start)]

    def _run_all(self, layer: int, states: Sequence[Tensor]) -> list[Tensor]:
        """One layer on all batches.

        Under gradients the weights of a layer that are not kept are read again for its step backward, because the
        gradients would keep those of all layers in memory.
        """
        if self._kept is None and torch.is_grad_enabled() and states[0].requires_grad:
            run = partial(self._read_and_run, layer)
            return [checkpoint(run, texts, use_reentrant=False) for texts in states]
        weights = self._read_layer(layer)
        return [self._run_layer(texts, weights) for texts in states]

    def _read_and_run(self, layer: int, states: Tensor) -> Tensor:
        return self._run_layer(states, self._read_layer(layer))

    def _run_layer(self, states: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """One layer on float32 [texts, n, width]."""

        def normalise(values: Tensor, name: str) -> Tensor:
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return functional.layer_norm(values, (self.width,), weight, bias, _EPSILON)

        states = states + _attend(normalise(states, "layer_norm1"), weights)
        inner = self._activate(_apply(normalise(states, "layer_norm2"), weights, "mlp.fc1"))
        return states + _apply(inner, weights, "mlp.fc2")


def _apply(values: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A linear layer."""
    return functional.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attend(states: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Causal self-attention on float32 [texts, n, width]: each position sees itself and those before it."""
    texts, count, width = states.shape

    def split(name: str) -> Tensor:  # [texts, heads, n, width of a head]
        return _apply(states, weights, f"self_attn.{name}").view(texts, count, -1, _HEAD_WIDTH).transpose(1, 2)

    heads = functional.scaled_dot_product_attention(split("q_proj"), split("k_proj"), split("v_proj"), is_causal=True)
    return _apply(heads.transpose(1, 2).reshape(texts, count, width), weights, "self_attn.out_proj")


def _quick_gelu(values: Tensor) -> Tensor:
    """The activation of CLIP-L; the others have the exact GELU."""
    return values * torch.sigmoid(1.702 * values)


def _find_shape(name: str, weights: Mapping[str, CanonicalWeight], width: int, inner: int) -> tuple[int, ...]:
    """The shape that a weight must have. width: of the vectors.  inner: of the layer between fc1 and fc2."""
    if name == _POSITIONS:
        return weights[name].shape[0], width
    if name == PROJECTION:
        return weights[name].shape[0], width
    is_matrix = name.endswith(".weight") and "norm" not in name
    if ".mlp.fc1." in name:
        return (inner, width) if is_matrix else (inner,)
    if ".mlp.fc2." in name and is_matrix:
        return width, inner
    return (width, width) if is_matrix else (width,)


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
