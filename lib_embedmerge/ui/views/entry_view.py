"""An entry of the library, as a card or as a row: the concept, its models as chips, its recipe and what can be done.

The script colours the chips, and shows how the entry fits, as the fits are measured.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from lib_embedmerge.actions.noted import find_model_note
from lib_embedmerge.core.effects import find_band
from lib_embedmerge.core.fit_status import UNUSABLE
from lib_embedmerge.errors import format_count
from lib_embedmerge.lang.typed import as_typed
from lib_embedmerge.ui.html import MAKE_AGAIN, MAX_EDITED, USE, button, code, exact, join, plain, text, view
from lib_embedmerge.ui.views.effect_view import effect_badge, find_largest
from lib_embedmerge.ui.views.noted_view import draw_rating, list_sidecar_facts

if TYPE_CHECKING:
    from lib_embedmerge.actions.library_effects import KnownEffect
    from lib_embedmerge.actions.shelf import PictureFile, ShelfEntry
    from lib_embedmerge.core.ports import ModelFacts
    from lib_embedmerge.recipes.listing import Entry, FileFit

_NO_EFFECTS: Mapping[str, Sequence[KnownEffect]] = MappingProxyType({})
MAX_CHIPS = 12
_SHOWN = 160
"""Characters of a recipe and of notes that an entry shows."""


def entries_view(entries: Iterable[ShelfEntry], *, pictures: bool = False) -> Markup:
    """Entries, which the script puts into the list. A number tells the script whether it has their picture.

    pictures: whether the page has a section that makes pictures.
    """
    return view("entries", [_draw_entry(shelf_entry, pictures=pictures) for shelf_entry in entries])


def fits_view(
    fits: Mapping[str, FileFit],
    model: ModelFacts | None = None,
    effects: Mapping[str, Sequence[KnownEffect]] = _NO_EFFECTS,
) -> Markup:
    """Fits of files, which the script copies into their entries, and how the user rated them on the active model.

    fits: place of a file in the library -> its fit.  model: the active one.  effects: place -> its effects on others.
    """
    return view(
        "fits", [_draw_file_fit(place, file_fit, model, effects.get(place, ())) for place, file_fit in fits.items()]
    )


def pictures_view(
    pictures: Mapping[str, tuple[str, bytes | None]], *, key: Literal["place", "name"] = "place"
) -> Markup:
    """Small pictures, which the script puts into entries, or into completions.

    pictures: place of an entry, or name of an embedding -> the number of its picture, and the JPEG, None if there is no
        picture or it cannot be read.
    key: which of the two.
    """
    return view("pictures", [_draw_picture(key, value, *picture) for value, picture in pictures.items()])


def number_picture(picture: PictureFile | None) -> str:
    """A number that changes with a picture; empty if there is none."""
    return str(abs(hash(picture))) if picture else ""


def _draw_picture(key: str, value: str, number: str, picture: bytes | None) -> Markup:
    source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}" if picture else ""
    image = Markup('<img class="embedmerge-preview" src="{}" alt="">').format(source) if picture else ""
    return Markup('<div data-embedmerge-{}="{}" data-embedmerge-picture="{}">{}</div>').format(
        key, exact(value), number, image
    )


def _draw_entry(shelf_entry: ShelfEntry, *, pictures: bool) -> Markup:
    about = join(
        Markup('<p class="embedmerge-entry-{}">{}</p>').format(name, content)
        for name, content in _list_lines(shelf_entry)
    )
    make = Markup("")
    if pictures and shelf_entry.entry.is_usable and not shelf_entry.picture:
        make = button("Make a picture…", "make-picture", {"place": shelf_entry.place})
    return Markup(
        '<div class="embedmerge-entry-body" data-embedmerge-place="{}" data-embedmerge-picture="{}">'
        '<div class="embedmerge-picture">{}</div><div class="embedmerge-about">{}</div>'
        '<p class="embedmerge-buttons embedmerge-entry-buttons">{}</p></div>'
    ).format(
        exact(shelf_entry.place), number_picture(shelf_entry.picture), make, about, join(_list_buttons(shelf_entry))
    )


def _list_lines(shelf_entry: ShelfEntry) -> Iterator[tuple[str, Markup]]:
    """The lines of an entry: the name of its style and the content."""
    entry = shelf_entry.entry
    yield "title", _draw_title(shelf_entry.place, entry)
    if entry.is_usable:
        yield "models", _draw_models(shelf_entry)
        yield "fit", Markup("")  # the script fills it
        if shelf_entry.model:
            yield "rating", draw_rating(shelf_entry.place, shelf_entry.note, shelf_entry.model.title)
    if entry.reason:  # it cannot be used, or texts do not find it
        yield "reason", _draw_reason(entry)
    recipe = entry.tag.recipe if entry.tag else None
    if recipe:
        yield "recipe", code(recipe, _SHOWN)
    told = [text(entry.notes, _SHOWN)] if entry.notes else []
    if shelf_entry.sidecar:
        told.append(join(list_sidecar_facts(shelf_entry.sidecar), " · "))
    if told:
        yield "notes", join(told, " · ")


def _draw_title(place: str, entry: Entry) -> Markup:
    folder = place.rpartition("/")[0]
    facts = [folder[:60]] if folder else []
    if entry.count:
        facts.append(format_count(entry.count, "vector"))
    if entry.architecture:
        facts.append(entry.architecture.title)
    tooltip = " · ".join([*facts, entry.date])
    facts.append(entry.date[:10])
    name = Markup(
        '<button type="button" class="embedmerge-open" title="look at {}" data-embedmerge-action="inspect"'
        ' data-embedmerge-place="{}">{}</button>'
    ).format(plain(entry.name, 80), exact(place), text(entry.name, 80))
    return Markup('{} <span class="embedmerge-quiet" title="{}">{}</span>').format(
        name, plain(tooltip, 200), text(" · ".join(facts), 160)
    )


def _draw_reason(entry: Entry) -> Markup:
    if entry.is_usable:
        return text(entry.reason or "", 300)
    return Markup('<strong class="embedmerge-is-bad embedmerge-verdict">{}</strong><span>{}</span>').format(
        UNUSABLE, text(entry.reason or "", 300)
    )


def _draw_models(shelf_entry: ShelfEntry) -> Markup:
    """A chip for each file of a concept, with the model that it was made for."""
    files = list(shelf_entry.files.items())
    chips = [_draw_chip(place, entry) for place, entry in files[:MAX_CHIPS]]
    if len(files) > MAX_CHIPS:
        chips.append(Markup('<span class="embedmerge-quiet">+ {}</span>').format(len(files) - MAX_CHIPS))
    return join(chips)


def _draw_chip(place: str, entry: Entry) -> Markup:
    model = entry.made_for
    return Markup(
        '<button type="button" class="embedmerge-model" title="{}" data-embedmerge-action="inspect"'
        ' data-embedmerge-place="{}">{}</button>'
    ).format(plain(f"{entry.name}, made for {model or 'an unknown model'}", 200), exact(place), _shorten(model))


def _shorten(model: str) -> Markup:
    return text(model if len(model) <= 40 else f"{model[:39]}…", 40) if model else Markup("unknown model")


def _list_buttons(shelf_entry: ShelfEntry) -> Iterator[Markup]:
    entry, place = shelf_entry.entry, shelf_entry.place
    if entry.is_usable:
        order = {"order": json.dumps([place]), "press": "remake"}
        yield button("Make for this model", "order", order, tooltip=MAKE_AGAIN)
        yield button("Use in prompt", "use", {"place": place}, tooltip=USE)
    yield button("Inspect", "inspect", {"place": place})
    recipe = entry.tag.recipe if entry.tag else None
    if recipe and len(recipe) <= MAX_EDITED:
        yield button("Open recipe", "edit", {"text": as_typed(recipe)})


def _draw_file_fit(place: str, file_fit: FileFit, model: ModelFacts | None, effects: Sequence[KnownEffect]) -> Markup:
    fit = file_fit.fit
    note = find_model_note(file_fit.tag.notes_by_model, model) if file_fit.tag and model else None
    rating = str(note.rating) if note and note.rating else ""
    status, tone = (str(fit.status), fit.status.tone) if fit else (UNUSABLE, "bad")
    shown = Markup('<strong class="embedmerge-is-bad embedmerge-verdict">{}</strong><span>{}</span>').format(
        UNUSABLE, text(file_fit.error, 300)
    )
    if fit:
        badges = [("layers differ", fit.detail)] if fit.layers_differ else []
        if file_fit.stand_in:
            badges.append(("follows", f"In prompts, {file_fit.stand_in} is used instead."))
        shown = Markup('<strong class="embedmerge-is-{} embedmerge-verdict" title="{}">{}</strong>{}').format(
            tone,
            plain(f"{fit.detail} {fit.advice}", 600),
            status,
            join(
                Markup('<span class="embedmerge-badge embedmerge-of-fit" title="{}">{}</span>').format(
                    plain(why, 400), label
                )
                for label, why in badges
            ),
        )
    largest = find_largest(effects).effect if effects else None
    effect, word = ("", "") if largest is None else (f"{largest:.6f}", find_band(largest))
    return Markup(
        '<div data-embedmerge-place="{}" data-embedmerge-status="{}" data-embedmerge-tone="{}"'
        ' data-embedmerge-rating="{}" data-embedmerge-effect="{}" data-embedmerge-band="{}">{}{}</div>'
    ).format(exact(place), status, tone, rating, effect, word, shown, effect_badge(effects))
