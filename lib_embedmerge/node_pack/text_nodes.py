"""The nodes that read texts: EmbedMerge, after which every text node reads expressions, and one that encodes a text."""

from __future__ import annotations

from typing import Any, ClassVar

from lib_embedmerge.node_pack.node_inputs import (
    CATEGORY,
    CLIP,
    FOLLOW,
    LITERAL,
    MISTAKES,
    NAMES,
    check_text,
    count_changes,
    make_choices,
    make_node_surroundings,
    stopping_on_errors,
)


class EmbedMergeClip:
    """CLIP -> CLIP: after it, every text node reads expressions and names of embeddings."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "After this node, every text node reads expressions such as <'cat'+'dog'*0.5>, and embeddings by their names. "
        "Put it after the loader, before or after LoRA and CLIP skip. The text stays as typed in the workflow."
    )
    RETURN_TYPES = ("CLIP",)
    OUTPUT_TOOLTIPS: ClassVar = ("A copy of the CLIP. Connect it to text nodes.",)
    FUNCTION = "wrap"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        return {
            "required": {"clip": CLIP},
            "optional": {"embedding_names": NAMES, "follow_recipes": FOLLOW, "on_mistake": MISTAKES},
            "hidden": {"node": "UNIQUE_ID", "texts": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, texts: Any = None) -> Any:  # noqa: N802 -- ComfyUI's name
        """The first mistake in the texts after this node, before the queue runs. texts: the id of this node."""
        from lib_embedmerge.node_pack.queued_texts import check_texts_after

        return check_texts_after(str(texts), LITERAL)

    @classmethod
    def IS_CHANGED(cls, node: Any = None, **options: Any) -> int:  # noqa: N802 -- ComfyUI's name
        """Another number when embeddings that the texts name were changed, so that ComfyUI encodes them again."""
        return count_changes(node, make_choices(options))

    def wrap(self, clip: Any, node: Any = None, prompt: Any = None, **options: Any) -> tuple[Any]:
        """A copy of the CLIP that reads expressions."""
        from lib_embedmerge.hosts.comfyui.clip_origin import find_title
        from lib_embedmerge.hosts.comfyui.wrapped_clip import wrap_clip

        with stopping_on_errors():
            around = make_node_surroundings(node, find_title(prompt, node))
            return (wrap_clip(clip, make_choices(options), around),)


class EmbedMergeTextEncode:
    """CLIP, text -> CONDITIONING, report."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Encodes a text with expressions such as <'cat'+'dog'*0.5> or {'cat'+'dog'*0.5}, and embeddings by their "
        "names. The number of tokens and mistakes are shown below the text. {a|b} is not a choice here."
    )
    RETURN_TYPES = ("CONDITIONING", "STRING")
    RETURN_NAMES = ("conditioning", "report")
    OUTPUT_TOOLTIPS: ClassVar = ("The encoded text.", "How the text was read: tokens, chunks, embeddings.")
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 -- ComfyUI's name
        text = (
            "STRING",
            {"multiline": True, "dynamicPrompts": False, "tooltip": "A prompt, with expressions in < > or { }."},
        )
        return {
            "required": {"clip": CLIP, "text": text},
            "optional": {"embedding_names": NAMES, "follow_recipes": FOLLOW},
            "hidden": {"node": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, text: Any = None) -> Any:  # noqa: N802 -- ComfyUI's name
        """The first mistake in the text, before the queue runs."""
        return check_text(text)

    @classmethod
    def IS_CHANGED(cls, node: Any = None, **options: Any) -> int:  # noqa: N802 -- ComfyUI's name
        """Another number when embeddings that the text names were changed, so that ComfyUI encodes it again."""
        return count_changes(node, make_choices(options))

    def encode(self, clip: Any, text: str, node: Any = None, prompt: Any = None, **options: Any) -> dict[str, Any]:
        """The encoded text, and how it was read."""
        from lib_embedmerge.hosts.comfyui.clip_origin import find_title
        from lib_embedmerge.hosts.comfyui.text_counting import count_by_encoder, read_text
        from lib_embedmerge.hosts.comfyui.wrapped_clip import wrap_clip
        from lib_embedmerge.node_pack.text_reports import describe_counts, describe_names

        choices = make_choices(options)
        with stopping_on_errors():
            around = make_node_surroundings(node, find_title(prompt, node))
            reading = wrap_clip(clip, choices, around)
            counts = count_by_encoder(reading.tokenize(text, return_word_ids=True))
            conditioning = reading.encode_from_tokens_scheduled(reading.tokenize(text))
            names = describe_names(read_text(text, choices, around))
        report = "\n".join(filter(None, (describe_counts(counts), names)))
        return {"ui": {"embedmerge_report": [report]}, "result": (conditioning, report)}
