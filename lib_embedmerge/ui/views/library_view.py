"""The page Library: the table of embeddings, their fits, and the results of actions on them.

The script javascript/embedmerge_library.js sorts and filters the rows, and writes fits into them as they are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.fit_status import ALL, UNMEASURED, UNUSABLE
from lib_embedmerge.errors import format_count
from lib_embedmerge.lang.typed import as_typed
from lib_embedmerge.ui.html import button, code, exact, folded, join, more, note, note_list, plain, text, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.managing import Deletion, LibraryListing
    from lib_embedmerge.recipes.listing import Entry, FileFit
    from lib_embedmerge.recipes.recovery.recover import Recovery

MAX_ROWS = 5000
MAX_EDITED = 4000
"""Characters of the longest recipe or notes that are sent to the page, where they can be edited or copied."""

MAX_SEARCHED = 4000
"""Characters of a row that the filter searches: its short texts, then its recipe and notes."""

_MAX_SHORT = 300
"""Characters of each short text that the filter searches, such as a name."""

MAX_DELETIONS = 5


def listing_view(listing: LibraryListing) -> Markup:
    """The table with a row for each file, and the latest deletions."""
    rows = [_draw_row(place, entry) for place, entry in list(listing.entries.items())[:MAX_ROWS]]
    if not rows:
        empty = note("There are no embeddings here yet. Make one on the page Make.", "quiet")
        return view("shelf", [empty, note_list(listing.warnings), *_draw_deletions(listing.deletions)])
    line = Markup(
        '<p class="embedmerge-line"><strong class="embedmerge-title embedmerge-total">{}</strong>'
        '<span class="embedmerge-fact">{}</span></p>'
    ).format(format_count(len(listing.entries), "embedding"), code(str(listing.folder), 300))
    ticked = Markup('<p class="embedmerge-quiet embedmerge-ticked" role="status">0 ticked</p>')
    rest = more(len(listing.entries) - len(rows), "embedding")
    pieces = [line, _draw_table(rows), ticked, rest, note_list(listing.warnings)]
    return view("shelf", [*pieces, *_draw_deletions(listing.deletions)])


def fits_view(fits: Mapping[str, FileFit]) -> Markup:
    """Fits of files, which the script copies into their rows. fits: path of a file in the library -> its fit."""
    return view("fits", [_draw_file_fit(place, file_fit) for place, file_fit in fits.items()])


def done_view(sentence: str, deleted: Deletion | None = None) -> Markup:
    """A sentence about what was done. deleted: a deletion that a button offers to undo."""
    undo = _draw_undo(deleted) if deleted else Markup("")
    return view("done", [note(sentence, "good"), undo])


def replacing_view(names: Sequence[str], places: str) -> Markup:
    """A warning that saving would replace notes which the page did not show, with a button that saves all the same.

    names: the embeddings that have such notes.
    places: the script's list of all files whose notes are to be saved, in JSON; the button sends it back.
    """
    shown = ", ".join(name[:80] for name in names[:3]) + (", …" if len(names) > 3 else "")
    has = f"{shown} has" if len(names) == 1 else f"{len(names):,} of the ticked embeddings ({shown}) have"
    sentence = f"Nothing was saved yet. {has} other notes, which saving would replace."
    anyway = button("Replace them", "order", {"order": places, "press": "renote"})
    return view("done", [note(sentence, "warning"), Markup('<p class="embedmerge-buttons">{}</p>').format(anyway)])


def recovered_view(places: str, recovery: Recovery) -> Markup:
    """The text that an embedding was made from.

    places: the script's list with the path of its file, in JSON; the button that saves the text sends it back.
    """
    pieces = [note(recovery.detail, "good" if recovery.is_source else "quiet")]
    if len(recovery.expression) <= MAX_EDITED:
        buttons = [button("Open in the text box", "edit", {"text": as_typed(recovery.expression)})]
        buttons.append(button("Copy", "copy", {"text": as_typed(recovery.expression)}))
        if recovery.is_source:
            buttons.append(button("Save as its recipe", "order", {"order": places, "press": "keep"}))
        row = Markup('<p class="embedmerge-recipe">{}<span class="embedmerge-buttons">{}</span></p>')
        pieces.append(row.format(code(recovery.expression, MAX_EDITED), join(buttons)))
    return view("recovered", pieces)


def _draw_table(rows: Sequence[Markup]) -> Markup:
    every = Markup(
        '<th scope="col"><input type="checkbox" class="embedmerge-every" title="tick all that are shown"></th>'
    )
    heads = join(
        Markup('<th scope="col" data-embedmerge-column="{}">{}</th>').format(
            column, button(column, "sort", {"column": column})
        )
        for column in COLUMNS
    )
    return Markup(
        '<div class="embedmerge-scroll" role="region" tabindex="0" aria-label="Embeddings">'
        '<table class="embedmerge-table embedmerge-files" data-embedmerge-all="{}" data-embedmerge-unmeasured="{}"'
        ' data-embedmerge-unusable="{}"><thead><tr>{}{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(ALL, UNMEASURED, UNUSABLE, every, heads, join(rows))


def _draw_row(place: str, entry: Entry) -> Markup:
    folder = _find_folder(place)
    cells = join(
        Markup('<td data-embedmerge-column="{}">{}</td>').format(column, draw(entry, folder))
        for column, draw in COLUMNS.items()
    )
    status = UNMEASURED if entry.is_usable else UNUSABLE
    # Notes that are too long have no attribute, so that the script does not take them for no notes.
    notes = Markup(' data-embedmerge-notes="%s"') % exact(entry.notes) if len(entry.notes) <= MAX_EDITED else Markup("")
    return Markup(
        '<tr data-embedmerge-place="%s" data-embedmerge-status="%s" data-embedmerge-name="%s"'
        ' data-embedmerge-words="%s"%s>'
        '<td><input type="checkbox" class="embedmerge-chosen" aria-label="%s"></td>%s</tr>'
    ) % (
        exact(place),
        status,
        exact(entry.name),
        exact(_join_words(entry, folder)),
        notes,
        plain(entry.name, 80),
        cells,
    )


def _find_folder(place: str) -> str:
    """The folder of a file, relative to the embeddings folder. Empty for a file in the embeddings folder itself."""
    folder = str(PurePosixPath(place).parent)
    return "" if folder == "." else folder


def _draw_name(entry: Entry, folder: str) -> Markup:
    quiet = Markup(' <span class="embedmerge-quiet">%s</span>')
    shown = text(entry.name, 80)
    if folder:
        shown += quiet % text(folder, 60)
    if entry.tag and entry.tag.variant_of:
        shown += quiet % text(f"for {entry.tag.variant_of}", 80)
    if entry.is_usable and entry.reason:  # texts do not find this file
        shown += note(entry.reason, "warning")
    return shown


def _draw_count(entry: Entry, _: str) -> str:
    return str(entry.count or "")


def _draw_architecture(entry: Entry, _: str) -> Markup:
    return text(entry.architecture.title, 40) if entry.architecture else Markup("")


def _draw_made_for(entry: Entry, _: str) -> Markup:
    return text(entry.tag.made_for or entry.tag.file_name or "", 60) if entry.tag else Markup("")


def _draw_fit(entry: Entry, _: str) -> Markup:
    """An empty cell, which the script fills when the fit is measured; or why the file cannot be used."""
    return Markup("") if entry.is_usable else _draw_unusable(entry.reason or "")


def _draw_notes(entry: Entry, _: str) -> Markup:
    return text(entry.notes, 80)


def _join_words(entry: Entry, folder: str) -> str:
    """The text of a row that the filter searches. Texts that are too long are truncated."""
    short = [entry.name, folder, entry.architecture.title if entry.architecture else None]
    long = ["", ""]
    if tag := entry.tag:
        short += [tag.made_for, tag.file_name, tag.variant_of, tag.tool]
        long = sorted((tag.recipe or "", tag.notes or ""), key=len)
    # The longer of the two gets the room that the shorter one leaves.
    words = [*(word[:_MAX_SHORT] for word in short if word), long[0][: MAX_SEARCHED // 2], long[1][:MAX_SEARCHED]]
    return " ".join(words)[:MAX_SEARCHED]


def _draw_date(entry: Entry, _: str) -> Markup:
    """The day, with the whole date in the tooltip."""
    date = entry.date
    return Markup('<span title="%s" data-embedmerge-by="%s">%s</span>') % (
        plain(date, 40), _make_sort_key(date), plain(date[:10], 10)
    )  # fmt: skip


def _make_sort_key(date: str) -> str:
    """The text by which a date is sorted: the time in UTC, or the text itself if it is not a date."""
    try:
        moment = datetime.fromisoformat(
            f"{date[:-1]}+00:00" if date.endswith("Z") else date
        )  # Python 3.10 does not read Z
        moment = moment.astimezone(timezone.utc) if moment.tzinfo else moment
    except (ValueError, OverflowError):  # not a date, or outside the calendar
        return plain(date, 40)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _draw_recipe(entry: Entry, _: str) -> Markup:
    recipe = entry.tag.recipe if entry.tag else None
    if not recipe:
        return Markup("")
    if len(recipe) > MAX_EDITED:
        return code(recipe, 80)
    template = Markup('<button type="button" class="embedmerge-open" title="open it in the editor"{}>{}</button>')
    data = Markup(' data-embedmerge-action="edit" data-embedmerge-text="{}"').format(exact(as_typed(recipe)))
    return template.format(data, code(recipe, 80))


COLUMNS: Mapping[str, Callable[[Entry, str], str | Markup]] = {
    "name": _draw_name,
    "vectors": _draw_count,
    "for": _draw_architecture,
    "made for": _draw_made_for,
    "fit": _draw_fit,
    "recipe": _draw_recipe,
    "notes": _draw_notes,
    "date": _draw_date,
}
"""Title of a column -> the function that draws a cell from an entry and its folder. The script finds cells by title."""


def _draw_unusable(reason: str) -> Markup:
    return Markup('<strong class="embedmerge-is-bad embedmerge-verdict">{}</strong><span>{}</span>').format(
        UNUSABLE, text(reason, 300)
    )


def _draw_file_fit(place: str, file_fit: FileFit) -> Markup:
    fit = file_fit.fit
    status = str(fit.status) if fit else UNUSABLE
    shown = _draw_unusable(file_fit.error)
    if fit:
        badges = [("layers differ", fit.detail)] if fit.layers_differ else []
        if file_fit.stand_in:
            badges.append(("follows", f"In prompts, {file_fit.stand_in} is used instead."))
        shown = Markup('<strong class="embedmerge-is-{} embedmerge-verdict" title="{}">{}</strong>{}').format(
            fit.status.tone,
            plain(f"{fit.detail} {fit.advice}", 600),
            status,
            join(
                Markup('<span class="embedmerge-badge embedmerge-of-fit" title="{}">{}</span>').format(
                    plain(why, 400), label
                )
                for label, why in badges
            ),
        )
    return Markup('<div data-embedmerge-place="{}" data-embedmerge-status="{}">{}</div>').format(
        exact(place), status, shown
    )


def _draw_deletions(deletions: Iterable[Deletion]) -> Iterator[Markup]:
    """The newest deletions, each with a button that restores its files; nothing if there are none."""
    rows = [
        Markup('<p class="embedmerge-buttons">{}<span>{} <span class="embedmerge-quiet">{}</span></span></p>').format(
            _make_restore_button(deletion, "Restore"),
            join([code(file, 80) for file in deletion.files[:3]], ", ")
            + more(len(deletion.files) - 3, "file").striptags(),
            plain(deletion.date.replace("T", " ")[:16], 20),
        )
        for deletion in list(deletions)[:MAX_DELETIONS]
    ]
    if rows:
        yield folded("Deleted", Markup('<div class="embedmerge-stack">{}</div>').format(join(rows)))


def _draw_undo(deleted: Deletion) -> Markup:
    return Markup('<p class="embedmerge-buttons">{}</p>').format(_make_restore_button(deleted, "Undo"))


def _make_restore_button(deleted: Deletion, label: str) -> Markup:
    return button(label, "order", {"order": deleted.id, "press": "undelete"})
