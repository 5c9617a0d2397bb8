"""The outputs of a checkpoint's text encoders, computed by transformers with the weights from the file.

The hidden states are those that the architecture's UNet is conditioned on. SDXL and its refiner use the output of the
penultimate layer without a norm, and CLIP-G's pooled output (after all layers, the final norm and the projection). SD1
and SD2 use the output of the last layer after the final norm. (Single files of SD2 contain one more layer, which is not
used.) Sources: sgm modules/encoders/modules.py (FrozenCLIPEmbedder, FrozenOpenCLIPEmbedder2), diffusers' pipelines.

transformers is imported only here, when the first encoder runs. Versions 4.30 to 5.24 work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.canonical import PROJECTION, TOKEN_TABLE, CanonicalWeight, is_complete
from lib_embedmerge.checkpoints.comparison import Report, find_layer_weights
from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.core.architecture import (
    CLIP_G,
    CLIP_L,
    ENCODER_TITLES,
    MAX_VECTORS,
)
from lib_embedmerge.core.arrays import Array, find_device, to_tensor
from lib_embedmerge.core.differences import OutputDifference, relative_distance
from lib_embedmerge.errors import CheckpointError, HostError, quote

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_POSITIONS = "text_model.embeddings.position_embedding.weight"
_INNER = "text_model.encoder.layers.0.mlp.fc1.weight"

_BEGINNING = "text_model."
"""Of the names of all weights but the projection."""

_HEAD_WIDTH = 64
"""Width of an attention head in all three encoders, which have 12, 16 and 20 heads."""

_OTHER_ID, _END_ID, _IDS = 0, 2, 3
"""Token ids for transformers, and the size of the vocabulary. Vectors replace the rows of the ids, so the ids only tell
the position of the end token, from which the pooled output is taken. transformers looks for the first end token of its
configuration, or for the largest id if the configuration says 2; so all versions agree on 2."""


@dataclass(frozen=True)
class EncoderOutput:
    """The output of a text encoder for n vectors between a start and an end token.

    hidden: float32 [n + 1, width] on the CPU, the states at the vectors and at the end token. The state at the start
        token is left out, because it is the same for every text and so long that it would outweigh the others. The
        padding after the end is left out too: a prompt has other words there, and for a short text the padding would
        make up nearly all of a distance.
    pooled: float32 [width of the projection] on the CPU; None for encoders other than CLIP-G.
    """

    hidden: Tensor
    pooled: Tensor | None


def run_encoder(
    encoder: CheckpointEncoder, runs: Sequence[Array], report: Report, *, penultimate: bool
) -> list[EncoderOutput]:
    """The output for each of `runs`, which are float32 [n, width] with n from 0 to 75.

    Meanwhile the whole encoder is in memory as float32: 2.6 GB for CLIP-G.
    report: called with the number of values that were read since its last call.
    penultimate: whether to return the states of the penultimate layer, not of the last one after the final norm.
    CheckpointError if the encoder is incomplete or its weights have shapes that no CLIP has; HostError if transformers
    is not installed.
    """
    device = find_device(encoder.vectors(()))
    model = _RunnableEncoder(encoder, device, report)
    start_id, end_id = encoder.tokenizer.start_id, encoder.tokenizer.end_id
    start, end = (to_tensor(encoder.vectors([token])) for token in (start_id, end_id))
    return [model.run(torch.cat((start, to_tensor(run, device), end)), penultimate=penultimate) for run in runs]


def compare_outputs(a: EncoderOutput, b: EncoderOutput) -> OutputDifference:
    """The difference between two outputs of encoders of the same kind."""
    relative, cosine = _measure_difference(a.hidden, b.hidden)
    pooled = None if a.pooled is None or b.pooled is None else _measure_difference(a.pooled, b.pooled)[1]
    return OutputDifference(relative, cosine, pooled)


class _RunnableEncoder:
    """A text encoder as a model of transformers, with the weights from its file."""

    def __init__(self, encoder: CheckpointEncoder, device: str, report: Report) -> None:
        self._title = f"{ENCODER_TITLES[encoder.key]} of {quote(encoder.source.weights.name)}"
        weights = find_layer_weights(encoder.source)
        if not is_complete(encoder.key, {TOKEN_TABLE, *weights}):
            raise CheckpointError(f"{self._title} is incomplete, so it cannot be run.", hint="Download the file again.")
        for name in (_POSITIONS, _INNER, PROJECTION):
            if name in weights:
                self._check(name, weights[name], dimensions=2)
        self._positions = weights[_POSITIONS].shape[0]
        empty = _make_empty_model(_make_config(encoder, weights), with_projection=encoder.key == CLIP_G)
        for name, parameter in _list_parameters(empty):
            self._check(name, weights[name], tuple(parameter.shape))
        self._model = empty.to_empty(device=device)
        self._device = device
        for name, parameter in _list_parameters(self._model):
            weight = weights[name]
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(weight.values(0, weight.count)).reshape(parameter.shape))
            report(weight.count)

    def _check(self, name: str, weight: CanonicalWeight, shape: tuple[int, ...] = (), dimensions: int = 0) -> None:
        """CheckpointError if a weight has another shape, or for an empty `shape` another number of dimensions."""
        actual = weight.shape
        if actual != shape if shape else len(actual) != dimensions:
            message = f"{self._title} cannot be run: its {name} is {_format_shape(actual)}."
            raise CheckpointError(message, expected=_format_shape(shape) if shape else f"{dimensions} dimensions")

    def run(self, vectors: Tensor, *, penultimate: bool) -> EncoderOutput:
        """The output for float32 [n + 2, width], which includes the vectors of the start and end tokens."""
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
                output: Any = self._model(
                    input_ids=ids,
                    # The model has its own position ids, but they do not survive `to_empty` in any version.
                    position_ids=torch.arange(count, device=self._device).unsqueeze(0),
                    output_hidden_states=True,
                    return_dict=True,
                )
        finally:
            hook.remove()
        states = output.hidden_states[-2] if penultimate else output.last_hidden_state
        pooled = output.text_embeds[0].cpu() if "text_embeds" in output else None
        return EncoderOutput(states[0, 1:].cpu(), pooled)


def _make_config(encoder: CheckpointEncoder, weights: Mapping[str, CanonicalWeight]) -> PretrainedConfig:
    """The configuration for transformers. HostError if transformers is not installed."""
    try:
        from transformers import CLIPTextConfig
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        hint = 'Install it: pip install "transformers>=4.30,<6"'
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


def _make_empty_model(config: PretrainedConfig, *, with_projection: bool) -> PreTrainedModel:
    """A model without memory for its weights. Initialising them at random would take longer than reading them."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        model: PreTrainedModel = (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)
    return model.eval()


def _list_parameters(model: PreTrainedModel) -> list[tuple[str, torch.nn.Parameter]]:
    """(name, parameter) of all parameters except the token table, which is not used, because `run` gets vectors.

    The names are those of version 4: since version 5 a model without projection has them without their beginning.
    """
    named = ((_add_beginning(name), parameter) for name, parameter in model.named_parameters())
    return [(name, parameter) for name, parameter in named if name != TOKEN_TABLE]


def _add_beginning(name: str) -> str:
    return name if name.startswith(_BEGINNING) or name == PROJECTION else _BEGINNING + name


def _measure_difference(a: Tensor, b: Tensor) -> tuple[float | None, float | None]:
    """(relative distance, cosine) of two tensors, each as one vector.

    (None, None) if their shapes differ or a value is not finite.
    """
    if a.shape != b.shape:
        return None, None
    ours, theirs = a.double().flatten(), b.double().flatten()
    first, second = ours.norm().item(), theirs.norm().item()
    relative = relative_distance((ours - theirs).norm().item(), first, second)
    if relative is None:
        return None, None
    cosine = torch.dot(ours, theirs).item() / (first * second) if first and second else float(first == second)
    return relative, max(-1.0, min(1.0, cosine))


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
