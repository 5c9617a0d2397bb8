"""What changes on each model if it gets the vectors of another one: whether models can share the files of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from lib_embedmerge.actions.meter import Chunk, MeteredModel, measure_between, measure_yardstick, read_all_states
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.core.value_count import ValueCount


def measure_sharing(
    models: Sequence[MeteredModel],
    chunks: Sequence[Sequence[Sequence[Chunk]]],
    texts: int,
    progress: Progress | None = None,
) -> numpy.ndarray:
    """The largest effect of the vectors of one model in place of those of another: symmetric float64 [models, models].

    Of two models the one is taken on which more changes. U-Nets may differ: each model is only compared with itself.
    chunks: at [b][a] the prompts on model b with the vectors of model a, all `texts` in each round of templates.
    progress, errors: as for `measure_effects`.
    """
    sets = []
    for number, of_model in enumerate(chunks):
        own = of_model[number]
        moved = [chunk for source in of_model for chunk, mine in zip(source, own, strict=True) if _differ(chunk, mine)]
        sets.append((own, moved or own[:1], models[number].make_yardstick_chunks()))
    expected = [model.count_values(of_model) for model, of_model in zip(models, sets, strict=True)]
    count = ValueCount(sum(expected) + sum(model.reader.count_values() for model in models), progress)
    states = read_all_states(models, sets, expected, count)
    changes = numpy.zeros((len(models), len(models)))
    for number, (model, (ours, others, unrelated)) in enumerate(zip(models, states, strict=True)):
        end = count.done + model.reader.count_values()
        metric = model.metric_with(model, count.add)
        count.reach(end)
        yardstick = measure_yardstick(metric, unrelated, unrelated).states
        found = iter(others["hidden"])
        for source, of_source in enumerate(chunks[number]):
            distances = [
                measure_between(metric.states, hidden, next(found)) if _differ(chunk, mine) else 0.0
                for chunk, mine, hidden in zip(of_source, chunks[number][number], ours["hidden"], strict=True)
            ]
            changes[number, source] = max(_find_mean(distances[text::texts]) for text in range(texts)) / yardstick
    effects: numpy.ndarray = numpy.maximum(changes, changes.T)
    return effects


def _differ(ours: Chunk, theirs: Chunk) -> bool:
    return any(not numpy.array_equal(ours[key], theirs[key]) for key in ours)


def _find_mean(distances: Sequence[float]) -> float:
    """The root mean square."""
    return math.sqrt(sum(distance**2 for distance in distances) / len(distances))
