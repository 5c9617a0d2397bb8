"""The library as a table, what its files' fits look like in it, and what became of those that something was done with.

The script sorts and filters the rows, and puts fits into them as they are measured (javascript/embedmerge_library.js).
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
from lib_embedmerge.ui.html import button, code, exact, join, more, note, note_list, plain, table, text, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.jobs import JobState, Result
    from lib_embedmerge.actions.managing import Deleted, LibraryListing
    from lib_embedmerge.recipes.listing import Entry, FileFit
    from lib_embedmerge.recipes.recovery.recover import Recovery

MAX_ROWS = 5000
MAX_EDITED = 4000
"""Characters of a recipe or of notes that come along to be edited; longer ones are edited where they were written."""

MAX_SEARCHED = 4000
"""Characters of a row that it is found by: its short texts, then recipe and notes."""

_MAX_SHORT = 300
"""Characters of each of the short ones. More are no name."""

MAX_RESULTS = 500
MAX_DELETIONS = 5


def listing_view(shelf: LibraryListing) -> Markup:
    """The table, a row for each file."""
    rows = [_row(place, entry) for place, entry in list(shelf.entries.items())[:MAX_ROWS]]
    if not rows:
        empty = note("There are no embeddings here yet. Make one on the page Make.", "quiet")
        return view("shelf", [empty, note_list(shelf.warnings), *_deletions(shelf.deletions)])
    line = Markup(
        '<p class="embedmerge-line"><strong class="embedmerge-title embedmerge-total">{}</strong>'
        '<span class="embedmerge-fact">{}</span></p>'
    ).format(format_count(len(shelf.entries), "embedding"), code(str(shelf.folder), 300))
    ticked = Markup('<p class="embedmerge-quiet embedmerge-ticked" role="status">0 ticked</p>')
    pieces = [line, _table(rows), ticked, more(len(shelf.entries) - len(rows), "embedding"), note_list(shelf.warnings)]
    return view("shelf", [*pieces, *_deletions(shelf.deletions)])


def fits_view(fits: Mapping[str, FileFit]) -> Markup:
    """The fits of some files, each for the script to put into the row of its place."""
    return view("fits", [_file_fit(place, found) for place, found in fits.items()])


def done_view(sentence: str, deleted: Deleted | None = None) -> Markup:
    """What was done. deleted: what can be undone of it."""
    undo = _undo(deleted, "Undo") if deleted else Markup("")
    return view("done", [note(sentence, "good"), undo])


def replacing_view(names: Sequence[str], places: str) -> Markup:
    """What saving notes would replace that the page did not show, and how to do it all the same.

    names: of the embeddings whose notes these are.  places: of all whose notes are to be saved, for the script.
    """
    named = ", ".join(name[:80] for name in names[:3]) + (", …" if len(names) > 3 else "")
    has = f"{named} has" if len(names) == 1 else f"{len(names):,} of the ticked embeddings ({named}) have"
    sentence = f"Nothing was saved yet. {has} other notes, which saving would replace."
    anyway = button("Replace them", "order", {"order": places, "press": "renote"})
    return view("done", [note(sentence, "warning"), Markup('<p class="embedmerge-buttons">{}</p>').format(anyway)])


def recovered_view(places: str, recovery: Recovery) -> Markup:
    """What an embedding is made of. places: the script's own words for it, given back when that is to be kept."""
    pieces = [note(recovery.detail, "good" if recovery.is_source else "quiet")]
    if len(recovery.expression) <= MAX_EDITED:
        buttons = [button("Open in the text box", "edit", {"text": as_typed(recovery.expression)})]
        buttons.append(button("Copy", "copy", {"text": as_typed(recovery.expression)}))
        if recovery.is_source:
            buttons.append(button("Save as its recipe", "order", {"order": places, "press": "keep"}))
        row = Markup('<p class="embedmerge-recipe">{}<span class="embedmerge-buttons">{}</span></p>')
        pieces.append(row.format(code(recovery.expression, MAX_EDITED), join(buttons)))
    return view("recovered", pieces)


