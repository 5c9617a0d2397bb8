"""Measure the effect of an embedding or a text on two or more checkpoints: how differently their U-Nets read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from lib_embedmerge.actions.meter import (
    Chunk,
    MeteredModel,
    Vectors,
    Yardstick,
    measure_between,
    measure_yardstick,
    read_all_states,
)
from lib_embedmerge.checkpoints.meter_cache import Arrays, MeterCache
from lib_embedmerge.checkpoints.text_metric import PairMetric, check_same_layers
from lib_embedmerge.core.effect_texts import TEMPLATES
from lib_embedmerge.core.effects import Effect, TemplateEffect
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import EmbeddingNames, Progress
from lib_embedmerge.core.value_count import ValueCount
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.facade import CheckpointModel, open_checkpoint
from lib_embedmerge.lang.choices import Attention
from lib_embedmerge.lang.typed import read_typed
from lib_embedmerge.recipes.fit import fit_by_architecture
from lib_embedmerge.recipes.following import FollowingNames
from lib_embedmerge.recipes.run import run_recipe


@dataclass(frozen=True)
class EffectRequest:
    """What is measured.

    source: a typed expression or prompt, of any length; each model gives its own vectors for it.
    embedding: a file instead of a source; every model gets its stored vectors.
    remake: whether every model gets the vectors of the embedding's recipe on it, as after a rebuild.
    embeddings: the embeddings that texts may name, as a folder or a finder of names.
    clip_skip: 1 for the last layer, 2 for the penultimate one; None for the architecture's own.
    device: `cpu`, `cuda` or `auto`.
    attention: how attention in a typed text is read (lang/typed.py).
    follow: whether embeddings that a text names have the vectors that their recipes give on each model.
    """

    source: str | None = None
    embedding: str | Path | None = None
    remake: bool = False
    embeddings: str | Path | EmbeddingNames | None = None
    clip_skip: int | None = None
    device: str = "cpu"
    attention: Attention = "drop"
    follow: bool = False


def measure_effects(
    paths: Sequence[str | Path], request: EffectRequest, progress: Progress | None = None
) -> list[Effect]:
    """The effect on the first checkpoint against each of the others, in order. The paths are also their labels.

    progress: called with (values read, values in all). An exception that it raises ends the work.
    CheckpointError if a file cannot be used or U-Nets are built differently, ExpressionError or StorageError if the
    source or the embedding cannot be used, HostError if torch is not installed.
    """
    if len(paths) < 2:
        raise CheckpointError("An effect needs two checkpoints.", hint="Give two or more.")
    if (request.source is None) == (request.embedding is None):
        raise StorageError("Measure the effect of a text or of an embedding.", hint="Give one of them.")
    models = open_metered(paths, request)
    for other in models[1:]:
        check_same_layers(models[0].reader, other.reader)
    texts = [make_vectors(model.model, request) for model in models]
    return _Measurement(models, texts, progress).measure()


def measure_passing(
    a: MeteredModel, b: MeteredModel, embedding: Embedding, progress: Progress | None = None, *, remake: bool
) -> float:
    """The effect of an embedding between two open models. The states of its prompts are not written to the cache.

    remake: as for EffectRequest.  progress, errors: as for `measure_effects`.
    """
    check_same_layers(a.reader, b.reader)
    texts = [make_embedding_vectors(embedding, one.model, remake=remake) for one in (a, b)]
    (found,) = _Measurement([a, b], texts, progress, passing=1).measure()
    return found.effect


def open_metered(
    paths: Sequence[str | Path], request: EffectRequest, cache: MeterCache | None = None
) -> list[MeteredModel]:
    """The checkpoints for the meter. CheckpointError if one cannot be used, or has no U-Net."""
    cache = cache or MeterCache()
    return [MeteredModel(str(path), _open(path, request), request.clip_skip, cache) for path in paths]


def _open(path: str | Path, request: EffectRequest) -> CheckpointModel:
    model = open_checkpoint(path, embeddings=request.embeddings, device=request.device)
    if not request.follow:
        return model
    return open_checkpoint(path, embeddings=FollowingNames(model, quiet=True), device=request.device)


def make_vectors(model: CheckpointModel, request: EffectRequest) -> Vectors:
    """The vectors of the source or the embedding on a model. Errors as for `measure_effects`."""
    if request.source is not None:
        return evaluate(read_typed(request.source, request.attention).parsed, model, limit=None)
    assert request.embedding is not None
    embedding = load_embedding(request.embedding)
    return make_embedding_vectors(embedding, model, remake=request.remake)


def make_embedding_vectors(embedding: Embedding, model: CheckpointModel, *, remake: bool) -> Vectors:
    """The stored vectors of an embedding, or those of its recipe on a model. StorageError if it does not fit.

    remake: whether its recipe is run. StorageError if it has none, and the errors of `run_recipe`.
    """
    if other := fit_by_architecture(embedding, model):
        raise StorageError(f"{embedding.name} does not fit {model.facts.file_name}: {other.detail}")
    if not remake:
        return embedding.vectors
    tag = embedding.tag
    if tag is None or not tag.recipe:
        hint = "Measure it as it is stored, or find its text first."
        raise StorageError(f"{embedding.name} has no recipe, so it cannot be made again.", hint=hint)
    return run_recipe(tag.recipe, tag.uses, model)


class _Measurement:
    """One run over some models. texts: the vectors on each.  passing: 1 if the states of their prompts are not kept."""

    def __init__(
        self,
        models: Sequence[MeteredModel],
        texts: Sequence[Vectors],
        progress: Progress | None = None,
        *,
        passing: int = 0,
    ) -> None:
        self._models = models
        prompts = [
            [model.make_chunks(text, one) for one in TEMPLATES] for model, text in zip(models, texts, strict=True)
        ]
        # A recipe may give another number of vectors on another model; the missing chunks are of padding.
        counts = [max(len(of_model[index]) for of_model in prompts) for index in range(len(TEMPLATES))]
        self._bounds = numpy.cumsum([0, *counts]).tolist()
        self._sets = [
            (_fill_up(model, of_model, counts), model.make_yardstick_chunks())
            for model, of_model in zip(models, prompts, strict=True)
        ]
        self._progress, self._passing = progress, passing

    def measure(self) -> list[Effect]:
        first, *others = self._models
        for model in self._models:  # before the count, because it is what everything is kept by
            model.model.fingerprints(lambda *_: self._check())
        expected = [model.count_values(sets) for model, sets in zip(self._models, self._sets, strict=True)]
        total = sum(_count_matrices(first, other) for other in others if first.needs_metric(other))
        count = ValueCount(total + sum(expected), self._progress)
        states = read_all_states(self._models, self._sets, expected, count, passing=self._passing)
        return [
            self._compare(first, other, first.metric_with(other, count.add), states[0], of_other)
            for other, of_other in zip(others, states[1:], strict=True)
        ]

    def _check(self) -> None:
        """Let the caller stop the work while fingerprints are made."""
        if self._progress is not None:
            self._progress(0, 1)

    def _compare(
        self, a: MeteredModel, b: MeteredModel, metric: PairMetric, ours: Sequence[Arrays], theirs: Sequence[Arrays]
    ) -> Effect:
        yardstick = measure_yardstick(metric, ours[1], theirs[1])
        shares = [
            measure_between(metric.states, ours[0]["hidden"][start:end], theirs[0]["hidden"][start:end])
            / yardstick.states
            for start, end in zip(self._bounds, self._bounds[1:], strict=False)
        ]
        templates = tuple(
            TemplateEffect(template.title, share) for template, share in zip(TEMPLATES, shares, strict=True)
        )
        pooled = self._compare_pooled(metric, yardstick, ours[0], theirs[0])
        return Effect(a.label, b.label, _root_mean_square(shares), pooled, yardstick.states, templates)

    def _compare_pooled(
        self, metric: PairMetric, yardstick: Yardstick, ours: Mapping[str, numpy.ndarray], theirs: Arrays
    ) -> float | None:
        """The effect on the pooled vector, which the web UIs take of the first chunk of each prompt."""
        if metric.pooled is None or yardstick.pooled is None:
            return None
        first = self._bounds[:-1]
        return measure_between(metric.pooled, ours["pooled"][first], theirs["pooled"][first]) / yardstick.pooled


def _fill_up(model: MeteredModel, prompts: Sequence[Sequence[Chunk]], counts: Sequence[int]) -> list[Chunk]:
    """The chunks of all templates one after the other, with chunks of padding for each up to its count."""
    empty = model.make_empty_chunk()
    return [
        chunk
        for chunks, count in zip(prompts, counts, strict=True)
        for chunk in [*chunks, *[empty] * (count - len(chunks))]
    ]


def _count_matrices(a: MeteredModel, b: MeteredModel) -> int:
    """How many values the metric of two models reads."""
    return a.reader.count_values() + (b.reader.count_values() if a.fingerprint != b.fingerprint else 0)


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
