"""Endings of file names: which files may be embeddings or checkpoints, and which files belong to an embedding."""

from __future__ import annotations

SUFFIX = ".safetensors"
"""What embeddings are saved as, and most checkpoints."""

PICTURE = ".png"
"""Pictures that every listing looks into for an embedding; other formats would have to be decoded to tell."""

SUFFIXES = (SUFFIX, ".pt", ".bin")
"""Endings of embedding files. If a folder has two embeddings with one name, the ending that comes first here wins."""

LISTED = (*SUFFIXES, PICTURE)
"""Endings of all files that a folder of embeddings lists."""

READABLE = frozenset((*LISTED, ".sft", ".pth", ".webp", ".jxl", ".avif"))
"""Endings of all files that are read as embeddings when they are named; pictures as AUTOMATIC1111 reads them."""

CHECKPOINT = ".ckpt"

CHECKPOINTS = (SUFFIX, ".sft", CHECKPOINT)
"""Endings of checkpoint files in a folder of models."""

WEIGHTS = frozenset((*CHECKPOINTS, ".pt", ".pth", ".bin"))
"""Endings of files that may hold the weights of a text encoder."""

_PREVIEWS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".mp4")

PREVIEWS = tuple(middle + picture for picture in _PREVIEWS[:5] for middle in ("", ".preview"))
"""Endings of the pictures that web UIs show on cards, in their order: the first that exists is shown."""

SIDECARS = (
    *_PREVIEWS, *(".preview" + preview for preview in _PREVIEWS), *(".thumb" + preview for preview in _PREVIEWS),
    ".txt", ".json", ".yaml", ".md", ".info", ".civitai.info", ".metadata.json", ".description.txt", ".sha256",
)  # fmt: skip
"""Endings that replace `.safetensors` in the names of files that web UIs and model managers keep for an embedding."""