def job_view(identity: str, state: JobState) -> Markup:
    """How far a rebuild is; the script asks again while it runs, and for the list when it is over.

    identity: of the job.
    """
    if state.state == "running":
        share = round(100 * state.done / max(1, state.total))
        left = f", about {_duration(state.seconds_left)} left" if state.seconds_left is not None else ""
        bar = Markup(
            '<p class="embedmerge-counter" role="status"><span class="embedmerge-bar"><span class="embedmerge-bar-fill"'
            ' style="width:{}%"></span></span><span>{} of {}{}</span></p>'
        ).format(share, f"{state.done:,}", f"{state.total:,}", left)
        stop = Markup('<p class="embedmerge-buttons">{}</p>').format(
            button("Cancel", "order", {"order": identity, "press": "cancel"})
        )
        return view("job", [bar, stop], {"job": identity})
    pieces = [note(_ended(state), "good" if state.state == "done" else "warning")]
    if state.error:
        pieces.append(note(f"{state.error.message} {state.error.hint or ''}", "bad"))
    rows = [_result(result) for result in state.results[:MAX_RESULTS]]
    if rows:
        pieces.append(table("results", "Results", ("embedding", "checkpoint", "status", "file or reason"), rows))
        pieces.append(more(len(state.results) - len(rows), "result"))
    return view("job", pieces, {"ended": identity})


def _ended(state: JobState) -> str:
    said = {"done": "Rebuilt", "cancelled": "Cancelled", "failed": "Stopped"}.get(state.state, "")
    counts = ", ".join(f"{count:,} {status}" for status, count in state.counts.items())
    if counts:
        return f"{said}: {counts}."
    return f"{said}: nothing to rebuild." if state.state == "done" else f"{said} before anything was rebuilt."


def _table(rows: Sequence[Markup]) -> Markup:
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


def _row(place: str, entry: Entry) -> Markup:
    folder = _folder(place)
    cells = join(
        Markup('<td data-embedmerge-column="{}">{}</td>').format(column, draw(entry, folder))
        for column, draw in COLUMNS.items()
    )
    status = UNMEASURED if entry.is_usable else UNUSABLE
    # Without what is too long to be edited, so that the script knows it from none.
    noted = entry.notes
    told = Markup(' data-embedmerge-notes="%s"') % exact(noted) if len(noted) <= MAX_EDITED else Markup("")
    return Markup(
        '<tr data-embedmerge-place="%s" data-embedmerge-status="%s" data-embedmerge-name="%s"'
        ' data-embedmerge-words="%s"%s>'
        '<td><input type="checkbox" class="embedmerge-chosen" aria-label="%s"></td>%s</tr>'
    ) % (exact(place), status, exact(entry.name), exact(_words(entry, folder)), told, plain(entry.name, 80), cells)


def _folder(place: str) -> str:
    """The folder that a file lies in, within the embeddings folder; empty for that folder itself."""
    folder = str(PurePosixPath(place).parent)
    return "" if folder == "." else folder


def _name(entry: Entry, folder: str) -> Markup:
    quiet = Markup(' <span class="embedmerge-quiet">%s</span>')
    shown = text(entry.name, 80)
    if folder:
        shown += quiet % text(folder, 60)
    if entry.tag and entry.tag.variant_of:
        shown += quiet % text(f"for {entry.tag.variant_of}", 80)
    if entry.is_usable and entry.reason:  # a file that texts do not find
        shown += note(entry.reason, "warning")
    return shown


def _vectors(entry: Entry, _: str) -> str:
    return str(entry.count or "")


def _architecture(entry: Entry, _: str) -> Markup:
    return text(entry.architecture.title, 40) if entry.architecture else Markup("")


def _made_for(entry: Entry, _: str) -> Markup:
    return text(entry.tag.made_for or entry.tag.file_name or "", 60) if entry.tag else Markup("")


def _fit(entry: Entry, _: str) -> Markup:
    """Nothing until the script has the fit, except for a file that cannot be used."""
    return Markup("") if entry.is_usable else _cannot(entry.reason or "")


def _notes(entry: Entry, _: str) -> Markup:
    return text(entry.notes, 80)


