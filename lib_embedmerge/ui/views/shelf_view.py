"""The page Library: the frame in which the script shows the embeddings, and the list of them for the script.

javascript/embedmerge_library.js searches, sorts and filters; entry_view.py draws the entries that are in sight.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.effects import WORDS
from lib_embedmerge.core.fit_status import FILTERS, MAX_RATING, UNMEASURED, UNUSABLE
from lib_embedmerge.ui.html import IMPROVE, MAKE_AGAIN, MAX_EDITED, button, code, join, note, note_list, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.managing import LibraryListing
    from lib_embedmerge.recipes.listing import Entry

MAX_TEXTS = 3_000_000
"""Characters of all recipes and notes together that are sent to the page. In a library with more, long ones are cut."""

_LIMITS = (MAX_EDITED, 1000, 300, 100)
"""Characters of the longest recipe or notes that are sent: the first of these with which all take up MAX_TEXTS."""

_MAX_SHORT = 300
"""Characters of each short text that is sent, such as the title of a model."""

USABLE, HAS_RECIPE, CUT = 1, 2, 4
"""Flags of a file: its vectors can be loaded; it has a recipe; its recipe or its notes were cut."""

_SORTS = {
    "name": "by name",
    "date": "by date",
    "model": "by model",
    "fit": "by fit",
    "effect": "by effect on other models",
    "rating": "by rating",
    "count": "by vectors",
}
_LAYOUTS = {
    "cards": ("Cards", "a card with a picture for each embedding"),
    "rows": ("Rows", "a row for each embedding"),
    "files": ("Files", "a row for each file, also for versions for other models"),
}


def finding_view() -> Markup:
    """The controls that search, filter and sort, and the choice between cards and rows."""
    search = Markup(
        '<input type="search" class="embedmerge-field embedmerge-search" data-embedmerge-filter="words"'
        ' placeholder="Search names, recipes, notes, models" aria-label="Search">'
    )
    fits = {"": "any fit", **{status: status for status in FILTERS}}
    effects = {"": "any effect", **{word: f"effect: {word}" for word in (*WORDS, UNMEASURED)}}
    recipes = {"": "recipe or none", "yes": "with a recipe", "no": "without a recipe"}
    ratings = {"": "any rating", **{str(most): f"{most} stars or more" for most in range(MAX_RATING, 1, -1)}}
    ratings |= {str(MAX_RATING): f"{MAX_RATING} stars", "1": "with a rating", "0": "without a rating"}
    filters = [
        _draw_choice("fit", "Fit", fits),
        _draw_choice("effect", "Effect on other models", effects),
        _draw_choice("family", "Model family", {"": "any family"}),
        _draw_choice("model", "Made for", {"": "made for any model"}),
        _draw_choice("recipe", "Recipe", recipes),
        _draw_choice("rating", "Rating on the active model", ratings),
        _draw_choice("sort", "Order", _SORTS),
    ]
    layouts = join(
        Markup(
            '<button type="button" class="embedmerge-button" title="{}" aria-pressed="false"'
            ' data-embedmerge-action="layout" data-embedmerge-layout="{}">{}</button>'
        ).format(title, name, label)
        for name, (label, title) in _LAYOUTS.items()
    )
    reverse = Markup(
        '<button type="button" class="embedmerge-button" title="reverse the order" aria-label="Reverse the order"'
        ' data-embedmerge-action="reverse">↓↑</button>'
    )
    chosen = Markup('<span class="embedmerge-switch" role="group" aria-label="Show as">{}</span>').format(layouts)
    return view("finding", [search, *filters, reverse, chosen])


def list_view(*, pictures: bool = False) -> Markup:
    """The frame of the list, and the bar about the ticked embeddings. The script fills both.

    pictures: whether the page has a section that makes pictures.
    """
    words = {"unmeasured": UNMEASURED, "unusable": UNUSABLE}
    head = Markup(
        '<p class="embedmerge-line"><strong class="embedmerge-title embedmerge-total" role="status"></strong>'
        '<label class="embedmerge-fact"><input type="checkbox" class="embedmerge-every"> tick all that are shown'
        "</label></p>"
    )
    # Entries are roles of a list, because a browser could not lay out a table with only the rows that are in sight.
    box = Markup(
        '<div class="embedmerge-list" role="list" tabindex="0" aria-label="Embeddings">'
        '<div class="embedmerge-space" role="presentation"></div></div>'
    )
    buttons = [
        button("Make for this model", "remake-ticked", tooltip=MAKE_AGAIN),
        button("Rebuild for other models…", "open-accordion", {"accordion": "rebuilding"}),
        button("Effects…", "open-accordion", {"accordion": "effects"}, tooltip="measure what they do on other models"),
        button("Compress, port, repair…", "open-accordion", {"accordion": "optimising"}, tooltip=IMPROVE),
        button("Edit…", "open-accordion", {"accordion": "editing"}, tooltip="change the name or the notes"),
        button("Delete…", "ask-delete"),
        button("Untick all", "untick"),
    ]
    if pictures:
        buttons.insert(2, button("Make preview pictures…", "open-accordion", {"accordion": "previewing"}))
        grid = "fill the script X/Y/Z plot in txt2img with these embeddings and the checkpoints"
        buttons.insert(3, button("Set up X/Y/Z plot", "set-up-grid", tooltip=grid))
    agree = [button("Move to the trash", "agree-delete"), button("Keep", "keep-ticked")]
    bar = Markup(
        '<div class="embedmerge-ticked-bar" role="region" aria-label="Ticked embeddings">'
        '<p class="embedmerge-ticked" role="status">0 ticked</p>'
        '<p class="embedmerge-buttons embedmerge-for-ticked">{}</p>'
        '<p class="embedmerge-buttons embedmerge-to-agree"><strong class="embedmerge-question" role="alert"></strong>'
        "{}</p></div>"
    ).format(join(buttons), join(agree))
    return view("frame", [head, box, bar], words)


def listing_view(listing: LibraryListing, number: int = 0, files: Markup | None = None) -> Markup:
    """The list of all files for the script, and for people what concerns the whole library.

    files: the result of `encode_files` for these entries, if it is known; it takes longest.
    number: another one for each list, also of another program: gradio 4 draws no answer that is equal to the last one,
        while what the entries show may have changed.
    """
    from lib_embedmerge.ui.views.library_view import draw_deletions  # not when a web UI starts and draws the frame

    pieces = [encode_files(listing.entries) if files is None else files]
    if listing.entries:
        pieces.append(Markup('<p class="embedmerge-quiet">{}</p>').format(code(str(listing.folder), 300)))
    else:
        pieces.append(note("There are no embeddings here yet. Make one on the page Make.", "quiet"))
    return view(
        "shelf", [*pieces, note_list(listing.warnings), *draw_deletions(listing.deletions)], {"listed": str(number)}
    )


def _draw_choice(name: str, label: str, options: dict[str, str]) -> Markup:
    """A list to choose from. options: value -> label; the first one is chosen."""
    drawn = join(Markup('<option value="{}">{}</option>').format(*option) for option in options.items())
    return Markup(
        '<select class="embedmerge-field" title="{0}" data-embedmerge-filter="{1}" aria-label="{0}">{2}</select>'
    ).format(label, name, drawn)


class _Table:
    """Texts that many files have in common, each once; files have their numbers."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        return self.texts.setdefault((text or "")[:_MAX_SHORT], len(self.texts))


