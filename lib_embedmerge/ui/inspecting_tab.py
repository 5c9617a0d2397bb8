"""The page Inspect of the tab: widgets and wiring only."""

from __future__ import annotations

import functools
from collections.abc import Callable

import gradio as gr

from lib_embedmerge.ui.dropped import drop_view
from lib_embedmerge.ui.handlers import Handlers
from lib_embedmerge.ui.widgets import hidden, on, when


def add_inspecting(handlers: Handlers) -> None:
    """Add the page to the gradio Tab that is being built."""
    with gr.Row(elem_id="embedmerge_looking"):
        names = gr.Dropdown(
            [],
            label="Embedding",
            info="Type a part of its name, then choose it.",
            elem_id="embedmerge_names",
            allow_custom_value=True,
            scale=4,
        )
        with gr.Column(scale=3):
            gr.HTML(drop_view(), elem_id="embedmerge_file")
    fixed = gr.HTML(elem_id="embedmerge_fixed")
    inspection = gr.HTML(elem_id="embedmerge_inspection")
    on(hidden("list"), lambda: gr.update(choices=list(handlers.list_names())), [], [names])
    when(names.change, _clear_next(handlers.inspect), [names], [inspection, fixed])
    dropped = gr.Textbox(visible=False, elem_id="embedmerge_dropped")  # filled by the script of the event
    on(
        hidden("drop"),
        _clear_next(handlers.inspect_dropped),
        [dropped],
        [inspection, fixed],
        script_value="embedMergeDropping.takeMessage()",
    )
    on(
        hidden("look_at"),
        _clear_next(handlers.inspect_place),
        [dropped],
        [inspection, fixed],
        script_value="embedMergeLooking.takeMessage()",
    )
    # The same again, after the model or the file has changed. The script shows the answer, unless the user has chosen
    # another file meanwhile.
    answered = gr.HTML(elem_id="embedmerge_again")
    again = {
        "look_again": (handlers.inspect_place, "embedMergeLooking.takeMessageAgain()"),
        "drop_again": (handlers.inspect_dropped, "embedMergeDropping.takeMessageAgain()"),
    }
    for name, (inspect, script_value) in again.items():
        on(hidden(name), inspect, [dropped], [answered], script_value=script_value)
    library = handlers.library
    orders = {
        "remake_here": library.make_for_model,
        "rate_here": library.rate,
        "note_here": library.save_model_note,
        "recover_here": library.recover_text,
        "keep_here": library.save_recovered_text,
    }
    for name, handler in orders.items():
        on(hidden(name), handler, [dropped], [fixed], script_value="embedMergeLooking.order", progress="full")
    on(hidden("fix"), handlers.fix, [dropped], [fixed], script_value="embedMergeDropping.takeFixMessage()")


def _clear_next(handler: Callable[[str], str]) -> Callable[[str], tuple[str, str]]:
    """A handler that also clears the output after its own: the copy of what was inspected before."""

    @functools.wraps(handler)
    def handled(value: str) -> tuple[str, str]:
        return handler(value), ""

    return handled
