"""A folder of embeddings as a list: what each file's header alone tells, and why a file cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.ports import Model
from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage.embedding import load_embedding, read_embedding_header
from lib_embedmerge.storage.fit import Fit, fit_by_architecture, fit_by_tag, fit_by_vectors
from lib_embedmerge.storage.library import EmbeddingFolder
from lib_embedmerge.storage.names import SUFFIX
from lib_embedmerge.storage.tag import ModelTag


@dataclass(frozen=True)
class Entry:
    """One file of a library.

    name: what texts call it.  path: the file.
    date: when it was made, by its tag, else when the file was written; ISO 8601, empty where neither is known.
    count, architecture: vectors for each text encoder, and the models it is for; None where it cannot be used.
    tag: what it says of its model and maker, where it does.
    reason: a sentence on why it cannot be used, or why texts do not find it; None where all is well.
    """

    name: str
    path: Path
    date: str
    count: int | None = None
    architecture: Architecture | None = None
    tag: ModelTag | None = None
    reason: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether its vectors can be loaded."""
        return self.architecture is not None


def list_embeddings(folder: EmbeddingFolder) -> list[Entry]:
    """Every embedding file of a folder and those below it, by name. No vector is read of a .safetensors file."""
    entries = [_entry(path, reason) for path, reason in folder.files().items()]
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name, str(entry.path)))


def fit_of_file(path: Path, model: Model) -> tuple[Fit, ModelTag | None]:
    """How a file fits a model, and its tag. No vector is read where the tag or the architecture tells.

    StorageError where it is no sound embedding, CheckpointError where the model's file cannot be read.
    """
    if path.suffix.lower() == SUFFIX:
        header = read_embedding_header(path)
        tag = header.tag
        known = tag or ModelTag()
        found = fit_by_architecture(header, model) or fit_by_tag(known, model)
        return found or fit_by_vectors(load_embedding(path), known, model), tag
    embedding = load_embedding(path)
    return embedding.fit(model), embedding.tag


def _entry(path: Path, reason: str | None) -> Entry:
    try:
        # The other formats have no header that could be read by itself.
        found = read_embedding_header(path) if path.suffix.lower() == SUFFIX else load_embedding(path)
    except StorageError as error:
        return Entry(path.stem, path, _written(path), reason=error.message)
    tag = found.tag
    date = tag.date if tag and tag.date else _written(path)
    said = f"{path.name!r} {reason}" if reason else None
    return Entry(path.stem, path, date, found.count, found.architecture, tag, said)


def _written(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
    except (OSError, ValueError, OverflowError):  # gone meanwhile, or a date that no calendar has
        return ""
