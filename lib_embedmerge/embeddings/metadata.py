"""The texts of an embedding's file changed, its tensors left to the last bit.

A file is read, and written over only where it is still the one that was read: else it is read again. Our own programs
wait for one another meanwhile (locks.py), so that this is for those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.embedding import read_embedding_header
from lib_embedmerge.embeddings.tag_writing import check_size
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.atomic_file import ChangedError, write_atomically
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.safetensors_file import encode_with_metadata, read_header
from lib_embedmerge.files.stamps import read_identity

Change = Callable[[Mapping[str, str]], Mapping[str, str]]
"""What makes a file's new metadata of those that it has."""

_ATTEMPTS = 20


def edit_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Set these metadata of an embedding's .safetensors file, taking out those that are set to nothing. All others, and
    every byte of the tensors, stay.

    StorageError where it is another kind of file or damaged, a text cannot be stored, or the disk refuses; where the
    file is gone, or other programs change it again and again.
    """
    read_own_metadata(path)
    rewrite_metadata(path, lambda metadata: apply_changes(metadata, changes))


def rewrite_metadata(path: Path, change: Change) -> None:
    """Give any .safetensors file the metadata that `change` makes of those that it has at this moment. Every byte of
    the tensors stays; of a link, the file that it leads to is written. StorageError as `edit_metadata`.

    change: called again where the file is changed meanwhile.
    """
    for _ in range(_ATTEMPTS):
        real = path.resolve()
        with lock_folders([real.parent]):
            try:
                _rewrite(real, change)
            except ChangedError:
                continue
        return
    message = f"{quote(path.name)} keeps being changed by another program."
    raise StorageError(message, hint="Close that program, then try again.")


def _rewrite(real: Path, change: Change) -> None:
    """ChangedError where the file is not the same from beginning to end."""
    seen = read_identity(real)
    if seen is None:
        raise StorageError(f"{quote(real.name)} no longer exists.", hint="Refresh the list.")
    try:
        old = read_header(real).metadata
        metadata = change(old)
        if metadata == old:
            return
        check_size(metadata)
        data = encode_with_metadata(real, metadata)
    except StorageError as error:
        if read_identity(real) != seen:  # it was read while it was replaced
            raise ChangedError(error.message, hint=error.hint) from error
        raise
    write_atomically(real, data, overwrite=True, seen=seen)


def read_own_metadata(path: Path) -> Mapping[str, str]:
    """The texts of a file that is an embedding, known by its header alone. StorageError where it is something else:
    nobody would show what is written into that, and it may have gigabytes."""
    if path.suffix.lower() != SUFFIX:
        message = f"{quote(path.name)} cannot store notes or recipes; only .safetensors files can."
        raise StorageError(message, hint=f"Convert it: embedmerge convert {path.name}")
    header = read_embedding_header(path)
    if header.layout.bundled is not None:
        message = f"{quote(path.name)} is part of a LoRA file, which EmbedMerge does not change."
        raise StorageError(message, hint=f"Make a file of the embedding alone: embedmerge convert {path.name}")
    return header.metadata


def apply_changes(metadata: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The metadata with these changes; what is set to nothing is left out."""
    return {key: value for key, value in {**metadata, **changes}.items() if value or key not in changes}


def rename_in_metadata(path: Path, own: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Have metadata call an embedding, and the one that it is a variant of, by other names: old -> new. What is changed
    in them, as it was; nothing, where they have none of these names. StorageError as `edit_metadata`."""
    try:
        metadata = read_own_metadata(path)
    except StorageError:  # what is no embedding of its own has no such texts
        return {}
    named = {keys.TITLE: own, keys.TRIGGER: own, keys.VARIANT_OF: base}
    changes = {key: new for key, names in named.items() if (new := names.get(metadata.get(key, "")))}
    old = {key: metadata[key] for key, new in changes.items() if metadata[key] != new}
    if old:
        edit_metadata(path, changes)
    return old
