"""The library as a shelf of concepts: what an entry of the page shows about an embedding and its variants."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.actions.managing import find_paths
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.embedding import open_embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.model_notes import ModelNote, find_model_note
from lib_embedmerge.embeddings.previews import find_first_preview, make_small_picture
from lib_embedmerge.embeddings.sidecars import SidecarFacts
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.files.stamps import Stamp, read_stamp
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.listing import Entry
from lib_embedmerge.recipes.rebuild import rebuild
from lib_embedmerge.recipes.variant_writing import WRITTEN, RebuildResult

__all__ = [
    "PictureCache",
    "PictureFile",
    "ShelfEntry",
    "SidecarFacts",
    "describe_concepts",
    "find_active_facts",
    "find_pictures",
    "make_for_model",
    "make_small_picture",
]

PictureFile = tuple[Path, Stamp]
"""The file of a preview picture, and the state of that."""

_KEPT_PICTURES = 400
"""How many small pictures are kept in memory, about 15 kB each."""


@dataclass(frozen=True)
class ShelfEntry:
    """What the page shows of one concept.

    files: place -> entry of each file, that of the embedding itself first, then its variants.
    picture: its preview picture; None if it has none.
    model: the active model, about which the user can note something; None if there is none.
    """

    files: Mapping[str, Entry]
    picture: PictureFile | None = None
    model: ModelFacts | None = None

    @property
    def place(self) -> str:
        """The place of the embedding's own file."""
        return next(iter(self.files))

    @property
    def entry(self) -> Entry:
        """The embedding's own file."""
        return self.files[self.place]

    @property
    def note(self) -> ModelNote:
        """What the user noted about the embedding on the active model."""
        tag = self.entry.tag
        return (find_model_note(tag.notes_by_model, self.model) if tag and self.model else None) or ModelNote()

    @property
    def sidecar(self) -> SidecarFacts | None:
        """What files of other tools say of the concept: those of its first file that has some."""
        return next((entry.sidecar for entry in self.files.values() if entry.sidecar), None)


def find_active_facts(host: Host) -> ModelFacts | None:
    """The facts of the active model; None if there is none."""
    try:
        return host.active().model.facts
    except EmbedMergeError:
        return None


def describe_concepts(
    entries: Mapping[str, Entry], concepts: Iterable[Sequence[str]], model: ModelFacts | None
) -> Iterator[ShelfEntry]:
    """What to show of some concepts. Files that are not listed are left out, and so are concepts without any file.

    entries: place -> entry, of the whole library.  concepts: the places of the files of each.  model: as in ShelfEntry.
    """
    for places in concepts:
        files = {place: entries[place] for place in places if place in entries}
        if files:
            yield ShelfEntry(files, _find_picture(entry.path for entry in files.values()), model)


def find_pictures(host: Host, names: Iterable[str]) -> dict[str, PictureFile | None]:
    """The preview picture of each embedding of the library; None if it has none.

    names: of the embeddings. A variant without a picture has that of the embedding that it is a variant of.
    StorageError if the folder of embeddings cannot be read.
    """
    library = host.library()
    known = frozenset(library.names())  # since a search for a name that is missing takes long
    return {name: _find_picture(_list_pictured_files(library, name, known)) for name in names}


def _list_pictured_files(library: EmbeddingFolder, name: str, known: Collection[str]) -> Iterator[Path]:
    """The file of an embedding, then, if it is a variant, the file of the embedding itself. known: all names."""
    if name not in known:
        return
    try:
        path = library.path(name)
        yield path
        tag = open_embedding(path).tag
        base = tag.variant_of if tag else None
        if base and base in known and name.startswith(f"{base}-"):
            yield library.path(base)
    except StorageError:  # a file was removed meanwhile, or it is no embedding
        return


def _find_picture(files: Iterable[Path]) -> PictureFile | None:
    picture = find_first_preview(files)
    stamp = read_stamp(picture) if picture else None
    return (picture, stamp) if picture and stamp else None


class PictureCache:
    """Small pictures of previews. Each is made once for each state of its file. The last ones that were used stay."""

    def __init__(self) -> None:
        self._made: OrderedDict[PictureFile, bytes | None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, picture: PictureFile) -> bytes | None:
        """The picture as a small JPEG; None if it cannot be read."""
        with self._lock:
            if picture in self._made:
                self._made.move_to_end(picture)
                return self._made[picture]
        small = make_small_picture(picture[0])
        with self._lock:
            self._made[picture] = small
            while len(self._made) > _KEPT_PICTURES:
                self._made.popitem(last=False)
        return small


def make_for_model(host: Host, places: Sequence[str]) -> list[RebuildResult]:
    """Make variants of some files for the active model, and let the host use them. Gives a result for each file.

    HostError if `places` is empty or there is no model, CheckpointError if the model's file cannot be read.
    """
    paths, model = find_paths(host, places), host.active().model
    results = list(rebuild(paths, model, before_replacing=host.before_replacing))
    host.library().refresh()
    for result in results:
        if result.status == WRITTEN and result.file:
            host.embedding_saved(result.file)
    return results
