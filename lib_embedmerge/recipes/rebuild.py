"""Rebuild embeddings for other models from their recipes: write a variant of each embedding that needs one.

The variant of `style` for the model `pony` is the file `style-pony.safetensors`; its tag names `style` as the original.
Of a model's file, only the token rows that the recipes need are read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from lib_embedmerge.core.answers import RebuildAnswer
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.evaluate import Vectors
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding, read_embedding_header
from lib_embedmerge.embeddings.interrupted import clean_up_folder
from lib_embedmerge.embeddings.names import MAX_NAME
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata, update_metadata
from lib_embedmerge.errors import CheckpointError, StorageError
from lib_embedmerge.files.atomic_file import ChangedError
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.files.stamps import read_identity
from lib_embedmerge.recipes.fit import fit_by_architecture, fit_by_recipe, fit_by_tag, is_current_variant
from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe

WRITTEN, SAME_VECTORS, UP_TO_DATE, SKIPPED = "written", "same vectors", "up to date", "skipped"
"""The status of a result: a variant was written; the embedding itself has the right vectors; the variant that exists is
up to date; or no variant can be written."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")

_ATTEMPTS = 20
"""How often to try to write a variant whose file another program changes in the meantime."""

_MAX_TITLE = 60
"""Most characters of a model's title in the name of a variant, so that the embedding's own name has room."""


@dataclass(frozen=True)
class RebuildResult:
    """The result of rebuilding one embedding for one model.

    source: file of the embedding.  status: WRITTEN, SAME_VECTORS, UP_TO_DATE or SKIPPED.
    file: the variant; None if there is none.  reason: why no file was written, one sentence; None if one was.
    """

    source: Path
    status: str
    file: Path | None = None
    reason: str | None = None

    def as_json(self, checkpoint: Path | str) -> RebuildAnswer:
        """All fields as plain values. checkpoint: the model, by the path or title that the user gave."""
        return {
            "source": str(self.source),
            "checkpoint": str(checkpoint),
            "file": str(self.file) if self.file else None,
            "status": self.status,
            "reason": self.reason,
        }


def rebuild(
    sources: Sequence[Path],
    model: Model,
    folder: Path | None = None,
    date: datetime | None = None,
    before_replacing: Callable[[Path], None] = lambda _: None,
) -> Iterator[RebuildResult]:
    """Write a variant of each embedding that needs one for a model, and yield a result for each in turn.

    Nothing is done for an embedding until its result is requested, so a caller can stop between two.
    folder: where variants are written; None for the folder of each source.  date: for the tags; None for now.
    before_replacing: called with the path of a file that is about to be replaced.
    An existing file is replaced only if it is a variant of the same embedding for the same model.
    A fault of an embedding is a result with status `skipped`. CheckpointError if the model's file cannot be read.
    """
    yield from _RebuildRun(folder, date, before_replacing).rebuild(sources, model)


def rebuild_for_each(
    sources: Sequence[Path],
    checkpoints: Iterable[Path],
    open_model: Callable[[Path], Model],
    folder: Path | None = None,
    before_replacing: Callable[[Path], None] = lambda _: None,
) -> Iterator[tuple[Path, RebuildResult]]:
    """Write variants for several checkpoints, as `rebuild` does for one, and yield each result after its checkpoint.

    open_model: opens a checkpoint. If it or the rebuild raises CheckpointError, the remaining embeddings are skipped
        for that checkpoint. Any other error is raised.
    folder, before_replacing: as for `rebuild`.
    """
    run = _RebuildRun(folder, None, before_replacing)
    for checkpoint in checkpoints:
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


class _NotWrittenError(Exception):
    """Raised if no variant is written. status, reason, file: for the RebuildResult."""

    def __init__(self, status: str, reason: str, file: Path | None = None) -> None:
        super().__init__(status, reason, file)
        self.status, self.reason, self.file = status, reason, file


