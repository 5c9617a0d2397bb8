"""Embedding files changed without touching their vectors: other metadata, another name, away into the trash and back.

A file's sidecars (previews, descriptions) go where it goes. The trash is a folder inside the embeddings folder, so that
moving there is mostly a rename on one disk; what lies in it ends in `.trash`, which no web UI takes for an embedding.
How several files move at once is moving.py's matter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage import tag_keys as keys
from lib_embedmerge.storage.atomic_file import write_atomically
from lib_embedmerge.storage.embedding import read_embedding_header
from lib_embedmerge.storage.library import SUFFIXES
from lib_embedmerge.storage.moving import move_all
from lib_embedmerge.storage.names import SUFFIX, name_error
from lib_embedmerge.storage.safetensors_file import read_header, with_metadata
from lib_embedmerge.storage.tag import check_size, check_text

TRASH = ".embedmerge-trash"
_TRASHED = ".trash"

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".mp4")
SIDECARS = (
    *_PICTURES, *(".preview" + picture for picture in _PICTURES), *(".thumb" + picture for picture in _PICTURES),
    ".txt", ".json", ".yaml", ".md", ".info", ".civitai.info", ".metadata.json", ".description.txt", ".sha256",
)  # fmt: skip
"""What web UIs and model managers put beside `name.safetensors` under its name."""

_ID = "%Y%m%d-%H%M%S-%f"
"""How deletions are told apart, and put in order."""


@dataclass(frozen=True)
class Deleted:
    """What one deletion moved into the trash. id: by which it is undone.  date: ISO 8601.
    files: by their places in the embeddings folder, sidecars too."""

    id: str
    date: str
    files: tuple[str, ...]


def edit_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Set these metadata of an embedding's .safetensors file, taking out those that are set to nothing. All others, and
    every byte of the tensors, stay.

    StorageError where it is another kind of file or damaged, a text cannot be stored, or the disk refuses.
    """
    _own_metadata(path)
    rewrite_metadata(path, lambda metadata: _changed(metadata, changes))


def edit_notes(path: Path, notes: str) -> None:
    """Set the user's own notes; empty ones are taken out. StorageError as `edit_metadata`."""
    check_notes(path, notes)
    edit_metadata(path, _as_metadata(notes))


def check_notes(path: Path, notes: str) -> None:
    """The same StorageError without setting them, by the file's header alone; the disk may still refuse."""
    check_text(notes, "notes")
    check_size(_changed(_own_metadata(path), _as_metadata(notes)))


