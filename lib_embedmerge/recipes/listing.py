"""List a folder of embeddings, mostly from the headers of their files, and measure how the files fit a model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, EmbeddingHeader, open_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder, find_relative_path
from lib_embedmerge.embeddings.sidecars import SidecarFacts
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.stamps import is_settled, read_stamp, read_state
from lib_embedmerge.recipes.fit import Fit, fit_by_architecture, fit_by_tag, fit_by_vectors
from lib_embedmerge.recipes.header_cache import HeaderCache, list_makers
from lib_embedmerge.recipes.run import RecipeRunner
from lib_embedmerge.recipes.sidecar_cache import read_all_sidecars

_BATCH = 64
"""Files whose recipes are run together: many enough to read their token rows at once, few enough that the first result
comes soon."""


@dataclass(frozen=True)
class Entry:
    """One embedding file in a folder.

    name: by which texts call it.  path: the file.
    date: when the embedding was made, from its tag, or when the file was written; ISO 8601, empty if neither is known.
    count, architecture: the number of vectors for each text encoder, and the models it is for; None if the file cannot
        be used.
    tag: of the file; None if it has none.  sidecar: what files of other tools beside it say; None if they say nothing.
    reason: why the file cannot be used, why texts do not find it, or that it is half of a pair, in one sentence; None
        if nothing is wrong.
    """

    name: str
    path: Path
    date: str
    count: int | None = None
    architecture: Architecture | None = None
    tag: ModelTag | None = None
    reason: str | None = None
    sidecar: SidecarFacts | None = None

    @property
    def made_for(self) -> str:
        """The model that it was made for: by its tag, else the kind of model that sidecars name; empty if unknown."""
        by_tag = (self.tag.made_for or self.tag.file_name) if self.tag else None
        return by_tag or (self.sidecar.base_model if self.sidecar else None) or ""

    @property
    def notes(self) -> str:
        """The user's notes in the file; empty if there are none."""
        return (self.tag.notes or "") if self.tag else ""

    @property
    def is_usable(self) -> bool:
        """Whether its vectors can be loaded."""
        return self.architecture is not None


class EmbeddingLister:
    """Lists folders of embeddings, and gives the list of last time again while nothing in the folder has changed."""

    def __init__(self) -> None:
        self._last: tuple[object, list[Entry]] = None, []

    def list_folder(self, folder: EmbeddingFolder) -> list[Entry]:
        """The list of `list_embeddings`: the same object as last time if it would be equal. Not to be changed."""
        now = time.time_ns()
        files = dict(folder.files())
        states = [read_state(path) for path in files]
        sidecars = _read_sidecars(folder)
        state = folder.folder, files, states, sidecars
        last, entries = self._last
        if last != state:
            entries = _list_all(folder, sidecars)
            is_safe = all(each is not None and is_settled(each, now) for each in states)
            self._last = state if is_safe else None, entries
        return entries


def list_embeddings(folder: EmbeddingFolder) -> list[Entry]:
    """Every embedding file in a folder and its subfolders, sorted by name. Of .safetensors files only headers are read,
    and those that have not changed since an earlier listing are not opened.

    Files that cannot be used are listed too, with the reason.
    """
    return _list_all(folder, _read_sidecars(folder))


def _list_all(folder: EmbeddingFolder, sidecars: Mapping[Path, SidecarFacts]) -> list[Entry]:
    headers = HeaderCache(folder.folder)
    entries = [_read_entry(folder.folder, path, reason, headers) for path, reason in folder.files().items()]
    headers.save()
    if sidecars:
        entries = [replace(entry, sidecar=sidecars.get(entry.path)) for entry in entries]
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name, str(entry.path)))


def _read_sidecars(folder: EmbeddingFolder) -> dict[Path, SidecarFacts]:
    return read_all_sidecars(folder.folder, folder.files(), list_makers())


def is_usable(path: Path) -> bool:
    """Whether a file is an embedding, as far as its header shows. False if the file cannot be read."""
    try:
        open_embedding(path)
    except StorageError:
        return False
    return True


@dataclass(frozen=True)
class FileFit:
    """How a file fits a model.

    fit: None if the file is not a sound embedding, for the reason in `error`.
    tag: of the file; None if it has none.
    stand_in: what prompts use instead of the file: `its recipe` or the name of its variant; empty if they use the file.
    """

    path: Path
    fit: Fit | None = None
    tag: ModelTag | None = None
    error: str = ""
    stand_in: str = ""


def measure_fits(paths: Iterable[Path], model: Model) -> Iterator[FileFit]:
    """How each file fits a model, in order. Vectors are read only if the header does not tell.

    CheckpointError if the model's file cannot be read.
    """
    remaining = iter(paths)
    while batch := [*itertools.islice(remaining, _BATCH)]:
        yield from _measure_batch(batch, model)


def _measure_batch(paths: Sequence[Path], model: Model) -> Iterator[FileFit]:
    by_header = {path: _fit_by_header(path, model) for path in paths}
    recipes = RecipeRunner(model, [result.tag for result, _ in by_header.values() if result.tag and not result.fit])
    for result, opened in by_header.values():
        yield result if result.fit or opened is None else _complete_fit(result, opened, model, recipes)


def _fit_by_header(path: Path, model: Model) -> tuple[FileFit, EmbeddingHeader | Embedding | None]:
    """How a file fits, with no `fit` if only its vectors can tell, and the opened file; None if it is not sound."""
    try:
        opened = open_embedding(path)
    except StorageError as error:
        return FileFit(path, error=error.message), None
    tag = opened.tag
    fit = fit_by_architecture(opened, model) or (fit_by_tag(tag, model) if tag else None)
    return FileFit(path, fit, tag), opened


def _complete_fit(result: FileFit, opened: EmbeddingHeader | Embedding, model: Model, recipes: RecipeRunner) -> FileFit:
    """The result for a file whose header does not tell how it fits, from its vectors."""
    try:
        embedding = opened if isinstance(opened, Embedding) else opened.load()
        return replace(result, fit=fit_by_vectors(embedding, result.tag or ModelTag(), model, recipes))
    except StorageError as error:  # damage inside the vectors, which headers do not show
        return replace(result, tag=None, error=error.message)


def _read_entry(folder: Path, path: Path, reason: str | None, headers: HeaderCache) -> Entry:
    """The entry of one file below a folder. reason: why texts do not find it; None if they do."""
    try:
        found = headers.find(path)
    except StorageError as error:
        # The relative path, because two subfolders may have files of the same name.
        message = error.message.replace(repr(path.name), repr(find_relative_path(folder, path)), 1)
        stamp = read_stamp(path)
        return Entry(path.stem, path, _format_time(stamp[1]) if stamp else "", reason=message)
    tag = found.tag
    date = tag.date if tag and tag.date else _format_time(found.written)
    fault = f" {reason}" if reason else f": {found.half}" if found.half else None
    sentence = quote(find_relative_path(folder, path)) + fault if fault else None
    return Entry(found.name, path, date, found.vectors, found.architecture, tag, sentence)


def _format_time(written: int | None) -> str:
    """A time in nanoseconds, in ISO 8601; empty if it is None or in no calendar."""
    if written is None:
        return ""
    try:
        return datetime.fromtimestamp(written / 1e9).astimezone().isoformat(timespec="seconds")
    except (OSError, ValueError, OverflowError):
        return ""