def _words(entry: Entry, folder: str) -> str:
    """What a row is found by. Of what is too long the beginning."""
    short = [entry.name, folder, entry.architecture.title if entry.architecture else None]
    long = ["", ""]
    if tag := entry.tag:
        short += [tag.made_for, tag.file_name, tag.variant_of, tag.tool]
        long = sorted((tag.recipe or "", tag.notes or ""), key=len)
    # The shorter of the two leaves the longer its room.
    words = [*(one[:_MAX_SHORT] for one in short if one), long[0][: MAX_SEARCHED // 2], long[1][:MAX_SEARCHED]]
    return " ".join(words)[:MAX_SEARCHED]


def _date(entry: Entry, _: str) -> Markup:
    """A day; its moment in the tooltip."""
    date = entry.date
    return Markup('<span title="%s" data-embedmerge-by="%s">%s</span>') % (
        plain(date, 40), _moment(date), plain(date[:10], 10)
    )  # fmt: skip


def _moment(date: str) -> str:
    """What dates are sorted by: the moment in UTC, or the text where it is none."""
    try:
        when = datetime.fromisoformat(f"{date[:-1]}+00:00" if date.endswith("Z") else date)  # Python 3.10 knows no Z
        when = when.astimezone(timezone.utc) if when.tzinfo else when
    except (ValueError, OverflowError):  # any text, or beyond the calendar
        return plain(date, 40)
    return when.replace(tzinfo=None).isoformat(timespec="microseconds")


def _recipe(entry: Entry, _: str) -> Markup:
    recipe = entry.tag.recipe if entry.tag else None
    if not recipe:
        return Markup("")
    if len(recipe) > MAX_EDITED:
        return code(recipe, 80)
    shown = Markup('<button type="button" class="embedmerge-open" title="open it in the editor"{}>{}</button>')
    data = Markup(' data-embedmerge-action="edit" data-embedmerge-text="{}"').format(exact(as_typed(recipe)))
    return shown.format(data, code(recipe, 80))


COLUMNS: Mapping[str, Callable[[Entry, str], str | Markup]] = {
    "name": _name,
    "vectors": _vectors,
    "for": _architecture,
    "made for": _made_for,
    "fit": _fit,
    "recipe": _recipe,
    "notes": _notes,
    "date": _date,
}
"""Title -> what draws a cell, from an entry and the folder that its file lies in. The script finds cells by title."""


def _cannot(reason: str) -> Markup:
    return Markup('<strong class="embedmerge-is-bad embedmerge-verdict">{}</strong><span>{}</span>').format(
        UNUSABLE, text(reason, 300)
    )


def _file_fit(place: str, found: FileFit) -> Markup:
    fit = found.fit
    status = str(fit.status) if fit else UNUSABLE
    shown = _cannot(found.error)
    if fit:
        badges = [("layers differ", fit.detail)] if fit.layers_differ else []
        if found.stand_in:
            badges.append(("follows", f"In prompts, {found.stand_in} is used instead."))
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


def _deletions(deletions: Iterable[Deleted]) -> Iterator[Markup]:
    """What can be brought back, the newest."""
    rows = [
        Markup('<p class="embedmerge-buttons">{}<span>{} <span class="embedmerge-quiet">{}</span></span></p>').format(
            button("Restore", "order", {"order": one.id, "press": "undelete"}),
            join([code(file, 80) for file in one.files[:3]], ", ") + more(len(one.files) - 3, "file").striptags(),
            plain(one.date.replace("T", " ")[:16], 20),
        )
        for one in list(deletions)[:MAX_DELETIONS]
    ]
    if rows:
        yield Markup('<details class="embedmerge-details"><summary class="embedmerge-summary">Deleted</summary>'
                     '<div class="embedmerge-stack">{}</div></details>').format(join(rows))  # fmt: skip


def _undo(deleted: Deleted, label: str) -> Markup:
    return Markup('<p class="embedmerge-buttons">{}</p>').format(
        button(label, "order", {"order": deleted.id, "press": "undelete"})
    )


def _result(result: Result) -> Markup:
    one = result.rebuilt
    cells = (
        code(result.source.name, 80),
        text(result.checkpoint.name, 80),
        one.status,
        join([*([code(one.file.name, 120)] if one.file else []), text(one.reason or "", 300)], " "),
    )
    return Markup("<tr>{}</tr>").format(join(Markup("<td>{}</td>").format(cell) for cell in cells))


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"
