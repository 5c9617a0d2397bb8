"""What a user notes about an embedding on the active model: a rating, a weight that worked, a line of text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lib_embedmerge.actions.managing import change_files, find_single_path
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings.editing import edit_model_note
from lib_embedmerge.embeddings.embedding import read_embedding_header
from lib_embedmerge.embeddings.model_notes import ModelNote, find_model_note
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.hosts.port import Host


def save_model_note(host: Host, place: str, note: ModelNote) -> str:
    """Save a note about one file on the active model, and return the title of the model. An empty note removes it.

    HostError without a model; StorageError if a value is no rating or weight, or if the file cannot have notes.
    """
    path, facts = find_single_path(host, [place], "noted about"), host.active().model.facts

    def save() -> list[Path]:
        edit_model_note(path, facts, note)
        return [path]

    change_files(host, [path], save)
    return facts.title


def read_note(rating: str, weight: str, text: str) -> ModelNote:
    """A note from typed texts, each empty if there is none. StorageError if one is not a number."""
    try:
        stars = int(rating) if rating.strip() else None
        number = float(weight.replace(",", ".")) if weight.strip() else None
    except ValueError as error:
        hint = "Write a number such as 0.8, or nothing."
        raise StorageError(f"{quote(weight[:40])} is not a weight.", hint=hint) from error
    return ModelNote(stars, number, text)


def rate(host: Host, place: str, rating: int | None) -> str:
    """Save only the rating of one file on the active model, as `save_model_note` does. None removes it."""
    path, facts = find_single_path(host, [place], "rated"), host.active().model.facts
    tag = read_embedding_header(path).tag if path.suffix.lower() == SUFFIX else None
    old = find_model_note(tag.notes_by_model, facts) if tag else None
    return save_model_note(host, place, replace(old or ModelNote(), rating=rating))
