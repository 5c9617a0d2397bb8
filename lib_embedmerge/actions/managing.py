"""The library: its files, whether they fit the active model, and actions on some of them.

`places` are paths of files relative to the embeddings folder, with `/`. Only files that the library lists are accepted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib_embedmerge.core.endings import SUFFIX, SUFFIXES
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings import editing
from lib_embedmerge.embeddings.editing import Deletion
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder, find_relative_path
from lib_embedmerge.embeddings.names import check_name
from lib_embedmerge.embeddings.preview_writing import restore_with_previews
from lib_embedmerge.embeddings.tag_keys import NOTES
from lib_embedmerge.errors import HostError, Remedy, StorageError, quote
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.files.stamps import Stamp, read_stamp
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.following import find_variant
from lib_embedmerge.recipes.listing import EmbeddingLister, Entry, FileFit, is_usable, measure_fits
from lib_embedmerge.recipes.rebuild import find_variants
from lib_embedmerge.recipes.recovery.recover import Recovery, recover
from lib_embedmerge.recipes.recovery.save_recovered import find_refusal, save_recovered
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class LibraryListing:
    """The library. folder: the embeddings folder.  entries: place -> entry, in the order of names.

    deletions: the deletions in its trash, newest first.  warnings: about the folder, one sentence each.
    """

    folder: Path
    entries: dict[str, Entry]
    deletions: tuple[Deletion, ...]
    warnings: tuple[str, ...]


class LibraryLister:
    """Lists the library again and again. While no file changes, `entries` is the same object, and nothing is read."""

    def __init__(self) -> None:
        self._lister = EmbeddingLister()
        self._last: tuple[list[Entry], dict[str, Entry]] = [], {}

    def list_entries(self, host: Host) -> LibraryListing:
        """Every embedding file, from its header. StorageError if the folder cannot be made."""
        library = host.library()
        listed, entries = self._last
        found = self._lister.list_folder(library)
        if found is not listed:
            entries = {make_place(library, entry.path): entry for entry in found}
            self._last = found, entries
        deletions = sorted((each for each, _ in _list_deletions(library)), key=lambda each: each.date, reverse=True)
        return LibraryListing(library.folder, entries, tuple(deletions), library.warnings)


def _list_deletions(library: EmbeddingFolder) -> list[tuple[Deletion, Path]]:
    """The deletions in the trash of each folder of a library, with that folder."""
    folders = [folder for folder in library.folders if folder.is_dir()]
    return [(deletion, folder) for folder in folders for deletion in editing.list_deletions(folder)]


@dataclass(frozen=True)
class Renamed:
    """The result of renaming. files: the new paths of the embedding, then of its variants for other models.

    warnings: why prompts may not find it under its new name, one sentence each.
    """

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _MeasuredFits:
    """Fits that were measured for one model and one state of the library."""

    model: object = None
    library: object = None
    fits: dict[tuple[Path, Stamp], FileFit] = field(default_factory=dict)


class FitCache:
    """Fits of files to the active model. Each is measured again only if the file, the library or the model changes."""

    def __init__(self) -> None:
        self._measured = _MeasuredFits()

    def measure(self, host: Host, places: Sequence[str]) -> dict[str, FileFit]:
        """Place -> fit. Files that no longer exist are left out.

        HostError or CheckpointError if there is no model.
        """
        library, model = host.library(), host.active().model
        measured_for = (model.facts, tuple(model.fingerprints().items()), host.recipes_follow)
        state = library.state
        measured = self._measured  # another thread may replace the attribute meanwhile
        # Recipes may name any embedding, so their fits depend on the whole library.
        if measured_for != measured.model or state is not measured.library:
            measured = self._measured = _MeasuredFits(measured_for, state)
        fits = measured.fits
        files = {
            place: (path, stamp) for place, path in _find_listed(library, places).items() if (stamp := read_stamp(path))
        }
        new = [file for file in files.values() if file not in fits]
        for file, file_fit in zip(new, measure_fits([path for path, _ in new], model), strict=True):
            stand_in = _find_stand_in(file_fit, model) if host.recipes_follow else ""
            fits[file] = replace(file_fit, stand_in=stand_in) if stand_in else file_fit
        return {place: fits[file] for place, file in files.items()}


def _find_stand_in(file_fit: FileFit, model: Model) -> str:
    """The name of what prompts use instead of a file if recipes follow the model; empty if they use the file."""
    fit, tag = file_fit.fit, file_fit.tag
    if not fit or fit.status != FitStatus.DIFFERS or not tag or not tag.recipe:
        return ""
    variant = find_variant(file_fit.path.stem, tag, model)
    return variant.name if variant else "its recipe"


def read_notes(path: Path) -> str:
    """The notes in an embedding's file; empty if it has none. StorageError if the file is damaged."""
    return read_header(path).metadata.get(NOTES, "") if path.suffix.lower() == SUFFIX else ""


def edit_notes(host: Host, places: Sequence[str], notes: str) -> None:
    """Set the notes of some files.

    StorageError if a file cannot have notes; then no file is changed. If the disk refuses while files are changed, the
    error says how many have the notes.
    """
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

    change_files(host, paths, note)
    for fault in faults:
        count = f" {len(noted)} of {len(paths)} embeddings have the notes; the others are unchanged."
        raise StorageError(fault.message + (count if noted else ""), hint=fault.hint) from fault


