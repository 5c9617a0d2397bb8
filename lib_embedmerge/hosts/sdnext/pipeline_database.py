"""Update the database of embeddings of SD.Next's pipeline after a file was saved or removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.sdnext.added_tokens import list_tokens, retire_tokens
from lib_embedmerge.hosts.sdnext.pipeline_encoders import PipelineEncoder, find_encoders

_log = logging.getLogger(__name__)


def find_database(model: Any) -> Any:
    """The pipeline's database of embeddings; None if no model is loaded, or one that has none."""
    return getattr(model, "embedding_db", None)


def register_file(path: Path, model: Any) -> None:
    """Load the embedding in a file, in place of an older one with its name, so that the next prompt can use it.

    model: SD.Next's model object. If it is None, nothing is done, because SD.Next reads all files when it loads one.
    An exception of SD.Next is logged and not raised: the file is saved, and a refresh will find it.
    """
    forget_encoded_prompts()
    database = find_database(model)
    if database is None:
        return
    with _log_faults(path):
        encoders = find_encoders(model)
        _remove_other_spellings(database, path.stem, encoders)
        _make_room(path, encoders)
        database.load_diffusers_embedding([str(path)])
        loaded = database.word_embeddings.get(path.stem)
        if loaded is not None:
            _copy_vectors(loaded)
            _retire_rest(database, path.stem, len(loaded.tokens), encoders)
    forget_encoded_prompts()  # again, as a prompt may have been encoded meanwhile


def release_file(path: Path, model: Any) -> None:
    """Make it possible to replace a file: replace the loaded vectors, which may be views into it, by copies."""
    database = find_database(model)
    with _log_faults(path):
        for name in _find_spellings(database, path.stem) if database is not None else ():
            _copy_vectors(database.word_embeddings[name])


def forget_file(path: Path, model: Any) -> None:
    """Remove the embedding of a file that is gone, so that no prompt finds it. model: as for `register_file`."""
    database = find_database(model)
    if database is None:
        return
    with _log_faults(path):
        embedding = database.word_embeddings.get(path.stem) or database.skipped_embeddings.get(path.stem)
        if embedding is not None and _is_file_of(embedding, path):  # not a namesake in another folder
            _remove_name(database, path.stem)
            _retire_rest(database, path.stem, 0, find_encoders(model))
    forget_encoded_prompts()


def forget_encoded_prompts() -> None:
    """Make SD.Next encode all prompts again. It caches them by their texts, which do not tell the vectors."""
    from modules import prompt_parser_diffusers

    prompt_parser_diffusers.cache.clear()
    forget_prompts_of_pipelines()


def forget_prompts_of_pipelines() -> None:
    """Empty the cache of prompts that pipelines encode by themselves, with the prompt parser "fixed"."""
    from modules import sd_hijack_te

    sd_hijack_te.prompt_cache.cache.clear()


def _make_room(path: Path, encoders: list[PipelineEncoder]) -> None:
    """Add the tokens and rows for the vectors of a file, as SD.Next would.

    It would draw the new rows at random from the spread of all others, which takes seconds for each embedding, and then
    write the vectors over them.
    """
    from modules import textual_inversion

    count = load_embedding(path).count
    tokens = [path.stem, *(f"{path.stem}_{place}" for place in range(1, count))]
    textual_inversion.insert_tokens([SimpleNamespace(tokens=tokens)], [encoder.tokenizer for encoder in encoders])
    for encoder in encoders:
        if encoder.weight.shape[0] != len(encoder.tokenizer):
            encoder.text_encoder.resize_token_embeddings(len(encoder.tokenizer), mean_resizing=False)


def _remove_other_spellings(database: Any, name: str, encoders: list[PipelineEncoder]) -> None:
    """Remove every embedding whose name differs in capitals only, because its file has been replaced or is shadowed."""
    for spelling in _find_spellings(database, name):
        _remove_name(database, spelling)
        if spelling != name:
            _retire_rest(database, spelling, 0, encoders)


def _remove_name(database: Any, name: str) -> None:
    for by_name in (database.word_embeddings, database.skipped_embeddings):
        by_name.pop(name, None)
    for first, entries in list(database.ids_lookup.items()):
        database.ids_lookup[first] = [entry for entry in entries if entry[1].name != name]


def _retire_rest(database: Any, name: str, first: int, encoders: list[PipelineEncoder]) -> None:
    """Make the tokenizers find no token of the embedding from the vector `first` on, as from an older, longer file."""
    for encoder in encoders:
        tokens = list_tokens(name, encoder.tokenizer, first)
        retire_tokens([token for token in tokens if token not in database.word_embeddings], encoder.tokenizer)


def _copy_vectors(embedding: Any) -> None:
    """Replace the vectors of an embedding by copies, because Windows replaces no file that is mapped."""
    embedding.vec = [rows.clone() for rows in embedding.vec]


def _find_spellings(database: Any, name: str) -> list[str]:
    """The names in the database that differ from `name` in capitals at most."""
    return [spelling for spelling in database.word_embeddings if spelling.casefold() == name.casefold()]


def _is_file_of(embedding: Any, path: Path) -> bool:
    """Whether an embedding of the database is from this file. SD.Next's paths may be relative."""
    filename = getattr(embedding, "filename", None)
    return filename is not None and Path(filename).absolute() == path.absolute()


@contextmanager
def _log_faults(path: Path) -> Iterator[None]:
    """Log an exception from the block instead of raising it. path: the file for the message."""
    try:
        yield
    except HostError:  # the loaded model cannot use embeddings
        pass
    except Exception:  # noqa: BLE001 -- SD.Next's own code; whatever it raises, the file is saved
        _log.warning("EmbedMerge: SD.Next could not load %r. Refresh its embeddings.", path.name, exc_info=True)
