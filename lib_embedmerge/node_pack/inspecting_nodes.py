"""The nodes that look: at an embedding, and at the differences of two CLIPs."""

from __future__ import annotations

from typing import Any, ClassVar

from lib_embedmerge.node_pack.making_nodes import list_embedding_names
from lib_embedmerge.node_pack.node_inputs import (
    CATEGORY,
    CLIP,
    NAMES,
    check_text,
    make_choices,
    make_node_surroundings,
    stopping_on_errors,
)


class InspectEmbedding:
    """CLIP, embedding -> report as text and picture, whether it fits."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Shows whether an embedding fits the model, what it was made from, and the tokens next to its vectors."
    )
    RETURN_TYPES = ("STRING", "IMAGE", "BOOLEAN")
    RETURN_NAMES = ("report", "picture", "fits")
    OUTPUT_TOOLTIPS: ClassVar = (
        "The report as text.",
        "The report as a picture.",
        "Whether nothing is to be done: it was made for this model, or gives the same vectors on it.",
    )
    FUNCTION = "inspect"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        return {
            "required": {"clip": CLIP, "embedding": (list_embedding_names(), {})},
            "hidden": {"node": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    @classmethod
    def IS_CHANGED(cls, embedding: Any = None, **_: Any) -> Any:  # noqa: N802 -- ComfyUI's name
        """The state of the file, so that a changed one is inspected again."""
        from lib_embedmerge.files.stamps import read_stamp
        from lib_embedmerge.hosts.comfyui.comfy_host import find_library

        return str(read_stamp(find_library().path(embedding))) if isinstance(embedding, str) else ""

    def inspect(self, clip: Any, embedding: str, node: Any = None, prompt: Any = None) -> dict[str, Any]:
        """The report on an embedding of the library."""
        from lib_embedmerge.actions.inspecting import inspect_name
        from lib_embedmerge.hosts.comfyui.clip_origin import find_origin
        from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost
        from lib_embedmerge.hosts.comfyui.shown_pictures import show_picture, to_image
        from lib_embedmerge.hosts.exact_computing import compute_exactly
        from lib_embedmerge.node_pack.fit_picture import draw_inspection
        from lib_embedmerge.node_pack.text_reports import describe_inspection

        with stopping_on_errors(), compute_exactly():
            inspection = inspect_name(ComfyHost(clip, find_origin(prompt, str(node))), embedding)
        image = to_image(draw_inspection(inspection))
        report = describe_inspection(inspection)
        fits = inspection.fit is not None and inspection.fit.status.tone == "good"
        return {"ui": {"embedmerge_report": [report], **show_picture(image)}, "result": (report, image, fits)}


class CompareNode:
    """Two CLIPs, text -> report."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Compares the text encoders of two models: how many rows of their token tables differ and by how much, and how "
        "the encoded text differs."
    )
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS: ClassVar = ("The differences in words and figures.",)
    FUNCTION = "compare"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        text = ("STRING", {"multiline": True, "dynamicPrompts": False, "default": "a photo of a cat"})
        return {
            "required": {"clip_a": CLIP, "clip_b": CLIP, "text": text},
            "optional": {"embedding_names": NAMES},
            "hidden": {"node": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text: Any = None) -> Any:  # noqa: N802 -- ComfyUI's name
        """The first mistake in the text, before the queue runs."""
        return check_text(text)

    def compare(self, clip_a: Any, clip_b: Any, text: str, **options: Any) -> dict[str, Any]:
        """The differences of two CLIPs."""
        from lib_embedmerge.hosts.comfyui.clip_origin import find_title
        from lib_embedmerge.hosts.comfyui.wrapped_clip import wrap_clip
        from lib_embedmerge.node_pack.clip_comparing import Side, compare_clips

        choices, node, prompt = make_choices(options), options.get("node"), options.get("prompt")
        with stopping_on_errors():
            sides = []
            for clip, given in ((clip_a, "clip_a"), (clip_b, "clip_b")):
                title = find_title(prompt, node, given)
                sides.append(Side(title, wrap_clip(clip, choices, make_node_surroundings(node, title))))
            report = compare_clips(sides[0], sides[1], text)
        return {"ui": {"embedmerge_report": [report]}, "result": (report,)}
