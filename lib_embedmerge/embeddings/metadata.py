"""Changes to the metadata in an embedding's file, which keep its tensors bit for bit.

A file is overwritten only if it is still the one that was read; otherwise it is read again. That protects changes by
other programs. Programs that use the locks of files/locks.py wait for each other.
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
"""A function that takes the metadata of a file and returns the new ones."""

_ATTEMPTS = 20


def edit_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Set entries of the metadata in an embedding's .safetensors file. Tensors and other entries are kept.

    changes: key -> value; an empty value removes the entry.
    StorageError if the file is missing, damaged, or not an embedding of its own; if a text cannot be stored or the disk
    refuses; or if other programs change the file again and again.
    """
    read_own_metadata(path)
    rewrite_metadata(path, lambda metadata: apply_changes(metadata, changes))


def rewrite_metadata(path: Path, change: Change) -> None:
    """Replace the metadata of any .safetensors file by the result of `change`. Tensors are kept bit for bit.

    path: if it is a symbolic link, the file that it points to is written.
    change: called with the metadata in the file, again if another program changes the file meanwhile.
    StorageError as in `edit_metadata`.
    """
    for _ in range(_ATTEMPTS):
        real = path.resolve()
        with lock_folders([real.parent]):
            try:
                _rewrite(real, change)
            except ChangedError:
                continue
        return
    message = f"{quote(path.name)} was changed by another program again and again."
    raise StorageError(message, hint="Pause that program, perhaps one that synchronises files, then try again.")


def _rewrite(real: Path, change: Change) -> None:
    """Replace the metadata of a file once. ChangedError if another program changes the file meanwhile."""
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
        if read_identity(real) != seen:  # another program replaced it while it was read
            raise ChangedError(error.message, hint=error.hint) from error
        raise
    write_atomically(real, data, overwrite=True, seen=seen)


def read_own_metadata(path: Path) -> Mapping[str, str]:
    """The metadata of an embedding's .safetensors file, read from its header.

    StorageError for all other files, because no program would show metadata that are written there, and they may have
    gigabytes.
    """
    if path.suffix.lower() != SUFFIX:
        message = f"{quote(path.name)} cannot store notes or recipes; only .safetensors files can."
        raise StorageError(message, hint=f"Convert it: embedmerge convert {path.name}")
    header = read_embedding_header(path)
    if header.layout.bundled is not None:
        message = f"{quote(path.name)} is part of a LoRA file, which EmbedMerge does not change."
        raise StorageError(message, hint=f"Make a file of the embedding alone: embedmerge convert {path.name}")
    return header.metadata


def apply_changes(metadata: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The metadata with these changes. An empty value removes the entry."""
    return {key: value for key, value in {**metadata, **changes}.items() if value or key not in changes}


def rename_in_metadata(path: Path, own: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Replace old names of embeddings by new ones in a file's metadata, and return the replaced entries as they were.

    own: old -> new name of the embedding.  base: old -> new name of the embedding that it is a variant of.
    Empty if no entry has an old name, or if the file is not an embedding of its own. StorageError as in
    `edit_metadata`.
    """
    try:
        metadata = read_own_metadata(path)
    except StorageError:  # other files contain no names of embeddings
        return {}
    new_names = {keys.TITLE: own, keys.TRIGGER: own, keys.VARIANT_OF: base}
    changes = {key: new for key, names in new_names.items() if (new := names.get(metadata.get(key, "")))}
    old = {key: metadata[key] for key, new in changes.items() if metadata[key] != new}
    if old:
        edit_metadata(path, changes)
    return old
