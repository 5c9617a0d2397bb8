"""The library as a whole: its files and how they fit the active model, and what is done with some of them.

Files are named by their places in the embeddings folder, with `/`, and only those that a look at the folder finds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.core.ports import Model
from lib_embedmerge.errors import HostError, StorageError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.storage import editing
from lib_embedmerge.storage.editing import Deleted
from lib_embedmerge.storage.embedding import load_embedding
from lib_embedmerge.storage.fit import DIFFERS, Fit
from lib_embedmerge.storage.library import EmbeddingFolder
from lib_embedmerge.storage.listing import Entry, FileFit, fits_of_files, list_embeddings
from lib_embedmerge.storage.rebuild import variant_name, variants_of
from lib_embedmerge.storage.recovery import Recovery, recover
from lib_embedmerge.storage.recovery_saving import save_recovered
from lib_embedmerge.storage.stamps import Stamp, stamp


@dataclass(frozen=True)
class Shelf:
    """The library. folder: where it lies.  entries: by place, in the order of names.
    deletions: what lies in its trash, newest first.  notes: what a person should know of the folder."""

    folder: Path
    entries: dict[str, Entry]
    deletions: tuple[Deleted, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fitting:
    """How a file fits the active model. fit: None where it cannot be loaded, for the reason in `error`.
    stand_in: what prompts use in its place, `its recipe` or the name of its variant; empty for the file itself."""

    fit: Fit | None
    error: str = ""
    stand_in: str = ""


def shelf(host: Host) -> Shelf:
    """Every embedding file, by its header alone. StorageError where the folder cannot be made."""
    library = host.library()
    entries = {_place(library, entry.path): entry for entry in list_embeddings(library)}
    return Shelf(library.folder, entries, tuple(editing.deletions(library.folder)), library.notes)


class Fittings:
    """How files fit the active model, each measured once for each state of the file and the model."""

    def __init__(self) -> None:
        self._model: object = None
        self._library: object = None
        self._known: dict[tuple[Path, Stamp], Fitting] = {}

    def of(self, host: Host, places: Sequence[str]) -> dict[str, Fitting]:
        """Those of these places; files that are gone are left out.

        HostError or CheckpointError where there is no model to compare with.
        """
        library, model = host.library(), host.active().model
        measured_for = (model.facts, tuple(model.fingerprints().items()), host.recipes_follow)
        # Recipes may name any embedding, so another state of the library is another model to them.
        if measured_for != self._model or library.state is not self._library:
            self._model, self._library, self._known = measured_for, library.state, {}
        known = self._known  # another thread may begin anew meanwhile
        files = {place: (path, as_now) for place, path in _paths(library, places).items() if (as_now := stamp(path))}
        new = [file for file in files.values() if file not in known]
        followed = frozenset(library.names() if host.recipes_follow else ())
        for file, found in zip(new, fits_of_files([path for path, _ in new], model), strict=True):
            known[file] = Fitting(found.fit, found.error, _stand_in(found, model, followed))
        return {place: known[file] for place, file in files.items()}


def _stand_in(found: FileFit, model: Model, followed: Container[str]) -> str:
    """followed: the names of the library, where recipes follow the model."""
    name = found.path.stem
    if name not in followed or not found.fit or found.fit.status != DIFFERS or not found.tag or not found.tag.recipe:
        return ""
    variant = variant_name(name, model)
    return variant if variant in followed else "its recipe"


def edit_notes(host: Host, places: Sequence[str], notes: str) -> None:
    """Set the notes of some files. StorageError where one cannot have any."""
    for path in paths_of(host, places):
        _changed(host, [path], functools.partial(_noted, path, notes))


def rename(host: Host, places: Sequence[str], name: str) -> tuple[Path, ...]:
    """Give one file another name, its sidecars and its variants for other models along; the new paths, its own first.

    StorageError where that cannot be.
    """
    path, library = _one_path(host, places, "renamed"), host.library()
    name = name.strip()
    taken = [one for one in library.names() if one.casefold() == name.casefold() != path.stem.casefold()]
    if taken:
        raise StorageError(f"There is an embedding {taken[0]!r} already.", hint="Choose another name.")
    variants = variants_of(path.stem, library.files())
    return tuple(_changed(host, [path, *variants], lambda: editing.rename(path, name, variants)))


def delete(host: Host, places: Sequence[str]) -> Deleted:
    """Move files, sidecars along, into the library's trash. StorageError where that cannot be; none is moved then."""
    paths = paths_of(host, places)
    moved: list[Deleted] = []

    def away() -> list[Path]:
        moved.append(editing.delete(host.library().folder, paths))
        return []

    _changed(host, paths, away)
    return moved[0]


def undelete(host: Host, deletion: str) -> tuple[Path, ...]:
    """Bring back what a deletion moved into the trash. StorageError where its places are taken, or it is not there."""
    folder = host.library().folder
    return tuple(_changed(host, [], lambda: list(editing.undelete(folder, deletion))))


def recover_text(host: Host, places: Sequence[str]) -> Recovery:
    """The text, or the sum of texts, that one file's vectors are made of on the active model.

    StorageError where it was made for other models.
    """
    return recover(load_embedding(_one_path(host, places, "looked into")), host.active().model)


def keep_text(host: Host, places: Sequence[str]) -> Path:
    """Make that the recipe in the file; its path. StorageError where it would give other vectors, or there is one."""
    path, model = _one_path(host, places, "given a recipe"), host.active().model
    embedding = load_embedding(path)
    recovery = recover(embedding, model)
    return _changed(host, [path], lambda: [save_recovered(embedding, recovery, model)])[0]


def paths_of(host: Host, places: Sequence[str]) -> list[Path]:
    """The files at these places. HostError where none is named, StorageError where one is gone."""
    if not places:
        raise HostError("No embedding is selected.", hint="Tick one or more in the list.")
    library = host.library()
    paths = _paths(library, places)
    if gone := [place for place in places if place not in paths]:
        raise StorageError(f"{gone[0]!r} is not there any more.", hint="Refresh the list.")
    return list(paths.values())


def _one_path(host: Host, places: Sequence[str], what: str) -> Path:
    paths = paths_of(host, places)
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
        if path in found:  # sidecars come back too
            host.embedding_saved(path)
    return after


def _noted(path: Path, notes: str) -> list[Path]:
    editing.edit_notes(path, notes)
    return [path]


def _paths(library: EmbeddingFolder, places: Sequence[str]) -> dict[str, Path]:
    known = {_place(library, path): path for path in library.files()}
    return {place: known[place] for place in places if place in known}


def _place(library: EmbeddingFolder, path: Path) -> str:
    return path.relative_to(library.folder).as_posix()
