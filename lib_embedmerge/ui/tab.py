"""The tab: widgets and wiring only, one code for gradio 3.41.2 and 4.40. What events do is in handlers.py.

The script (javascript/embedmerge.js) decides when to ask: it waits for a pause in the typing, then presses one of the
buttons that nobody sees. So nothing here depends on how a gradio version sends changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from lib_embedmerge.core.groupings import GROUPINGS, Grouping
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.ui.dropped import drop_view
from lib_embedmerge.ui.handlers import ATTENTION_LABELS, Handlers, find_attention
from lib_embedmerge.ui.library_tab import add_library
from lib_embedmerge.ui.page_files import SYNTAX, read_page_file
from lib_embedmerge.ui.views.examples import examples_view
from lib_embedmerge.ui.widgets import checkbox, hidden, on, textbox, when

_log = logging.getLogger(__name__)


class WebuiTab:
    """The tab of a web UI, as its on_ui_tabs callback wants one: something that is drawn where `render` is called.

    Not a gr.Blocks of its own: making one costs gradio 4 a second whole server, 0.15 s of each start.
    """

    children = ()
    """Nothing whose values the web UI should keep in ui-config.json, today's defaults for ever."""

    def __init__(self, host: Callable[[], Host], *, half: bool = False) -> None:
        """host: asked at the first event, not before.  half: whether embeddings are saved in float16 unless said."""
        self._host = host
        self._half = half

    def render(self) -> None:
        """Add the tab to the Blocks that are being built. A fault of ours must not keep the web UI from starting."""
        try:
            # A web UI has txt2img and img2img prompts to send texts to.
            add_tab(Handlers(self._host, prompts=True), half=self._half)
        except Exception:  # noqa: BLE001 -- as said; the web UI catches nothing here
            _log.exception("EmbedMerge: the tab could not be created.")


def add_tab(handlers: Handlers, *, choosing: bool = False, half: bool = False) -> None:
    """Add the tab to the gradio Blocks that are being built.

    choosing: whether the host has a chooser.  half: what its choice of float16 is at first.
    """
    with gr.Column(elem_id="embedmerge"):
        if choosing:
            _choosing(handlers)
        status = gr.HTML(elem_id="embedmerge_status")
        on(hidden("refresh"), handlers.describe_model, [], [status])
        with gr.Tabs(elem_id="embedmerge_pages"):
            with gr.Tab("Make", elem_id="embedmerge_make", id="make"):
                _make(handlers, half=half)
            with gr.Tab("Inspect", elem_id="embedmerge_inspect", id="inspect"):
                _inspect(handlers)
            with gr.Tab("Library", elem_id="embedmerge_library", id="library"):
                add_library(handlers.library)
            with gr.Tab("Help", elem_id="embedmerge_help", id="help"):
                _reporting(handlers)
                gr.Markdown(read_page_file(SYNTAX), elem_id="embedmerge_syntax")


def _choosing(handlers: Handlers) -> None:
    choices, chosen = list(handlers.checkpoints()), handlers.chosen()
    checkpoint = gr.Dropdown(choices, value=chosen, label="Checkpoint", elem_id="embedmerge_checkpoint")
    trouble = gr.HTML(elem_id="embedmerge_trouble")

    def shown() -> Any:  # what is active, which another page or a file's fault can make another than was chosen here
        return gr.update(choices=list(handlers.checkpoints()), value=handlers.chosen())

    def choose(wanted: str | None) -> tuple[str, Any]:
        return handlers.choose(wanted), shown()

    when(checkpoint.input, choose, [checkpoint], [trouble, checkpoint])
    on(hidden("checkpoints"), shown, [], [checkpoint])


