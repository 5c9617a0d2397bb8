"""What the cross-attentions of a U-Net read from a set of states, asked with fixed queries.

A picture asks with queries that no file has, so the queries here are those of random states: numbers of the normal
distribution, as the layer norm before a cross-attention leaves them, from a seed. A text that answers all of them alike
is the same text to that layer, however many positions it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.checkpoints.cross_attention import CrossAttention, TextReader
from lib_embedmerge.core.ports import Progress

MEASURING = 1 << 20
"""Number of the set of probes with which results are measured. Lower numbers are for improving vectors: with a few
probes again and again, the vectors would answer only these."""

_PROBES = 8
"""Random states that ask each layer, in a set."""


@dataclass(frozen=True)
class _ProbedLayer:
    """The matrices of a layer.

    query: float32 [heads, width of a head, channels].  key, value: float32 [heads, width of a head, context].
    """

    query: Tensor
    key: Tensor
    value: Tensor

    def draw(self, generator: torch.Generator) -> Tensor:
        """The queries of new probes, by which a state is multiplied for its score: [heads * probes, context]."""
        asked = torch.randn(_PROBES, self.query.shape[2], generator=generator).to(self.query.device)
        by_head = asked @ self.query.transpose(1, 2)  # [heads, probes, width of a head]
        queries: Tensor = (by_head @ self.key).flatten(0, 1) * self.key.shape[1] ** -0.5
        return queries

    def read(self, states: Tensor, queries: Tensor) -> Tensor:
        """What probes read from float32 [positions, context]: [heads, probes, width of a head]."""
        shares = (states @ queries.T).softmax(dim=0)  # [positions, heads * probes]
        mixed = (shares.T @ states).reshape(len(self.value), -1, states.shape[1])  # [heads, probes, context]
        read: Tensor = mixed @ self.value.transpose(1, 2)
        return read


class AttentionProbes:
    """Random queries for all layers of a U-Net, in numbered sets. For SDXL the layers take 1.7 GB.

    The scores are linear in a state, so that keys need not be computed: a query times the matrix of keys is one vector,
    by which states are multiplied.
    """

    def __init__(self, reader: TextReader, seed: int, device: str, progress: Progress | None = None) -> None:
        """Read all layers. device: where the states are, as torch spells it.

        progress: called with (layers read, layers in all).
        CheckpointError if a matrix cannot be read.
        """
        self._seed = seed
        self._layers: list[_ProbedLayer] = []
        self._drawn: tuple[int, list[Tensor]] | None = None
        for done, layer in enumerate(reader.layers, 1):
            self._layers.append(_load_layer(layer, device))
            if progress is not None:
                progress(done, len(reader.layers))

    def __len__(self) -> int:
        return len(self._layers)

    def read(self, states: Tensor, which: int) -> list[Tensor]:
        """What a set of probes reads in each layer from float32 [positions, context]: 1-D tensors. Gradients flow.

        which: the number of the set. The same number and seed give the same probes.
        """
        if self._drawn is None or self._drawn[0] != which:
            generator = torch.Generator().manual_seed(self._seed * (MEASURING + 1) + which)
            self._drawn = which, [layer.draw(generator) for layer in self._layers]
        return [
            layer.read(states, queries).flatten() for layer, queries in zip(self._layers, self._drawn[1], strict=True)
        ]

    def find_moment(self, states: Tensor) -> Tensor:
        """The mean of what each state's keys and values are times themselves, of all heads of all layers: 1-D."""
        moments: list[Tensor] = []
        for layer in self._layers:
            for matrix in (layer.key, layer.value):
                read = states @ matrix.transpose(1, 2)  # [heads, positions, width of a head]
                moment = read.transpose(1, 2) @ read / len(states)
                moments.append((moment / moment.norm().clamp_min(1e-12)).flatten())
        return torch.cat(moments)


def compare_readings(ours: Sequence[Tensor], wanted: Sequence[Tensor], without: Sequence[Tensor]) -> Tensor:
    """How far readings are from the wanted ones: the mean over layers of the squared distance, in units of the distance
    of the readings without the embedding. 0: the same; 1: as far as without it.
    """
    shares = [
        (mine - target).square().sum() / (empty - target).square().sum().clamp_min(1e-12)
        for mine, target, empty in zip(ours, wanted, without, strict=True)
    ]
    return torch.stack(shares).mean()


def _load_layer(layer: CrossAttention, device: str) -> _ProbedLayer:
    query, key, value = (
        torch.from_numpy(matrix.read()).reshape(layer.heads, -1, matrix.shape[1]).to(device)
        for matrix in (layer.query, layer.key, layer.value)
    )
    return _ProbedLayer(query, key, value)
