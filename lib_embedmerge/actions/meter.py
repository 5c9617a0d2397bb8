"""The meter: a model with what its U-Net reads of texts, and distances between what two models read.

checkpoints/text_metric.py says what is measured, core/effect_texts.py in which prompts. What is slow is kept between
runs (checkpoints/meter_cache.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy

from lib_embedmerge.checkpoints.cross_attention import TextReader, open_text_reader
from lib_embedmerge.checkpoints.meter_cache import Arrays, MeterCache, StatesKey, make_states_key
from lib_embedmerge.checkpoints.text_metric import PairForm, PairMetric, Report
from lib_embedmerge.core.arrays import Array, require_torch, to_numpy
from lib_embedmerge.core.effect_texts import (
    BARE,
    YARDSTICK_TEMPLATE,
    YARDSTICK_TEXTS,
    Template,
    lay_out,
    list_yardstick_pairs,
)
from lib_embedmerge.core.value_count import ValueCount
from lib_embedmerge.errors import CheckpointError, quote
from lib_embedmerge.facade import CheckpointModel

if TYPE_CHECKING:
    from lib_embedmerge.checkpoints.encoder_states import StateMaker

Chunk = Mapping[str, numpy.ndarray]
"""Encoder key -> float32 [n, width] of the vectors in a chunk of a prompt, n from 0 to 75."""

Vectors = Mapping[str, Array]


@dataclass(frozen=True)
class Yardstick:
    """The median distance between unrelated texts. pooled: that of pooled vectors, or None."""

    states: float
    pooled: float | None


class MeteredModel:
    """A checkpoint as the meter sees it. label: its name for people.  reader: what reads text in its U-Net."""

    def __init__(self, label: str, model: CheckpointModel, clip_skip: int | None, cache: MeterCache) -> None:
        """clip_skip: as for StateMaker.  CheckpointError if the checkpoint has no U-Net."""
        self.label, self.model = label, model
        self.reader: TextReader = open_text_reader(Path(model.path))
        self._clip_skip, self._cache = clip_skip, cache
        self._rows: dict[tuple[str, str], numpy.ndarray] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Of what reads text in its U-Net."""
        return self._cache.fingerprint(self.reader)

    def make_chunks(self, vectors: Vectors, template: Template = BARE) -> list[Chunk]:
        """The chunks of a prompt: a template around some vectors, which may be more than 75."""
        before, after = self._read_all(template.before), self._read_all(template.after)
        parts = [(key, {"before": before[key], "x": to_numpy(vectors[key]), "after": after[key]}) for key in before]
        counts = [len(parts[0][1][name]) for name in ("before", "x", "after")]
        return [
            {
                key: numpy.concatenate([arrays["x"][:0], *(arrays[name][start:end] for name, (start, end) in spans)])
                for key, arrays in parts
            }
            for spans in lay_out(*counts)
        ]

    def make_yardstick_chunks(self) -> list[Chunk]:
        """The chunks of the unrelated texts in their template, one for each text."""
        texts = [self._read_all(text) for text in YARDSTICK_TEXTS]
        return [self.make_chunks(vectors, YARDSTICK_TEMPLATE)[0] for vectors in texts]

    def make_empty_chunk(self) -> Chunk:
        """A chunk of padding."""
        return self._read_all("")

    def count_values(self, sets: Sequence[Sequence[Chunk]]) -> int:
        """How many values `states` will read of the text encoders; 0 if all sets are kept."""
        if all(self._cache.has_states(self._make_key(chunks)) for chunks in sets):
            return 0
        return int(self._make_maker(None).values)

    def states(
        self, sets: Sequence[Sequence[Chunk]], report: Report | None = None, *, passing: int = 0
    ) -> list[Arrays]:
        """The states of several sets of chunks, in one pass through the text encoders for all that are not kept.

        passing: of how many of the first sets the states are not kept for another run of the program.
        For each set `hidden`, float32 [chunks, 77, context], and for SDXL `pooled`, float32 [chunks, 1280].
        HostError if torch is not installed; CheckpointError if an encoder cannot be run, or gives broken numbers.
        """
        keys = [self._make_key(chunks) for chunks in sets]
        missing = [index for index, key in enumerate(keys) if not self._cache.has_states(key)]
        made: dict[int, Arrays] = {}
        if missing:
            whole = self._compute([chunk for index in missing for chunk in sets[index]], report)
            first = 0
            for index in missing:
                last = first + len(sets[index])
                made[index] = {name: values[first:last] for name, values in whole.items()}
                first = last
        return [
            self._cache.states(key, partial(self._take, made.get(index), chunks, report), passing=index < passing)
            for index, (key, chunks) in enumerate(zip(keys, sets, strict=True))
        ]

    def estimate_steps(self, chunks: Sequence[Chunk], padding: numpy.ndarray, matrix: numpy.ndarray) -> numpy.ndarray:
        """For each vector how much its replacement by padding changes the distance from padding, to first order.

        padding: float32 [77, context], the states of an empty chunk.  matrix: float32 [context, context], the metric.
        Returns float64 [vectors of all chunks]. The distance is summed over all positions of all chunks.
        """
        maker = self._make_maker(None)
        steps = maker.estimate_steps(chunks, padding, matrix)
        array: numpy.ndarray = steps.double().cpu().numpy()
        return array

    def metric_with(self, other: MeteredModel, report: Report | None = None) -> PairMetric:
        """The metric of its U-Net and that of another model, or its own for itself. Errors as for `make_metric`."""
        return self._cache.metric(self.reader, other.reader, (self.fingerprint, other.fingerprint), report)

    def needs_metric(self, other: MeteredModel) -> bool:
        """Whether that metric is not kept yet."""
        return not self._cache.has_metric(self.fingerprint, other.fingerprint)

    def _read_all(self, text: str) -> dict[str, numpy.ndarray]:
        return {encoder.key: self._read(text, encoder.key) for encoder in self.model.encoders}

    def _read(self, text: str, key: str) -> numpy.ndarray:
        """The rows of the words of a template, float32 [n, width]."""
        if (text, key) not in self._rows:
            (encoder,) = (encoder for encoder in self.model.encoders if encoder.key == key)
            self._rows[text, key] = to_numpy(encoder.vectors(encoder.tokenizer.encode(text)))
        return self._rows[text, key]

    def _make_key(self, chunks: Sequence[Chunk]) -> StatesKey:
        return make_states_key(self.model.fingerprints(), self._clip_skip or 0, chunks)

    def _make_maker(self, report: Report | None, *, keep: bool = False) -> StateMaker:
        require_torch("Measuring what a text does is")
        from lib_embedmerge.checkpoints.encoder_states import StateMaker  # which imports torch

        facts = self.model.facts
        return StateMaker(self.model.encoders, facts.architecture, self._clip_skip, keep=keep, report=report)

    def _take(self, made: Arrays | None, chunks: Sequence[Chunk], report: Report | None) -> Arrays:
        """The states that were made, or those that are made now, because the kept ones turned out to be damaged."""
        return self._compute(chunks, report) if made is None else made

    def _compute(self, chunks: Sequence[Chunk], report: Report | None) -> Arrays:
        states = self._make_maker(report).compute(chunks)
        arrays = {"hidden": states.hidden.numpy()}
        if states.pooled is not None:
            arrays["pooled"] = states.pooled.numpy()
        if not all(numpy.isfinite(values).all() for values in arrays.values()):
            message = f"The text encoders of {quote(self.label)} give numbers that are not finite."
            raise CheckpointError(message, hint="The file is damaged or was merged wrongly. Use another copy.")
        return arrays


