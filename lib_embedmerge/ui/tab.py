"""The tab: widgets and wiring only, the same for gradio 3.41.2 and 4.40. The handlers of events are in handlers.py.

The script javascript/embedmerge.js decides when the server is asked: it waits for a pause in the typing, then clicks a
hidden button. So nothing here depends on when a version of gradio sends changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from lib_embedmerge.core.groupings import DEFAULT_GROUPING, GROUPINGS, Grouping
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.ui.handlers import ATTENTION_LABELS, Handlers, find_attention
from lib_embedmerge.ui.inspecting_tab import add_inspecting
from lib_embedmerge.ui.library_tab import add_library
from lib_embedmerge.ui.measuring_tab import add_following
from lib_embedmerge.ui.page_files import QUICK_START, SYNTAX, read_page_file
from lib_embedmerge.ui.views.examples import examples_view, history_view, intro_view
from lib_embedmerge.ui.views.help_view import help_view
from lib_embedmerge.ui.views.weighing_view import WEIGHED
from lib_embedmerge.ui.widgets import checkbox, hidden, on, radio, textbox, when

_log = logging.getLogger(__name__)

_COLUMN = 420
"""Pixels of the narrowest column of the page Make; where two do not fit, they are below each other."""


class WebuiTab:
    """The tab of a web UI, as its on_ui_tabs callback returns one: an object with a method `render`.

    It is not a gr.Blocks, for which gradio 4 would create a second server, 0.15 s of each start.
    """

    children = ()
    """Widgets of which the web UI saves the defaults in ui-config.json: none, so that defaults can change later."""

    def __init__(self, host: Callable[[], Host], *, half: bool = False, pictures: bool = False) -> None:
        """host: returns the host; first called at the first event.  half: whether float16 is ticked at first.

        pictures: whether the host makes pictures.
        """
        self._host = host
        self._half = half
        self._pictures = pictures

    def render(self) -> None:
        """Add the tab to the Blocks that are being built. An error is logged; the web UI starts all the same."""
        try:
            # A web UI has txt2img and img2img prompts to send texts to.
            add_tab(Handlers(self._host, prompts=True), half=self._half, pictures=self._pictures)
        except Exception:  # noqa: BLE001 -- the web UI catches nothing here
            _log.exception("EmbedMerge: the tab could not be created.")


def add_tab(handlers: Handlers, *, choosing: bool = False, half: bool = False, pictures: bool = False) -> None:
    """Add the tab to the gradio Blocks that are being built.

    choosing: whether the host has a chooser of checkpoints.  half: whether float16 is ticked at first.
    pictures: whether the host makes pictures.
    """
    with gr.Column(elem_id="embedmerge"):
        if choosing:
            _add_chooser(handlers)
        status = gr.HTML(elem_id="embedmerge_status")
        number = gr.Textbox(visible=False, elem_id="embedmerge_status_number")  # filled by the script of the event
        on(
            hidden("refresh"),
            handlers.describe_model,
            [number],
            [status],
            script_value="embedMerge.takeNumber('refresh')",
        )
        with gr.Tabs(elem_id="embedmerge_pages"):
            with gr.Tab("Make", elem_id="embedmerge_make", id="make"):
                _add_make_page(handlers, half=half)
            with gr.Tab("Inspect", elem_id="embedmerge_inspect", id="inspect"):
                add_inspecting(handlers)
            with gr.Tab("Library", elem_id="embedmerge_library", id="library"):
                add_library(handlers.library, handlers.measuring, handlers.optimising, pictures=pictures)
            with gr.Tab("Help", elem_id="embedmerge_help", id="help"):
                gr.HTML(help_view(), elem_id="embedmerge_help_head")
                gr.Markdown(read_page_file(QUICK_START), elem_id="embedmerge_quick_start")
                _add_report(handlers)
                gr.Markdown(read_page_file(SYNTAX), elem_id="embedmerge_syntax")


def _add_chooser(handlers: Handlers) -> None:
    choices, chosen = list(handlers.list_checkpoints()), handlers.find_chosen_checkpoint()
    checkpoint = gr.Dropdown(choices, value=chosen, label="Checkpoint", elem_id="embedmerge_checkpoint")
    trouble = gr.HTML(elem_id="embedmerge_trouble")

    def update_chosen() -> Any:  # another page may have chosen another one, or the one chosen here cannot be read
        return gr.update(choices=list(handlers.list_checkpoints()), value=handlers.find_chosen_checkpoint())

    def choose(title: str | None) -> tuple[str, Any]:
        return handlers.choose_checkpoint(title), update_chosen()

    when(checkpoint.input, choose, [checkpoint], [trouble, checkpoint])
    on(hidden("checkpoints"), update_chosen, [], [checkpoint])


def _add_make_page(handlers: Handlers, *, half: bool) -> None:
    with gr.Row(elem_id="embedmerge_sides"):
        with gr.Column(scale=1, min_width=_COLUMN):
            gr.HTML(intro_view(), elem_id="embedmerge_intro")
            # The class by which web UIs and extensions know prompt boxes: attention by Ctrl+Up, completion of tags.
            lines: dict[str, Any] = {"lines": 3, "max_lines": 12, "elem_classes": ["prompt"]}
            source = textbox("source", "Expression or prompt", "'cat' + 'dog'*0.5", **lines)
            completions = gr.HTML(elem_id="embedmerge_completions")
            pictures = gr.HTML(elem_id="embedmerge_completion_pictures")
            answer = gr.HTML(elem_id="embedmerge_answer")
            weighed = gr.HTML(elem_id=f"embedmerge_{WEIGHED}")
            with gr.Row(elem_id="embedmerge_saving"):
                name = textbox("name", "Name", "the word to use in prompts", max_lines=1, scale=3, min_width=200)
                save = gr.Button("Save embedding", variant="primary", elem_id="embedmerge_save", scale=2, min_width=150)
            naming = gr.HTML(elem_id="embedmerge_naming")
            saved = gr.HTML(elem_id="embedmerge_saved")
            gr.HTML(examples_view(), elem_id="embedmerge_examples")
            gr.HTML(history_view(), elem_id="embedmerge_history")
            effect = "What becomes of brackets and weights such as (cat:1.2)."
            attention = radio("attention", "Attention in a prompt", ATTENTION_LABELS, info=effect)
            with gr.Accordion("More", open=False, elem_id="embedmerge_more"):
                notes = textbox("notes", "Notes, saved in the file", "", lines=2)
                with gr.Row():
                    negative = checkbox(
                        "negative", "For negative prompts", info="Only a remark in the file. The vectors are the same."
                    )
                    as_half = checkbox(
                        "half",
                        "Half the file size (float16)",
                        value=half,
                        info="Numbers are rounded to three digits, as in most checkpoints.",
                    )
                    split = checkbox(
                        "split",
                        "Split a long text into several embeddings",
                        info="Of more than 75 vectors it makes NAME-1, NAME-2 and so on.",
                    )
                    follow = checkbox(
                        "follow",
                        "Use the recipes of embeddings in the text, not their saved vectors",
                        info="For embeddings that were made for another model.",
                    )
        with gr.Column(scale=1, min_width=_COLUMN):
            division = "Where the text is divided into parts. Each part has its colour."
            by = radio("by", "Group by", GROUPINGS, info=division, value=DEFAULT_GROUPING)
            vectors = gr.HTML(elem_id="embedmerge_vectors")

    def check_name(name: str, number: str) -> str:  # a script can only fill the last input
        return handlers.check_name(number, name)

    script_value = gr.Textbox(visible=False, elem_id="embedmerge_said")  # filled by the scripts of events
    question = [source, by, attention, follow, script_value]
    on(
        hidden("ask"),
        _take_question(handlers.read_typed_text),
        question,
        [answer],
        script_value="embedMerge.takeNumber('ask')",
    )
    on(
        hidden("look"),
        _take_question(handlers.draw_vectors),
        question,
        [vectors],
        script_value="embedMerge.takeNumber('look')",
    )
    on(
        hidden("complete"),
        handlers.complete,
        [script_value],
        [completions],
        script_value="embedMergeCompleting.takeMessage()",
    )
    on(
        hidden("complete_pictures"),
        handlers.library.draw_named_pictures,
        [script_value],
        [pictures],
        script_value="embedMergeCompleting.takePictureMessage()",
    )
    measuring = handlers.measuring
    on(hidden("weigh"), _take_text(measuring.weigh_tokens), [source, attention, follow], [weighed])
    on(hidden("shorten"), _take_text(measuring.shorten), [source, attention, follow], [weighed])
    add_following(measuring, script_value, weighed, WEIGHED, order="embedMerge.order")
    on(hidden("check"), check_name, [name, script_value], [naming], script_value="embedMerge.takeNumber('check')")
    request = [source, name, notes, negative, as_half, split, attention, follow, script_value]
    on(save, _take_request(handlers), request, [saved], progress="full")
    # Buttons in the answer to Save click these two. By then the user has seen how the text is read.
    insist = _take_request(handlers, insist=True)
    on(hidden("replace"), insist, request, [saved], script_value="embedMerge.confirmed", progress="full")
    on(hidden("insist"), insist, request, [saved], progress="full")


def _add_report(handlers: Handlers) -> None:
    with gr.Accordion("Something went wrong?", open=False, elem_id="embedmerge_reporting"):
        show = gr.Button("Show what a bug report needs", elem_id="embedmerge_report")
        on(show, handlers.show_report, [], [gr.HTML(elem_id="embedmerge_reported")])


def _take_question(handler: Callable[..., str]) -> Callable[..., str]:
    """Make a handler of a question about the text accept the values of the widgets `question`."""

    def read(source: str, by: Grouping, *choices: Any) -> str:
        from lib_embedmerge.actions.values import ReadingOptions

        attention, follow, number = choices
        return handler(number, source, by, ReadingOptions(find_attention(attention), follow))

    return read


def _take_text(handler: Callable[..., str]) -> Callable[..., str]:
    """Make a handler of the text accept the widgets that say how it is read."""

    def read(source: str, attention: str, follow: object) -> str:
        from lib_embedmerge.actions.values import ReadingOptions

        return handler(source, ReadingOptions(find_attention(attention), follow is True))

    return read


def _take_request(handlers: Handlers, *, insist: bool = False) -> Callable[..., str]:
    """Make the handler that saves accept the values of the widgets `request`.

    insist: whether to save a prompt even if it looks like an expression.
    """

    def save(source: str, name: str, notes: str, *choices: Any) -> str:
        from lib_embedmerge.actions.saving_values import SaveRequest

        negative, half, split, attention, follow, confirmed = choices
        request = SaveRequest(
            source=source,
            name=name.strip(),
            notes=notes,
            negative=negative,
            dtype="float16" if half else "float32",
            split=split,
            attention=find_attention(attention),
            follow=follow,
            insist=insist,
            agreed=frozenset(filter(None, (confirmed or "").split("\n"))),
        )
        return handlers.save(request)

    return save
