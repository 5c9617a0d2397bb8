"""Group checkpoints by how differently they read some embeddings or words: which of them can share a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy

from lib_embedmerge.actions.measuring_effect import EffectRequest, make_embedding_vectors, open_metered
from lib_embedmerge.actions.meter import Chunk, MeteredModel, Vectors, read_all_states
from lib_embedmerge.actions.sharing_vectors import measure_sharing
from lib_embedmerge.checkpoints.key_distances import KeyDistances, measure_keys
from lib_embedmerge.checkpoints.text_metric import check_same_layers
from lib_embedmerge.core.clusters import Cluster, cut, find_medoid, join_all
from lib_embedmerge.core.effect_answers import GroupAnswer
from lib_embedmerge.core.effect_texts import BARE, TEMPLATES, WORDS, Template, list_yardstick_pairs
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.ports import EmbeddingNames, Progress
from lib_embedmerge.core.value_count import ValueCount
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.lang.typed import read_typed

LIMIT = 0.1
"""The largest effect within a group, unless another one is asked for: below it an effect is called slight."""

_CHUNKS = 24
"""About how many prompts each model reads: a few embeddings stand in many templates, many in one each."""

_SHARED_CHUNKS, _SHARED_WORDS = 8, 6
"""The same, and how many words, if each model reads them with the vectors of every other one."""

By = Literal["models", "vectors"]
"""What is compared: how two models read a text, or what changes on each with the vectors of the other."""


@dataclass(frozen=True)
class GroupsRequest:
    """What checkpoints are grouped by.

    files: embedding files, the same on each checkpoint; with `remake` made again from their recipes.
    words: texts, for which each checkpoint gives its own vectors; those of core.effect_texts if there are neither files
        nor words.
    by: with `vectors`, files are always made again, and only text encoders count: it tells who needs a file of its own.
    limit: the largest effect within a group.  embeddings, clip_skip, device: as for EffectRequest.
    """

    files: Sequence[Path] = ()
    words: Sequence[str] = ()
    by: By = "models"
    remake: bool = False
    limit: float = LIMIT
    embeddings: str | Path | EmbeddingNames | None = None
    clip_skip: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class ModelGroups:
    """Checkpoints in groups.

    labels: of the checkpoints.  effects: float64 [n, n], the largest effect of one of the texts on two checkpoints.
    tree: how they were joined.  limit: the largest effect within a group.
    """

    labels: tuple[str, ...]
    effects: numpy.ndarray
    limit: float
    tree: Cluster = field(repr=False)

    @property
    def clusters(self) -> list[Cluster]:
        """The groups, by their first members."""
        return cut(self.tree, self.limit)

    def as_json(self) -> list[GroupAnswer]:
        """The groups as plain JSON data."""
        return [
            {
                "members": [self.labels[index] for index in cluster.members],
                "medoid": self.labels[find_medoid(self.effects, cluster.members)],
                "largest_effect": cluster.height,
            }
            for cluster in self.clusters
        ]


def group_models(
    paths: Sequence[str | Path], request: GroupsRequest | None = None, progress: Progress | None = None
) -> ModelGroups:
    """Group checkpoints. Two are in one group only if no text has an effect above the limit between them.

    progress: called with (values read, values in all). An exception that it raises ends the work.
    Errors are those of `measure_effects`.
    """
    request = request or GroupsRequest()
    if not paths:
        raise CheckpointError("Grouping needs checkpoints.", hint="Give two or more.")
    if not request.limit >= 0:
        raise StorageError(f"A limit of {request.limit} is not possible.", expected="0 or more, such as 0.1")
    wanted = EffectRequest("", embeddings=request.embeddings, clip_skip=request.clip_skip, device=request.device)
    models = open_metered(paths, wanted)
    for other in models[1:]:
        check_same_layers(models[0].reader, other.reader)
    texts = [_list_vectors(model, request) for model in models]
    for model in models:
        model.model.fingerprints(lambda *_: progress and progress(0, 1))
    if request.by == "vectors":
        chunks = [[_lay_out_all(model, of_model, _SHARED_CHUNKS) for of_model in texts] for model in models]
        effects = measure_sharing(models, chunks, len(texts[0]), progress)
    else:
        effects = _compare_models(models, texts, progress)
    return ModelGroups(tuple(model.label for model in models), effects, request.limit, join_all(effects))


def _compare_models(
    models: Sequence[MeteredModel], texts: Sequence[Sequence[Vectors]], progress: Progress | None
) -> numpy.ndarray:
    """The largest effect of a text for each two models: float64 [n, n]."""
    sets = [
        (_lay_out_all(model, of_model, _CHUNKS), model.make_yardstick_chunks())
        for model, of_model in zip(models, texts, strict=True)
    ]
    expected = [model.count_values(of_model) for model, of_model in zip(models, sets, strict=True)]
    count = ValueCount(sum(expected) + sum(_count_matrices(model) for model in models), progress)
    states = read_all_states(models, sets, expected, count)
    distances = measure_keys(
        [model.reader for model in models],
        [of_model[0]["hidden"] for of_model in states],
        [of_model[1]["hidden"] for of_model in states],
        list_yardstick_pairs(),
        count.add,
    )
    return _find_effects(distances, len(texts[0]))


def _list_vectors(model: MeteredModel, request: GroupsRequest) -> list[Vectors]:
    """The vectors of all files and words on a model."""
    shares = request.by == "vectors"
    remake = request.remake or shares
    files = [make_embedding_vectors(load_embedding(file), model.model, remake=remake) for file in request.files]
    words = request.words or (() if request.files else WORDS[: _SHARED_WORDS if shares else None])
    return [*files, *(evaluate(read_typed(word).parsed, model.model, limit=None) for word in words)]


def _lay_out_all(model: MeteredModel, texts: Sequence[Vectors], most: int) -> list[Chunk]:
    """One chunk for each text and template, the texts one after the other in rounds through the templates."""
    rounds = max(1, min(len(TEMPLATES), most // len(texts)))
    return [
        _lay_out(model, vectors, TEMPLATES[(number + shift) % len(TEMPLATES)])
        for shift in range(rounds)
        for number, vectors in enumerate(texts)
    ]


def _lay_out(model: MeteredModel, vectors: Vectors, template: Template) -> Chunk:
    """The chunk of a text in a template; alone, and its first 75 vectors, if it does not fit in."""
    chunks = model.make_chunks(vectors, template)
    return chunks[0] if len(chunks) == 1 else model.make_chunks(vectors, BARE)[0]


def _count_matrices(model: MeteredModel) -> int:
    """How many values are read of its keys and values."""
    return sum(2 * inner * width for inner, width in model.reader.shapes)


def _find_effects(distances: KeyDistances, texts: int) -> numpy.ndarray:
    """The largest effect of a text for each two models: float64 [n, n]. CheckpointError if there is no yardstick."""
    count = len(distances.between)
    squares = distances.between.reshape(count, count, -1, texts).mean(axis=2)
    within = numpy.concatenate((distances.within, distances.within.transpose(1, 0, 2)), axis=2)
    yardsticks = numpy.median(numpy.sqrt(within), axis=2)
    if not yardsticks.all():
        message = "The U-Net reads nothing of any text, so no effect can be measured."
        raise CheckpointError(message, hint="The file is damaged. Use another copy.")
    effects: numpy.ndarray = numpy.sqrt(squares).max(axis=2) / yardsticks
    return effects
