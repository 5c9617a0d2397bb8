"""What a text encoder of a checkpoint makes of vectors: computed by transformers, with the weights of the file.

The hidden states are those that the architecture's UNet is conditioned on: SDXL and its refiner take the output of the
last layer but one as it is, and CLIP-G's pooled output (after all layers, the final norm and the projection); SD1 and
SD2 take the last layer's, after the final norm. (SD2 has one layer more in single files, which is not in use.) Sources:
sgm modules/encoders/modules.py (FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder2), diffusers' pipelines.

transformers is imported when the first encoder is made, and nowhere else. Versions 4.30 to 4.57 do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.canonical import PROJECTION, TOKEN_TABLE, CanonicalWeight, is_complete
from lib_embedmerge.checkpoints.comparison import Report, layer_weights
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.core.architecture import (
    CLIP_G,
    CLIP_L,
    ENCODER_TITLES,
    MAX_VECTORS,
    SDXL,
    SDXL_REFINER,
    Architecture,
)
from lib_embedmerge.core.differences import OutputDifference, relative_distance
from lib_embedmerge.errors import CheckpointError, HostError, quote

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_POSITIONS = "text_model.embeddings.position_embedding.weight"
_INNER = "text_model.encoder.layers.0.mlp.fc1.weight"

_HEAD_WIDTH = 64
"""Of all three encoders: 12, 16 and 20 heads."""

_OTHER_ID, _END_ID, _IDS = 0, 2, 3
"""The vectors are given, so ids only say where the end token stands, whose state the pooled output is. transformers
looks for the first end token of its configuration, or for the largest id where that is 2; so 2 means the same to all
versions."""


@dataclass(frozen=True)
class EncoderOutput:
    """What one text encoder makes of n vectors between a start and an end token.

    hidden: float32 [n + 1, width] on the CPU: the states at the vectors and at the end token. The start token's is left
        out, as it is the same for every text of a model, and so long that it would drown the others. So is the padding
        behind the end: in a prompt other words stand there, and with a short text it would be nearly all of the figure.
    pooled: float32 [width of the projection] on the CPU, None for others than CLIP-G.
    """

    hidden: Tensor
    pooled: Tensor | None


def takes_penultimate(architecture: Architecture) -> bool:
    """Whether its UNet is conditioned on the layer before the last; else on the last one, after the final norm."""
    return architecture in (SDXL, SDXL_REFINER)


def run_encoder(
    encoder: CheckpointEncoder, runs: Sequence[Tensor], report: Report, *, penultimate: bool
) -> list[EncoderOutput]:
    """The outputs for each run of vectors, float32 [n, width] with n of 0 to 75. The encoder, as float32, is in memory
    until this returns: 2.6 GB for CLIP-G.

    report: called with the number of weights read since the last call.
    CheckpointError where the encoder is not whole or has a form that no CLIP has, HostError where there is no
    transformers.
    """
    device = encoder.vectors(()).device
    model = _Encoder(encoder, device, report)
    start_id, end_id = encoder.tokenizer.start_id, encoder.tokenizer.end_id
    start, end = encoder.vectors([start_id]), encoder.vectors([end_id])
    return [model.run(torch.cat((start, run.to(start), end)), penultimate=penultimate) for run in runs]


def compare_outputs(a: EncoderOutput, b: EncoderOutput) -> OutputDifference:
    """How far two outputs of encoders of the same key are apart."""
    relative, cosine = _difference(a.hidden, b.hidden)
    pooled = None if a.pooled is None or b.pooled is None else _difference(a.pooled, b.pooled)[1]
    return OutputDifference(relative, cosine, pooled)


class _Encoder:
    """transformers' model of one encoder, filled from its file."""

    def __init__(self, encoder: CheckpointEncoder, device: torch.device, report: Report) -> None:
        self._title = f"{ENCODER_TITLES[encoder.key]} of {quote(encoder.source.weights.name)}"
        weights = layer_weights(encoder.source)
        if not is_complete(encoder.key, {TOKEN_TABLE, *weights}):
            raise CheckpointError(f"{self._title} is incomplete, so it cannot be run.", hint="Download the file again.")
        for name in (_POSITIONS, _INNER, PROJECTION):
            if name in weights:
                self._check(name, weights[name], dimensions=2)
        self._positions = weights[_POSITIONS].shape[0]
        empty = _empty_model(_config(encoder, weights), with_projection=encoder.key == CLIP_G)
        for name, parameter in _own_parameters(empty):
            self._check(name, weights[name], tuple(parameter.shape))
        self._model = empty.to_empty(device=device)
        self._device = device
        for name, parameter in _own_parameters(self._model):
            weight = weights[name]
            with torch.no_grad():
                parameter.copy_(weight.values(0, weight.count).reshape(parameter.shape))
            report(weight.count)

    def _check(self, name: str, weight: CanonicalWeight, shape: tuple[int, ...] = (), dimensions: int = 0) -> None:
        """CheckpointError for a weight that is not of this shape, or has not so many dimensions."""
        found = weight.shape
        if found != shape if shape else len(found) != dimensions:
            message = f"{self._title} cannot be run: its {name} is {_sizes(found)}."
            raise CheckpointError(message, expected=_sizes(shape) if shape else f"{dimensions} dimensions")

    def run(self, vectors: Tensor, *, penultimate: bool) -> EncoderOutput:
        """vectors: float32 [n + 2, width], with those of the start and end tokens."""
        count = len(vectors)
        if count > self._positions:
            message = f"{self._title} reads {self._positions} tokens at a time; the text has {count}."
            raise CheckpointError(message, expected=f"a text encoder for {MAX_VECTORS + 2} tokens")
        ids = torch.full((1, count), _OTHER_ID, device=self._device)
        ids[0, -1] = _END_ID
        table = self._model.get_input_embeddings()
        hook = table.register_forward_hook(lambda *_: vectors.unsqueeze(0))
        try:
            with torch.inference_mode():
                found: Any = self._model(
                    input_ids=ids,
                    # Versions keep those of their own in different ways, none of which survived `to_empty`.
                    position_ids=torch.arange(count, device=self._device).unsqueeze(0),
                    output_hidden_states=True,
                    return_dict=True,
                )
        finally:
            hook.remove()
        states = found.hidden_states[-2] if penultimate else found.last_hidden_state
        pooled = found.text_embeds[0].cpu() if "text_embeds" in found else None
        return EncoderOutput(states[0, 1:].cpu(), pooled)


