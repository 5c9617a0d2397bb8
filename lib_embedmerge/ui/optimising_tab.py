"""The section of the page Library that compresses, ports and repairs embeddings: widgets and wiring only."""

from __future__ import annotations

import gradio as gr

from lib_embedmerge.ui.html import note
from lib_embedmerge.ui.measuring_handlers import MeasuringHandlers
from lib_embedmerge.ui.measuring_tab import MeasuringSection, add_following
from lib_embedmerge.ui.optimising_handlers import OptimiseForm, OptimisingHandlers
from lib_embedmerge.ui.views.optimised_view import OPTIMISED
from lib_embedmerge.ui.widgets import TICKED_FILES, checkbox, on, textbox

_WHAT_THEY_DO = (
    "Compressing makes few vectors that do nearly the same as a long text or embedding. Porting carries a trained "
    "embedding, which no text gives, to the active model. Repairing weakens one that drowns the other words. Each "
    "writes a new file."
)


def add_optimising(
    handlers: OptimisingHandlers, measuring: MeasuringHandlers, script_value: gr.Textbox
) -> MeasuringSection:
    """Add the section. script_value: filled by scripts of events."""

    def compress(source: str, vectors: str, name: str, overwrite: object, places: str) -> str:
        return handlers.compress(_read_form(name, overwrite, places), source, vectors)

    def port(made_for: str | None, name: str, overwrite: object, places: str) -> str:
        return handlers.port(_read_form(name, overwrite, places), made_for or "")

    def repair(name: str, overwrite: object, places: str) -> str:
        return handlers.repair(_read_form(name, overwrite, places))

    with gr.Accordion("Compress, port or repair an embedding", open=False, elem_id="embedmerge_optimising"):
        fault = gr.HTML(elem_id="embedmerge_optimising_fault")
        with gr.Column() as content:
            gr.HTML(note(_WHAT_THEY_DO, "quiet"))
            with gr.Row():
                name = textbox(
                    "optimised_name", "Name of the new embedding", "if empty, made from the old name", scale=3
                )
                overwrite = checkbox("optimised_replace", "Replace an existing file of that name")
            with gr.Row(elem_id="embedmerge_compressing"):
                vectors = gr.Textbox(
                    "16", label="Number of vectors", elem_id="embedmerge_compress_to", scale=1, min_width=80
                )
                source = textbox("compressed_text", "A text to compress", "or tick an embedding", lines=1, scale=3)
                compress_button = gr.Button("Compress into fewer vectors", elem_id="embedmerge_compress", scale=2)
            with gr.Row(elem_id="embedmerge_porting"):
                made_for = gr.Dropdown(
                    [],
                    label="The checkpoint that the ticked embedding was made for",
                    elem_id="embedmerge_port_from",
                    scale=4,
                )
                port_button = gr.Button("Port to the active model", elem_id="embedmerge_port", scale=2)
            repair_button = gr.Button("Repair the ticked embedding", elem_id="embedmerge_repair")
            output = gr.HTML(elem_id=f"embedmerge_{OPTIMISED}")
    target = [name, overwrite, script_value]
    on(compress_button, compress, [source, vectors, *target], [output], script_value=TICKED_FILES)
    on(port_button, port, [made_for, *target], [output], script_value=TICKED_FILES)
    on(repair_button, repair, target, [output], script_value=TICKED_FILES)
    add_following(measuring, script_value, output, OPTIMISED)
    return MeasuringSection(fault, content, OPTIMISED, output, (made_for,))


def _read_form(name: str, overwrite: object, places: str) -> OptimiseForm:
    return OptimiseForm(places, name, overwrite is True)
