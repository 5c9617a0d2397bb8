"""An embedding that was compressed, ported or repaired: its file, and its figures beside those of simple ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import format_count
from lib_embedmerge.ui.html import note, note_list, plain, table, text, view
from lib_embedmerge.ui.views.job_view import error_note, progress_view

if TYPE_CHECKING:
    from lib_embedmerge.actions.library_jobs import LibraryJobState
    from lib_embedmerge.core.optimising_answers import OptimisedAnswer

OPTIMISED = "optimised"
"""Name of the element that shows compressions, ports and repairs."""

_COLUMNS = ("method", "value")


def optimised_view(identity: str, state: LibraryJobState) -> Markup:
    """The progress or the result of a compression, port or repair. identity: the id of the job."""
    if state.state == "running":
        return progress_view(identity, state, OPTIMISED)
    pieces: list[Markup] = []
    if state.state == "cancelled" and not state.results:
        pieces.append(note("Cancelled. Nothing was written.", "warning"))
    pieces.append(error_note(state.error))
    if state.results:
        pieces += _list_result(state.results[0])
    return view("job", pieces, {"ended": identity})


def _list_result(result: OptimisedAnswer) -> list[Markup]:
    name = result["file"].replace("\\", "/").rpartition("/")[2]
    saved = f"Saved {name} with {format_count(result['vectors'], 'vector')}, made in {result['seconds']:.0f} s."
    pieces = [note(saved, "good"), note_list(result["notes"], "note")]
    held_out = result["held_out"]
    ways = {"this file": held_out["ours"], **held_out["baselines"]}
    rows = [
        Markup('<tr><th scope="row">{}</th><td title="{}">{}</td></tr>').format(
            text(way, 60), plain(repr(value)), "not finite" if value is None else f"{value:.3f}"
        )
        for way, value in ways.items()
    ]
    pieces.append(table("optimised", "Figures in prompts that the file was not made for", _COLUMNS, rows))
    sentence = f"Measured in prompts that the file was not made for. {result['objective']}"
    pieces.append(note(sentence, "quiet"))
    return pieces
