"""A recovered source kept as its embedding's recipe: the file with the tag of that model, its vectors as they are."""

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
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.embeddings.tag_writing import Origin, make_metadata, update_metadata, with_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, quote
from lib_embedmerge.files.safetensors_file import read_header, read_payload
from lib_embedmerge.recipes.recovery.recover import Recovery


def save_recovered(
    embedding: Embedding, recovery: Recovery, model: Model, *, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write the recipe and the model's tag into the embedding's file; its path.

    Every tensor stays as it is to the last bit, and so do the metadata of other tools, as they are when it is written.
    An embedding of a .pt, a .bin or a LoRA file gets a .safetensors file beside it, never in place of another one.
    model: the one of the recovery.  progress: called while that is fingerprinted, where it is not known yet.
    force: also where there is a `refusal`.
    StorageError where it is refused or the file cannot be written.
    """
    if embedding.path is None:
        raise StorageError(f"{embedding.name} was not read from a file.", hint="Build it from the expression instead.")
    beside = None if _is_own_file(embedding.path, embedding.name) else _free_place(embedding.path, embedding.name)
    saving = _Saving(embedding.name, recovery, model, force)
    saving.refuse(embedding.metadata)
    model.fingerprints(progress)
    if beside:
        return Embedding(embedding.name, embedding.vectors, saving.tagged(embedding.metadata)).save(beside.parent)
    path = embedding.path

    def tagged(metadata: Mapping[str, str]) -> dict[str, str]:
        _refuse_other_vectors(embedding, path)
        return with_payload_hash(saving.tagged(metadata), hashlib.sha256(read_payload(path)).hexdigest())

    rewrite_metadata(path, tagged)
    return path


def _refuse_other_vectors(embedding: Embedding, path: Path) -> None:
    """StorageError where its file has been written anew since it was read, or another one has its name now."""
    as_now = load_embedding(path)
    if hash_vectors(as_now.vectors) != hash_vectors(embedding.vectors):
        message = f"The vectors in {quote(path.name)} were changed in the meantime; nothing was written."
        raise StorageError(message, hint="Recover its text again.")


def find_refusal(name: str, metadata: Mapping[str, str], recovery: Recovery) -> str | None:
    """Why what was recovered is not saved unasked, one sentence: it gives other vectors, or another recipe is lost."""
    if not recovery.is_source:
        return f"{name} is not saved: the recovered text gives different vectors and misses {recovery.left}."
    recipe = _tag(metadata).recipe
    if recipe and recipe != recovery.expression:
        return f"{name} is not saved: it already has the recipe {quote(recipe)}."
    return None


@dataclass(frozen=True)
class _Saving:
    """What is to be written. name: the embedding's."""

    name: str
    recovery: Recovery
    model: Model
    force: bool

    def refuse(self, metadata: Mapping[str, str]) -> None:
        """StorageError where it is not to be written over these."""
        if not self.force and (reason := find_refusal(self.name, metadata, self.recovery)):
            raise StorageError(reason, remedy=Remedy.SAVE_RECOVERED)

    def tagged(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """These with the tag. StorageError where it is not to be written over them."""
        self.refuse(metadata)
        tag = _tag(metadata)
        origin = Origin(
            name=self.name,
            model=self.model.facts,
            date=datetime.now(timezone.utc),
            fingerprints=self.model.fingerprints(),
            recipe=self.recovery.expression,
            notes=tag.notes or "",
            negative=tag.negative,
            variant_of=tag.variant_of,
        )
        return update_metadata(metadata, make_metadata(origin))


def _tag(metadata: Mapping[str, str]) -> ModelTag:
    return read_tag(metadata) or ModelTag()


def _free_place(path: Path, name: str) -> Path:
    """Where an embedding gets a file of its own beside another one. StorageError where it cannot."""
    if error := find_name_error(name):
        message = f"{quote(name)} cannot be the name of a file: {error}"
        raise StorageError(message, hint="Build it from the expression under another name.")
    beside = path.with_name(name + SUFFIX)
    if os.path.lexists(beside):
        raise StorageError(f"{beside.name} already exists and is not replaced.", hint="Rename or move one of them.")
    return beside


def _is_own_file(path: Path, name: str) -> bool:
    """Whether it is a .safetensors file with nothing but this embedding: not a LoRA that bundles it."""
    if path.suffix.lower() != SUFFIX:
        return False
    try:
        recognise(read_header(path).tensors, bundled=name)
    except StorageError:  # it bundles none
        return True
    return False