def rewrite_metadata(path: Path, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    """Give any .safetensors file the metadata that `change` makes of those that it has at this moment. Every byte of
    the tensors stays; of a link, the file that it leads to is written. StorageError as `edit_metadata`."""
    real = path.resolve()
    old = read_header(real).metadata
    metadata = change(old)
    if metadata == old:
        return
    check_size(metadata)
    write_atomically(real, with_metadata(real, metadata), overwrite=True)


def _own_metadata(path: Path) -> Mapping[str, str]:
    """The texts of a file that is an embedding, known by its header alone. StorageError where it is something else:
    nobody would show what is written into that, and it may have gigabytes."""
    if path.suffix.lower() != SUFFIX:
        message = f"{path.name!r} has no room for texts; only .safetensors files have."
        raise StorageError(message, hint=f"Convert it: embedmerge convert {path.name}")
    header = read_embedding_header(path)
    if header.layout.bundled is not None:
        message = f"{path.name!r} belongs to a LoRA, which is left as it is: the embedding is only a part of it."
        raise StorageError(message, hint=f"Make a file of the embedding alone: embedmerge convert {path.name}")
    return header.metadata


def _changed(metadata: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in {**metadata, **changes}.items() if value or key not in changes}


def _as_metadata(notes: str) -> dict[str, str]:
    return {keys.NOTES: notes.strip()}


def rename(path: Path, name: str, variants: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Give an embedding another name, its sidecars along; the new paths, its own first.

    variants: those made from it for other models (storage/rebuild.py), whose names begin with its own, and go along.
    Where metadata call them by the old name they get the new one. StorageError where a name cannot be a file's, or is
    taken, or the disk refuses; everything is as it was then.
    """
    names = _new_names(path, name, variants)
    moves = [
        (file, file.with_name(new + file.name[len(one.stem) :]))
        for one, new in names.items()
        for file in _with_sidecars(one, names)
        if new != one.stem
    ]
    move_all(moves)
    renamed = tuple(one.with_name(new + one.suffix) for one, new in names.items())
    texts_before: dict[Path, Mapping[str, str]] = {}
    try:
        for one, new in zip(names, renamed, strict=True):
            texts_before[new] = _call_anew(new, {one.stem: new.stem}, {path.stem: name})
    except StorageError:
        for new, texts in texts_before.items():
            with contextlib.suppress(StorageError):
                edit_metadata(new, texts)
        move_all([(new, old) for old, new in moves])
        raise
    return renamed


def _new_names(path: Path, name: str, variants: Sequence[Path]) -> dict[Path, str]:
    """What an embedding and its variants would be called. StorageError where one cannot be."""
    if error := name_error(name):
        raise StorageError(error, hint="Choose another name.")
    names = {path: name, **{one: name + one.stem[len(path.stem) :] for one in variants}}
    for one, new in names.items():
        if error := name_error(new):
            message = f"{one.stem!r} goes along, and could not be called {new!r}: {error}"
            raise StorageError(message, hint="Choose a shorter name.")
    return names


def _call_anew(path: Path, own: Mapping[str, str], base: Mapping[str, str]) -> dict[str, str]:
    """Have metadata call an embedding, and the one that it is a variant of, by other names: old -> new. What is changed
    in them, as it was."""
    try:
        metadata = _own_metadata(path)
    except StorageError:  # what is no embedding of its own has no such texts
        return {}
    named = {keys.TITLE: own, keys.TRIGGER: own, keys.VARIANT_OF: base}
    changes = {key: new for key, names in named.items() if (new := names.get(metadata.get(key, "")))}
    old = {key: metadata[key] for key, new in changes.items() if metadata[key] != new}
    if old:
        edit_metadata(path, changes)
    return old


def delete(folder: Path, paths: Sequence[Path]) -> Deleted:
    """Move embeddings of a folder, sidecars along, into its trash. StorageError where the disk refuses: none is moved
    then."""
    moved = datetime.now().astimezone()
    files = dict.fromkeys(file for path in paths for file in _with_sidecars(path, paths))
    kept = Deleted(
        moved.strftime(_ID),
        moved.isoformat(timespec="seconds"),
        tuple(file.relative_to(folder).as_posix() for file in files),
    )
    move_all([(folder / file, _trashed(folder, kept.id, file)) for file in kept.files])
    return kept


def deletions(folder: Path) -> list[Deleted]:
    """What lies in a folder's trash, newest first."""
    try:
        places = sorted((folder / TRASH).iterdir(), reverse=True)
    except OSError:  # no trash yet
        return []
    return [one for place in places if (one := _deleted(place)) is not None]


def undelete(folder: Path, deletion: str) -> tuple[Path, ...]:
    """Put what a deletion moved back to its places; these. StorageError where it is not in the trash, or something has
    taken a place: nothing is moved then."""
    kept = next((one for one in deletions(folder) if one.id == deletion), None)
    if kept is None:
        raise StorageError("That is not in the trash any more.", hint=f"Look into {str(folder / TRASH)!r}.")
    move_all([(_trashed(folder, kept.id, file), folder / file) for file in kept.files])
    place = folder / TRASH / kept.id
    with contextlib.suppress(OSError):  # empty folders do no harm
        for parent, _, _ in os.walk(place, topdown=False):
            Path(parent).rmdir()
    return tuple(folder / file for file in kept.files)


def _trashed(folder: Path, deletion: str, file: str) -> Path:
    return folder / TRASH / deletion / (file + _TRASHED)


def _deleted(place: Path) -> Deleted | None:
    """What a folder of the trash holds, where it is one of ours and not empty."""
    try:
        moved = datetime.strptime(place.name, _ID).astimezone()
    except ValueError:
        return None
    files = sorted(
        Path(parent, name).relative_to(place).as_posix().removesuffix(_TRASHED)
        for parent, _, names in os.walk(place)
        for name in names
        if name.endswith(_TRASHED)
    )
    return Deleted(place.name, moved.isoformat(timespec="seconds"), tuple(files)) if files else None


def _with_sidecars(path: Path, moving: Collection[Path]) -> Iterable[Path]:
    """The file, and what belongs to it alone: what stands beside two files of one name stays with the other, unless
    that one is moving as well."""
    named_alike = (path.with_name(path.stem + suffix) for suffix in SUFFIXES if suffix != path.suffix.lower())
    shared = any(one.exists() and one not in moving for one in named_alike)
    beside = [] if shared else [path.with_name(path.stem + suffix) for suffix in SIDECARS]
    return [path, *(one for one in beside if one.is_file())]
