"""Endings of file names: which files in a folder may be embeddings, and which other files belong to an embedding."""

from __future__ import annotations

SUFFIXES = (".safetensors", ".pt", ".bin")
"""Endings of embedding files. If a folder has two embeddings with one name, the ending that comes first here wins."""

LISTED = (*SUFFIXES, ".png")
"""Endings of all files that may contain an embedding: embedding files and PNG pictures."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".mp4")

SIDECARS = (
    *_PICTURES, *(".preview" + picture for picture in _PICTURES), *(".thumb" + picture for picture in _PICTURES),
    ".txt", ".json", ".yaml", ".md", ".info", ".civitai.info", ".metadata.json", ".description.txt", ".sha256",
)  # fmt: skip
"""Endings that replace `.safetensors` in the names of files that web UIs and model managers keep for an embedding."""
