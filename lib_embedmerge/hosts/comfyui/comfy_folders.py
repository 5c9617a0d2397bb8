"""ComfyUI's folders and version, as its own modules have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lib_embedmerge.errors import HostError

LOADED_SUFFIXES = (".safetensors", ".pt", ".bin")
"""Suffixes that ComfyUI adds to a name in a prompt, in this order."""


def find_embedding_folders() -> list[Path]:
    """ComfyUI's embeddings folders. New embeddings are saved in the first. HostError if it has none."""
    import folder_paths

    folders = [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]
    if not folders:
        raise HostError("ComfyUI has no embeddings folder.", hint="Add one to extra_model_paths.yaml.")
    return folders


def list_checkpoints() -> dict[str, Path]:
    """Name -> path of the checkpoints that ComfyUI lists."""
    import folder_paths

    names: list[str] = folder_paths.get_filename_list("checkpoints")
    return {name: path for name in names if (path := find_model_file("checkpoints", name)) is not None}


def find_model_file(kind: str, name: str) -> Path | None:
    """The file of a model that a loader names; None if ComfyUI does not find it. kind: `checkpoints` or another."""
    import folder_paths

    path: str | None = folder_paths.get_full_path(kind, name)
    return Path(path) if path else None


def describe_version() -> str:
    """ComfyUI and its version, for bug reports."""
    try:
        from comfyui_version import __version__
    except ImportError:  # before 0.3
        return "ComfyUI"
    return f"ComfyUI {__version__}"


def find_called_file(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that ComfyUI loads for `embedding:NAME`, or None if it finds none.

    ComfyUI looks in the folders and all their subfolders, with and without a suffix. name: may contain folders.
    """
    for top in folders:
        for folder in (str(top), *(parent for parent, _, _ in os.walk(top, followlinks=True))):
            base = os.path.abspath(os.path.join(folder, name))  # noqa: PTH100, PTH118 -- as ComfyUI does
            if not _is_inside(base, folder):
                continue
            for path in (base, *(base + suffix for suffix in LOADED_SUFFIXES)):
                if os.path.isfile(path):  # noqa: PTH113 -- a text, as above
                    return Path(path)
    return None


def _is_inside(path: str, folder: str) -> bool:
    folder = os.path.abspath(folder)  # noqa: PTH100 -- it follows no links, as ComfyUI does not
    try:
        return os.path.commonpath((folder, path)) == folder
    except ValueError:  # another drive
        return False
