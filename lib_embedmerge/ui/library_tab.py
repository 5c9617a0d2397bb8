"""The page Library of the tab: widgets and wiring only. What the script (javascript/embedmerge_library.js) does with
them stands there: it sends the places of the ticked rows along, where `said` asks for them.

What is done goes into one output, how far a rebuild is into another: that stays in sight whatever else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_embedmerge.core.fit_status import ALL, FILTERS
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.widgets import hidden, on, textbox

_CHOSEN, _ORDER, _JOB = "embedMergeLibrary.chosen", "embedMergeLibrary.order", "embedMergeLibrary.job"
_FITS, _NOTES = "embedMergeLibrary.asking()", "embedMergeLibrary.noting()"


@dataclass(frozen=True)
class _Page:
    """What the events share. said: filled by their scripts.  done: what was done.  job: how far a rebuild is."""

    handlers: LibraryHandlers
    said: gr.Textbox
    shelf: gr.HTML
    done: gr.HTML
    job: gr.HTML

    def then_shelf(self, handler: Callable[..., str]) -> Callable[..., tuple[str, str]]:
        def handled(*values: Any) -> tuple[str, str]:
            return handler(*values), self.handlers.list_library()

        return handled


def add_library(handlers: LibraryHandlers) -> None:
    """Add the page to the gradio Tab that is being built."""
    _finding()
    shelf = gr.HTML(elem_id="embedmerge_shelf")
    done, job = gr.HTML(elem_id="embedmerge_done"), gr.HTML(elem_id="embedmerge_job")
    page = _Page(handlers, gr.Textbox(visible=False, elem_id="embedmerge_library_said"), shelf, done, job)
    _listing(page)
    models = _rebuilding(page)
    _recovering(page)
    _editing(page)
    compared = _comparing(handlers)

    def choices() -> tuple[Any, Any]:
        found = list(handlers.checkpoints())
        return gr.update(choices=found), gr.update(choices=found)

    on(hidden("models"), choices, [], [models, compared])


def _finding() -> None:
    with gr.Row(elem_id="embedmerge_finding"):
        # Nothing listens to them but the script, which gradio would take for a reason to keep them from being changed.
        found = {"interactive": True, "scale": 4}
        textbox("filter", "Filter", "words in the name, recipe, notes or model", max_lines=1, **found)
        gr.Dropdown(list(FILTERS), value=ALL, label="Fit", elem_id="embedmerge_fitting", **found)


def _listing(page: _Page) -> None:
    def refresh() -> tuple[str, Any]:
        return page.handlers.list_library(), page.handlers.running() or gr.update()

    on(hidden("shelve"), refresh, [], [page.shelf, page.job])
    on(hidden("fit"), page.handlers.fits, [page.said], [gr.HTML(elem_id="embedmerge_fits")], said=_FITS)


def _rebuilding(page: _Page) -> gr.Dropdown:
    def rebuild(titles: Sequence[str] | None, places: str) -> str:  # nothing chosen is None in gradio 3
        return page.handlers.rebuild(titles or (), places)

    with gr.Accordion("Rebuild for other models", open=False, elem_id="embedmerge_rebuilding"):
        models = gr.Dropdown([], label="Checkpoints", multiselect=True, elem_id="embedmerge_rebuild_for")
        start = gr.Button("Rebuild the ticked embeddings", variant="primary", elem_id="embedmerge_rebuild")
    # Without the list, which gradio would fade at each look: the script has it listed anew when a rebuild is over.
    on(start, rebuild, [models, page.said], [page.job], said=_CHOSEN)
    on(hidden("watch"), page.handlers.job, [page.said], [page.job], said=_JOB)
    on(hidden("cancel"), page.handlers.cancel, [page.said], [page.job], said=_ORDER)
    return models


def _recovering(page: _Page) -> None:
    with gr.Accordion("Find the text of an embedding", open=False, elem_id="embedmerge_recovering"):
        find = gr.Button("Find the text of the ticked embedding, on the active model", elem_id="embedmerge_recover")
    on(find, page.handlers.recover, [page.said], [page.done], said=_CHOSEN, progress="full")
    on(hidden("keep"), page.then_shelf(page.handlers.keep), [page.said], [page.done, page.shelf], said=_ORDER)


def _editing(page: _Page) -> None:
    handlers, outputs = page.handlers, [page.done, page.shelf]
    with gr.Accordion("Edit", open=False, elem_id="embedmerge_editing"):
        with gr.Row(elem_id="embedmerge_renaming"):
            name = textbox("newname", "Name", "", max_lines=1, scale=4)
            rename = gr.Button("Rename the ticked embedding", elem_id="embedmerge_rename", scale=1)
        with gr.Row(elem_id="embedmerge_noting"):
            notes = textbox("newnotes", "Notes", "", lines=2, scale=4)
            note = gr.Button("Save the notes for the ticked embeddings", elem_id="embedmerge_note", scale=1)
        delete = gr.Button("Delete the ticked embeddings", elem_id="embedmerge_delete")
    on(rename, page.then_shelf(handlers.rename), [name, page.said], outputs, said=_CHOSEN)
    on(note, page.then_shelf(handlers.note), [notes, page.said], outputs, said=_NOTES)
    on(hidden("renote"), page.then_shelf(handlers.renote), [notes, page.said], outputs, said=_ORDER)
    on(delete, page.then_shelf(handlers.delete), [page.said], outputs, said=_CHOSEN)
    on(hidden("undelete"), page.then_shelf(handlers.restore_deleted), [page.said], outputs, said=_ORDER)


def _comparing(handlers: LibraryHandlers) -> gr.Dropdown:
    def compare_all(titles: Sequence[str] | None, source: str) -> str:
        return handlers.compare(titles or (), source)

    with gr.Accordion("Compare checkpoints", open=False, elem_id="embedmerge_comparing"):
        compared = gr.Dropdown([], label="Two or more checkpoints", multiselect=True, elem_id="embedmerge_compared")
        by = textbox("compared_by", "Text or expression to compare the outputs for", "optional", lines=2)
        compare = gr.Button("Compare", elem_id="embedmerge_compare")
        comparison = gr.HTML(elem_id="embedmerge_comparison")
    on(compare, compare_all, [compared, by], [comparison], progress="full")
    return compared
