"""Widgets and events as the pages of the tab make them, in one way for gradio 3.41.2 and 4.40."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

_JS = "js" if int(gr.__version__.split(".")[0]) >= 4 else "_js"
"""How this gradio calls an event's script; Forge's shim takes gradio 4's own too."""


def on(  # noqa: PLR0913 -- an event is the sum of these
    button: gr.Button,
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    said: str | None = None,
    progress: str = "hidden",
) -> None:
    """A click that is answered at once, beside whatever waits in the web UI's queue of generations.

    said: what of the page's scripts the last input takes for its value.
    """
    # gradio gives the values of outputs too, after those of inputs.
    script = f"(...values) => [...values.slice(0, {len(inputs) - 1}), window.{said}]"
    when(button.click, handler, inputs, outputs, show_progress=progress, **({_JS: script} if said else {}))


def when(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    **options: Any,
) -> None:
    """Have an event handled, at once. What a request brings reaches the handler as plain texts and nothing else.

    Without gradio's own reading of it: version 4.40 takes any value of the form {"path": ...}, of a text box too, for a
    file that it has to fetch, from whatever address.
    """
    event(_plain(handler), list(inputs), list(outputs), queue=False, api_name=False, preprocess=False, **options)


def _plain(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def handled(*values: Any) -> Any:
        return handler(*map(_as_text, values))

    return handled


def _as_text(value: object) -> object:
    """A value as widgets of ours have one: a text, a choice, several choices, or nothing."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str)]
    return str(value) if isinstance(value, int | float) else ""


def hidden(name: str) -> gr.Button:
    """A button for the script to press. By style: gradio may leave out what is not visible."""
    return gr.Button(name, elem_id=f"embedmerge_{name}", elem_classes=["embedmerge-hidden"])


def textbox(name: str, label: str, placeholder: str, **options: Any) -> gr.Textbox:
    """A box for text, of that id."""
    return gr.Textbox(label=label, placeholder=placeholder, elem_id=f"embedmerge_{name}", **options)


def checkbox(name: str, label: str, *, value: bool = False) -> gr.Checkbox:
    """A choice of yes or no, of that id."""
    return gr.Checkbox(value=value, label=label, elem_id=f"embedmerge_{name}")
