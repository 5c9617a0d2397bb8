"""Save a recovered source as the recipe of its embedding: add the recipe and the model's tag to the file.

The vectors in the file do not change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Model, Progress
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors, load_embedding
from lib_embedmerge.embeddings.forms import recognise
from lib_embedmerge.embeddings.metadata import rewrite_metadata
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag import read_tag_or_empty
from lib_embedmerge.embeddings.tag_writing import Origin, retag, set_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, quote
from lib_embedmerge.files.safetensors_file import read_header, read_payload
from lib_embedmerge.recipes.recovery.recover import Recovery


def save_recovered(
    embedding: Embedding, recovery: Recovery, model: Model, *, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write the recovered recipe and the model's tag into the embedding's file, and return the file's path.

    No bit of a tensor changes; metadata of other tools stay, also if they were changed after the embedding was read.
    An embedding that was read from a .pt, a .bin or a LoRA file gets a new .safetensors file in the same folder.
    model: on which the embedding was recovered.  progress: called while the model is fingerprinted.
    force: save it even if `find_refusal` gives a reason against it.
    StorageError if it is refused, if the vectors in the file have changed, or if the file cannot be written.
    """
    if embedding.path is None:
        raise StorageError(f"{embedding.name} was not read from a file.", hint="Build it from the expression instead.")
    path = embedding.path
    has_own_file = _is_own_file(path, embedding.name)
    if not has_own_file:
        _check_new_file(path, embedding.name)
    tagger = _RecoveryTagger(embedding.name, recovery, model, force)
    tagger.check(embedding.metadata)
    model.fingerprints(progress)
    if not has_own_file:
        return Embedding(embedding.name, embedding.vectors, tagger.add_tag(embedding.metadata)).save(path.parent)

    def add_tag(metadata: Mapping[str, str]) -> dict[str, str]:
        _check_vectors(embedding, path)
        return set_payload_hash(tagger.add_tag(metadata), hashlib.sha256(read_payload(path)).hexdigest())

    rewrite_metadata(path, add_tag)
    return path


def _check_vectors(embedding: Embedding, path: Path) -> None:
    """StorageError if the vectors in the file are not those of the embedding any more."""
    current = load_embedding(path)
    if hash_vectors(current.vectors) != hash_vectors(embedding.vectors):
        message = f"The vectors in {quote(path.name)} were changed in the meantime; nothing was written."
        raise StorageError(message, hint="Recover its text again.")


def find_refusal(name: str, metadata: Mapping[str, str], recovery: Recovery) -> str | None:
    """Why a recovered source should be saved only if the user insists, in one sentence, or None.

    Either it gives other vectors, or the file has another recipe, which would be lost.
    name, metadata: of the embedding.
    """
    if not recovery.is_source:
        missed = recovery.residual_in_words
        return f"{name} is not saved: the recovered text gives vectors that differ by {missed}."
    recipe = read_tag_or_empty(metadata).recipe
    if recipe and recipe != recovery.expression:
        return f"{name} is not saved: it already has the recipe {quote(recipe)}."
    return None


@dataclass(frozen=True)
class _RecoveryTagger:
    """Adds the tag with a recovered recipe to the metadata of an embedding. name: of the embedding."""

    name: str
    recovery: Recovery
    model: Model
    force: bool

    def check(self, metadata: Mapping[str, str]) -> None:
        """StorageError if `find_refusal` gives a reason against saving and `force` is not set."""
        if not self.force and (reason := find_refusal(self.name, metadata, self.recovery)):
            raise StorageError(reason, remedy=Remedy.SAVE_RECOVERED)

    def add_tag(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The metadata with the tag. StorageError as from `check`."""
        self.check(metadata)
        origin = Origin(
            name=self.name,
            model=self.model.facts,
            date=datetime.now(timezone.utc),
            fingerprints=self.model.fingerprints(),
            recipe=self.recovery.expression,
            variant_of=read_tag_or_empty(metadata).variant_of,
        )
        return retag(metadata, origin)


def _check_new_file(path: Path, name: str) -> None:
    """StorageError if an embedding cannot get a file of its own beside `path`: its name is unusable or taken."""
    if error := find_name_error(name):
        message = f"{quote(name)} cannot be the name of a file: {error}"
        raise StorageError(message, hint="Build it from the expression under another name.")
    beside = path.with_name(name + SUFFIX)
    if os.path.lexists(beside):
        raise StorageError(f"{beside.name} already exists and is not replaced.", hint="Rename or move one of them.")


def _is_own_file(path: Path, name: str) -> bool:
    """Whether a file is a .safetensors file that contains only this embedding, and not a LoRA that bundles it."""
    if path.suffix.lower() != SUFFIX:
        return False
    try:
        recognise(read_header(path).tensors, bundled=name)
    except StorageError:  # it bundles no embedding
        return True
    return False
