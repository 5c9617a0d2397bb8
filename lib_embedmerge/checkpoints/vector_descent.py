"""Improve the vectors of an embedding step by step (Adam), with their lengths held in the bands of the model's tables.

Everything is computed in one thread of control from a seed, so the same call gives the same vectors on one machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_embedmerge.core.ports import Progress
from lib_embedmerge.core.statistics import LengthBand

Vectors = dict[str, Tensor]
"""Encoder key -> float32 [n, width]."""


@dataclass(frozen=True)
class Descent:
    """How vectors are improved.

    steps: their number.  rate: the length of the first steps, as a share of the mean length of the vectors.
    bands: encoder key -> the usual lengths of rows, in which vectors stay.
    progress: called with (steps done, steps in all). An exception that it raises ends the work.
    """

    steps: int
    rate: float
    bands: Mapping[str, LengthBand]
    progress: Progress | None = None


@dataclass(frozen=True)
class PartOfWork:
    """A Progress for a part of some work. total: steps of the whole work.  before: steps that were done before."""

    progress: Progress | None
    total: int
    before: int = 0

    def __call__(self, done: int, _: int) -> None:
        if self.progress is not None:
            self.progress(self.before + done, self.total)


def widen_bands(bands: Mapping[str, LengthBand], vectors: Mapping[str, Tensor]) -> dict[str, LengthBand]:
    """The bands of a model, widened to the lengths of some vectors where those are outside."""
    widened = {}
    for key, rows in vectors.items():
        lengths = rows.norm(dim=1)
        low, high = min(bands[key].low, lengths.min().item()), max(bands[key].high, lengths.max().item())
        widened[key] = LengthBand(low, bands[key].mean, high)
    return widened


def hold_lengths(vectors: Mapping[str, Tensor], bands: Mapping[str, LengthBand]) -> Vectors:
    """Vectors whose lengths are in the bands; directions are kept."""
    held = {}
    for key, rows in vectors.items():
        lengths = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        held[key] = rows * (lengths.clamp(bands[key].low, bands[key].high) / lengths)
    return held


def descend(start: Mapping[str, Tensor], find_loss: Callable[[int, Vectors], Tensor], descent: Descent) -> Vectors:
    """The vectors after all steps, each against the gradient of a loss.

    start: encoder key -> float32 [n, width].  find_loss: called with the number of the step and the vectors.
    """
    held = hold_lengths(start, descent.bands)
    vectors = {key: rows.detach().clone().requires_grad_() for key, rows in held.items()}
    groups = [
        {"params": [rows], "base": descent.rate * rows.norm(dim=1).mean().item() / math.sqrt(rows.shape[1])}
        for rows in vectors.values()
    ]
    optimiser = torch.optim.Adam(groups, lr=descent.rate, betas=(0.9, 0.95), eps=1e-12)
    for step in range(descent.steps):
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / descent.steps)))
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = find_loss(step, vectors)
            gradients = torch.autograd.grad(loss, list(vectors.values()))
        for rows, gradient in zip(vectors.values(), gradients, strict=True):
            rows.grad = gradient
        optimiser.step()
        with torch.no_grad():
            for key, rows in hold_lengths(vectors, descent.bands).items():
                vectors[key].copy_(rows)
        if descent.progress is not None:
            descent.progress(step + 1, descent.steps)
    return {key: rows.detach() for key, rows in vectors.items()}
