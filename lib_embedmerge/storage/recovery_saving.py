"""A recovered source kept as its embedding's recipe: the file with the tag of that model, its vectors as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from lib_embedmerge.core.ports import Model, Progress
from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage.atomic_file import write_atomically
from lib_embedmerge.storage.embedding import Embedding
from lib_embedmerge.storage.forms import recognise
from lib_embedmerge.storage.names import SUFFIX
from lib_embedmerge.storage.recovery import Recovery
from lib_embedmerge.storage.safetensors_file import read_header, read_payload, with_metadata
from lib_embedmerge.storage.tag import ModelTag, Origin, check_size, make_metadata, updated_metadata, with_payload_hash


def save_recovered(
    embedding: Embedding, recovery: Recovery, model: Model, *, force: bool = False, progress: Progress | None = None
) -> Path:
    """Write the recipe and the model's tag into the embedding's file; its path.

    Every tensor stays as it is to the last bit, and so do the metadata of other tools. An embedding of a .pt, a .bin or
    a LoRA file gets a .safetensors file beside it, never in place of another one.
    model: the one of the recovery.  progress: called while that is fingerprinted, where it is not known yet.
    force: also where the expression gives other vectors, or the embedding has a recipe already.
    StorageError where it is refused or the file cannot be written.
    """
    tag = embedding.tag or ModelTag()
    if embedding.path is None:
        raise StorageError(f"{embedding.name} was not read from a file.", hint="Build it from the expression instead.")
    if not force:
        _refuse(embedding.name, tag, recovery)
    origin = Origin(
        name=embedding.name,
        model=model.facts,
        date=datetime.now(timezone.utc),
        fingerprints=model.fingerprints(progress),
        recipe=recovery.expression,
        notes=tag.notes or "",
        negative=tag.negative,
        variant_of=tag.variant_of,
    )
    metadata = updated_metadata(embedding.metadata, make_metadata(origin))
    if _is_own_file(embedding.path, embedding.name):
        _rewrite(embedding.path, metadata)
        return embedding.path
    beside = embedding.path.with_name(embedding.name + SUFFIX)
    if os.path.lexists(beside):
        raise StorageError(f"{beside.name} is there already, and is not replaced.", hint="Rename or move one of them.")
    return Embedding(embedding.name, embedding.vectors, metadata).save(beside.parent)


def _refuse(name: str, tag: ModelTag, recovery: Recovery) -> None:
    if not recovery.is_source:
        message = f"{name} is not saved: what was recovered gives other vectors, and leaves {recovery.left}."
        raise StorageError(message, hint="Save it all the same with --force (force=True in Python).")
    if tag.recipe and tag.recipe != recovery.expression:
        message = f"{name} is not saved: it has a recipe already, {tag.recipe!a}."
        raise StorageError(message, hint="Replace that with --force (force=True in Python).")


def _is_own_file(path: Path, name: str) -> bool:
    """Whether it is a .safetensors file with nothing but this embedding: not a LoRA that bundles it."""
    if path.suffix.lower() != SUFFIX:
        return False
    try:
        recognise(read_header(path).tensors, bundled=name)
    except StorageError:  # it bundles none
        return True
    return False


def _rewrite(path: Path, metadata: Mapping[str, str]) -> None:
    """The file again with these metadata, and every byte of the tensors that are in it."""
    metadata = with_payload_hash(metadata, hashlib.sha256(read_payload(path)).hexdigest())
    check_size(metadata)
    write_atomically(path, with_metadata(path, metadata), overwrite=True)
