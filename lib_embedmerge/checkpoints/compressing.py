"""Compress the vectors of a text or an embedding into fewer, by what the U-Net reads from them.

Positions differ, so states cannot be compared one by one. What is compared is what attention reads from all of them
(attention_probes.py), in several prompts (framed_prompts.py). The search starts from the tokens that matter most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from lib_embedmerge.checkpoints.attention_probes import MEASURING, AttentionProbes, compare_readings
from lib_embedmerge.checkpoints.cross_attention import open_text_reader
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.checkpoints.framed_prompts import Block, FramedPrompts
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.checkpoints.vector_descent import Descent, PartOfWork, descend, widen_bands
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import Array, find_device, to_numpy, to_tensor
from lib_embedmerge.core.optimising_texts import HELD_OUT, USED
from lib_embedmerge.core.ports import Progress

CUT, PRUNED, AVERAGED = "cut", "pruned", "averaged"
"""The simple ways to shorten: the first vectors; those that matter most; means of neighbours."""

STEPS = 120
_RATE = 0.12
_AS_GOOD = 1.02
"""Pruning counts as good as the result if its error is at most this many times as large."""


@dataclass(frozen=True)
class Compressed:
    """Vectors that take the place of more.

    vectors: encoder key -> float32 [k, width].  kept: the indices of the vectors that matter most, in order.
    error: 0 if the U-Net reads the same, 1 if it reads as little of it as from a prompt without, in held-out prompts
        and with held-out queries.  baselines: the same for `cut`, `pruned`, `averaged`.
    """

    vectors: dict[str, numpy.ndarray]
    kept: tuple[int, ...]
    error: float
    baselines: Mapping[str, float]

    @property
    def is_pruning_as_good(self) -> bool:
        """Whether the kept vectors alone do as well, apart from a difference that nobody would notice."""
        return self.baselines[PRUNED] <= _AS_GOOD * self.error


class _Readings:
    """What the probes read in each of some templates: of the full vectors, and without them."""

    def __init__(self, prompts: FramedPrompts, probes: AttentionProbes, maker: StateMaker) -> None:
        self._prompts, self._probes, self._maker = prompts, probes, maker
        self._full: list[Tensor] = []
        self._empty: list[Tensor] = []

    def aim_at(self, block: Block, *, whole: bool) -> None:
        """Remember the states with the full vectors.  whole: as for FramedPrompts.fill."""
        nothing = _clear(block)
        with torch.no_grad():
            numbers = range(len(self._prompts))
            self._full = [self._prompts.run(self._maker, number, block, whole=whole) for number in numbers]
            self._empty = [self._prompts.run(self._maker, number, nothing) for number in numbers]

    def measure(self, number: int, block: Block, probes: int = MEASURING) -> Tensor:
        """The squared error of some vectors in the template `number`, with a set of probes. Gradients flow."""
        ours = self._probes.read(self._prompts.run(self._maker, number, block), probes)
        with torch.no_grad():
            wanted, without = (self._probes.read(states[number], probes) for states in (self._full, self._empty))
        return compare_readings(ours, wanted, without)

    def measure_step(self, step: int, block: Block) -> Tensor:
        """The squared error in a template in turn, with probes of its own. Gradients flow."""
        return self.measure(step % len(self._prompts), block, step)

    def measure_all(self, block: Block) -> float:
        """The error of some vectors over all templates."""
        with torch.no_grad():
            squares = [self.measure(number, block).item() for number in range(len(self._prompts))]
        return float((sum(squares) / len(squares)) ** 0.5)


class Compressor:
    """Compresses texts on one model, whose weights are kept in memory."""

    def __init__(self, model: CheckpointModel, seed: int = 0, progress: Progress | None = None) -> None:
        """progress: called with (layers read, layers in all).

        CheckpointError if the model has no U-Net or cannot be run.
        """
        encoders = model.encoders
        self._device = find_device(encoders[0].vectors(()))
        reader = open_text_reader(model.path)
        self._maker = StateMaker(encoders, model.facts.architecture, keep=True)
        self._probes = probes = AttentionProbes(reader, seed, self._device, progress)
        used, held_out = (FramedPrompts.read(templates, encoders) for templates in (USED, HELD_OUT))
        self._used = _Readings(used, probes, self._maker)
        self._held_out = _Readings(held_out, probes, self._maker)
        self._bands = {encoder.key: encoder.length_band() for encoder in encoders}

    def compress(
        self,
        vectors: Mapping[str, Array],
        count: int,
        *,
        whole: bool,
        steps: int = STEPS,
        progress: Progress | None = None,
    ) -> Compressed:
        """Some vectors as `count` vectors; the same if they are not more.

        vectors: encoder key -> float32 [n, width].  whole: whether they are an embedding, not a text.
        progress: called with (steps done, steps in all). An exception that it raises ends the work.
        """
        block = {key: to_tensor(rows, self._device) for key, rows in vectors.items()}
        full = len(next(iter(block.values())))
        if count >= full:
            return Compressed(_as_arrays(block), tuple(range(full)), 0.0, dict.fromkeys((CUT, PRUNED, AVERAGED), 0.0))
        for readings in (self._used, self._held_out):
            readings.aim_at(block, whole=whole)
        kept = self._find_kept(block, count, PartOfWork(progress, full + steps))
        bands = widen_bands(self._bands, block)
        starts = {
            PRUNED: {key: rows[list(kept)] for key, rows in block.items()},
            CUT: {key: rows[:count] for key, rows in block.items()},
            AVERAGED: _average(block, count),
        }
        descent = Descent(steps, _RATE, bands, PartOfWork(progress, full + steps, full))
        found = descend(starts[PRUNED], self._used.measure_step, descent)
        baselines = {name: self._held_out.measure_all(starts[name]) for name in (CUT, PRUNED, AVERAGED)}
        return Compressed(_as_arrays(found), kept, self._held_out.measure_all(found), baselines)

    def find_moment(self, vectors: Mapping[str, Array]) -> Tensor:
        """Another way to say what attention finds in a set of states: the mean of their keys times their keys, and of
        their values times their values, of all layers in one: 1-D. It needs no queries, but sees no order of sizes.
        """
        block = {key: to_tensor(rows, self._device) for key, rows in vectors.items()}
        with torch.no_grad():
            full = len(next(iter(block.values())))
            parts = [
                self._run_chunk({key: rows[first : first + MAX_VECTORS] for key, rows in block.items()})
                for first in range(0, full, MAX_VECTORS)
            ]
            return self._probes.find_moment(torch.cat(parts))

    def _find_kept(self, block: Block, count: int, progress: Progress) -> tuple[int, ...]:
        """The indices of the `count` vectors without which the U-Net reads something else the most.

        Each is left out in its own chunk, so that no word moves from one chunk to another.
        """
        full = len(next(iter(block.values())))
        errors: list[float] = []
        with torch.no_grad():
            chunks = [
                {key: rows[first : first + MAX_VECTORS] for key, rows in block.items()}
                for first in range(0, full, MAX_VECTORS)
            ]
            states = [self._run_chunk(chunk) for chunk in chunks]
            whole, empty = (self._probes.read(part, 0) for part in (torch.cat(states), self._run_chunk(_clear(block))))
            for number, chunk in enumerate(chunks):
                for index in range(len(next(iter(chunk.values())))):
                    left = {key: torch.cat((rows[:index], rows[index + 1 :])) for key, rows in chunk.items()}
                    others = [*states[:number], self._run_chunk(left), *states[number + 1 :]]
                    errors.append(compare_readings(self._probes.read(torch.cat(others), 0), whole, empty).item())
                    progress(len(errors), full)
        ranked = sorted(range(full), key=lambda index: (-errors[index], index))
        return tuple(sorted(ranked[:count]))

    def _run_chunk(self, chunk: Block) -> Tensor:
        """The states of one chunk, [77, context]."""
        return self._maker.run([chunk], pooled=False).hidden[0]


def _clear(block: Block) -> dict[str, Tensor]:
    """No vectors, of the same widths."""
    return {key: rows[:0] for key, rows in block.items()}


def _as_arrays(block: Block) -> dict[str, numpy.ndarray]:
    return {key: to_numpy(rows) for key, rows in block.items()}


def _average(block: Block, count: int) -> dict[str, Tensor]:
    """Means of `count` runs of neighbours of about equal size, with the mean length of the vectors in each."""
    averaged = {}
    for key, rows in block.items():
        parts = torch.tensor_split(rows, count)
        means = torch.stack([part.mean(0) for part in parts])
        lengths = torch.stack([part.norm(dim=1).mean() for part in parts])
        averaged[key] = means * (lengths / means.norm(dim=1).clamp_min(1e-12))[:, None]
    return averaged
