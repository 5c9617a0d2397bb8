"""Rebuild embeddings for other models from their recipes: write a variant of each embedding that needs one.

The variant of `style` for the model `pony` is the file `style-pony.safetensors`; its tag names `style` as the original.
Of a model's file, only the token rows that the recipes need are read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from lib_embedmerge.core.arrays import to_numpy
from lib_embedmerge.core.evaluate import Vectors
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.interrupted import clean_up_folder
from lib_embedmerge.embeddings.model_notes import without_model_notes
from lib_embedmerge.embeddings.names import MAX_NAME
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata, update_metadata
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.recipes.fit import fit_by_architecture, fit_by_recipe, fit_by_tag
from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe
from lib_embedmerge.recipes.variant_writing import (
    SAME_VECTORS,
    SKIPPED,
    NotWrittenError,
    RebuildResult,
    Variant,
    write_variants,
)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")

_GROUP = 64
"""Largest number of variants that are written together."""

_GROUP_TIME = 0.5
"""Seconds after which those that are made are written, so that results come steadily."""

_MAX_TITLE = 60
"""Most characters of a model's title in the name of a variant, so that the embedding's own name has room."""


@dataclass(frozen=True)
class Asked:
    """What a rebuild asks its caller.

    before_replacing: called with the path of a file that is about to be replaced.
    is_stopped: called before each embedding; whether the caller wants no more.
    """

    before_replacing: Callable[[Path], None] = lambda _: None
    is_stopped: Callable[[], bool] = lambda: False


def rebuild(
    sources: Sequence[Path],
    model: Model,
    folder: Path | None = None,
    date: datetime | None = None,
    before_replacing: Callable[[Path], None] = lambda _: None,
) -> Iterator[RebuildResult]:
    """Write a variant of each embedding that needs one for a model, and yield a result for each in turn.

    Variants are made and written in groups, because the disk flushes many files in the time of a few. A caller can stop
    between two results; the rest of the group, which takes half a second to make, is written nevertheless.
    folder: where variants are written; None for the folder of each source.  date: for the tags; None for now.
    before_replacing: called with the path of a file that is about to be replaced.
    An existing file is replaced only if it is a variant of the same embedding for the same model.
    A fault of an embedding is a result with status `skipped`. CheckpointError if the model's file cannot be read.
    """
    yield from _RebuildRun(folder, date, Asked(before_replacing)).rebuild(sources, model)


def rebuild_for_each(
    sources: Sequence[Path],
    checkpoints: Iterable[Path],
    open_model: Callable[[Path], Model],
    folder: Path | None = None,
    asked: Asked | None = None,
) -> Iterator[tuple[Path, RebuildResult]]:
    """Write variants for several checkpoints, as `rebuild` does for one, and yield each result after its checkpoint.

    open_model: opens a checkpoint. If it or the rebuild raises CheckpointError, the remaining embeddings are skipped
        for that checkpoint. Any other error is raised.
    folder: as for `rebuild`.  asked: functions of the caller; when it wants to stop, the results that were not yielded
        are those of embeddings for which nothing was done.
    """
    run = _RebuildRun(folder, None, asked or Asked())
    for checkpoint in checkpoints:
        if run.asked.is_stopped():
            return
        remaining = iter(sources)
        try:
            for result in run.rebuild(sources, open_model(checkpoint)):
                next(remaining)
                yield checkpoint, result
        except CheckpointError as error:
            for source in remaining:
                yield checkpoint, RebuildResult(source, SKIPPED, reason=error.message)


def make_variant_name(name: str, model: Model) -> str:
    """The name of the variant of an embedding for a model: `name-title`. A name that is too long is cut."""
    title = _NOT_IN_NAMES.sub("-", model.facts.title)[:_MAX_TITLE].strip("-.") or "model"
    return f"{name[: MAX_NAME - len(title) - 1]}-{title}"


def find_variants(name: str, files: Iterable[Path]) -> list[Path]:
    """The files that are variants of the embedding `name`, by their own names and by their tags."""
    return [path for path in files if path.stem.startswith(f"{name}-") and _is_variant_of(name, path)]


def _is_variant_of(name: str, path: Path) -> bool:
    try:
        tag = read_embedding_header(path).tag
    except StorageError:
        return False
    return tag is not None and tag.variant_of == name


@dataclass(frozen=True)
class _RebuildRun:
    """One run over some embeddings and one or more models. folder, date: as for `rebuild`.  asked: the caller's.

    taken: path of each variant of this run in lower case -> the file of its original, and the hashes of the token
        tables of its model.
    """

    folder: Path | None
    date: datetime | None
    asked: Asked
    taken: dict[str, tuple[Path, frozenset[str]]] = field(default_factory=dict)

    def rebuild(self, sources: Sequence[Path], model: Model) -> Iterator[RebuildResult]:
        """As the function `rebuild`."""
        model.fingerprints()  # before the first result, because it can take seconds
        for folder in {self.folder or source.parent for source in sources}:
            clean_up_folder(folder)
        made: list[Variant | RebuildResult] = []
        began = time.monotonic()
        for source in sources:
            if self.asked.is_stopped():
                break
            try:
                made.append(self._make(source, model))
            except (CheckpointError, KeyboardInterrupt):
                yield from self._write(made, model)
                raise
            if len(made) == _GROUP or time.monotonic() - began > _GROUP_TIME:
                yield from self._write(made, model)
                made, began = [], time.monotonic()
        yield from self._write(made, model)

    def _make(self, source: Path, model: Model) -> Variant | RebuildResult:
        """The variant of an embedding, which is not written yet, or why there is none."""
        try:
            embedding = load_embedding(source)
            tag = embedding.tag or ModelTag()
            vectors = _compute_vectors(embedding, tag, model)
            made = make_variant(embedding, tag, vectors, model, self.date or datetime.now(timezone.utc))
            variant = Variant(source, embedding, tag, made, self.folder or source.parent)
            self._take_path(variant.path, source, model)
        except NotWrittenError as reason:
            return reason.as_result(source)
        except StorageError as error:
            return RebuildResult(source, SKIPPED, reason=error.message)
        return variant

    def _write(self, made: Sequence[Variant | RebuildResult], model: Model) -> list[RebuildResult]:
        """Write the variants. Gives the result of each embedding, in order."""
        variants = [one for one in made if isinstance(one, Variant)]
        written = iter(write_variants(variants, model, self.asked.before_replacing))
        return [next(written) if isinstance(one, Variant) else one for one in made]

    def _take_path(self, path: Path, source: Path, model: Model) -> None:
        """Record what a path is used for in this run. NotWrittenError if it is used for something else already."""
        # Two embeddings can have the same name, and two models the same title. Neither variant may replace the other.
        use = source, frozenset(fingerprint.token_table for fingerprint in model.fingerprints().values())
        if self.taken.setdefault(str(path).casefold(), use) != use:
            other = "another embedding or for another model of the same name"
            raise NotWrittenError(SKIPPED, f"{path.name} was already made in this run, from {other}.")


def _compute_vectors(embedding: Embedding, tag: ModelTag, model: Model) -> Vectors:
    """The vectors that the recipe gives on the model. NotWrittenError if there are none or they are stored already."""
    if tag.variant_of:
        raise NotWrittenError(
            SKIPPED, f"It is the version of {tag.variant_of} for another model; {tag.variant_of} is rebuilt instead."
        )
    if other := fit_by_architecture(embedding, model):
        raise NotWrittenError(SKIPPED, other.detail)
    if not tag.recipe:
        raise NotWrittenError(SKIPPED, "It has no recipe.")
    if by_tag := fit_by_tag(tag, model):
        raise NotWrittenError(SAME_VECTORS, by_tag.detail)
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except RECIPE_ERRORS as error:
        raise NotWrittenError(SKIPPED, f"Its recipe does not work on this model: {error.message}") from error
    fit = fit_by_recipe(embedding.vectors, fresh)
    if fit.status != FitStatus.DIFFERS:
        raise NotWrittenError(SAME_VECTORS, fit.detail)
    return fresh


def make_variant(embedding: Embedding, tag: ModelTag, vectors: Vectors, model: Model, date: datetime) -> Embedding:
    """The variant of an embedding, with a tag for the model, and the metadata of other tools.

    vectors: of the variant, which nobody else uses.
    """
    name = make_variant_name(embedding.name, model)
    origin = Origin(
        name=name,
        model=model.facts,
        date=date,
        fingerprints=model.fingerprints(),
        recipe=tag.recipe,
        uses=tag.uses,
        notes=tag.notes or "",
        negative=tag.negative,
        variant_of=embedding.name,
    )
    on_cpu = {key: to_numpy(rows) for key, rows in vectors.items()}
    metadata = update_metadata(without_model_notes(embedding.metadata), make_metadata(origin))
    return Embedding(name, on_cpu, metadata, own=True)
