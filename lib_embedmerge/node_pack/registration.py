"""The nodes, as ComfyUI registers them."""

from __future__ import annotations

from lib_embedmerge.node_pack.inspecting_nodes import CompareNode, InspectEmbedding
from lib_embedmerge.node_pack.making_nodes import BuildEmbedding, EmbeddingPicker
from lib_embedmerge.node_pack.text_nodes import EmbedMergeClip, EmbedMergeTextEncode

NODE_CLASSES: dict[str, type] = {
    "EmbedMerge": EmbedMergeClip,
    "EmbedMergeTextEncode": EmbedMergeTextEncode,
    "EmbedMergeBuild": BuildEmbedding,
    "EmbedMergeInspect": InspectEmbedding,
    "EmbedMergePicker": EmbeddingPicker,
    "EmbedMergeCompare": CompareNode,
}
"""Id of a node in workflows -> its class."""

NODE_TITLES = {
    "EmbedMerge": "EmbedMerge",
    "EmbedMergeTextEncode": "EmbedMerge Text Encode",
    "EmbedMergeBuild": "Build Embedding (EmbedMerge)",
    "EmbedMergeInspect": "Inspect Embedding (EmbedMerge)",
    "EmbedMergePicker": "Embedding Picker (EmbedMerge)",
    "EmbedMergeCompare": "Compare Text Encoders (EmbedMerge)",
}
"""Id of a node -> its title."""
