"""Update a web UI's own databases of embeddings after a file was saved or removed."""

from __future__ import annotations

import logging
import sys
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
    """Load the embedding in a file, in place of an older one with its name, so that the next prompt can use it.

    model: the web UI's model object. If it is None or Forge's placeholder, no model is loaded and nothing is done,
        because the web UI reads all files when it loads one.
    An exception of the web UI is logged and not raised: the file is saved, and a refresh will find it.
    """
    with _log_faults(path):
        for database in find_databases(model):
            with _log_faults(path):  # so that a fault in one engine of Forge does not keep it from the other
                _remove_name(database, path.stem)
                database.load_from_file(str(path), path.name)
                _copy_vectors(database, path.stem)
    with _log_faults(path):
        _replace_conditioning_caches()


def release_file(path: Path, model: Any) -> None:
    """Make it possible to replace a file: replace the loaded vectors, which may be views into it, by copies.

    model: as for `register_file`.
    """
    with _log_faults(path):
        for database in find_databases(model):
            for name in _find_spellings(database.word_embeddings, path.stem):
                _copy_vectors(database, name)


def forget_file(path: Path, model: Any) -> None:
    """Remove the embedding of a file that is gone, so that no prompt finds it. model: as for `register_file`."""
    with _log_faults(path):
        for database in find_databases(model):
            embedding = database.word_embeddings.get(path.stem) or database.skipped_embeddings.get(path.stem)
            if embedding is not None and Path(embedding.filename or "") == path:  # not a namesake in another folder
                _remove_name(database, path.stem)
        _replace_conditioning_caches()


def _remove_name(database: Any, name: str) -> None:
    """Remove every embedding with this name, in any capitals, because a prompt would find the first of them."""
    # Also from the skipped ones: the page would show the name twice if an older file was for another architecture.
    for by_name in (database.word_embeddings, database.skipped_embeddings):
        for spelling in _find_spellings(by_name, name):
            del by_name[spelling]
    for first, entries in list(database.ids_lookup.items()):
        database.ids_lookup[first] = [entry for entry in entries if entry[1].name.casefold() != name.casefold()]


def _copy_vectors(database: Any, name: str) -> None:
    """Replace the vectors of an embedding by copies.

    float32 vectors are views into the memory-mapped file, which Windows then neither replaces nor deletes.
    """
    embedding = database.word_embeddings.get(name)
    vectors = getattr(embedding, "vec", None)
    if isinstance(vectors, dict):
        embedding.vec = {key: rows.clone() for key, rows in vectors.items()}
    elif vectors is not None:
        embedding.vec = vectors.clone()


def _find_spellings(names: Iterable[str], name: str) -> list[str]:
    """The names that differ from `name` in capitals at most."""
    return [spelling for spelling in names if spelling.casefold() == name.casefold()]


@contextmanager
def _log_faults(path: Path) -> Iterator[None]:
    """Log an exception from the block instead of raising it. path: the file for the message."""
    try:
        yield
    except Exception:  # noqa: BLE001 -- the web UI's own code; whatever it raises, the file is saved
        _log.warning(
            "EmbedMerge: the web UI could not load %r. Refresh its list of embeddings.", path.name, exc_info=True
        )


def find_databases(model: Any) -> list[Any]:
    """The databases that the web UI uses for a model.

    If no model is loaded, or Forge's model has no CLIP encoder, there are none.
    """
    is_loaded = getattr(model, "sd_checkpoint_info", None) is not None
    return list_databases(find_clip_engines(model)) if is_loaded else []


def list_databases(engines: Iterable[Any] | None) -> list[Any]:
    """The web UI's databases: in Forge one in each CLIP engine of the model, else one for all models.

    engines: the result of `find_clip_engines` for a loaded model.
    """
    if engines is not None:
        return [engine.embeddings for engine in engines]
    database = getattr(find_model_hijack(), "embedding_db", None)
    return [] if database is None else [database]


def find_model_hijack() -> Any:
    """AUTOMATIC1111's and reForge's object with what they add to every model, or None. Forge Neo has no such module."""
    return getattr(sys.modules.get("modules.sd_hijack"), "model_hijack", None)


def invalidate_conditionings() -> None:
    """Make the web UI encode all prompts again, also in the generation that is running.

    Its caches of encoded prompts are changed in place.
    """
    for owner, name in _find_conditioning_caches():
        getattr(owner, name)[0] = None


def _replace_conditioning_caches() -> None:
    """Make the web UI encode all prompts again, except in the generation that is running, which keeps the old caches.

    The web UI caches encoded prompts by their texts, which do not change when an embedding does. Its caches are
    replaced by new lists, as its own option to turn off caching does.
    """
    for owner, name in _find_conditioning_caches():
        setattr(owner, name, [None] * len(getattr(owner, name)))


def _find_conditioning_caches() -> Iterator[tuple[Any, str]]:
    """(class, attribute) of each cache of encoded prompts. It is a list whose first entry is the key, the prompts."""
    from modules import processing

    for class_name, names in _CONDITIONING_CACHES:
        for name in names:
            yield getattr(processing, class_name), name
