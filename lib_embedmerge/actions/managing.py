"""The library as a whole: its files and how they fit the active model, and what is done with some of them.

Files are named by their places in the embeddings folder, with `/`, and only those that a look at the folder finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib_embedmerge.core.endings import SUFFIX, SUFFIXES
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings import editing
from lib_embedmerge.embeddings.editing import Deletion
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.names import check_name
from lib_embedmerge.embeddings.tag_keys import NOTES
from lib_embedmerge.errors import HostError, Remedy, StorageError, quote
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.files.stamps import Stamp, read_stamp
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.following import find_variant
from lib_embedmerge.recipes.listing import Entry, FileFit, is_usable, list_embeddings, measure_fits
from lib_embedmerge.recipes.rebuild import find_variants
from lib_embedmerge.recipes.recovery.recover import Recovery, recover
from lib_embedmerge.recipes.recovery.save_recovered import find_refusal, save_recovered
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class LibraryListing:
    """The library. folder: where it lies.  entries: by place, in the order of names.
    deletions: what lies in its trash, newest first.  warnings: what a person should know of the folder."""

    folder: Path
    entries: dict[str, Entry]
    deletions: tuple[Deletion, ...]
    warnings: tuple[str, ...]


def list_library(host: Host) -> LibraryListing:
    """Every embedding file, by its header alone. StorageError where the folder cannot be made."""
    library = host.library()
    entries = {_place(library, entry.path): entry for entry in list_embeddings(library)}
    return LibraryListing(library.folder, entries, tuple(editing.list_deletions(library.folder)), library.warnings)


@dataclass(frozen=True)
class Renamed:
    """files: the new paths, that of the embedding itself first, then those of its variants for other models.
    warnings: why prompts might not find it under its new name, one sentence each."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    """Fits, and what they were measured for: a model, and a state of the library."""

    model: object = None
    library: object = None
    fits: dict[tuple[Path, Stamp], FileFit] = field(default_factory=dict)


class FitCache:
    """How files fit the active model, each measured once for each state of the file and the model."""

    def __init__(self) -> None:
        self._measured = _Measured()

    def of(self, host: Host, places: Sequence[str]) -> dict[str, FileFit]:
        """Those of these places; files that are gone are left out.

        HostError or CheckpointError where there is no model to compare with.
        """
        library, model = host.library(), host.active().model
        measured_for = (model.facts, tuple(model.fingerprints().items()), host.recipes_follow)
        state = library.state
        measured = self._measured  # another thread may begin anew meanwhile
        # Recipes may name any embedding, so another state of the library is another model to them.
        if measured_for != measured.model or state is not measured.library:
            measured = self._measured = _Measured(measured_for, state)
        known = measured.fits
        files = {
            place: (path, as_now) for place, path in _paths(library, places).items() if (as_now := read_stamp(path))
        }
        new = [file for file in files.values() if file not in known]
        for file, found in zip(new, measure_fits([path for path, _ in new], model), strict=True):
            known[file] = replace(found, stand_in=_stand_in(found, model)) if host.recipes_follow else found
        return {place: known[file] for place, file in files.items()}


def _stand_in(found: FileFit, model: Model) -> str:
    """What stands for a file where recipes follow the model."""
    if not found.fit or found.fit.status != FitStatus.DIFFERS or not found.tag or not found.tag.recipe:
        return ""
    variant = find_variant(found.path.stem, found.tag, model)
    return variant.name if variant else "its recipe"


def read_notes(path: Path) -> str:
    """The notes in an embedding's file as they are now. StorageError if the file is damaged."""
    return read_header(path).metadata.get(NOTES, "") if path.suffix.lower() == SUFFIX else ""


def edit_notes(host: Host, places: Sequence[str], notes: str) -> None:
    """Set the notes of some files. StorageError where one cannot have any, none has them then; and where the disk
    refuses midway, which says how many have."""
    paths = find_paths(host, places)
    for path in paths:
        editing.check_notes(path, notes)
    noted: list[Path] = []
    faults: list[StorageError] = []

    def note() -> list[Path]:
        try:
            for path in paths:
                editing.edit_notes(path, notes)
                noted.append(path)
        except StorageError as fault:
            faults.append(fault)
        return noted

    _changed(host, paths, note)
    for fault in faults:
        told = f" {len(noted)} of {len(paths)} embeddings have the notes; the others are unchanged."
        raise StorageError(fault.message + (told if noted else ""), hint=fault.hint) from fault


