"""The files that a CLIP was loaded from, found in the workflow. ComfyUI tells a node nothing of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.errors import CheckpointError
from lib_embedmerge.hosts.comfyui.comfy_folders import find_model_file

_CHECKPOINT = "ckpt_name"
_ENCODER_NAMES = ("clip_name", "clip_name1", "clip_name2", "clip_name3", "clip_name4")
"""Inputs of ComfyUI's loaders with the name of a file."""

Prompt = Mapping[str, Mapping[str, Any]]
"""A workflow as ComfyUI runs it: id of a node -> its class and inputs; an input is a value or [id, output]."""


@dataclass(frozen=True)
class LoadedFile:
    """A file that a loader names. kind: ComfyUI's name of its folder.  name: relative to that."""

    kind: str
    name: str

    @property
    def title(self) -> str:
        """The name for people: without folders and suffix."""
        return Path(self.name.replace("\\", "/")).stem


def find_loaded_files(prompt: Prompt, node: str, given: str = "clip") -> tuple[LoadedFile, ...]:
    """The files that the CLIP at an input of a node comes from, each once; several if it was merged.

    node: id of the node.  given: the name of the input.
    """
    link = prompt.get(node, {}).get("inputs", {}).get(given)
    return tuple(dict.fromkeys(_walk_up(prompt, link, set())))


def _walk_up(prompt: Prompt, link: object, seen: set[str]) -> Iterator[LoadedFile]:
    node = _find_linked_node(link)
    if node is None or node in seen:
        return
    seen.add(node)
    inputs: Mapping[str, object] = prompt.get(node, {}).get("inputs", {})
    checkpoint = inputs.get(_CHECKPOINT)
    if isinstance(checkpoint, str):
        yield LoadedFile("checkpoints", checkpoint)
        return
    encoders = [inputs[name] for name in _ENCODER_NAMES if isinstance(inputs.get(name), str)]
    if encoders:
        yield from (LoadedFile("text_encoders", str(name)) for name in encoders)
        return
    links = {name: value for name, value in inputs.items() if _find_linked_node(value) is not None}
    through = {name: value for name, value in links.items() if "clip" in name.lower()} or links
    for value in through.values():
        yield from _walk_up(prompt, value, seen)


def _find_linked_node(value: object) -> str | None:
    """The id of the node that an input is linked to; None for a value."""
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
    return str(value[0]) if isinstance(value, list) and is_link else None


@dataclass(frozen=True)
class ClipOrigin:
    """Where a CLIP comes from.

    files: see `find_loaded_files`.  checkpoint: the one file, opened; None if it is not one whole checkpoint or cannot
    be read.
    """

    files: tuple[LoadedFile, ...] = ()
    checkpoint: CheckpointModel | None = None

    @property
    def title(self) -> str:
        """The model's name for people."""
        return " + ".join(file.title for file in self.files) or "an unknown model"

    def find_facts(self, architecture: Architecture, patched: Sequence[str]) -> ModelFacts:
        """The facts about the model. patched: keys of the encoders whose token tables are patched."""
        if self.checkpoint is not None and self.checkpoint.facts.architecture == architecture and not patched:
            return self.checkpoint.facts
        file_name = " + ".join(Path(file.name.replace("\\", "/")).name for file in self.files)
        encoder_files = tuple(Path(file.name).name for file in self.files if file.kind != "checkpoints")
        title = f"{self.title} (token tables patched in ComfyUI)" if patched else self.title
        return ModelFacts(title, file_name or self.title, architecture, text_encoder_files=encoder_files)


def find_title(prompt: Prompt | None, node: object, given: str = "clip") -> str:
    """The name for people of the model whose CLIP is at an input of a node."""
    return ClipOrigin(find_loaded_files(prompt or {}, str(node), given)).title


def find_origin(prompt: Prompt | None, node: str, given: str = "clip") -> ClipOrigin:
    """Where the CLIP at an input of a node comes from. Reads the header of the file. Never raises."""
    files = find_loaded_files(prompt or {}, node, given)
    path = find_model_file(files[0].kind, files[0].name) if len(files) == 1 else None
    if path is None or files[0].kind != "checkpoints":
        return ClipOrigin(files)
    try:
        return ClipOrigin(files, open_checkpoint(path))
    except CheckpointError:
        return ClipOrigin(files)