def rename(host: Host, places: Sequence[str], name: str) -> Renamed:
    """Rename a file, its sidecars and its variants for other models. StorageError if that is not possible."""
    path, library = find_single_path(host, places, "renamed"), host.library()
    if path.suffix.lower() not in SUFFIXES:
        message = f"{quote(path.name)} is a picture: web UIs use the name that is stored inside it."
        raise StorageError(message, hint=f"Make a file of it: embedmerge convert {path.name} --name NAME")
    name = name.strip()
    taken = [other for other in library.names() if other.casefold() == name.casefold() != path.stem.casefold()]
    if taken:
        raise StorageError(f"An embedding called {quote(taken[0])} already exists.", hint="Choose another name.")
    variants = find_variants(path.stem, library.files())
    moving = [path, *variants]
    others = set(library.names()) - {file.stem for file in moving}
    checked = check_name(name, existing=others, tokenizer=clip_tokenizer())
    if checked.error:
        raise StorageError(checked.error, hint=f"This name works: {checked.better}.")
    files = change_files(host, moving, lambda: editing.rename_embedding(path, name, variants))
    return Renamed(tuple(files), checked.warnings)


def delete(host: Host, places: Sequence[str]) -> Deletion:
    """Move files and their sidecars into the library's trash. StorageError if one cannot be moved; then none is."""
    paths = find_paths(host, places)
    folders = {host.library().find_top_folder(path) for path in paths}
    if len(folders) > 1:
        raise StorageError("These files are in several folders.", hint="Delete those of one folder at a time.")
    folder = next(iter(folders), host.library().folder)
    deletions: list[Deletion] = []

    def delete_files() -> list[Path]:
        deletions.append(editing.delete_embeddings(folder, paths))
        return []

    change_files(host, paths, delete_files)
    return deletions[0]


def restore_deleted(host: Host, deletion: str) -> tuple[Path, ...]:
    """Move the files of a deletion back from the trash. Pictures are exchanged with those that replaced them.

    StorageError if it is unknown, or if the places of the files are taken.
    """
    library = host.library()
    folder = next((folder for each, folder in _list_deletions(library) if each.id == deletion), library.folder)
    listed = library.files()
    return tuple(change_files(host, [], lambda: list(restore_with_previews(folder, deletion, listed))))


def recover_text(host: Host, places: Sequence[str]) -> Recovery:
    """Find the text, or the sum of texts, that gives the vectors of one file on the active model.

    StorageError if the embedding is for other models.
    """
    return recover(load_embedding(find_single_path(host, places, "searched for its text")), host.active().model)


def save_recovered_text(host: Host, places: Sequence[str]) -> Path:
    """Save the recovered text as the recipe of a file, and return its path.

    StorageError if the text gives other vectors, or if the file has a recipe.
    """
    path, model = find_single_path(host, places, "given a recipe"), host.active().model
    embedding = load_embedding(path)
    recovery = recover(embedding, model)
    if reason := find_refusal(embedding.name, embedding.metadata, recovery):
        hint = "Open the text in the text box and save it under another name."
        raise StorageError(reason, hint=hint)
    return change_files(host, [path], lambda: [save_recovered(embedding, recovery, model)])[0]


def find_paths(host: Host, places: Sequence[str]) -> list[Path]:
    """The files at these places. HostError if `places` is empty, StorageError if a file no longer exists."""
    if not places:
        raise HostError("No embedding is chosen.", remedy=Remedy.SELECT)
    library = host.library()
    paths = _find_listed(library, places)
    if gone := [place for place in places if place not in paths]:
        raise StorageError(f"{quote(gone[0])} no longer exists.", hint="Refresh the list.")
    return list(paths.values())


def find_single_path(host: Host, places: Sequence[str], action: str) -> Path:
    """The only file at these places. HostError if there are several. action: a participle for the message."""
    paths = find_paths(host, places)
    if len(paths) != 1:
        raise HostError(f"Only one embedding can be {action} at a time.", hint="Choose one.")
    return paths[0]


def change_files(host: Host, before: Sequence[Path], change: Callable[[], Sequence[Path]]) -> Sequence[Path]:
    """Change files that the host may have open, then tell the host which files exist now and which are removed.

    before: the files to change.  change: changes them, and returns the files that exist afterwards.
    """
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
    listed = library.files()
    # Removing a file may uncover another one of the same name.
    uncovered = [library.path(path.stem) for path in before if path.stem in library.names() and not path.exists()]
    for path in (*uncovered, *after):
        if path in listed and is_usable(path):  # not sidecars or damaged files, which are restored too
            host.embedding_saved(path)
    return after


def _find_listed(library: EmbeddingFolder, places: Sequence[str]) -> dict[str, Path]:
    """Place -> path of those files that the library lists."""
    listed = library.files()
    paths = {place: Path(library.folder, place) for place in places}
    return {place: path for place, path in paths.items() if path in listed}


def make_place(library: EmbeddingFolder, path: Path) -> str:
    """The path of a file relative to the embeddings folder, with `/`."""
    whole, start = os.fspath(path), os.fspath(library.folder) + os.sep
    if whole.startswith(start):  # as nearly always; for thousands of files pathlib takes ten times as long
        return whole[len(start) :].replace(os.sep, "/")
    return find_relative_path(library.folder, path)
