"""A pair of CLIP-shaped text encoders that can be trained in minutes: CLIP's layers, whose matrices have a low rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L, PADDING_IDS, WIDTHS
from lib_embedmerge.tokenizer import clip_tokenizer

POSITIONS = 77
LAYERS = 3
"""SDXL reads the states after all layers but the last, which only CLIP-G's pooled output needs."""

_HEAD = 64
_RANK = 48
_INNER = 128
_SMALL = 0.02
"""What a layer adds at the start, in standard deviations: about as much as is in a row of a token table."""


class Narrow(nn.Module):
    """A linear layer whose matrix [outputs, inputs] is a product of two thin ones, so that training takes less time."""

    def __init__(
        self, inputs: int, outputs: int, rank: int = _RANK, *, gain: float = 1.0, has_bias: bool = True
    ) -> None:
        """gain: the size of the outputs at the start, for inputs of size 1."""
        super().__init__()
        self.gain = gain
        self.down = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.up = nn.Parameter(torch.randn(outputs, rank) * rank**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.gain * functional.linear(functional.linear(x, self.down), self.up, self.bias)
        return made

    def full(self) -> tuple[Tensor, Tensor]:
        """The matrix [outputs, inputs] and the bias [outputs], which is zero if there is none."""
        bias = torch.zeros(len(self.up)) if self.bias is None else self.bias
        return self.gain * self.up @ self.down, self.gain * bias


class LabLayer(nn.Module):
    """A layer of CLIP."""

    def __init__(self, key: str) -> None:
        super().__init__()
        width = WIDTHS[key]
        self.is_quick = key == CLIP_L
        self.heads = width // _HEAD
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (Narrow(width, width) for _ in range(3))
        self.fc1 = Narrow(width, _INNER)
        self.out, self.fc2 = Narrow(width, width, gain=_SMALL), Narrow(_INNER, width, gain=_SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, positions, width]."""
        normed = self.norm1(x)
        q, k, v = (part(normed).unflatten(2, (self.heads, _HEAD)).transpose(1, 2) for part in (self.q, self.k, self.v))
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(read.transpose(1, 2).flatten(2))
        inner = self.fc1(self.norm2(x))
        inner = inner * torch.sigmoid(1.702 * inner) if self.is_quick else functional.gelu(inner)
        made: Tensor = x + self.fc2(inner)
        return made


class LabEncoder(nn.Module):
    """One text encoder. Only the rows of the words in use are trained."""

    def __init__(self, key: str, rows: Tensor) -> None:
        """rows: [words in use, width], the start of their rows in the token table."""
        super().__init__()
        self.key, self.width = key, WIDTHS[key]
        self.rows = nn.Parameter(rows)
        self.positions = nn.Parameter(torch.randn(POSITIONS, self.width) * _SMALL / 4)
        self.layers = nn.ModuleList(LabLayer(key) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(self.width)
        self.projection = Narrow(self.width, self.width, has_bias=False)

    def list_layers(self) -> list[LabLayer]:
        """The layers in order."""
        return [part for part in self.layers if isinstance(part, LabLayer)]

    def forward(self, numbers: Tensor, ends: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(penultimate states [batch, positions, width], pooled output [batch, width] or None).

        numbers: of the words in use, [batch, positions].  ends: the position of the end token in each, or None where
        the pooled output is not needed.
        """
        x = self.rows[numbers] + self.positions[: numbers.shape[1]]
        for layer in self.layers[:-1]:
            x = layer(x)
        if ends is None:
            return x, None
        last = self.norm(self.layers[-1](x))
        return x, self.projection(last[torch.arange(len(ends)), ends])


class LabPair(nn.Module):
    """CLIP-L and CLIP-G, as SDXL reads them."""

    def __init__(self, ids: Sequence[int], rows: Mapping[str, Tensor]) -> None:
        """ids: of the words in use.  rows: encoder key -> [ids, width]."""
        super().__init__()
        self.ids = list(ids)
        self.numbers = {token: number for number, token in enumerate(self.ids)}
        self.clip_l, self.clip_g = LabEncoder(CLIP_L, rows[CLIP_L]), LabEncoder(CLIP_G, rows[CLIP_G])

    def forward(self, texts: Sequence[Sequence[int]], length: int, *, pooled: bool) -> tuple[Tensor, Tensor | None]:
        """(states [texts, length, 2048], CLIP-G's pooled output [texts, 1280] if wanted).

        texts: token ids without start and end, at most `length` - 2.
        """
        tokenizer = clip_tokenizer()
        ends = torch.tensor([len(text) + 1 for text in texts])
        found = []
        for encoder in (self.clip_l, self.clip_g):
            padded = [
                [tokenizer.start_id, *text, tokenizer.end_id, *[PADDING_IDS[encoder.key]] * (length - 2 - len(text))]
                for text in texts
            ]
            numbers = torch.tensor([[self.numbers[token] for token in line] for line in padded])
            found.append(encoder(numbers, ends if pooled and encoder.key == CLIP_G else None))
        return torch.cat((found[0][0], found[1][0]), 2), found[1][1]
