"""The library as a table, what its files' fits look like in it, and what became of those that something was done with.

The script sorts and filters the rows, and puts fits into them as they are measured (javascript/embedmerge_library.js).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import button, code, counted, exact, joined, more, note, notes, plain, table, text, view
from lib_embedmerge.ui.views.statuses import STATUS_KINDS, UNMEASURED, UNUSABLE

if TYPE_CHECKING:
    from lib_embedmerge.actions.jobs import JobState, Result
    from lib_embedmerge.actions.library import Fitting, Shelf
    from lib_embedmerge.storage.editing import Deleted
    from lib_embedmerge.storage.listing import Entry
    from lib_embedmerge.storage.recovery import Recovery

COLUMNS = ("name", "vectors", "for", "made for", "fit", "recipe", "notes", "date")

MAX_ROWS = 5000
MAX_EDITED = 4000
"""Characters of a recipe or of notes that come along to be edited; longer ones are edited where they were written."""

MAX_RESULTS = 500
MAX_DELETIONS = 5


def shelf_view(shelf: Shelf) -> Markup:
    """The table, a row for each file."""
    rows = [_row(place, entry) for place, entry in list(shelf.entries.items())[:MAX_ROWS]]
    if not rows:
        empty = note("There are no embeddings here yet. Make one on the page Make.", "quiet")
        return view("shelf", [empty, notes(shelf.notes), *_deletions(shelf.deletions)])
    line = Markup(
        '<p class="embedmerge-line"><strong class="embedmerge-title embedmerge-total">{}</strong>'
        '<span class="embedmerge-fact">{}</span></p>'
    ).format(counted(len(shelf.entries), "embedding"), code(str(shelf.folder), 300))
    pieces = [line, _table(rows), more(len(shelf.entries) - len(rows), "embedding"), notes(shelf.notes)]
    return view("shelf", [*pieces, *_deletions(shelf.deletions)])


def fits_view(fittings: Mapping[str, Fitting]) -> Markup:
    """The fits of some files, each for the script to put into the row of its place."""
    return view("fits", [_fitting(place, fitting) for place, fitting in fittings.items()])


def done_view(sentence: str, deleted: Deleted | None = None) -> Markup:
    """What was done. deleted: what can be undone of it."""
    undo = _undo(deleted, "Undo") if deleted else Markup("")
    return view("done", [note(sentence, "good"), undo])


def recovered_view(places: str, recovery: Recovery) -> Markup:
    """What an embedding is made of. places: the script's own words for it, given back when that is to be kept."""
    pieces = [note(recovery.detail, "good" if recovery.is_source else "quiet")]
    if len(recovery.expression) <= MAX_EDITED:
        buttons = [button("Open in the text box", "edit", {"text": recovery.expression})]
        buttons.append(button("Copy", "copy", {"text": recovery.expression}))
        if recovery.is_source:
            buttons.append(button("Keep as its recipe", "order", {"order": places, "press": "keep"}))
        row = Markup('<p class="embedmerge-recipe">{}<span class="embedmerge-buttons">{}</span></p>')
        pieces.append(row.format(code(recovery.expression, MAX_EDITED), joined(buttons)))
    return view("recovered", pieces)


def job_view(identity: str, state: JobState) -> Markup:
    """How far a rebuild is; the script asks again while it runs. identity: of the job."""
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
    counts = ", ".join(f"{count:,} {status}" for status, count in state.counts.items()) or "nothing to rebuild"
    said = {"done": "Rebuilt", "cancelled": "Cancelled", "failed": "Stopped"}[state.state]
    pieces = [note(f"{said}: {counts}.", "good" if state.state == "done" else "warning")]
    if state.error:
        pieces.append(note(f"{state.error.message} {state.error.hint or ''}", "bad"))
    rows = [_result(result) for result in state.results[:MAX_RESULTS]]
    if rows:
        pieces.append(table("results", "Results", ("embedding", "checkpoint", "status", "file or reason"), rows))
        pieces.append(more(len(state.results) - len(rows), "result"))
    return view("job", pieces)


