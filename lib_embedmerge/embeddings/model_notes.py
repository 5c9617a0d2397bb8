"""Notes by model: for each model a rating, a weight that worked and a line of text, in the metadata of an embedding.

Specification: docs/model-tags.md, "Notes by model". Entries and fields that are not known here are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from lib_embedmerge.core.endings import WEIGHTS
from lib_embedmerge.core.fit_status import MAX_RATING
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.tag_keys import NOTES_BY_MODEL
from lib_embedmerge.errors import StorageError

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import ModelNoteAnswer

MAX_TEXT = 500
"""Characters of the text about one model."""
MAX_WEIGHT = 10.0
"""Largest weight, up or down, that is taken for one."""


@dataclass(frozen=True)
class ModelNote:
    """What a user noted about an embedding on one model.

    rating: 1 (bad) to 5 (good), or None.  weight: one that worked in prompts, or None.  text: may be empty.
    hash: sha256 hex of the checkpoint's file, or None if it was not known.
    """

    rating: int | None = None
    weight: float | None = None
    text: str = ""
    hash: str | None = None

    def as_json(self) -> ModelNoteAnswer:
        """All fields as plain values."""
        return {"rating": self.rating, "weight": self.weight, "text": self.text, "hash": self.hash}


ModelNotes = Mapping[str, ModelNote]
"""Name of a model, as `name_model` makes it -> note."""

NO_NOTES: ModelNotes = MappingProxyType({})


def name_model(facts: ModelFacts) -> str:
    """The name under which notes about a model are kept: its checkpoint's file name, without an ending."""
    name = facts.file_name or facts.title
    return PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in WEIGHTS else name


def read_model_notes(text: str | None) -> ModelNotes:
    """The notes in the text that a file's metadata have for them. Never raises; nonsense is left out."""
    if not text:
        return NO_NOTES
    notes = {name: _read_note(entry) for name, entry in _parse(text).items() if isinstance(entry, dict)}
    return MappingProxyType({name: note for name, note in notes.items() if note != ModelNote(hash=note.hash)})


def find_model_note(notes: ModelNotes, facts: ModelFacts) -> ModelNote | None:
    """The note about a model: by the hash of its file if it is known, else by its name. None if there is none."""
    name = _find_key(((key, note.hash) for key, note in notes.items()), facts)
    return notes[name] if name is not None else None


def change_model_note(metadata: Mapping[str, str], facts: ModelFacts, note: ModelNote) -> dict[str, str]:
    """The metadata of a file with another note about a model. A note without rating, weight and text removes it.

    StorageError if a value cannot be saved.
    """
    _check(note)
    entries = _parse(metadata.get(NOTES_BY_MODEL, ""))
    hashes = ((key, _read_note(entry).hash) for key, entry in entries.items() if isinstance(entry, dict))
    key = _find_key(hashes, facts)
    key = name_model(facts) if key is None else key
    old = entries.get(key)
    entry = dict(old) if isinstance(old, dict) else {}
    known = {
        "rating": note.rating, "weight": note.weight, "text": note.text.strip() or None,
        "hash": facts.sha256 or entry.get("hash"),
    }  # fmt: skip
    entry = {field: value for field, value in {**entry, **known}.items() if value is not None or field not in known}
    others = {name: value for name, value in entries.items() if name != key}
    if entry.keys() - {"hash"}:
        others[key] = entry
    changed = {name: value for name, value in metadata.items() if name != NOTES_BY_MODEL}
    if others:
        changed[NOTES_BY_MODEL] = json.dumps(others, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return changed


def without_model_notes(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without notes by model, for a file of its own that is made from another one."""
    return {key: value for key, value in metadata.items() if key != NOTES_BY_MODEL}


def _check(note: ModelNote) -> None:
    if note.rating is not None and not 1 <= note.rating <= MAX_RATING:
        raise StorageError(f"A rating is a whole number from 1 to {MAX_RATING}.", hint="Choose one of the stars.")
    if note.weight is not None and _read_weight(note.weight) is None:
        message = f"A weight is a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}."
        raise StorageError(message, hint="Write the number that worked in a prompt, such as 0.8.")
    if len(note.text) > MAX_TEXT:
        message = f"The note about a model has {len(note.text):,} characters; it may have {MAX_TEXT}."
        raise StorageError(message, hint="Shorten it, or write it into the notes of the embedding.")


def _find_key(hashes: Iterator[tuple[str, str | None]], facts: ModelFacts) -> str | None:
    """The key of the entry about a model, from the keys and hashes of all."""
    by_name, name = None, name_model(facts).casefold()
    for key, sha256 in hashes:
        if sha256 and sha256 == facts.sha256:
            return key
        if by_name is None and key.casefold() == name:
            by_name = key
    return by_name


def _parse(text: str) -> dict[str, object]:
    """The entries in the text; none if it is not a JSON object."""
    try:
        content = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_note(entry: Mapping[str, object]) -> ModelNote:
    rating, text, sha256 = entry.get("rating"), entry.get("text"), entry.get("hash")
    return ModelNote(
        rating if type(rating) is int and 1 <= rating <= MAX_RATING else None,
        _read_weight(entry.get("weight")),
        text if isinstance(text, str) else "",
        sha256 if isinstance(sha256, str) else None,
    )


def _read_weight(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= MAX_WEIGHT and math.isfinite(value) else None
