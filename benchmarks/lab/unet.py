"""What takes the place of a U-Net: cross-attentions with SDXL's names, each topic asking with a state of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.lab.encoders import Narrow
from benchmarks.lab.prompts import TOPICS

CONTEXT, POOLED, TEACHER = 2048, 1280, 384
_HEAD = 64
_RANK = 40
_VALUE_RANK = 96
_GAIN = 30.0
"""Of keys and values at the start, because the numbers in a state are about as small as those in a row."""
_NOISE = 0.3

BLOCKS = {
    "input_blocks.4.1.transformer_blocks.0": 640,
    "input_blocks.8.1.transformer_blocks.0": 1280,
    "middle_block.1.transformer_blocks.0": 1280,
    "output_blocks.3.1.transformer_blocks.0": 640,
}
"""Name of a block of SDXL -> its channels."""


class LabAttention(nn.Module):
    """A cross-attention of SDXL, with the norm before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // _HEAD
        self.norm2 = nn.LayerNorm(channels)
        self.to_q = Narrow(channels, channels, _RANK, has_bias=False)
        self.to_k = Narrow(CONTEXT, channels, _RANK, gain=_GAIN, has_bias=False)
        self.to_v = Narrow(CONTEXT, channels, _VALUE_RANK, gain=_GAIN, has_bias=False)
        self.to_out = Narrow(channels, channels, _VALUE_RANK)
        self.states = nn.Parameter(torch.randn(len(TOPICS), channels))

    def forward(self, context: Tensor, noise: Tensor) -> Tensor:
        """What the topics read: [batch, topics, channels].  context: [batch, positions, 2048]."""
        asked = self.to_q(self.norm2(self.states + noise))
        q, k, v = (
            part.unflatten(-1, (self.heads, _HEAD)).transpose(-2, -3)
            for part in (asked, self.to_k(context), self.to_v(context))
        )
        read = functional.scaled_dot_product_attention(q.expand(len(context), -1, -1, -1), k, v)
        out: Tensor = self.to_out(read.transpose(1, 2).flatten(2))
        return out


class LabUNet(nn.Module):
    """All cross-attentions, what the pooled vector becomes, and how the teacher's vectors are read from them."""

    def __init__(self) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(LabAttention(channels) for channels in BLOCKS.values())
        self.decode = nn.Linear(sum(BLOCKS.values()), TEACHER)
        self.label = Narrow(POOLED, POOLED, _RANK)
        self.decode_label = nn.Linear(POOLED, TEACHER)

    def read(self, context: Tensor, generator: torch.Generator | None) -> Tensor:
        """The outputs of all cross-attentions: [batch, topics, sum of channels]. generator: of noise, or None."""
        outputs = []
        for attention in self.list_attentions():
            shape = attention.states.shape
            noise = torch.randn(shape, generator=generator) * _NOISE if generator else torch.zeros(shape)
            outputs.append(attention(context, noise))
        return torch.cat(outputs, 2)

    def list_attentions(self) -> list[LabAttention]:
        """The cross-attentions, in the order of BLOCKS."""
        return [part for part in self.attentions if isinstance(part, LabAttention)]

    def read_label(self, pooled: Tensor) -> Tensor:
        """What the first layer of label_emb makes of the pooled vector: [batch, 1280]."""
        made: Tensor = functional.silu(self.label(pooled))
        return made
