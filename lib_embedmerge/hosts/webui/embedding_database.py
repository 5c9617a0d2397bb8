"""A web UI's own databases of embeddings, told of a file that was just saved, or is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib_embedmerge.hosts.webui.token_tables import find_clip_engines

_log = logging.getLogger(__name__)

_CONDITIONING_CACHES = (
    ("StableDiffusionProcessing", ("cached_c", "cached_uc")),
    ("StableDiffusionProcessingTxt2Img", ("cached_hr_c", "cached_hr_uc")),
)


def register_file(path: Path, model: Any) -> None:
    """Let the next prompt find the embedding in this file, in place of an older one of its name.

    model: the web UI's own, whatever it is; None, or Forge's stand-in, where none is loaded: loading one reads all
    files anyway. A fault of the web UI's is logged and goes no further: the file is saved, and will be found after a
    refresh.
    """
    with _faults_logged(path):
        for database in databases(model):
            with _faults_logged(path):  # Forge's other engine still gets it
                _forget(database, path.stem)
                database.load_from_file(str(path), path.name)
                _keep_copies(database, path.stem)
    with _faults_logged(path):
        _forget_conditionings()


def release_file(path: Path, model: Any) -> None:
    """Let the file be replaced: what is loaded of it stays, as copies. model: as in `register_file`."""
    with _faults_logged(path):
        for database in databases(model):
            for name in _spellings(database.word_embeddings, path.stem):
                _keep_copies(database, name)


def forget_file(path: Path, model: Any) -> None:
    """Let prompts no longer find the embedding that was in this file. model: as in `register_file`."""
    with _faults_logged(path):
        for database in databases(model):
            found = database.word_embeddings.get(path.stem) or database.skipped_embeddings.get(path.stem)
            if found is not None and Path(found.filename or "") == path:  # not one of its name from elsewhere
                _forget(database, path.stem)
        _forget_conditionings()


def _forget(database: Any, name: str) -> None:
    """Take out every embedding that prompts call by this name, in whatever capitals: the first one would be found."""
    # The skipped ones would show the name twice where an older file was of another architecture.
    for known in (database.word_embeddings, database.skipped_embeddings):
        for spelling in _spellings(known, name):
            del known[spelling]
    for first, entries in list(database.ids_lookup.items()):
        database.ids_lookup[first] = [entry for entry in entries if entry[1].name.casefold() != name.casefold()]


def _keep_copies(database: Any, name: str) -> None:
    """float32 vectors come as views into the mapped file, which Windows then neither replaces nor deletes."""
    embedding = database.word_embeddings.get(name)
    vectors = getattr(embedding, "vec", None)
    if isinstance(vectors, dict):
        embedding.vec = {key: rows.clone() for key, rows in vectors.items()}
    elif vectors is not None:
        embedding.vec = vectors.clone()


def _spellings(names: Iterable[str], name: str) -> list[str]:
    return [one for one in names if one.casefold() == name.casefold()]


@contextmanager
def _faults_logged(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 -- the web UI's own code; whatever it raises, the file is saved
        _log.warning(
            "EmbedMerge: the web UI could not load %r. Refresh its list of embeddings.", path.name, exc_info=True
        )


def databases(model: Any) -> Iterator[Any]:
    """Forge has one in each engine, the others one for all models; its names are read with the loaded one."""
    if getattr(model, "sd_checkpoint_info", None) is None:
        return
    engines = list(find_clip_engines(model))
    if engines:
        yield from (engine.embeddings for engine in engines)
        return
    from modules import sd_hijack

    yield sd_hijack.model_hijack.embedding_db


def mistrust_conditionings() -> None:
    """Have them all made anew, also those that a generation that runs has at hand."""
    for owner, name in _conditionings():
        getattr(owner, name)[0] = None


def _forget_conditionings() -> None:
    """Web UIs keep the last prompt's conditioning by its text, which says nothing of an embedding's new content.

    Fresh lists, as their own option against this cache does: a generation that runs goes on with the old ones.
    """
    for owner, name in _conditionings():
        setattr(owner, name, [None] * len(getattr(owner, name)))


def _conditionings() -> Iterator[tuple[Any, str]]:
    """Where they are kept: a class, and its attribute with a list, whose first entry says what for."""
    from modules import processing

    for class_name, names in _CONDITIONING_CACHES:
        for name in names:
            yield getattr(processing, class_name), name