def _make(handlers: Handlers, *, half: bool) -> None:
    source = textbox("source", "Expression or prompt", "'cat' + 'dog'*0.5", lines=3, max_lines=12)
    answer = gr.HTML(elem_id="embedmerge_answer")
    gr.HTML(examples_view(), elem_id="embedmerge_examples")
    with gr.Row(elem_id="embedmerge_reading"):
        by = gr.Radio(list(GROUPINGS), value="parts", label="Group by", elem_id="embedmerge_by")
        ways = list(ATTENTION_LABELS)
        attention = gr.Radio(ways, value=ways[0], label="Attention in a prompt", elem_id="embedmerge_attention")
    with gr.Row(elem_id="embedmerge_saving"):
        name = textbox("name", "Name", "the word to use in prompts", max_lines=1, scale=4)
        save = gr.Button("Save embedding", variant="primary", elem_id="embedmerge_save", scale=1)
    naming = gr.HTML(elem_id="embedmerge_naming")
    with gr.Accordion("More", open=False, elem_id="embedmerge_more"):
        notes = textbox("notes", "Notes, saved in the file", "", lines=2)
        with gr.Row():
            negative = checkbox("negative", "For negative prompts")
            as_half = checkbox("half", "Half the file size (float16)", value=half)
            split = checkbox("split", "Split a long text into several embeddings")
            follow = checkbox("follow", "Use the recipes of embeddings in the text, not their saved vectors")
    saved = gr.HTML(elem_id="embedmerge_saved")
    vectors = gr.HTML(elem_id="embedmerge_vectors")

    said = gr.Textbox(visible=False, elem_id="embedmerge_said")  # filled by the events' scripts
    asked = [source, by, attention, follow, said]
    on(hidden("ask"), _reading(handlers.read_typed_text), asked, [answer], said="embedMerge.asking('ask')")
    on(hidden("look"), _reading(handlers.vectors), asked, [vectors], said="embedMerge.asking('look')")
    on(hidden("check"), handlers.name, [said, name], [naming], said="embedMerge.asking('check')")
    wishes = [source, name, notes, negative, as_half, split, attention, follow, said]
    on(save, _saving(handlers), wishes, [saved], progress="full")
    # To be pressed by what saving answers, so after the user has seen how the text is read.
    insisting = _saving(handlers, insist=True)
    on(hidden("replace"), insisting, wishes, [saved], said="embedMerge.confirmed", progress="full")
    on(hidden("insist"), insisting, wishes, [saved], progress="full")


def _inspect(handlers: Handlers) -> None:
    with gr.Row(elem_id="embedmerge_looking"):
        names = gr.Dropdown([], label="Embedding", elem_id="embedmerge_names", allow_custom_value=True, scale=4)
        with gr.Column(scale=3):
            gr.HTML(drop_view(), elem_id="embedmerge_file")
    inspection = gr.HTML(elem_id="embedmerge_inspection")
    on(hidden("list"), lambda: gr.update(choices=list(handlers.list_names())), [], [names])
    when(names.change, handlers.inspect, [names], [inspection])
    dropped = gr.Textbox(visible=False, elem_id="embedmerge_dropped")  # filled by the event's script
    on(hidden("drop"), handlers.inspect_dropped, [dropped], [inspection], said="embedMergeDropping.asking()")


def _reporting(handlers: Handlers) -> None:
    with gr.Accordion("Something went wrong?", open=False, elem_id="embedmerge_reporting"):
        show = gr.Button("Show what a bug report needs", elem_id="embedmerge_report")
        on(show, handlers.report, [], [gr.HTML(elem_id="embedmerge_reported")])


def _reading(event: Callable[..., str]) -> Callable[..., str]:
    """An event that reads the text, for the values of the widgets that say how."""

    def read(source: str, by: Grouping, *choices: Any) -> str:
        from lib_embedmerge.actions.values import ReadingOptions

        attention, follow, asked = choices
        return event(asked, source, by, ReadingOptions(find_attention(attention), follow))

    return read


def _saving(handlers: Handlers, *, insist: bool = False) -> Callable[..., str]:
    def save(source: str, name: str, notes: str, *choices: Any) -> str:
        from lib_embedmerge.actions.values import SaveRequest

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
        )
        return handlers.save(request, (confirmed or "").split("\n"))

    return save
