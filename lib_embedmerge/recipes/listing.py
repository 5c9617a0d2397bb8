"""A folder of embeddings as a list: what each file's header alone tells, and why a file cannot be used."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, EmbeddingHeader, open_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder, find_place
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.recipes.fit import Fit, fit_by_architecture, fit_by_tag, fit_by_vectors
from lib_embedmerge.recipes.run import RecipeRunner

_AT_ONCE = 64
"""Files whose recipes are run together: their token rows are read in one go, and none waits long for the first."""


@dataclass(frozen=True)
class Entry:
    """One file of a library.

    name: what texts call it.  path: the file.
    date: when it was made, by its tag, else when the file was written; ISO 8601, empty where neither is known.
    count, architecture: vectors for each text encoder, and the models it is for; None where it cannot be used.
    tag: what it says of its model and maker, where it does.
    reason: a sentence on why it cannot be used, why texts do not find it, or that it is half of a pair; None where all
    is well.
    """

    name: str
    path: Path
    date: str
    count: int | None = None
    architecture: Architecture | None = None
    tag: ModelTag | None = None
    reason: str | None = None

    @property
    def notes(self) -> str:
        """The user's notes in the file; empty if there are none."""
        return (self.tag.notes or "") if self.tag else ""

    @property
    def is_usable(self) -> bool:
        """Whether its vectors can be loaded."""
        return self.architecture is not None


def list_embeddings(folder: EmbeddingFolder) -> list[Entry]:
    """Every embedding file of a folder and those below it, by name. No vector is read of a .safetensors file."""
    entries = [_entry(path, find_place(folder.folder, path), reason) for path, reason in folder.files().items()]
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name, str(entry.path)))


def is_usable(path: Path) -> bool:
    """Whether a file is an embedding, as far as can be seen without reading its vectors."""
    try:
        open_embedding(path)
    except StorageError:
        return False
    return True


@dataclass(frozen=True)
class FileFit:
    """How a file fits a model.

    fit: None if the file is not a sound embedding, for the reason in `error`.
    tag: what the file says of its model and maker, if anything.
    stand_in: what prompts use in place of the file, `its recipe` or the name of its variant; empty for the file itself.
    """

    path: Path
    fit: Fit | None = None
    tag: ModelTag | None = None
    error: str = ""
    stand_in: str = ""


def measure_fits(paths: Iterable[Path], model: Model) -> Iterator[FileFit]:
    """How files fit a model, in order. No vector is read where the tag or the architecture tells.

    CheckpointError where the model's file cannot be read.
    """
    remaining = iter(paths)
    while some := [*itertools.islice(remaining, _AT_ONCE)]:
        yield from _fits(some, model)


def _fits(paths: Sequence[Path], model: Model) -> Iterator[FileFit]:
    by_header = {path: _fit_by_header(path, model) for path in paths}
    recipes = RecipeRunner(model, [found.tag for found, _ in by_header.values() if found.tag and not found.fit])
    for found, opened in by_header.values():
        yield found if found.fit or opened is None else _fit_by_vectors(found, opened, model, recipes)


def _fit_by_header(path: Path, model: Model) -> tuple[FileFit, EmbeddingHeader | Embedding | None]:
    """How a file fits, with no `fit` if only its vectors can tell, and what was opened; None if that cannot be."""
    try:
        opened = open_embedding(path)
    except StorageError as error:
        return FileFit(path, error=error.message), None
    tag = opened.tag
    fit = fit_by_architecture(opened, model) or (fit_by_tag(tag, model) if tag else None)
    return FileFit(path, fit, tag), opened


def _fit_by_vectors(
    found: FileFit, opened: EmbeddingHeader | Embedding, model: Model, recipes: RecipeRunner
) -> FileFit:
    try:
        embedding = opened if isinstance(opened, Embedding) else opened.load()
        return replace(found, fit=fit_by_vectors(embedding, found.tag or ModelTag(), model, recipes))
    except StorageError as error:  # damage inside the vectors, which headers do not show
        return replace(found, tag=None, error=error.message)


def _entry(path: Path, place: str, reason: str | None) -> Entry:
    """One file as an entry. place: what people know the file by.  reason: why texts do not find it, None if they do."""
    try:
        found = open_embedding(path)
    except StorageError as error:
        # Two folders may have files of one name.
        message = error.message.replace(repr(path.name), repr(place), 1)
        return Entry(path.stem, path, _written(path), reason=message)
    tag = found.tag
    date = tag.date if tag and tag.date else _written(path)
    said = f"{quote(place)} {reason}" if reason else f"{quote(place)}: {found.half}" if found.half else None
    return Entry(found.name, path, date, found.count, found.architecture, tag, said)


def _written(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
    except (OSError, ValueError, OverflowError):  # gone meanwhile, or a date that no calendar has
        return ""
