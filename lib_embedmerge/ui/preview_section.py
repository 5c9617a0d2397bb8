"""The section of the page Library that makes preview pictures: widgets and wiring only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from lib_embedmerge.core.prompt_frames import PLACEHOLDER
from lib_embedmerge.ui.measuring_tab import add_following
from lib_embedmerge.ui.preview_handlers import FIELDS, PreviewHandlers
from lib_embedmerge.ui.views.previews_view import PREVIEWED
from lib_embedmerge.ui.widgets import TICKED_RESULTS, hidden, on, textbox

_TICKED_PAIRS = "embedMergeLibrary.tickedPairs"
_TAB_SETTINGS = "embedMergePreviewing.tabSettings"
_GRID_MESSAGE = "embedMergePreviewing.gridMessage"

_LABELS = {"steps": "Steps", "width": "Width", "height": "Height", "guidance": "CFG scale", "seed": "Seed"}


def add_previewing(
    handlers: PreviewHandlers,
    script_value: gr.Textbox,
    output: gr.HTML,
    listing: gr.HTML,
    with_listing: Callable[[Callable[..., str]], Callable[..., tuple[str, str]]],
) -> None:
    """Add the section to the page that is being built.

    script_value: an input that the scripts of events fill.  output: for the job.  listing: output for the list.
    with_listing: makes a handler that returns the list after its own result.
    """
    with gr.Accordion("Make preview pictures", open=False, elem_id="embedmerge_previewing"):
        prompt = textbox(
            "preview_prompt",
            f"Prompt; the embedding takes the place of {PLACEHOLDER}, else it is added at the end",
            "",
            lines=2,
        )
        negative = textbox("preview_negative", f"Negative prompt; {PLACEHOLDER} can be here instead", "", lines=1)
        with gr.Row(elem_id="embedmerge_preview_settings"):
            sampler = _add_choice("sampler", "Sampler")
            scheduler = _add_choice("scheduler", "Schedule type")
            numbers = [
                textbox(
                    f"preview_{name}", label, "random" if name == "seed" else "", max_lines=1, scale=1, min_width=80
                )
                for name, label in _LABELS.items()
            ]
        with gr.Row(elem_id="embedmerge_preview_buttons"):
            take = gr.Button("Take the settings of the tab txt2img", elem_id="embedmerge_take_settings")
            make = gr.Button(
                "Make pictures of the ticked embeddings", variant="primary", elem_id="embedmerge_make_previews"
            )
    fields = [prompt, negative, sampler, scheduler, *numbers]

    def fill(message: str) -> list[Any]:
        choices = handlers.read_tab_settings(message)
        offered = {"sampler": list(choices.samplers), "scheduler": list(choices.schedulers)}
        return [
            gr.update(value=choices.values[name], **({"choices": offered[name]} if name in offered else {}))
            for name in FIELDS
        ]

    def start(*values: Any) -> str:
        *typed, pairs = values
        return handlers.start_previews({name: value or "" for name, value in zip(FIELDS, typed, strict=True)}, pairs)

    grid = gr.HTML(elem_id="embedmerge_grid")
    on(hidden("set_up_grid"), handlers.set_up_grid, [script_value], [grid], script_value=_GRID_MESSAGE)
    on(take, fill, [script_value], fields, script_value=_TAB_SETTINGS)
    on(make, start, [*fields, script_value], [output], script_value=_TICKED_PAIRS)
    on(hidden("last_previews"), handlers.show_last_previews, [], [output])
    add_following(handlers, script_value, output, PREVIEWED)
    keep = with_listing(handlers.keep_previews)
    on(hidden("keep_previews"), keep, [script_value], [output, listing], script_value=TICKED_RESULTS)


def _add_choice(name: str, label: str) -> gr.Dropdown:
    return gr.Dropdown([], label=label, elem_id=f"embedmerge_preview_{name}", scale=2, min_width=140)
