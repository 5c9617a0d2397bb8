"""The texts that a restore has found, with a box to tick for each file that can be written, and what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.actions.restore_report import describe_certainty, list_files, make_report, summarise
from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import button, button_line, code, join, more, note, plain, table, text, view
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.core.recovery_answers import RestoreAnswer

MAX_RESULTS = 2000
_PLANNED = "planned"
_COLUMNS = ("save", "embedding", "text found", "verdict", "certainty", "token table", "files to save", "remarks")


def restoring_view(identity: str, state: LibraryJobState) -> Markup:
    """The progress or the results of a restore. identity: the id of the job, as for `job_view`."""
    if state.state == "running":
        pieces = [progress_view(identity, state)]
        if not state.done:
            pieces.insert(0, note("The vectors are compared with the words of the checkpoints.", "quiet"))
        return join(pieces)
    if state.state == "cancelled" and not state.results:
        return view("job", [note("Cancelled. Nothing was written.", "warning")], {"ended": identity})
    kind = {"done": "good", "cancelled": "warning", "failed": "bad"}[state.state]
    pieces = [note(_introduce(state) + summarise(state.results), kind), error_note(state.error)]
    shown = state.results[:MAX_RESULTS]
    if shown:
        rows = [_draw_result(number, result) for number, result in enumerate(shown)]
        pieces += [table("results", "Results", _COLUMNS, rows), more(len(state.results) - len(shown), "result")]
        pieces.append(_draw_buttons(identity, state))
    return view("job", pieces, {"ended": identity})


def _introduce(state: LibraryJobState) -> str:
    planned = sum(result["status"] == _PLANNED for result in state.results)
    if not planned:
        return ""
    return (
        f"Nothing is written yet. {format_count(planned, 'file')} can be restored: the text is added to the file"
        " itself, whose vectors stay the same, and versions for the checkpoints are saved beside it. "
    )


def _draw_buttons(identity: str, state: LibraryJobState) -> Markup:
    pieces = [button("Save this report", "download", {"name": "restored.html", "text": make_report(state.results)})]
    if any(result["status"] == _PLANNED for result in state.results):
        pieces.insert(0, button("Save the ticked files", "order", {"order": identity, "press": "write_restored"}))
    return button_line(join(pieces, " "))


def _draw_result(number: int, result: RestoreAnswer) -> Markup:
    name = result["source"].replace("\\", "/").rpartition("/")[2]
    box = Markup("")
    if result["status"] == _PLANNED:
        box = Markup(
            '<input type="checkbox" class="embedmerge-chosen-result" data-embedmerge-result="{}" checked'
            ' aria-label="{}">'
        ).format(number, plain(f"Save {name}"))
    cells = (
        box or text(result["status"]),
        code(name, 80),
        code(result["text"], 300) if result["text"] else "",
        (result["verdict"] or "").replace("_", " "),
        describe_certainty(result["certainty"]),
        "" if result["group"] is None else str(result["group"]),
        join((code(file, 80) for file in list_files(result)), ", "),
        text(" ".join([*filter(None, [result["reason"]]), *result["warnings"]]), 400),
    )
    return Markup("<tr>{}</tr>").format(join(Markup("<td>{}</td>").format(cell) for cell in cells))
