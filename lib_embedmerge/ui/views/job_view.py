"""The progress of a job in the background, and the results of a rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.ui.html import button, button_line, code, join, more, note, table, text, view

if TYPE_CHECKING:
    from lib_embedmerge.actions.jobs import JobState, Result
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.actions.preview_jobs import PreviewState
    from lib_embedmerge.errors import EmbedMergeError

MAX_RESULTS = 500


def job_view(identity: str, state: JobState) -> Markup:
    """The progress or the results of a rebuild.

    identity: the id of the job. The script reads it from the view: it asks for the progress again while the job runs,
    and for the list of embeddings once it has ended.
    """
    if state.state == "running":
        return progress_view(identity, state)
    pieces = [note(_summarise_job(state), "good" if state.state == "done" else "warning"), error_note(state.error)]
    rows = [_draw_result(result) for result in state.results[:MAX_RESULTS]]
    if rows:
        pieces.append(table("results", "Results", ("embedding", "checkpoint", "status", "file or reason"), rows))
        pieces.append(more(len(state.results) - len(rows), "result"))
    return view("job", pieces, {"ended": identity})


def progress_view(
    identity: str, state: JobState | LibraryJobState | PreviewState, place: str = "", *, is_counted: bool = False
) -> Markup:
    """How far a job that is running has come, with a button to cancel it.

    place: name of the element that shows it; empty for that of rebuilds. Elsewhere the progress is in percent, because
    what is counted there are numbers that were read.  is_counted: whether it is counted elsewhere too.
    """
    share = round(100 * state.done / max(1, state.total))
    count = f"{share}%" if place and not is_counted else f"{state.done:,} of {state.total:,}"
    left = f", about {_format_duration(state.seconds_left)} left" if state.seconds_left is not None else ""
    bar = Markup(
        '<p class="embedmerge-counter" role="status"><span class="embedmerge-bar"><span class="embedmerge-bar-fill"'
        ' style="width:{}%"></span></span><span>{}{}</span></p>'
    ).format(share, count, left)
    press = f"cancel_{place}" if place else "cancel"
    stop = button_line(button("Cancel", "order", {"order": identity, "press": press}))
    return view("job", [bar, stop], {"job": identity})


def stopping_view(identity: str) -> Markup:
    """What is shown of a job that was cancelled, until it has ended. identity: the id of the job."""
    return view("job", [note("The job stops after this step.", "quiet")], {"job": identity})


def error_note(error: EmbedMergeError | None) -> Markup:
    """Why a job failed; nothing if it did not."""
    return note(error.advice, "bad") if error else Markup("")


def _summarise_job(state: JobState) -> str:
    outcome = {"done": "Rebuilt", "cancelled": "Cancelled", "failed": "Stopped"}.get(state.state, "")
    counts = ", ".join(f"{count:,} {status}" for status, count in state.counts.items())
    if counts:
        return f"{outcome}: {counts}."
    return f"{outcome}: nothing to rebuild." if state.state == "done" else f"{outcome} before anything was rebuilt."


def _draw_result(result: Result) -> Markup:
    rebuilt = result.rebuilt
    cells = (
        code(result.source.name, 80),
        text(result.checkpoint.name, 80),
        rebuilt.status,
        join([*([code(rebuilt.file.name, 120)] if rebuilt.file else []), text(rebuilt.reason or "", 300)], " "),
    )
    return Markup("<tr>{}</tr>").format(join(Markup("<td>{}</td>").format(cell) for cell in cells))


def _format_duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"
