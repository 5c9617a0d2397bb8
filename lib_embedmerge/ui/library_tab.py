"""The page Library of the tab: widgets and wiring only.

The script javascript/embedmerge_library.js fills the input `script_value` of events, for example with the ticked files.
Results of actions and the progress of a rebuild have separate outputs, so that the progress stays visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_embedmerge.ui.html import note
from lib_embedmerge.ui.library_handlers import LibraryHandlers
from lib_embedmerge.ui.measuring_handlers import MeasuringHandlers
from lib_embedmerge.ui.measuring_tab import (
    MeasuringSection,
    add_groups,
    add_library_effects,
    describe_sections,
    list_outputs,
)
from lib_embedmerge.ui.optimising_handlers import OptimisingHandlers
from lib_embedmerge.ui.optimising_tab import add_optimising
from lib_embedmerge.ui.views.previews_view import PREVIEWED
from lib_embedmerge.ui.views.shelf_view import finding_view, list_view
from lib_embedmerge.ui.widgets import BUTTON_ORDER, TICKED_FILES, TICKED_RESULTS, checkbox, hidden, on, textbox

_WHAT_A_TEXT_IS_FOR = (
    "An embedding whose text is known can be made again for any model. The text can be found if the vectors are words "
    "of the active model, or sums of them."
)

_JOB_ID = "embedMergeLibrary.jobId"
_TICKED_WITH_VERSIONS = "embedMergeLibrary.tickedWithVersions"
_FIT_QUESTION = "embedMergeLibrary.takeFitQuestion()"
_ENTRY_QUESTION = "embedMergeLibrary.takeEntryQuestion()"
_PICTURE_QUESTION = "embedMergeLibrary.takePictureQuestion()"
_NOTES_MESSAGE = "embedMergeLibrary.takeNotesMessage()"
"""JavaScript for the values that javascript/embedmerge_library.js provides to events."""


@dataclass(frozen=True)
class _Page:
    """Widgets that several events use.

    script_value: an input that the scripts of events fill.
    listing, done, job: the list for the script, the result of the last action, the progress of a rebuild.
    """

    handlers: LibraryHandlers
    script_value: gr.Textbox
    listing: gr.HTML
    done: gr.HTML
    job: gr.HTML

    def with_listing(self, handler: Callable[..., str]) -> Callable[..., tuple[str, str]]:
        """A handler that returns the list, as it is afterwards, after its own result."""

        def handled(*values: Any) -> tuple[str, str]:
            return handler(*values), self.handlers.list_library()

        return handled


def add_library(
    handlers: LibraryHandlers, measuring: MeasuringHandlers, optimising: OptimisingHandlers, *, pictures: bool = False
) -> None:
    """Add the page to the gradio Tab that is being built. pictures: whether the host makes pictures."""
    gr.HTML(finding_view(), elem_id="embedmerge_finding")
    done, job = gr.HTML(elem_id="embedmerge_done"), gr.HTML(elem_id="embedmerge_job")
    previewed = gr.HTML(elem_id=f"embedmerge_{PREVIEWED}", visible=pictures)
    gr.HTML(list_view(pictures=pictures), elem_id="embedmerge_cards")
    listing = gr.HTML(elem_id="embedmerge_shelf")
    page = _Page(handlers, gr.Textbox(visible=False, elem_id="embedmerge_library_said"), listing, done, job)
    _add_listing(page)
    if pictures:
        from lib_embedmerge.ui.preview_section import add_previewing

        add_previewing(handlers, page.script_value, previewed, listing, page.with_listing)
    models = _add_rebuilding(page)
    restored = _add_restoring(page)
    _add_recovering(page)
    _add_editing(page)
    compared, groups = _add_comparing(page, measuring)
    effects = add_library_effects(measuring, page.script_value)
    optimised = add_optimising(optimising, measuring, page.script_value)

    sections = [effects, groups, optimised]
    chosen_from = [models, restored, compared, *(choice for section in sections for choice in section.checkpoints)]

    def update_choices() -> list[Any]:
        checkpoints = list(handlers.list_checkpoints())
        choices = [gr.update(choices=checkpoints) for _ in chosen_from]
        return [*choices, *describe_sections(measuring, sections)]

    on(hidden("models"), update_choices, [], [*chosen_from, *list_outputs(sections)])


def _add_listing(page: _Page) -> None:
    def refresh() -> tuple[str, Any]:
        return page.handlers.list_library(), page.handlers.show_running_job() or gr.update()

    on(hidden("shelve"), refresh, [], [page.listing, page.job])
    questions = {
        "fit": (page.handlers.measure_fits, "fits", _FIT_QUESTION),
        "draw": (page.handlers.draw_entries, "entries", _ENTRY_QUESTION),
        "picture": (page.handlers.draw_pictures, "pictures", _PICTURE_QUESTION),
    }
    for name, (handler, answer, script_value) in questions.items():
        output = gr.HTML(elem_id=f"embedmerge_{answer}")
        on(hidden(name), handler, [page.script_value], [output], script_value=script_value)
    made = [page.done, page.listing]
    make = page.with_listing(page.handlers.make_for_model)
    rate = page.with_listing(page.handlers.rate)
    on(hidden("rate"), rate, [page.script_value], made, script_value=BUTTON_ORDER)
    on(hidden("remake"), make, [page.script_value], made, script_value=BUTTON_ORDER)


def _add_rebuilding(page: _Page) -> gr.Dropdown:
    def rebuild(titles: Sequence[str] | None, places: str) -> str:  # None in gradio 3 if nothing is chosen
        return page.handlers.start_rebuild(titles or (), places)

    with gr.Accordion("Rebuild for other models", open=False, elem_id="embedmerge_rebuilding"):
        models = gr.Dropdown(
            [],
            label="Checkpoints",
            info="Each ticked embedding gets a version for each of them, made from its recipe. Its own file is kept.",
            multiselect=True,
            elem_id="embedmerge_rebuild_for",
        )
        start = gr.Button("Rebuild the ticked embeddings", variant="primary", elem_id="embedmerge_rebuild")
    # The table is no output here, because gradio would fade it at each update. The script updates it after a rebuild.
    on(start, rebuild, [models, page.script_value], [page.job], script_value=TICKED_FILES)
    on(hidden("watch"), page.handlers.show_job, [page.script_value], [page.job], script_value=_JOB_ID)
    on(hidden("cancel"), page.handlers.cancel_job, [page.script_value], [page.job], script_value=BUTTON_ORDER)
    return models


def _add_restoring(page: _Page) -> gr.Dropdown:
    def restore(titles: Sequence[str] | None, only_sure: object, places: str) -> str:
        return page.handlers.start_restore(titles or (), places, only_sure=only_sure is True)

    with gr.Accordion("Find the texts of many embeddings", open=False, elem_id="embedmerge_restoring"):
        models = gr.Dropdown(
            [],
            label="Checkpoints",
            info="Their words are searched. An embedding whose text is found also gets a version for each of them.",
            multiselect=True,
            elem_id="embedmerge_restore_for",
        )
        only_sure = checkbox("restore_sure", "Skip embeddings in which some words are not certain")
        gr.HTML(note("Nothing is written before you have looked through what was found.", "quiet"))
        start = gr.Button(
            "Find the texts of the ticked embeddings, or of all if none is ticked", elem_id="embedmerge_restore"
        )
    on(start, restore, [models, only_sure, page.script_value], [page.job], script_value=TICKED_FILES)
    on(
        hidden("write_restored"),
        page.handlers.write_restored,
        [page.script_value],
        [page.job],
        script_value=TICKED_RESULTS,
    )
    return models


def _add_recovering(page: _Page) -> None:
    with gr.Accordion("Find the text of an embedding", open=False, elem_id="embedmerge_recovering"):
        gr.HTML(note(_WHAT_A_TEXT_IS_FOR, "quiet"))
        find = gr.Button("Find the text of the ticked embedding, on the active model", elem_id="embedmerge_recover")
    on(find, page.handlers.recover_text, [page.script_value], [page.done], script_value=TICKED_FILES, progress="full")
    on(
        hidden("keep"),
        page.with_listing(page.handlers.save_recovered_text),
        [page.script_value],
        [page.done, page.listing],
        script_value=BUTTON_ORDER,
    )


def _add_editing(page: _Page) -> None:
    handlers, outputs = page.handlers, [page.done, page.listing]
    with gr.Accordion("Edit", open=False, elem_id="embedmerge_editing"):
        with gr.Row(elem_id="embedmerge_renaming"):
            name = textbox(
                "newname",
                "Name",
                "",
                info="Its versions for other models, pictures and descriptions get the new name too.",
                max_lines=1,
                scale=4,
            )
            rename = gr.Button("Rename the ticked embedding", elem_id="embedmerge_rename", scale=1)
        with gr.Row(elem_id="embedmerge_noting"):
            notes = textbox(
                "newnotes", "Notes", "", info="Saved in the files. The search finds them.", lines=2, scale=4
            )
            keep = gr.Button("Save the notes for the ticked embeddings", elem_id="embedmerge_note", scale=1)
    on(rename, page.with_listing(handlers.rename), [name, page.script_value], outputs, script_value=TICKED_FILES)
    on(keep, page.with_listing(handlers.save_notes), [notes, page.script_value], outputs, script_value=_NOTES_MESSAGE)
    on(
        hidden("renote"),
        page.with_listing(handlers.replace_notes),
        [notes, page.script_value],
        outputs,
        script_value=BUTTON_ORDER,
    )
    delete = page.with_listing(handlers.delete)
    on(hidden("delete"), delete, [page.script_value], outputs, script_value=_TICKED_WITH_VERSIONS)
    on(
        hidden("undelete"),
        page.with_listing(handlers.restore_deleted),
        [page.script_value],
        outputs,
        script_value=BUTTON_ORDER,
    )


def _add_comparing(page: _Page, measuring: MeasuringHandlers) -> tuple[gr.Dropdown, MeasuringSection]:
    def compare_all(titles: Sequence[str] | None, source: str) -> str:
        return page.handlers.compare(titles or (), source)

    with gr.Accordion("Compare checkpoints", open=False, elem_id="embedmerge_comparing"):
        compared = gr.Dropdown(
            [],
            label="Two or more checkpoints",
            info="Shows how far their words and the layers of their text encoders are apart.",
            multiselect=True,
            elem_id="embedmerge_compared",
        )
        by = textbox("compared_by", "A text to compare the outputs of the text encoders for", "optional", lines=2)
        compare = gr.Button("Compare", elem_id="embedmerge_compare")
        comparison = gr.HTML(elem_id="embedmerge_comparison")
        groups = add_groups(measuring, compared, by, page.script_value, page.job)
    on(compare, compare_all, [compared, by], [comparison], progress="full")
    return compared, groups
