"""Sections of the page Library that measure effects: widgets and wiring only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_embedmerge.ui.html import note
from lib_embedmerge.ui.job_handlers import JobHandlers
from lib_embedmerge.ui.measuring_handlers import GROUPED_BY, MeasuringHandlers
from lib_embedmerge.ui.views.effect_view import MEASURED
from lib_embedmerge.ui.views.groups_view import GROUPED
from lib_embedmerge.ui.widgets import BUTTON_ORDER, TICKED_FILES, checkbox, hidden, on, radio

_MEASURED_WITH = (
    "Effects are measured with the text above; if there is none, with the ticked embeddings; and if none is ticked, "
    "with common words."
)


@dataclass(frozen=True)
class MeasuringSection:
    """A section that is hidden where nothing can be measured.

    fault: says why.  content: everything else.  place: name of the output of its job.  output: that output.
    checkpoints: where the user chooses them; empty if elsewhere.
    """

    fault: gr.HTML
    content: gr.Column
    place: str
    output: gr.HTML
    checkpoints: tuple[gr.Dropdown, ...] = ()


def add_library_effects(handlers: MeasuringHandlers, script_value: gr.Textbox) -> MeasuringSection:
    """Add the section that measures what embeddings do on other models. script_value: filled by scripts of events."""

    def start(titles: Sequence[str] | None, remade: object, places: str) -> str:
        return handlers.start_library(titles or (), places, remade=remade is True)

    with gr.Accordion("What embeddings do on other models", open=False, elem_id="embedmerge_effects"):
        fault = gr.HTML(elem_id="embedmerge_effects_fault")
        with gr.Column() as content:
            checkpoints = gr.Dropdown(
                [],
                label="Checkpoints to compare the active model with",
                info="How differently they read each embedding is measured, without making a picture.",
                multiselect=True,
                elem_id="embedmerge_measure_on",
            )
            remade = checkbox(
                "measure_remade",
                "Measure what is left after a rebuild for each checkpoint",
                info="Each checkpoint gets the vectors that the recipe gives on it.",
            )
            button = gr.Button(
                "Measure the ticked embeddings, or all if none is ticked", elem_id="embedmerge_measure_library"
            )
            output = gr.HTML(elem_id=f"embedmerge_{MEASURED}")
    on(button, start, [checkpoints, remade, script_value], [output], script_value=TICKED_FILES)
    add_following(handlers, script_value, output, MEASURED)
    return MeasuringSection(fault, content, MEASURED, output, (checkpoints,))


def add_groups(
    handlers: MeasuringHandlers, chosen: gr.Dropdown, source: gr.Textbox, script_value: gr.Textbox, job: gr.HTML
) -> MeasuringSection:
    """Add, to the section that compares checkpoints, what measures their effects and groups them.

    chosen: the checkpoints.  source: a text to measure with.  job: the output of rebuilds.
    """

    def start(titles: Sequence[str] | None, text: str, by: object, limit: str, places: str) -> str:
        return handlers.start_groups(titles or (), text, str(by), limit, places)

    fault = gr.HTML(elem_id="embedmerge_grouping_fault")
    with gr.Column() as content:
        with gr.Row():
            enough = "With the second, one version of each embedding is enough for all models of a group."
            by = radio("grouped_by", "What to measure", GROUPED_BY, info=enough, scale=2)
            limit = gr.Textbox(
                "10",
                label="Largest effect within a group, in percent",
                info="100 is what another subject changes.",
                elem_id="embedmerge_grouped_limit",
                scale=1,
            )
        gr.HTML(note(_MEASURED_WITH, "quiet"))
        button = gr.Button("Measure effects", elem_id="embedmerge_group")
        output = gr.HTML(elem_id=f"embedmerge_{GROUPED}")
    on(button, start, [chosen, source, by, limit, script_value], [output], script_value=TICKED_FILES)
    on(hidden("rebuild_groups"), handlers.rebuild_for_groups, [script_value], [job], script_value=BUTTON_ORDER)
    add_following(handlers, script_value, output, GROUPED)
    return MeasuringSection(fault, content, GROUPED, output)


def add_following(
    handlers: JobHandlers | MeasuringHandlers,
    script_value: gr.Textbox,
    output: gr.HTML,
    place: str,
    *,
    order: str = BUTTON_ORDER,
) -> None:
    """Let the script javascript/embedmerge_jobs.js follow the job in an output, and let its button cancel it.

    place: name of the output.  order: JavaScript for the id of the job to cancel.
    """
    on(
        hidden(f"watch_{place}"),
        handlers.show_job,
        [script_value],
        [output],
        script_value=f"embedMergeJobs.running.{place}",
    )
    on(hidden(f"cancel_{place}"), handlers.cancel_job, [script_value], [output], script_value=order)


def describe_sections(handlers: MeasuringHandlers, sections: Sequence[MeasuringSection]) -> list[Any]:
    """What `list_outputs` shows: why a section is hidden, or the section; and a job that is running."""
    fault = handlers.describe_fault()
    return [
        update
        for section in sections
        for update in (fault, gr.update(visible=not fault), handlers.show_running(section.place) or gr.update())
    ]


def list_outputs(sections: Sequence[MeasuringSection]) -> list[Any]:
    """The outputs for `describe_sections`."""
    return [output for section in sections for output in (section.fault, section.content, section.output)]
