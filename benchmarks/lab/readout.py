"""What a lab U-Net puts out for the states of a text: each topic asks with the state that it was trained with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.lab.unet import BLOCKS
from benchmarks.sdxl import UNET

_HEAD = 64


class LabReadout:
    """The cross-attentions of a lab model, with the states of its topics."""

    def __init__(self, folder: Path, name: str) -> None:
        """folder: of the lab models.  name: `base`, `near` or `far`."""
        from safetensors.torch import load_file

        weights = load_file(folder / f"lab-{name}.safetensors")
        self._weights = {key: value.float() for key, value in weights.items() if key.startswith(UNET)}
        self._readout = torch.load(folder / f"lab-{name}-readout.pt", weights_only=True)

    def read(self, states: Tensor) -> Tensor:
        """The outputs of all cross-attentions for float32 [positions, 2048]: [topics, sum of channels]."""
        outputs = []
        for block, channels in BLOCKS.items():
            prefix = f"{UNET}{block}."
            norm = (self._weights[f"{prefix}norm2.weight"], self._weights[f"{prefix}norm2.bias"])
            asked = functional.layer_norm(self._readout[f"states.{block}"], (channels,), *norm)
            q, k, v = (
                functional.linear(values, self._weights[f"{prefix}attn2.{part}.weight"])
                .reshape(len(values), -1, _HEAD)
                .transpose(0, 1)
                for part, values in (("to_q", asked), ("to_k", states), ("to_v", states))
            )
            read = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
            out = (self._weights[f"{prefix}attn2.to_out.0.weight"], self._weights[f"{prefix}attn2.to_out.0.bias"])
            outputs.append(functional.linear(read, *out))
        return torch.cat(outputs, 1)