def encode_files(entries: Mapping[str, Entry]) -> Markup:
    """The files as JSON, short enough for tens of thousands: lists of values in a fixed order, as `#readFiles` of the
    script reads them."""
    from lib_embedmerge.recipes.concepts import find_concepts  # not when a web UI starts and draws the frame

    families, models, tools = _Table(), _Table(), _Table()
    numbers = {place: number for number, place in enumerate(entries)}
    heads = {place: head for head, files in find_concepts(entries).items() for place in files}
    limit = _find_limit(entries.values())
    files = []
    for place, entry in entries.items():
        tag = entry.tag
        recipe, notes = (tag.recipe or "" if tag else ""), entry.notes
        is_cut = len(recipe) > limit or len(notes) > limit
        flags = USABLE * entry.is_usable | HAS_RECIPE * bool(recipe) | CUT * is_cut
        architecture = entry.architecture.title if entry.architecture else ""
        files.append(
            [
                place,
                0 if entry.name == _find_stem(place) else entry.name,
                numbers[heads[place]],
                flags,
                entry.count or 0,
                families.number(architecture),
                models.number(entry.made_for),
                tools.number(tag.tool if tag else ""),
                entry.date[:_MAX_SHORT],
                recipe[:limit],
                notes[:limit],
                _join_sidecar(entry)[:limit],
            ]
        )
    tables = {"families": list(families.texts), "models": list(models.texts), "tools": list(tools.texts)}
    return Markup('<div class="embedmerge-data">{}</div>').format(as_json_text({**tables, "files": files}))


def _join_sidecar(entry: Entry) -> str:
    """What files of other tools say of an embedding, to be searched."""
    facts = entry.sidecar
    return " ".join([*facts.trigger_words, facts.notes or ""]) if facts else ""


def _find_stem(place: str) -> str:
    """The name of a file without its folder and its ending."""
    return place.rpartition("/")[2].rpartition(".")[0]


def _list_texts(entry: Entry) -> tuple[str, ...]:
    return (entry.tag and entry.tag.recipe) or "", entry.notes, _join_sidecar(entry)


def _find_limit(entries: Iterable[Entry]) -> int:
    """The most characters of a recipe or of notes with which all together are short enough for the page."""
    lengths = [len(text) for entry in entries for text in _list_texts(entry)]
    fitting = (limit for limit in _LIMITS if sum(min(length, limit) for length in lengths) <= MAX_TEXTS)
    return next(fitting, _LIMITS[-1])


def as_json_text(value: object) -> Markup:
    """A value as JSON in the text of an element: in ASCII, without any character that has a meaning in HTML."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 -- no character with a meaning is left
