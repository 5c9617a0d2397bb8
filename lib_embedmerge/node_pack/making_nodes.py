"""The nodes that make and choose embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

from lib_embedmerge.node_pack.node_inputs import CATEGORY, CLIP, FOLLOW, stopping_on_errors

_KEEP, _REPLACE = "stop the queue", "replace it"


class BuildEmbedding:
    """CLIP, source, name -> name: saves an embedding with its model tag."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves an expression or a prompt as an embedding in ComfyUI's embeddings folder, with the model that it was "
        "made for and its text. The next queue finds it."
    )
    RETURN_TYPES = ("STRING", "STRING", "STRING")
    RETURN_NAMES = ("name", "call", "report")
    OUTPUT_TOOLTIPS: ClassVar = (
        "The name of the embedding.",
        "What a text calls it by: embedding:NAME.",
        "What was saved.",
    )
    FUNCTION = "build"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        line = {"multiline": False, "dynamicPrompts": False}
        source = {
            "multiline": True,
            "dynamicPrompts": False,
            "tooltip": "An expression such as 'cat'+'dog'*0.5, or a prompt with expressions in < >.",
        }
        exists = {"default": _KEEP, "tooltip": "What happens when another embedding has this name."}
        negative = {"default": False, "tooltip": "Mark it as an embedding for negative prompts."}
        read_as = {"default": "auto", "tooltip": "auto decides by how the text begins."}
        attention = {"default": "drop", "tooltip": "What becomes of (attention:1.2): removed, multiplied, or literal."}
        return {
            "required": {
                "clip": CLIP,
                "source": ("STRING", source),
                "name": ("STRING", {**line, "default": "my_embedding1"}),
            },
            "optional": {
                "if_it_exists": ([_KEEP, _REPLACE], exists),
                "notes": ("STRING", {**line, "tooltip": "Your own notes, kept in the file."}),
                "negative": ("BOOLEAN", negative),
                "precision": (["float32", "float16"], {"default": "float32"}),
                "read_as": (["auto", "expression", "prompt"], read_as),
                "attention": (["drop", "scale", "keep"], attention),
                "follow_recipes": FOLLOW,
            },
            "hidden": {"node": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, source: Any = None, read_as: Any = "auto") -> Any:  # noqa: N802 -- ComfyUI's name
        """The first mistake in the source, before the queue runs."""
        from lib_embedmerge.actions.typed_input import read_to_build
        from lib_embedmerge.errors import EmbedMergeError
        from lib_embedmerge.node_pack.text_reports import make_error_sentence

        try:
            if isinstance(source, str):
                read_to_build(source, read_as=read_as, insist=read_as == "prompt")
        except EmbedMergeError as error:
            return make_error_sentence(error, "source")
        return True

    @classmethod
    def IS_CHANGED(cls, name: Any = None, node: Any = None, **_: Any) -> Any:  # noqa: N802 -- ComfyUI's name
        """Another value when the file that this node saved was changed or removed, so that it saves it again."""
        from lib_embedmerge.node_pack.saved_files import SAVED_FILES

        return SAVED_FILES.count_changes(str(node))

    def build(self, clip: Any, source: str, name: str, node: Any = None, prompt: Any = None, **options: Any) -> Any:
        """Save the embedding. EmbedMergeStop for a mistake."""
        from lib_embedmerge.core.calling import escape_name
        from lib_embedmerge.hosts.comfyui.clip_origin import find_origin
        from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost
        from lib_embedmerge.hosts.exact_computing import compute_exactly
        from lib_embedmerge.node_pack.saved_files import save_once

        with stopping_on_errors("source"), compute_exactly():
            host = ComfyHost(clip, find_origin(prompt, str(node)))
            saved, report = save_once(host, source, name, str(node), options)
        call = f"embedding:{escape_name(saved)}"
        return {"ui": {"embedmerge_report": [report]}, "result": (saved, call, report)}


class EmbeddingPicker:
    """embedding -> text: chooses an embedding from a list."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Chooses an embedding, and writes the text that calls it. Connect text to add it to another text."
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "name")
    OUTPUT_TOOLTIPS: ClassVar = ("The text that calls the embedding, after the text that is connected.", "Its name.")
    FUNCTION = "pick"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        weight = {
            "default": 1.0,
            "min": -10.0,
            "max": 10.0,
            "step": 0.05,
            "tooltip": "Attention: (embedding:NAME:1.2).",
        }
        return {
            "required": {"embedding": (list_embedding_names(), {}), "weight": ("FLOAT", weight)},
            "optional": {"text": ("STRING", {"forceInput": True})},
        }

    def pick(self, embedding: str, weight: float = 1.0, text: str | None = None) -> tuple[str, str]:
        """The text that calls the embedding, and its name."""
        from lib_embedmerge.core.calling import escape_name

        call = f"embedding:{escape_name(embedding)}"
        written = call if weight == 1 else f"({call}:{weight:g})"
        return ", ".join(filter(None, (text, written))), embedding


def list_embedding_names() -> list[str]:
    """The names of ComfyUI's embeddings; none if its folder cannot be read."""
    from lib_embedmerge.actions.inspecting import list_names
    from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost

    return list(list_names(ComfyHost()))
