"""A folder of embeddings as a list: what each file's header alone tells, and why a file cannot be used."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    return not isinstance(_opened(path), StorageError)


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
    found = {path: _opened(path) for path in paths}
    known = {path: _known(one, model) for path, one in found.items() if not isinstance(one, StorageError)}
    recipes = RecipeRunner(model, [tag for tag, fit in known.values() if tag and not fit])
    for path, one in found.items():
        if isinstance(one, StorageError):
            yield FileFit(path, error=one.message)
            continue
        tag, fit = known[path]
        try:
            if not fit:
                embedding = one if isinstance(one, Embedding) else one.load()
                fit = fit_by_vectors(embedding, tag or ModelTag(), model, recipes)
        except StorageError as error:  # damage inside the vectors, which headers do not show
            yield FileFit(path, error=error.message)
        else:
            yield FileFit(path, fit, tag)


def _known(one: EmbeddingHeader | Embedding, model: Model) -> tuple[ModelTag | None, Fit | None]:
    """A file's tag, and how it fits the model where its vectors need not be read to tell."""
    tag = one.tag
    return tag, fit_by_architecture(one, model) or (fit_by_tag(tag, model) if tag else None)


def _opened(path: Path) -> EmbeddingHeader | Embedding | StorageError:
    """What there is to see of a file without reading vectors; formats without a header are read whole."""
    try:
        return open_embedding(path)
    except StorageError as error:
        return error


def _entry(path: Path, place: str, reason: str | None) -> Entry:
    """place: by which people know the file. reason: why texts do not find it, None where they do."""
    found = _opened(path)
    if isinstance(found, StorageError):
        # Two folders may have files of one name.
        message = found.message.replace(repr(path.name), repr(place), 1)
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
