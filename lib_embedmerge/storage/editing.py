"""Embedding files changed without touching their vectors: other metadata, another name, away into the trash and back.

A file's sidecars (previews, descriptions) go where it goes. The trash is a folder inside the embeddings folder, so that
moving there is a rename on one disk; what lies in it ends in `.trash`, which no web UI takes for an embedding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage import tag_keys as keys
from lib_embedmerge.storage.atomic_file import make_folder, write_atomically
from lib_embedmerge.storage.library import SUFFIXES
from lib_embedmerge.storage.names import MAX_NAME, SUFFIX, name_error
from lib_embedmerge.storage.safetensors_file import read_header, with_metadata
from lib_embedmerge.storage.tag import check_size

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
    """Set these metadata of a .safetensors file, taking out those that are set to nothing. All others, and every byte
    of the tensors, stay.

    StorageError where it is another kind of file or damaged, a text cannot be stored, or the disk refuses.
    """
    if path.suffix.lower() != SUFFIX:
        message = f"{path.name!r} has no room for texts; only .safetensors files have."
        raise StorageError(message, hint="Rebuild it, or save it anew, to get one.")
    metadata = {**read_header(path).metadata, **changes}
    metadata = {key: value for key, value in metadata.items() if value or key not in changes}
    check_size(metadata)
    write_atomically(path, with_metadata(path, metadata), overwrite=True)


def edit_notes(path: Path, notes: str) -> None:
    """Set the user's own notes; empty ones are taken out. StorageError as `edit_metadata`."""
    edit_metadata(path, {keys.NOTES: notes.strip()})


def rename(path: Path, name: str, variants: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Give an embedding another name, its sidecars along; the new paths, its own first.

    variants: those made from it for other models (storage/rebuild.py), whose names begin with its own, and go along.
    Where metadata call them by the old name they get the new one. StorageError where a name cannot be a file's, or is
    taken, or the disk refuses; everything is as it was then.
    """
    if error := name_error(name):
        raise StorageError(error, hint="Choose another name.")
    old = path.stem
    names = {path: name, **{one: (name + one.stem[len(old) :])[:MAX_NAME].rstrip("-. ") for one in variants}}
    _move(
        [
            (file, file.with_name(new + file.name[len(one.stem) :]))
            for one, new in names.items()
            for file in _with_sidecars(one)
            if new != one.stem
        ]
    )
    renamed = tuple(one.with_name(new + one.suffix) for one, new in names.items())
    for one, new in zip(names, renamed, strict=True):
        _call_anew(new, {one.stem: new.stem}, {old: name})
    return renamed


def _call_anew(path: Path, own: Mapping[str, str], base: Mapping[str, str]) -> None:
    """Have metadata call an embedding, and the one that it is a variant of, by other names: old -> new."""
    with contextlib.suppress(StorageError):  # what has no sound header has no such texts either
        metadata = read_header(path).metadata if path.suffix.lower() == SUFFIX else {}
        named = {keys.TITLE: own, keys.TRIGGER: own, keys.VARIANT_OF: base}
        changes = {key: new for key, names in named.items() if (new := names.get(metadata.get(key, "")))}
        if any(metadata[key] != new for key, new in changes.items()):
            edit_metadata(path, changes)


def delete(folder: Path, paths: Sequence[Path]) -> Deleted:
    """Move embeddings of a folder, sidecars along, into its trash. StorageError where the disk refuses: none is moved
    then."""
    moved = datetime.now().astimezone()
    kept = Deleted(
        moved.strftime(_ID),
        moved.isoformat(timespec="seconds"),
        tuple(dict.fromkeys(one.relative_to(folder).as_posix() for path in paths for one in _with_sidecars(path))),
    )
    _move([(folder / file, _trashed(folder, kept.id, file)) for file in kept.files])
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
    _move([(_trashed(folder, kept.id, file), folder / file) for file in kept.files])
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


def _with_sidecars(path: Path) -> Iterable[Path]:
    """The file, and what belongs to it alone: what stands beside two files of one name stays with the other."""
    shared = any(path.with_name(path.stem + suffix).exists() for suffix in SUFFIXES if suffix != path.suffix.lower())
    beside = [] if shared else [path.with_name(path.stem + suffix) for suffix in SIDECARS]
    return [path, *(one for one in beside if one.is_file())]


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename all or none. StorageError where a new name is taken or the disk refuses."""
    for old, new in moves:
        if os.path.lexists(new) and not (os.path.lexists(old) and old.samefile(new)):  # other capitals of one file
            raise StorageError(f"{new.name} exists already.", hint="Choose another name, or move that file away.")
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in moves:
            make_folder(new.parent)
            old.rename(new)
            done.append((old, new))
    except (OSError, StorageError) as error:
        for old, new in reversed(done):
            with contextlib.suppress(OSError):
                new.rename(old)
        if isinstance(error, StorageError):
            raise
        message = f"{moves[len(done)][0].name!r} cannot be moved: {error.strerror or error}."
        raise StorageError(message, hint="Close other programs that use it.") from error
