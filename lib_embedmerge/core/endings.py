"""Which files of a folder are embeddings, and which ones belong to one, by the ends of their names."""

from __future__ import annotations

SUFFIXES = (".safetensors", ".pt", ".bin")
"""What an embedding file ends in; where one folder has two of a name, the earlier of these is meant."""

LISTED = (*SUFFIXES, ".png")
"""The same and pictures, of which those that hold an embedding are listed."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".mp4")

SIDECARS = (
    *_PICTURES, *(".preview" + picture for picture in _PICTURES), *(".thumb" + picture for picture in _PICTURES),
    ".txt", ".json", ".yaml", ".md", ".info", ".civitai.info", ".metadata.json", ".description.txt", ".sha256",
)  # fmt: skip
"""What web UIs and model managers put beside `name.safetensors` under its name."""
