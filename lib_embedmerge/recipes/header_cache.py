"""What the headers of a folder's embeddings say, kept between runs, so that a listing of thousands opens no file twice.

files/folder_cache.py keeps the texts and knows when they are valid; listing.py makes entries of what is found here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from lib_embedmerge.core.architecture import ARCHITECTURES, Architecture, find_architecture
from lib_embedmerge.embeddings.embedding import open_embedding
from lib_embedmerge.embeddings.embedding_file import find_partner
from lib_embedmerge.embeddings.model_notes import read_model_notes
from lib_embedmerge.embeddings.tag import ModelTag, read_uses
from lib_embedmerge.embeddings.tag_keys import NOTES_BY_MODEL, USES
from lib_embedmerge.files.folder_cache import FolderCache, Value

_ROOMS = ("core", "files", "embeddings", "recipes")
"""Folders of the modules that decide what is found in a file."""

_read_json = json.JSONDecoder().raw_decode
"""Text -> (value, its end). For thousands of short texts, `json.loads` takes twice as long."""


class FoundHeader(NamedTuple):
    """What the header of an embedding's file says, or the whole file if its form has no header.

    name: in prompts.  vectors: their number for each text encoder.  tag: None if it has none.
    half: a sentence that says that it is half of a pair; None if it is whole.
    written: when the file was written, in nanoseconds; None if that cannot be read.
    """

    name: str
    vectors: int
    architecture: Architecture
    tag: ModelTag | None
    half: str | None
    written: int | None


class HeaderCache:
    """The headers of the files of one folder. Use an object for one listing, then call `save`."""

    def __init__(self, folder: Path) -> None:
        self._cache = FolderCache(folder, list_makers())

    def find(self, path: Path) -> FoundHeader:
        """The header of a file, from the cache if the file has not changed, else from the file. StorageError as in
        `open_embedding`."""
        text = str(path)
        state, value = self._cache.get(text)
        written = state[1] if state else None
        if value is not None:
            try:
                return _decode(value, written)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # not what `_encode` writes
                self._cache.drop(text)
        opened = open_embedding(path)
        found = FoundHeader(opened.name, opened.count, opened.architecture, opened.tag, opened.half, written)
        # Whether it is half of a pair also depends on another file, which may come or go.
        if found.half is None and find_partner(path) is None:
            self._cache.put(text, _encode(found, opened.metadata))
        return found

    def save(self) -> None:
        """Keep what was found for the next run."""
        self._cache.save()


def list_makers() -> list[Path]:
    """The modules of the program that decide what is found in a file."""
    package = Path(__file__).parent.parent
    return [path for room in _ROOMS for path in (package / room).glob("*.py")]


def _encode(found: FoundHeader, metadata: Mapping[str, str]) -> Value:
    """The texts that the cache keeps. metadata: of the file."""
    encoders, tag = found.architecture.encoders, found.tag
    if tag is None:
        return Value(_encode_common(encoders, None), json.dumps([found.name, found.vectors]))
    of_model = (
        ("made_for", tag.made_for),
        ("file_name", tag.file_name),
        ("sha256", tag.sha256),
        ("architecture", tag.architecture.name if tag.architecture else None),
        ("prediction_type", tag.prediction_type),
        ("token_tables", tuple(tag.token_tables.items())),
        ("text_encoders", tuple(tag.text_encoders.items())),
        ("text_encoder_files", tag.text_encoder_files),
        ("tool", tag.tool),
        ("version", tag.version),
    )
    own = [found.name, found.vectors, tag.recipe, metadata.get(USES), tag.notes, tag.negative, tag.date, tag.variant_of]
    own.append(metadata.get(NOTES_BY_MODEL))
    return Value(_encode_common(encoders, of_model), json.dumps(own))


@lru_cache(maxsize=64)
def _encode_common(encoders: tuple[str, ...], of_model: tuple[tuple[str, object], ...] | None) -> str:
    """The part that the embeddings for one model have in common, as `_decode_common` reads it."""
    return json.dumps([encoders, of_model if of_model is None else dict(of_model)])


def _decode(value: Value, written: int | None) -> FoundHeader:
    """What `_encode` made these texts of. Any other text is an error of Python. written: as in FoundHeader."""
    architecture, model = _decode_common(value.common)
    name, count, *own = _read_json(value.own)[0]
    if model is None:
        return FoundHeader(name, count, architecture, None, None, written)
    recipe, uses, notes, negative, date, variant_of, by_model = own
    # A copy with other fields, made as `copy.copy` makes one: for thousands, `dataclasses.replace` takes too long.
    tag = object.__new__(ModelTag)
    vars(tag).update(
        vars(model),
        recipe=recipe,
        uses=read_uses(uses),
        notes=notes,
        notes_by_model=read_model_notes(by_model),
        negative=negative,
        date=date,
        variant_of=variant_of,
    )
    return FoundHeader(name, count, architecture, tag, None, written)


@lru_cache(maxsize=64)
def _decode_common(text: str) -> tuple[Architecture, ModelTag | None]:
    """The architecture of the vectors, and the part of the tag that is about the model; None if there is no tag."""
    encoders, of_model = json.loads(text)
    architecture = find_architecture(encoders)
    if architecture is None:
        raise ValueError(encoders)
    if of_model is None:
        return architecture, None
    stated = {one.name: one for one in ARCHITECTURES}.get(of_model.pop("architecture"))
    for name in ("token_tables", "text_encoders"):
        of_model[name] = MappingProxyType(dict(of_model[name]))
    files = tuple(of_model.pop("text_encoder_files"))
    return architecture, ModelTag(architecture=stated, text_encoder_files=files, **of_model)
