"""Carry vectors that are not text from one model to another, by the states that they make in prompts.

What model B's own vectors of a word change against those of model A is predicted from the states of model A, by a map
that is fitted on common words (state_maps.py). The vectors are improved until the states of model B in several prompts
are as near as possible to those, as its U-Net reads them. Where the map predicts nothing, the same vectors are the
best guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from lib_embedmerge.checkpoints.encoder_states import StateMaker
from lib_embedmerge.checkpoints.framed_prompts import Block, FramedPrompts
from lib_embedmerge.checkpoints.model import CheckpointModel
from lib_embedmerge.checkpoints.reading_metric import load_metric, measure_squares
from lib_embedmerge.checkpoints.state_maps import Correction, Side, fit_correction, fit_rows
from lib_embedmerge.checkpoints.vector_descent import Descent, PartOfWork, descend, widen_bands
from lib_embedmerge.core.arrays import Array, find_device, to_numpy, to_tensor
from lib_embedmerge.core.effect_texts import Template
from lib_embedmerge.core.optimising_texts import HELD_OUT, USED
from lib_embedmerge.core.ports import Progress

IDENTITY, PROCRUSTES, RIDGE = "identity", "procrustes", "ridge"
"""The simple ways to port: the same vectors; a turn that fits the rows of common words; a linear map that does."""

LEAST_SCORE = 0.1
"""Least score of the map for vectors to be moved. Below, they would be moved by chance."""

STEPS = 60
_RATE = 0.04


@dataclass(frozen=True)
class Ported:
    """Vectors for another model.

    vectors: encoder key -> float32 [n, width].  error: 0 if the states are the mapped ones of the first model, 1 if
    they are as far from them as those of a prompt without, in held-out prompts.  baselines: the same for `identity`,
    `procrustes`, `ridge`.  starts: their vectors.
    """

    vectors: dict[str, numpy.ndarray]
    error: float
    baselines: Mapping[str, float]
    starts: Mapping[str, Mapping[str, numpy.ndarray]]


@dataclass
class _Aim:
    """What states are wanted in each of some templates, and how far those without the embedding are from them."""

    prompts: FramedPrompts
    wanted: list[Tensor]
    far: list[Tensor]


class Porter:
    """Carries vectors from one model to another, of the same architecture. Both stay in memory.

    start: the simple way that is best for the rows of words that it was not fitted on, from which searches start.
    map: what predicts what B's own vectors change against those.
    """

    def __init__(
        self,
        a: CheckpointModel,
        b: CheckpointModel,
        unknown: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> None:
        """unknown: token ids of words that no map is fitted on.  progress: called with (chunks run, chunks in all).

        CheckpointError if a model cannot be run, or if B has no U-Net.
        """
        architecture = b.facts.architecture
        self._a, self._b = a.encoders, b.encoders
        self._device = find_device(self._b[0].vectors(()))
        self._metric = load_metric(b).to(self._device)
        self._makers = (StateMaker(self._a, architecture, keep=True), StateMaker(self._b, architecture, keep=True))
        self._rows = fit_rows(self._a, self._b, unknown)
        self._bands = {encoder.key: encoder.length_band() for encoder in self._b}
        self.start = self._choose_start()
        sides = (Side(self._a, self._makers[0]), Side(self._b, self._makers[1]))
        self.map: Correction = fit_correction(sides[0], sides[1], self._guess, unknown, progress)

    def port(
        self,
        vectors: Mapping[str, Array],
        known: Mapping[str, Array],
        free: Sequence[int],
        *,
        steps: int = STEPS,
        progress: Progress | None = None,
    ) -> Ported:
        """Vectors for B that do there what some vectors do in A.

        vectors: encoder key -> float32 [n, width].  known: those for B, of which all but the ones at `free` are final.
        progress: called with (steps done, steps in all). An exception that it raises ends the work.
        """
        block, final = (
            {key: to_tensor(rows, self._device) for key, rows in given.items()} for given in (vectors, known)
        )
        starts = self._make_starts(block, final, free)
        used, held_out = (self._aim_at(block, templates) for templates in (USED, HELD_OUT))
        indices = torch.tensor(list(free), device=self._device)

        def find_loss(step: int, moved: dict[str, Tensor]) -> Tensor:
            whole = {key: final[key].index_copy(0, indices, rows) for key, rows in moved.items()}
            return self._measure(used, step % len(USED), whole)

        chosen = {key: rows[indices] for key, rows in starts[self.start].items()}
        bands = widen_bands(self._bands, {key: rows[indices] for key, rows in block.items()})
        moved = chosen
        if self.map.score >= LEAST_SCORE:
            moved = descend(chosen, find_loss, Descent(steps, _RATE, bands, PartOfWork(progress, steps)))
        found = {key: final[key].index_copy(0, indices, rows) for key, rows in moved.items()}
        baselines = {name: self._measure_all(held_out, start_vectors) for name, start_vectors in starts.items()}
        arrays = {key: to_numpy(rows) for key, rows in found.items()}
        simple = {name: {key: to_numpy(rows) for key, rows in made.items()} for name, made in starts.items()}
        return Ported(arrays, self._measure_all(held_out, found), baselines, simple)

    def _choose_start(self) -> str:
        scores = {
            name: sum(maps.scores[index] for maps in self._rows.values())
            for index, name in enumerate((PROCRUSTES, RIDGE))
        }
        best = max(scores, key=lambda name: scores[name])
        return best if scores[best] > 0 else IDENTITY

    def _guess(self, block: Block) -> dict[str, Tensor]:
        """Vectors for B of those of A, by the best of the simple ways."""
        return {key: self._map_rows(key, rows)[self.start] for key, rows in block.items()}

    def _map_rows(self, key: str, rows: Tensor) -> dict[str, Tensor]:
        """Rows for B of rows of A, [n, width], by each of the simple ways."""
        maps = self._rows[key]
        turned, mapped = (rows @ matrix.to(rows.device) for matrix in (maps.procrustes, maps.ridge))
        return {IDENTITY: rows, PROCRUSTES: turned, RIDGE: mapped}

    def _make_starts(self, block: Block, known: Block, free: Sequence[int]) -> dict[str, dict[str, Tensor]]:
        indices = torch.tensor(list(free), device=self._device)
        starts: dict[str, dict[str, Tensor]] = {IDENTITY: {}, PROCRUSTES: {}, RIDGE: {}}
        for key, rows in block.items():
            for name, vectors in self._map_rows(key, rows[indices]).items():
                starts[name][key] = known[key].index_copy(0, indices, vectors)
        return starts

    def _aim_at(self, block: Block, templates: Sequence[Template]) -> _Aim:
        ours, theirs = FramedPrompts.read(templates, self._a), FramedPrompts.read(templates, self._b)
        empty = {key: rows[:0] for key, rows in block.items()}
        aim = _Aim(theirs, [], [])
        with torch.no_grad():
            for number in range(len(templates)):
                same = theirs.run(self._makers[1], number, self._guess(block))
                aim.wanted.append(same + self.map(ours.run(self._makers[0], number, block)))
                without = theirs.run(self._makers[1], number, empty)
                aim.far.append(self._compare(without, aim.wanted[-1]).clamp_min(1e-12))
        return aim

    def _measure(self, aim: _Aim, number: int, block: Block) -> Tensor:
        """The squared error in the template `number`. Gradients flow."""
        states = aim.prompts.run(self._makers[1], number, block)
        return self._compare(states, aim.wanted[number]) / aim.far[number]

    def _measure_all(self, aim: _Aim, block: Block) -> float:
        with torch.no_grad():
            squares = [self._measure(aim, number, block).item() for number in range(len(aim.wanted))]
        return float((sum(squares) / len(squares)) ** 0.5)

    def _compare(self, states: Tensor, wanted: Tensor) -> Tensor:
        """The squared distance of states [positions, context], of those positions that both have."""
        shared = min(len(states), len(wanted))
        return measure_squares(states[1:shared] - wanted[1:shared], self._metric)
