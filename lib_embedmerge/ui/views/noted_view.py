"""What is noted about an embedding: the user's ratings, weights and notes by model, and what other tools' files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markupsafe import Markup

from lib_embedmerge.actions.noted import ModelNote, find_model_note
from lib_embedmerge.core.fit_status import MAX_RATING
from lib_embedmerge.ui.html import button, exact, join, plain, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lib_embedmerge.actions.shelf import SidecarFacts
    from lib_embedmerge.core.ports import ModelFacts

MAX_NOTED = 50
"""How many models are shown of those that the user noted something about."""

_SHOWN = 160


def draw_rating(place: str, note: ModelNote, model: str) -> Markup:
    """The rating of an embedding on a model as five stars to click, and what else the user noted there.

    place: of its file, which the script sends back.  model: its title.
    """
    pieces = [_draw_stars(place, note, model)]
    if note.weight is not None:
        pieces.append(Markup('<span class="embedmerge-quiet">weight {}</span>').format(f"{note.weight:g}"))
    if note.text:
        pieces.append(text(note.text, 100))
    return join(pieces, " ")


def notes_form(place: str, notes: Mapping[str, ModelNote], model: ModelFacts) -> Markup:
    """Boxes for what the user notes about an embedding on the active model, and what is noted on others."""
    note = find_model_note(notes, model) or ModelNote()
    weight = "" if note.weight is None else f"{note.weight:g}"
    boxes = Markup(
        '<label>Weight that works <input type="text" class="embedmerge-field embedmerge-short" value="{}"'
        ' data-embedmerge-noted="weight"></label>'
        '<label class="embedmerge-wide">Note <input type="text" class="embedmerge-field" value="{}"'
        ' data-embedmerge-noted="text"></label>{}'
    ).format(weight, plain(note.text, 500), button("Save the note", "save-note"))
    form = Markup(
        '<div class="embedmerge-noting" role="group" aria-label="Notes on the active model" data-embedmerge-place="{}"'
        ' data-embedmerge-rating="{}"><p class="embedmerge-line"><strong>On {}</strong> {}</p>'
        '<div class="embedmerge-buttons">{}</div></div>'
    ).format(exact(place), note.rating or "", text(model.title, 80), _draw_stars(place, note, model.title), boxes)
    others = {name: other for name, other in notes.items() if other is not note}
    return form + _draw_others(others) if others else form


def list_sidecar_facts(facts: SidecarFacts) -> Iterator[Markup]:
    """What files of other tools say of an embedding, in a few words each."""
    if facts.base_model:
        yield Markup("for {}").format(text(facts.base_model, 60))
    if facts.trigger_words:
        yield Markup("words: {}").format(text(", ".join(facts.trigger_words), 120))
    if facts.weight is not None:
        yield Markup("weight {}").format(f"{facts.weight:g}")
    if facts.address:
        yield Markup('<a class="embedmerge-link" href="{}" target="_blank" rel="noopener noreferrer">{}</a>').format(
            facts.address, urlsplit(facts.address).hostname or "source"
        )
    if facts.notes:
        yield text(facts.notes, _SHOWN)


def _draw_stars(place: str, note: ModelNote, model: str) -> Markup:
    stars = join(
        Markup(
            '<button type="button" class="embedmerge-star" aria-pressed="{}" aria-label="{}" title="{}"'
            ' data-embedmerge-action="order" data-embedmerge-press="rate" data-embedmerge-order="{}">{}</button>'
        ).format(
            "true" if note.rating == number else "false",
            f"{number} of {MAX_RATING}",
            "remove this rating" if note.rating == number else f"rate it {number} of {MAX_RATING} on this model",
            exact(json.dumps([place, "" if note.rating == number else str(number)])),
            "★" if number <= (note.rating or 0) else "☆",
        )
        for number in range(1, MAX_RATING + 1)
    )
    return Markup('<span role="group" class="embedmerge-stars" aria-label="{}">{}</span>').format(
        plain(f"Rating on {model}", 100), stars
    )


def _draw_others(notes: Mapping[str, ModelNote]) -> Markup:
    rows = [
        Markup('<tr><th scope="row">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>').format(
            text(name, 80),
            f"{note.rating} of {MAX_RATING}" if note.rating else "",
            "" if note.weight is None else f"{note.weight:g}",
            text(note.text, 300),
        )
        for name, note in list(notes.items())[:MAX_NOTED]
    ]
    return table("noted", "Notes on other models", ("on other models", "rating", "weight", "note"), rows)
