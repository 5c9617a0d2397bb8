"""Repair an embedding that drowns its prompt: bring lengths and directions to where the other words are still read.

What is measured is what the embedding does to the states of the *other* words of a prompt, as the U-Net reads them: by
how much they move away from what they are next to a usual word, in units of how much usual words move them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from lib_embedmerge.checkpoints.common_words import list_common_words
from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.checkpoints.framed_prompts import Block, FramedPrompts
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.checkpoints.reading_metric import load_metric, measure_squares
from lib_embedmerge.checkpoints.vector_descent import Descent, PartOfWork, descend, hold_lengths
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import Array, find_device, to_numpy, to_tensor
from lib_embedmerge.core.effect_texts import Template
from lib_embedmerge.core.optimising_texts import CROWDED_HELD_OUT, CROWDED_USED
from lib_embedmerge.core.ports import Progress

UNCHANGED, SHORTENED = "unchanged", "shortened"
"""What the result is compared with: the embedding as it is, and with its vectors brought to usual lengths."""

STEPS = 40
_RATE = 0.05
_REFERENCES = 12
"""Texts of usual words that tell how much a text of this size moves the others."""

_KEPT = 0.5
"""How much the directions count against the other words."""

_DROWNS = 1.5
"""An embedding drowns its prompt if it moves the other words more than this many times as much as usual words do."""


@dataclass(frozen=True)
class Repaired:
    """Vectors that leave the other words alone.

    vectors: encoder key -> float32 [n, width].  disturbance: how much they move the other words of held-out prompts, in
    units of usual words: 1 is usual.  baselines: the same for `unchanged` and `shortened`.
    cosine: the mean cosine of the vectors with what they were.
    """

    vectors: dict[str, numpy.ndarray]
    disturbance: float
    baselines: Mapping[str, float]
    cosine: float

    @property
    def was_needed(self) -> bool:
        """Whether the embedding drowned its prompts."""
        return self.baselines[UNCHANGED] > _DROWNS


@dataclass
class _Usual:
    """For each template: the mean states of the other words next to usual words, and how far they move them."""

    prompts: FramedPrompts
    middles: list[Tensor]
    spreads: list[float]


class Repairer:
    """Repairs embeddings on one model, whose text encoders are kept in memory."""

    def __init__(self, model: CheckpointModel, progress: Progress | None = None) -> None:
        """progress: called with (values read, values in all).

        CheckpointError if the model has no U-Net or cannot be run.
        """
        self._encoders = model.encoders
        self._device = find_device(self._encoders[0].vectors(()))
        self._metric = load_metric(model, progress).to(self._device)
        self._maker = StateMaker(self._encoders, model.facts.architecture, keep=True)
        self._bands = {encoder.key: encoder.length_band() for encoder in self._encoders}

    def repair(self, vectors: Mapping[str, Array], *, steps: int = STEPS, progress: Progress | None = None) -> Repaired:
        """Vectors like some, encoder key -> float32 [n, width], whose lengths are usual.

        progress: called with (steps done, steps in all). An exception that it raises ends the work.
        """
        block = {key: to_tensor(rows, self._device) for key, rows in vectors.items()}
        count = len(next(iter(block.values())))
        used, held_out = (self._find_usual(templates, count) for templates in (CROWDED_USED, CROWDED_HELD_OUT))
        shortened = hold_lengths(block, self._bands)

        def find_loss(step: int, now: dict[str, Tensor]) -> Tensor:
            number = step % len(CROWDED_USED)
            moved = (self._measure(used, number, now) / used.spreads[number]).clamp_min(1e-12).sqrt()
            return functional.relu(moved - 1) + _KEPT * (1 - _compare_directions(now, block))

        work = PartOfWork(progress, steps)
        found = shortened
        if self._measure_all(used, shortened) > 1:
            found = descend(shortened, find_loss, Descent(steps, _RATE, self._bands, work))
        baselines = {
            UNCHANGED: self._measure_all(held_out, block),
            SHORTENED: self._measure_all(held_out, shortened),
        }
        cosine = _compare_directions(found, block).item()
        arrays = {key: to_numpy(rows) for key, rows in found.items()}
        return Repaired(arrays, self._measure_all(held_out, found), baselines, cosine)

    def _find_usual(self, templates: Sequence[Template], count: int) -> _Usual:
        """What texts of `count` usual words do to the other words of some templates."""
        usual = _Usual(FramedPrompts.read(templates, self._encoders), [], [])
        words = list_common_words(self._encoders[0].tokenizer, _REFERENCES * count)
        texts = [words[number::_REFERENCES] for number in range(_REFERENCES)]
        blocks = [{e.key: to_tensor(e.vectors(ids)) for e in self._encoders} for ids in texts]
        with torch.no_grad():
            for number in range(len(templates)):
                states = torch.stack([self._read_others(usual.prompts, number, block) for block in blocks])
                middle = states.mean(0)
                squares = [measure_squares(each - middle, self._metric).item() for each in states]
                usual.middles.append(middle)
                usual.spreads.append(max(sum(squares) / len(squares), 1e-12))
        return usual

    def _measure(self, usual: _Usual, number: int, block: Block) -> Tensor:
        """The squared distance by which vectors move the other words of a template. Gradients flow."""
        return measure_squares(self._read_others(usual.prompts, number, block) - usual.middles[number], self._metric)

    def _measure_all(self, usual: _Usual, block: Block) -> float:
        with torch.no_grad():
            shares = [
                self._measure(usual, number, block).item() / usual.spreads[number]
                for number in range(len(usual.middles))
            ]
        return float((sum(shares) / len(shares)) ** 0.5)

    def _read_others(self, prompts: FramedPrompts, number: int, block: Block) -> Tensor:
        """The states of the words after the embedding, the end and the padding: [positions, context].

        Words before it do not see it.
        """
        before, after = next(iter(prompts.around[number].values()))
        count = len(next(iter(block.values())))
        states = prompts.run(self._maker, number, block)
        first = 1 + len(before) + count
        if len(before) + count + len(after) > MAX_VECTORS:  # the rest stands in a chunk of its own
            return states[-(len(after) + 1) :]
        return states[first:]


def _compare_directions(ours: Block, theirs: Block) -> Tensor:
    """The mean cosine of vectors."""
    return torch.cat([functional.cosine_similarity(rows, theirs[key], dim=1) for key, rows in ours.items()]).mean()
