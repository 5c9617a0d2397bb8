"""The headers of 20,000 embeddings, read the first time and then from the cache, and the list that the page gets.

Run as `python -m benchmarks.headers CHECKPOINT FOLDER`; prints JSON with seconds of processor time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from time import process_time

from benchmarks.processes import BenchmarkError
from lib_embedmerge import open_checkpoint
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.files.safetensors_file import encode_with_metadata
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.listing import Entry, list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.ui.library_handlers import LibraryHandlers

EMBEDDINGS = 20_000
_SUBFOLDERS = 20
_AGAIN = 5
_SETTLED = 6
"""Seconds after which a file counts as unchanged: the cache trusts none that was changed just before it was read."""


def measure(checkpoint: Path, folder: Path) -> dict[str, float]:
    """Processor time for finding the files, for their headers the first time and again, and for the page's list.

    The size of that list is in MB.
    """
    library = folder / "many"
    fill(library, checkpoint)
    time.sleep(_SETTLED)
    clip_tokenizer().encode("once")
    found = {}
    files, found["find"] = _find(library)
    first, found["first"] = _list(files)
    again = []
    for _ in range(_AGAIN):
        entries, seconds = _list(_find(library)[0])
        again.append(seconds)
        if entries != first or len(entries) != EMBEDDINGS or not all(entry.tag for entry in entries):
            raise BenchmarkError("The cache gives other headers than the files.")
    host = CheckpointHost(library)
    host.library().files()
    opened, reopened = [], []
    for _ in range(_AGAIN):
        shelf = LibraryHandlers(lambda: host)
        begun = process_time()
        markup = shelf.list_library()
        listed = process_time()
        shelf.list_library()
        opened.append(listed - begun)
        reopened.append(process_time() - listed)
    pages = {"page": median(opened), "reopened": median(reopened), "size": len(markup) / 1e6}
    return {**found, "again": median(again), **pages}


def _find(library: Path) -> tuple[EmbeddingFolder, float]:
    begun = process_time()
    folder = EmbeddingFolder(library, clip_tokenizer())
    folder.files()
    return folder, process_time() - begun


def _list(folder: EmbeddingFolder) -> tuple[list[Entry], float]:
    begun = process_time()
    return list_embeddings(folder), process_time() - begun


def fill(library: Path, checkpoint: Path) -> None:
    """Write the embeddings with one vector each, and half of them with a recipe."""
    made = open_checkpoint(checkpoint).build("'cat'", name="cat0")
    path = made.save(library / "first")
    metadata = dict(made.metadata)
    for number in range(EMBEDDINGS):
        name = f"style{number:05}x"
        texts = metadata | {keys.TITLE: name, keys.TRIGGER: name, keys.NOTES: f"note {number}"}
        texts |= {keys.RECIPE: f"'cat'*{number + 1}"} if number % 2 else {}
        place = library / f"sub{number % _SUBFOLDERS}" / f"{name}.safetensors"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(encode_with_metadata(path, texts))
    path.unlink()


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
