"""Save the embedding of a Build node once, and know whether its file is still as it was saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.stamps import read_stamp

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.embeddings.embedding import Embedding
    from lib_embedmerge.hosts.comfyui.comfy_host import ComfyHost

_CHANGING = ("modelspec.date", "modelspec.hash_sha256", "embedmerge.version")
"""Metadata that differ each time that an embedding is made or saved."""


class SavedFiles:
    """The file that each node saved last."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path, object]] = {}
        self._changes: dict[str, int] = {}

    def note(self, node: str, path: Path) -> None:
        """Remember that a node has saved this file."""
        self._files[node] = path, read_stamp(path)

    def count_changes(self, node: str) -> int:
        """How often the file of a node was changed or removed by others since ComfyUI was started."""
        saved = self._files.get(node)
        if saved is not None and read_stamp(saved[0]) != saved[1]:
            del self._files[node]
            self._changes[node] = self._changes.get(node, 0) + 1
        return self._changes.get(node, 0)


SAVED_FILES = SavedFiles()
"""The files of all nodes in this process."""


def save_once(host: ComfyHost, source: str, name: str, node: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Save a source as an embedding: (its name, a report).

    If a file of that name already has these vectors and this recipe, nothing is written.
    options: the other inputs of the node.  EmbedMergeError for a mistake, a name that is taken, or the disk.
    """
    from dataclasses import replace

    from lib_embedmerge.actions.saving import make_existing_error, save
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.hosts.comfyui.comfy_host import make_progress
    from lib_embedmerge.node_pack.text_reports import describe_saved

    request = SaveRequest(
        source,
        name,
        notes=options.get("notes", ""),
        negative=bool(options.get("negative")),
        dtype=options.get("precision", "float32"),
        attention=options.get("attention", "drop"),
        read_as=options.get("read_as", "auto"),
        insist=options.get("read_as") == "prompt",
        follow=bool(options.get("follow_recipes")),
    )
    may_replace = options.get("if_it_exists") == "replace it"
    saved = save(host, request, make_progress())
    if saved.existing:
        if is_old := _find_equal(host, request):
            SAVED_FILES.note(node, is_old)
            return is_old.stem, f"{is_old.name} already exists with these vectors and this text. Nothing was written."
        if not may_replace:
            raise make_existing_error(saved)
        saved = save(host, replace(request, overwrite=True), make_progress())
    file = saved.files[0]
    SAVED_FILES.note(node, file.path)
    return file.name, describe_saved(saved)


def _find_equal(host: ComfyHost, request: SaveRequest) -> Path | None:
    """The file of that name if saving would give the same embedding, apart from its date; else None."""
    from lib_embedmerge.actions.typed_input import read_to_build
    from lib_embedmerge.embeddings.embedding import load_embedding
    from lib_embedmerge.embeddings.names import remove_suffix
    from lib_embedmerge.recipes.build import BuildOptions, build_embedding
    from lib_embedmerge.recipes.following import FollowingNames

    model, name = host.active().model, remove_suffix(request.name.strip())
    typed = read_to_build(request.source, request.attention, request.read_as, insist=request.insist)
    names = FollowingNames(model, quiet=True) if request.follow else None
    options = BuildOptions(notes=request.notes, negative=request.negative or None, names=names)
    fresh = build_embedding(model, typed.parsed, name, options)
    try:
        path = host.library().path(name)
        old = load_embedding(path)
    except StorageError:
        return None
    is_same = _describe(old, request.dtype) == _describe(fresh, request.dtype) and old.name == fresh.name
    return path if is_same else None


def _describe(embedding: Embedding, dtype: str) -> object:
    """The contents of an embedding as saved with this dtype, without what differs each time."""
    metadata = {key: value for key, value in embedding.metadata.items() if key not in _CHANGING}
    return metadata, {key: rows.astype(dtype).tolist() for key, rows in embedding.vectors.items()}
