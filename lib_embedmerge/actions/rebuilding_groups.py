"""Rebuild embeddings for groups of checkpoints: one version for each group, made for its middle, not one for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.from_files import RebuildRequest, list_sources, rebuild
from lib_embedmerge.core.percentages import format_percent
from lib_embedmerge.embeddings.embedding import read_embedding_header
from lib_embedmerge.errors import StorageError
from lib_embedmerge.recipes.variant_writing import SHARED, SKIPPED

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import RebuildAnswer
    from lib_embedmerge.core.effect_answers import GroupAnswer
    from lib_embedmerge.core.ports import Progress

_MOST = 24
"""How many of the embeddings the checkpoints are grouped by. Each takes its time on each checkpoint."""


def rebuild_all(
    request: RebuildRequest, limit: float | None, progress: Progress | None = None
) -> Iterator[RebuildAnswer]:
    """Rebuild for groups of checkpoints, or for each checkpoint if `limit` is None."""
    return rebuild(request, progress) if limit is None else rebuild_for_groups(request, limit, progress)


def rebuild_for_groups(
    request: RebuildRequest, limit: float, progress: Progress | None = None
) -> Iterator[RebuildAnswer]:
    """Make one version of each embedding for each group of checkpoints that can share it.

    The checkpoints are grouped by what changes on each if it gets the vectors that the recipes give on another one; of
    many embeddings, 24 are taken.
    Yields the result of each pair: the members of a group share the file of the one for which it was made.
    limit: the largest effect within a group.  progress: called with (done, in all), first while effects are measured.
    Raises as `group_models`, before anything is written.
    """
    from lib_embedmerge.actions.grouping_models import GroupsRequest, group_models

    checkpoints = list(dict.fromkeys(request.checkpoints))
    wanted = GroupsRequest(
        files=choose_files(list_sources(request)),
        by="vectors",
        limit=limit,
        embeddings=request.embeddings,
        device=request.device,
    )
    groups = {group["medoid"]: group for group in group_models(checkpoints, wanted, progress).as_json()}
    for result in rebuild(replace(request, checkpoints=[Path(medoid) for medoid in groups]), progress):
        yield result
        yield from _share(result, groups[result["checkpoint"]])


def _share(result: RebuildAnswer, group: GroupAnswer) -> Iterator[RebuildAnswer]:
    """The results for the other members of a group."""
    for member in group["members"]:
        if member == group["medoid"]:
            continue
        if result["status"] == SKIPPED:
            yield {**result, "checkpoint": member}
            continue
        share = format_percent(group["largest_effect"])
        name = Path(group["medoid"]).name
        reason = f"It uses the same file as {name}: the effect of that is at most {share}."
        yield {**result, "checkpoint": member, "status": SHARED, "reason": reason}


def choose_files(files: Sequence[Path], *, with_recipe: bool = True) -> list[Path]:
    """At most 24 of the embeddings, evenly spread.

    with_recipe: whether only those that have a recipe. StorageError if none has.
    """
    chosen = [file for file in files if _has_recipe(file)] if with_recipe else files
    if not chosen:
        message = "None of these embeddings has a recipe, so there is nothing to rebuild."
        raise StorageError(message, hint="Embeddings that EmbedMerge made have one.")
    step = max(1, -(-len(chosen) // _MOST))
    return list(chosen[::step])


def _has_recipe(file: Path) -> bool:
    """Whether an embedding has a recipe of its own; the version of another one for some model does not count."""
    try:
        tag = read_embedding_header(file).tag
    except StorageError:
        return False
    return tag is not None and bool(tag.recipe) and not tag.variant_of
