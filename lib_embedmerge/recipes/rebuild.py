"""Embeddings made again for other models, from their recipes: a variant for each pair that needs one.

A variant of `style` for a model `pony` is the file `style-pony`; its metadata say whose variant it is. Only the token
rows that recipes name are read from a model's file.
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
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, StorageError
from lib_embedmerge.files.atomic_file import ChangedError
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.files.stamps import read_identity
from lib_embedmerge.recipes.fit import fit_by_architecture, fit_by_recipe, fit_by_tag, is_current_variant
from lib_embedmerge.recipes.run import run_recipe

WRITTEN, SAME_VECTORS, UP_TO_DATE, SKIPPED = "written", "same vectors", "up to date", "skipped"

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")

_ATTEMPTS = 20

_MAX_TITLE = 60
"""Characters of a model's title in a variant's name, which leaves room for the embedding's own."""


@dataclass(frozen=True)
class Rebuilt:
    """What became of one embedding for one model.

    source: its file.  status: one of the constants above.
    file: the variant, where there is one now.  reason: one sentence, where nothing was written.
    """

    source: Path
    status: str
    file: Path | None = None
    reason: str | None = None

    def as_json(self, checkpoint: Path | str) -> RebuildAnswer:
        """Plain values. checkpoint: what the model was asked for by."""
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
) -> Iterator[Rebuilt]:
    """Make a variant of each embedding for a model, one after the other, so that a caller can stop between two.

    folder: where variants go; None for beside their sources.  date: for the tags, None for now.
    before_replacing: called with a file that is about to be replaced.
    A file that stands in the way is replaced only where it is a variant of the same embedding for the same model.
    Every fault of an embedding is its own result; CheckpointError where the model's file cannot be read.
    """
    yield from _Run(folder, date, before_replacing).rebuild(sources, model)


def rebuild_for_each(
    sources: Sequence[Path],
    checkpoints: Iterable[Path],
    opened: Callable[[Path], Model],
    folder: Path | None = None,
    before_replacing: Callable[[Path], None] = lambda _: None,
) -> Iterator[tuple[Path, Rebuilt]]:
    """The same for several checkpoints: each result with the checkpoint that it is for. What is left to do for one that
    cannot be read is skipped. opened: gives a checkpoint's model; what else it raises goes through."""
    run = _Run(folder, None, before_replacing)
    for checkpoint in checkpoints:
        left = iter(sources)
        try:
            for one in run.rebuild(sources, opened(checkpoint)):
                next(left)
                yield checkpoint, one
        except CheckpointError as error:
            for source in left:
                yield checkpoint, Rebuilt(source, SKIPPED, reason=error.message)


def make_variant_name(name: str, model: Model) -> str:
    """What the variant of an embedding for a model is called: its name, cut where both do not fit, and the model's."""
    title = _NOT_IN_NAMES.sub("-", model.facts.title)[:_MAX_TITLE].strip("-.") or "model"
    return f"{name[: MAX_NAME - len(title) - 1]}-{title}"


def find_variants(name: str, files: Iterable[Path]) -> list[Path]:
    """Those of these files that are variants of the embedding of this name, and named like them."""
    return [path for path in files if path.stem.startswith(f"{name}-") and _is_variant_of(name, path)]


def _is_variant_of(name: str, path: Path) -> bool:
    try:
        tag = read_embedding_header(path).tag
    except StorageError:
        return False
    return tag is not None and tag.variant_of == name


class _LeftError(Exception):
    """Nothing is written: status, reason, and the file that is there already."""

    def __init__(self, status: str, reason: str, file: Path | None = None) -> None:
        super().__init__(status, reason, file)
        self.status, self.reason, self.file = status, reason, file