def rename(host: Host, places: Sequence[str], name: str) -> Renamed:
    """Give one file another name, its sidecars and its variants for other models along.

    StorageError where that cannot be.
    """
    path, library = _one_path(host, places, "renamed"), host.library()
    if path.suffix.lower() not in SUFFIXES:
        message = f"{quote(path.name)} is a picture: web UIs use the name that is stored inside it."
        raise StorageError(message, hint=f"Make a file of it: embedmerge convert {path.name} --name NAME")
    name = name.strip()
    taken = [one for one in library.names() if one.casefold() == name.casefold() != path.stem.casefold()]
    if taken:
        raise StorageError(f"An embedding called {quote(taken[0])} already exists.", hint="Choose another name.")
    variants = find_variants(path.stem, library.files())
    moving = [path, *variants]
    others = set(library.names()) - {one.stem for one in moving}
    found = check_name(name, existing=others, tokenizer=clip_tokenizer())
    if found.error:
        raise StorageError(found.error, hint=f"This name works: {found.better}.")
    files = _changed(host, moving, lambda: editing.rename_embedding(path, name, variants))
    return Renamed(tuple(files), found.warnings)


def delete(host: Host, places: Sequence[str]) -> Deletion:
    """Move files, sidecars along, into the library's trash. StorageError where that cannot be; none is moved then."""
    paths = find_paths(host, places)
    moved: list[Deletion] = []

    def away() -> list[Path]:
        moved.append(editing.delete_embeddings(host.library().folder, paths))
        return []

    _changed(host, paths, away)
    return moved[0]


def restore_deleted(host: Host, deletion: str) -> tuple[Path, ...]:
    """Bring back what a deletion moved into the trash. StorageError where its places are taken, or it is not there."""
    folder = host.library().folder
    return tuple(_changed(host, [], lambda: list(editing.restore_deleted(folder, deletion))))


def recover_text(host: Host, places: Sequence[str]) -> Recovery:
    """The text, or the sum of texts, that one file's vectors are made of on the active model.

    StorageError where it was made for other models.
    """
    return recover(load_embedding(_one_path(host, places, "searched for its text")), host.active().model)


def save_recovered_text(host: Host, places: Sequence[str]) -> Path:
    """Make that the recipe in the file; its path. StorageError where it would give other vectors, or there is one."""
    path, model = _one_path(host, places, "given a recipe"), host.active().model
    embedding = load_embedding(path)
    recovery = recover(embedding, model)
    if reason := find_refusal(embedding.name, embedding.metadata, recovery):
        hint = "Open the text in the text box and save it under another name."
        raise StorageError(reason, hint=hint)
    return _changed(host, [path], lambda: [save_recovered(embedding, recovery, model)])[0]


def find_paths(host: Host, places: Sequence[str]) -> list[Path]:
    """The files at these places. HostError where none is named, StorageError where one is gone."""
    if not places:
        raise HostError("No embedding is selected.", remedy=Remedy.SELECT)
    library = host.library()
    paths = _paths(library, places)
    if gone := [place for place in places if place not in paths]:
        raise StorageError(f"{quote(gone[0])} no longer exists.", hint="Refresh the list.")
    return list(paths.values())


def _one_path(host: Host, places: Sequence[str], what: str) -> Path:
    paths = find_paths(host, places)
    if len(paths) != 1:
        raise HostError(f"Only one embedding can be {what} at a time.", hint="Select one.")
    return paths[0]


def _changed(host: Host, before: Sequence[Path], change: Callable[[], Sequence[Path]]) -> Sequence[Path]:
    """Do something with files that the program may hold open, and tell it what is there now, and what is no more."""
    for path in before:
        host.before_replacing(path)
    library = host.library()
    try:
        after = change()
    finally:
        library.refresh()
    for path in before:
        if not path.exists():
            host.embedding_removed(path)
    found = library.files()
    # One that the removed ones of its name had kept from being found is found now.
    beside = [library.path(path.stem) for path in before if path.stem in library.names() and not path.exists()]
    for path in (*beside, *after):
        if path in found and is_usable(path):  # sidecars come back too, and what was damaged before
            host.embedding_saved(path)
    return after


def _paths(library: EmbeddingFolder, places: Sequence[str]) -> dict[str, Path]:
    known = {_place(library, path): path for path in library.files()}
    return {place: known[place] for place in places if place in known}


def _place(library: EmbeddingFolder, path: Path) -> str:
    return path.relative_to(library.folder).as_posix()
