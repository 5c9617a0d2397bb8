"""Widgets and events for the pages of the tab, the same for gradio 3.41.2 to 6."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gradio as gr

_JS = "js" if int(gr.__version__.split(".")[0]) >= 4 else "_js"
"""The parameter for an event's script in this version of gradio. Forge's shim accepts the name of gradio 4 too."""

TICKED_FILES = "embedMergeLibrary.tickedFiles"
TICKED_RESULTS = "embedMergeLibrary.tickedResults"
BUTTON_ORDER = "embedMergeLibrary.order"
"""JavaScript for values that javascript/embedmerge_library.js provides to the events of several sections."""


def on(  # noqa: PLR0913 -- the parts of an event
    button: gr.Button,
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    script_value: str | None = None,
    progress: str = "hidden",
) -> None:
    """Call a handler when a button is clicked, at once, without waiting in the web UI's queue of generations.

    script_value: a JavaScript expression below `window`, whose value becomes the value of the last input.
    """
    # gradio passes the values of the outputs too, after those of the inputs.
    script = f"(...values) => [...values.slice(0, {len(inputs) - 1}), window.{script_value}]"
    when(button.click, handler, inputs, outputs, show_progress=progress, **({_JS: script} if script_value else {}))


def when(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    **options: Any,
) -> None:
    """Call a handler on an event, at once. Its values reach the handler only as plain values (see `_make_plain`).

    gradio's own preprocessing is off: version 4.40 takes any value of the form {"path": ...}, even of a text box, for a
    file, and fetches it from any address.
    """
    # gradio's list of routes for other programs has none of the events.
    knows_visibility = "api_visibility" in inspect.signature(event).parameters  # since gradio 5.50
    visibility = {"api_visibility": "private"} if knows_visibility else {"api_name": False}
    event(
        _take_plain_values(handler),
        list(inputs),
        list(outputs),
        queue=False,
        preprocess=False,
        **visibility,
        **options,
    )


def _take_plain_values(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose arguments pass through `_make_plain` first."""

    @functools.wraps(handler, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def handled(*values: Any) -> Any:
        return handler(*map(_make_plain, values))

    del handled.__wrapped__  # gradio would compare its parameters with the inputs, and look for the types of its result
    handled.__annotations__ = {}  # which gradio would compile for each event
    return handled


def _make_plain(value: object) -> object:
    """A value of a kind that our widgets have: a text, a choice, several choices, yes or no, or None.

    A number becomes text; any other value becomes an empty text.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list):
        return [choice for choice in value if isinstance(choice, str)]
    return str(value) if isinstance(value, int | float) else ""


def hidden(name: str) -> gr.Button:
    """A button for the script to click. CSS hides it, because gradio may omit widgets that are not visible."""
    return gr.Button(name, elem_id=f"embedmerge_{name}", elem_classes=["embedmerge-hidden"])


def textbox(name: str, label: str, placeholder: str, **options: Any) -> gr.Textbox:
    """A text box with the DOM id embedmerge_{name}."""
    return gr.Textbox(value="", label=label, placeholder=placeholder, elem_id=f"embedmerge_{name}", **options)


def radio(
    name: str, label: str, choices: Iterable[str], *, info: str, value: str | None = None, **options: Any
) -> gr.Radio:
    """Choices of which one is taken, with the DOM id embedmerge_{name}. value: at first; None for the first choice."""
    every = list(choices)
    options["value"] = every[0] if value is None else value
    return gr.Radio(every, label=label, info=info, elem_id=f"embedmerge_{name}", **options)


def checkbox(name: str, label: str, *, value: bool = False, info: str | None = None) -> gr.Checkbox:
    """A checkbox with the DOM id embedmerge_{name}. info: a sentence below it."""
    # gradio 3 and 4 write the sentence above the box, and style.css puts it below.
    classes = ["embedmerge-checkbox"]
    return gr.Checkbox(value=value, label=label, info=info, elem_id=f"embedmerge_{name}", elem_classes=classes)