@dataclass(frozen=True)
class _Run:
    """One run over embeddings. folder, date, before_replacing: as `rebuild` takes them.
    taken: place of a variant of this run, its capitals aside -> the embedding's file and the model's token tables."""

    folder: Path | None
    date: datetime | None
    before_replacing: Callable[[Path], None]
    taken: dict[str, tuple[Path, frozenset[str]]] = field(default_factory=dict)

    def rebuild(self, sources: Sequence[Path], model: Model) -> Iterator[Rebuilt]:
        model.fingerprints()  # before the first result, as it can take seconds
        for place in {self.folder or source.parent for source in sources}:
            clean_up_folder(place)
        for source in sources:
            yield self._result(source, model)

    def _result(self, source: Path, model: Model) -> Rebuilt:
        try:
            file = self._write(source, model)
        except _LeftError as left:
            return Rebuilt(source, left.status, left.file, left.reason)
        except StorageError as error:
            return Rebuilt(source, SKIPPED, reason=error.message)
        return Rebuilt(source, WRITTEN, file)

    def _write(self, source: Path, model: Model) -> Path:
        embedding = load_embedding(source)
        tag = embedding.tag or ModelTag()
        vectors = _other_vectors(embedding, tag, model)
        variant = _variant(embedding, tag, vectors, model, self.date or datetime.now(timezone.utc))
        folder = self.folder or source.parent
        path = folder / (variant.name + SUFFIX)
        self._take(path, source, model)
        for _ in range(_ATTEMPTS):
            with lock_folders([folder]), contextlib.suppress(ChangedError):
                seen = read_identity(path)
                exists = os.path.lexists(path)
                if exists:
                    _leave_what_is_there(path, embedding, tag, model)
                    self.before_replacing(path)
                return variant.save(folder, dtype=_dtype(source), overwrite=exists, seen=seen)
        raise _LeftError(SKIPPED, f"{path.name} keeps being changed by another program.")

    def _take(self, path: Path, source: Path, model: Model) -> None:
        """Note what a place of this run is for."""
        # Two embeddings of one name, or two models of one title: none is to replace what is made from the other.
        this = source, frozenset(one.token_table for one in model.fingerprints().values())
        if self.taken.setdefault(str(path).casefold(), this) != this:
            other = "another embedding or for another model of the same name"
            raise _LeftError(SKIPPED, f"{path.name} was already made in this run, from {other}.")


def _other_vectors(embedding: Embedding, tag: ModelTag, model: Model) -> Vectors:
    """What the recipe gives on the model, where that is not what is stored."""
    if tag.variant_of:
        raise _LeftError(SKIPPED, f"It is a variant of {tag.variant_of}, which is rebuilt instead.")
    if other := fit_by_architecture(embedding, model):
        raise _LeftError(SKIPPED, other.detail)
    if not tag.recipe:
        raise _LeftError(SKIPPED, "It has no recipe.")
    if by_tag := fit_by_tag(tag, model):
        raise _LeftError(SAME_VECTORS, by_tag.detail)
    try:
        fresh = run_recipe(tag.recipe, tag.uses, model)
    except EmbedMergeError as error:
        raise _LeftError(SKIPPED, f"Its recipe does not work on this model: {error.message}") from error
    found = fit_by_recipe(embedding.vectors, fresh)
    if found.status != FitStatus.DIFFERS:
        raise _LeftError(SAME_VECTORS, found.detail)
    return fresh


def _variant(embedding: Embedding, tag: ModelTag, vectors: Vectors, model: Model, date: datetime) -> Embedding:
    """The embedding of these vectors, with the tag of that model; what other tools wrote of it stays."""
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


def _leave_what_is_there(path: Path, embedding: Embedding, tag: ModelTag, model: Model) -> None:
    """A file of that name is replaced only where it is an older variant of the same embedding."""
    try:
        known = read_embedding_header(path).tag
    except StorageError:
        known = None
    if known is None or known.variant_of != embedding.name:
        raise _LeftError(SKIPPED, f"{path.name} already exists and is not a variant of {embedding.name}.")
    if not fit_by_tag(known, model) and (known.made_for, known.file_name) != (model.facts.title, model.facts.file_name):
        raise _LeftError(SKIPPED, f"{path.name} already exists and is for another model, {known.made_for}.")
    if is_current_variant(known, embedding.name, tag, model):
        raise _LeftError(UP_TO_DATE, f"{path.name} already exists.", path)


def _dtype(source: Path) -> str:
    """What a file's vectors are stored as, for its variants."""
    if source.suffix.lower() != SUFFIX:
        return "float32"
    half = all(info.dtype == "F16" for info in read_header(source).tensors.values())
    return "float16" if half else "float32"
