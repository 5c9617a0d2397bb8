"""The page Library of the tab: widgets and wiring only. What the script (javascript/embedmerge_library.js) does with
them stands there: it sends the places of the ticked rows along, where `said` asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.views.statuses import ALL, STATUSES
from lib_embedmerge.ui.widgets import hidden, on, textbox

_CHOSEN, _ORDER, _FITS = "embedMergeLibrary.chosen", "embedMergeLibrary.order", "embedMergeLibrary.asking()"


def add_library(handlers: LibraryHandlers) -> None:
    """Add the page to the gradio Tab that is being built."""
    with gr.Row(elem_id="embedmerge_finding"):
        # Nothing listens to them but the script, which gradio would take for a reason to keep them from being changed.
        found = {"interactive": True, "scale": 4}
        textbox("filter", "Filter", "words of the name, recipe, notes, model", max_lines=1, **found)
        gr.Dropdown(list(STATUSES), value=ALL, label="Fit", elem_id="embedmerge_fitting", **found)
    shelf = gr.HTML(elem_id="embedmerge_shelf")
    done = gr.HTML(elem_id="embedmerge_done")
    said = gr.Textbox(visible=False, elem_id="embedmerge_library_said")  # filled by the events' scripts
    on(hidden("shelve"), handlers.shelf, [], [shelf])
    on(hidden("fit"), handlers.fits, [said], [gr.HTML(elem_id="embedmerge_fits")], said=_FITS)

    def then_shelf(handler: Callable[..., str]) -> Callable[..., tuple[str, str]]:
        def handled(*values: Any) -> tuple[str, str]:
            return handler(*values), handlers.shelf()

        return handled

    def choices() -> tuple[Any, Any]:
        found = list(handlers.checkpoints())
        return gr.update(choices=found), gr.update(choices=found)

    def rebuild(titles: Sequence[str] | None, places: str) -> str:  # nothing chosen is None in gradio 3
        return handlers.rebuild(titles or (), places)

    def compare_all(titles: Sequence[str] | None, source: str) -> str:
        return handlers.compare(titles or (), source)

    with gr.Accordion("Rebuild for other models", open=False, elem_id="embedmerge_rebuilding"):
        models = gr.Dropdown([], label="Checkpoints", multiselect=True, elem_id="embedmerge_rebuild_for")
        start = gr.Button("Rebuild the ticked ones", variant="primary", elem_id="embedmerge_rebuild")
        on(start, rebuild, [models, said], [done], said=_CHOSEN)
    with gr.Accordion("What it is made of", open=False, elem_id="embedmerge_recovering"):
        find = gr.Button("Find the text of the ticked one, on the active model", elem_id="embedmerge_recover")
    on(find, handlers.recover, [said], [done], said=_CHOSEN, progress="full")
    on(hidden("keep"), then_shelf(handlers.keep), [said], [done, shelf], said=_ORDER)
    with gr.Accordion("Edit", open=False, elem_id="embedmerge_editing"):
        with gr.Row():
            name = textbox("newname", "Name", "", max_lines=1, scale=4)
            rename = gr.Button("Rename the ticked one", elem_id="embedmerge_rename", scale=1)
        with gr.Row():
            notes = textbox("newnotes", "Notes", "", lines=2, scale=4)
            note = gr.Button("Save notes of the ticked ones", elem_id="embedmerge_note", scale=1)
        delete = gr.Button("Delete the ticked ones", elem_id="embedmerge_delete")
    on(rename, then_shelf(handlers.rename), [name, said], [done, shelf], said=_CHOSEN)
    on(note, then_shelf(handlers.note), [notes, said], [done, shelf], said=_CHOSEN)
    on(delete, then_shelf(handlers.delete), [said], [done, shelf], said=_CHOSEN)
    on(hidden("undelete"), then_shelf(handlers.undelete), [said], [done, shelf], said=_ORDER)

    with gr.Accordion("Compare checkpoints", open=False, elem_id="embedmerge_comparing"):
        compared = gr.Dropdown([], label="Checkpoints, two or more", multiselect=True, elem_id="embedmerge_compared")
        by = textbox("compared_by", "Text or expression, to compare what they make of it", "may be empty", lines=2)
        compare = gr.Button("Compare", elem_id="embedmerge_compare")
        comparison = gr.HTML(elem_id="embedmerge_comparison")
    on(hidden("models"), choices, [], [models, compared])
    on(compare, compare_all, [compared, by], [comparison], progress="full")

    def look_after(identity: str) -> tuple[str, Any]:
        shown = handlers.job(identity)
        return shown, gr.update() if "data-embedmerge-job" in shown else handlers.shelf()

    on(hidden("job"), look_after, [said], [done, shelf], said=_ORDER)
    on(hidden("cancel"), then_shelf(handlers.cancel), [said], [done, shelf], said=_ORDER)