def _table(rows: Sequence[Markup]) -> Markup:
    every = Markup('<th scope="col"><input type="checkbox" class="embedmerge-every" title="all that are shown"></th>')
    heads = joined(
        Markup('<th scope="col">{}</th>').format(button(column, "sort", {"column": str(number)}))
        for number, column in enumerate(COLUMNS, 1)
    )
    return Markup(
        '<div class="embedmerge-scroll" role="region" tabindex="0" aria-label="Embeddings">'
        '<table class="embedmerge-table embedmerge-files"><thead><tr>{}{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(every, heads, joined(rows))


def _row(place: str, entry: Entry) -> Markup:
    tag = entry.tag
    recipe, noted = (tag.recipe or "", tag.notes or "") if tag else ("", "")
    folder = str(PurePosixPath(place).parent)
    quiet = Markup(' <span class="embedmerge-quiet">{}</span>')
    below = quiet.format(text(folder, 60)) if folder != "." else ""
    if tag and tag.variant_of:
        below += quiet.format(text(f"for {tag.variant_of}", 80))
    status, fit = (UNMEASURED, Markup("")) if entry.is_usable else (UNUSABLE, _cannot(entry.reason or ""))
    cells = (
        text(entry.name, 80) + below,
        str(entry.count or ""),
        text(entry.architecture.title, 40) if entry.architecture else "",
        text(tag.made_for or tag.file_name or "", 60) if tag else "",
        fit,
        _recipe(recipe),
        text(noted, 80),
        Markup('<span title="{}">{}</span>').format(plain(entry.date, 40), plain(entry.date[:10], 10)),
    )
    if entry.is_usable and entry.reason:  # a file that texts do not find
        cells = (cells[0] + note(entry.reason, "warning"), *cells[1:])
    told = noted if len(noted) <= MAX_EDITED else ""
    return Markup(
        '<tr data-embedmerge-place="{}" data-embedmerge-status="{}" data-embedmerge-name="{}"'
        ' data-embedmerge-notes="{}">'
        '<td><input type="checkbox" class="embedmerge-chosen" aria-label="{}"></td>{}</tr>'
    ).format(exact(place), status, exact(entry.name), exact(told), plain(entry.name, 80),
             joined(Markup("<td>{}</td>").format(cell) for cell in cells))  # fmt: skip


def _recipe(recipe: str) -> Markup:
    if not recipe:
        return Markup("")
    if len(recipe) > MAX_EDITED:
        return code(recipe, 80)
    shown = Markup('<button type="button" class="embedmerge-open" title="open it in the editor"{}>{}</button>')
    data = Markup(' data-embedmerge-action="edit" data-embedmerge-text="{}"').format(exact(recipe))
    return shown.format(data, code(recipe, 80))


def _cannot(reason: str) -> Markup:
    return Markup('<strong class="embedmerge-is-bad embedmerge-verdict">{}</strong><span>{}</span>').format(
        UNUSABLE, text(reason, 300)
    )


def _fitting(place: str, fitting: Fitting) -> Markup:
    fit = fitting.fit
    status = fit.status if fit else UNUSABLE
    shown = _cannot(fitting.error)
    if fit:
        badges = [("other layers", fit.detail)] if fit.layers_differ else []
        if fitting.stand_in:
            badges.append(("follows", f"In prompts, {fitting.stand_in} stands for it."))
        shown = Markup('<strong class="embedmerge-is-{} embedmerge-verdict" title="{}">{}</strong>{}').format(
            STATUS_KINDS[status],
            plain(f"{fit.detail} {fit.advice}", 600),
            status,
            joined(
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
            button("Bring back", "order", {"order": one.id, "press": "undelete"}),
            joined([code(file, 80) for file in one.files[:3]], ", ") + more(len(one.files) - 3, "file").striptags(),
            plain(one.date.replace("T", " ")[:16], 20),
        )
        for one in list(deletions)[:MAX_DELETIONS]
    ]
    if rows:
        yield Markup('<details class="embedmerge-details"><summary class="embedmerge-summary">Deleted</summary>'
                     '<div class="embedmerge-stack">{}</div></details>').format(joined(rows))  # fmt: skip


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
        code(one.file.name, 120) if one.file else text(one.reason or "", 300),
    )
    return Markup("<tr>{}</tr>").format(joined(Markup("<td>{}</td>").format(cell) for cell in cells))


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"