def _config(encoder: CheckpointEncoder, weights: Mapping[str, CanonicalWeight]) -> PretrainedConfig:
    try:
        from transformers import CLIPTextConfig
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        hint = 'Install it: pip install "transformers>=4.30,<5"'
        raise HostError(
            "The Python package transformers is missing. EmbedMerge needs it to run text encoders.", hint=hint
        ) from error
    return CLIPTextConfig(
        vocab_size=_IDS,
        hidden_size=encoder.width,
        intermediate_size=weights[_INNER].shape[0],
        projection_dim=weights[PROJECTION].shape[0] if encoder.key == CLIP_G else encoder.width,
        num_hidden_layers=sum(name.endswith(".mlp.fc1.weight") for name in weights),
        num_attention_heads=encoder.width // _HEAD_WIDTH,
        max_position_embeddings=weights[_POSITIONS].shape[0],
        hidden_act="quick_gelu" if encoder.key == CLIP_L else "gelu",
        layer_norm_eps=1e-5,
        pad_token_id=_OTHER_ID,
        bos_token_id=_OTHER_ID,
        eos_token_id=_END_ID,
    )


def _empty_model(config: PretrainedConfig, *, with_projection: bool) -> PreTrainedModel:
    """The model without memory for its weights: to make them up at random would take longer than to read them."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        model: PreTrainedModel = (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)
    return model.eval()


def _own_parameters(model: PreTrainedModel) -> list[tuple[str, torch.nn.Parameter]]:
    """All but the token table: a few rows that are not looked at, as vectors are given."""
    return [(name, parameter) for name, parameter in model.named_parameters() if name != TOKEN_TABLE]


def _difference(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """(relative distance, cosine) of two tensors, each taken as one vector; None for what is not known."""
    if a.shape != b.shape:
        return None, None
    one, another = a.double().flatten(), b.double().flatten()
    first, second = one.norm().item(), another.norm().item()
    relative = relative_distance((one - another).norm().item(), first, second)
    if relative is None:
        return None, None
    cosine = torch.dot(one, another).item() / (first * second) if first and second else float(first == second)
    return relative, max(-1.0, min(1.0, cosine))


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