def read_all_states(
    models: Sequence[MeteredModel],
    sets: Sequence[Sequence[Sequence[Chunk]]],
    expected: Sequence[int],
    count: ValueCount,
    *,
    passing: int = 0,
) -> list[list[Arrays]]:
    """The states of all models.

    sets, passing: as for `states`, of each model.  expected: what `count_values` gave for each.
    """
    found = []
    for model, of_model, values in zip(models, sets, expected, strict=True):
        end = count.done + values
        found.append(model.states(of_model, count.add, passing=passing))
        count.reach(end)  # models may share their text encoders
    return found


def measure_between(form: PairForm, ours: numpy.ndarray, theirs: numpy.ndarray) -> float:
    """The root mean square over positions of what two models read differently.

    ours, theirs: float32 [..., width], states of A and of B at the same positions.
    """
    width = ours.shape[-1]
    return math.sqrt(form.measure(ours.reshape(-1, width), theirs.reshape(-1, width)).mean())


def measure_yardstick(metric: PairMetric, a: Arrays, b: Arrays) -> Yardstick:
    """The median distance between unrelated texts, on both models. a, b: their states of the yardstick's chunks.

    CheckpointError if these are all equal, so that nothing can be a share of it.
    """
    pairs = list_yardstick_pairs()
    states = median(_measure_pairs(metric.states, a["hidden"], b["hidden"], pairs))
    if not states:
        message = "The U-Net reads nothing of any text, so no effect can be measured."
        raise CheckpointError(message, hint="The file is damaged. Use another copy.")
    if metric.pooled is None or "pooled" not in a or "pooled" not in b:
        return Yardstick(states, None)
    pooled = median(_measure_pairs(metric.pooled, a["pooled"][:, None], b["pooled"][:, None], pairs))
    return Yardstick(states, pooled or None)


def _measure_pairs(form: PairForm, a: numpy.ndarray, b: numpy.ndarray, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """The distances of some pairs of texts within A, then within B. a, b: float32 [texts, positions, width]."""
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    distances: list[float] = []
    for number, states in enumerate((a, b)):
        shape = (len(pairs), states.shape[1])
        within = form.measure_within(*(states[some].reshape(-1, states.shape[-1]) for some in (first, second)))[number]
        distances += numpy.sqrt(within.reshape(shape).mean(axis=1)).tolist()
    return distances