@dataclass(frozen=True)
class _RebuildRun:
    """One run over some embeddings and one or more models. folder, date, before_replacing: as for `rebuild`.

    taken: path of each variant of this run in lower case -> the file of its original, and the hashes of the token
        tables of its model.
    """

    folder: Path | None
    date: datetime | None
    before_replacing: Callable[[Path], None]
    taken: dict[str, tuple[Path, frozenset[str]]] = field(default_factory=dict)

    def rebuild(self, sources: Sequence[Path], model: Model) -> Iterator[RebuildResult]:
        """As the function `rebuild`."""
        model.fingerprints()  # before the first result, because it can take seconds
        for folder in {self.folder or source.parent for source in sources}:
            clean_up_folder(folder)
        for source in sources:
            yield self._rebuild_one(source, model)

    def _rebuild_one(self, source: Path, model: Model) -> RebuildResult:
        try:
            file = self._write_variant(source, model)
        except _NotWrittenError as reason:
            return RebuildResult(source, reason.status, reason.file, reason.reason)
        except StorageError as error:
            return RebuildResult(source, SKIPPED, reason=error.message)
        return RebuildResult(source, WRITTEN, file)

    def _write_variant(self, source: Path, model: Model) -> Path:
        """The path of the variant that was written. _NotWrittenError or StorageError if none was."""
        embedding = load_embedding(source)
        tag = embedding.tag or ModelTag()
        vectors = _compute_vectors(embedding, tag, model)
        variant = _make_variant(embedding, tag, vectors, model, self.date or datetime.now(timezone.utc))
        folder = self.folder or source.parent
        path = folder / (variant.name + SUFFIX)
        self._take_path(path, source, model)
        for _ in range(_ATTEMPTS):
            with lock_folders([folder]), contextlib.suppress(ChangedError):
                seen = read_identity(path)
                exists = os.path.lexists(path)
                if exists:
                    _check_replaceable(path, embedding, tag, model)
                    self.before_replacing(path)
                return variant.save(folder, dtype=_find_dtype(source), overwrite=exists, seen=seen)
        raise _NotWrittenError(SKIPPED, f"{path.name} was changed by another program again and again.")

    def _take_path(self, path: Path, source: Path, model: Model) -> None:
        """Record what a path is used for in this run. _NotWrittenError if it is used for something else already."""
        # Two embeddings can have the same name, and two models the same title. Neither variant may replace the other.
        use = source, frozenset(fingerprint.token_table for fingerprint in model.fingerprints().values())
        if self.taken.setdefault(str(path).casefold(), use) != use:
            other = "another embedding or for another model of the same name"
            raise _NotWrittenError(SKIPPED, f"{path.name} was already made in this run, from {other}.")


def _compute_vectors(embedding: Embedding, tag: ModelTag, model: Model) -> Vectors:
    """The vectors that the recipe gives on the model. _NotWrittenError if there are none or they are stored already."""
    if tag.variant_of:
        raise _NotWrittenError(
            SKIPPED, f"It is the version of {tag.variant_of} for another model; {tag.variant_of} is rebuilt instead."
        )
    if other := fit_by_architecture(embedding, model):
        raise _NotWrittenError(SKIPPED, other.detail)
    if not tag.recipe:
        raise _NotWrittenError(SKIPPED, "It has no recipe.")
    if by_tag := fit_by_tag(tag, model):
        raise _NotWrittenError(SAME_VECTORS, by_tag.detail)
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except RECIPE_ERRORS as error:
        raise _NotWrittenError(SKIPPED, f"Its recipe does not work on this model: {error.message}") from error
    fit = fit_by_recipe(embedding.vectors, fresh)
    if fit.status != FitStatus.DIFFERS:
        raise _NotWrittenError(SAME_VECTORS, fit.detail)
    return fresh


def _make_variant(embedding: Embedding, tag: ModelTag, vectors: Vectors, model: Model, date: datetime) -> Embedding:
    """The variant of an embedding, with these vectors, a tag for the model, and the metadata of other tools."""
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
    return Embedding(name, vectors, update_metadata(embedding.metadata, make_metadata(origin)))


def _check_replaceable(path: Path, embedding: Embedding, tag: ModelTag, model: Model) -> None:
    """_NotWrittenError unless the existing file is an outdated variant of the embedding for this model."""
    try:
        existing = read_embedding_header(path).tag
    except StorageError:
        existing = None
    if existing is None or existing.variant_of != embedding.name:
        raise _NotWrittenError(SKIPPED, f"{path.name} already exists and is not a version of {embedding.name}.")
    if not fit_by_tag(existing, model) and (existing.made_for, existing.file_name) != (
        model.facts.title,
        model.facts.file_name,
    ):
        raise _NotWrittenError(SKIPPED, f"{path.name} already exists and is for another model, {existing.made_for}.")
    if is_current_variant(existing, embedding.name, tag, model):
        raise _NotWrittenError(UP_TO_DATE, f"{path.name} already exists.", path)


def _find_dtype(source: Path) -> str:
    """The dtype in which to store a variant: `float16` if the source file stores only that, else `float32`."""
    if source.suffix.lower() != SUFFIX:
        return "float32"
    half = all(info.dtype == "F16" for info in read_header(source).tensors.values())
    return "float16" if half else "float32"
