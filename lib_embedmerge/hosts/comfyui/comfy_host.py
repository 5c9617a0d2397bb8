"""ComfyUI as a host: the CLIP that is connected to a node is its model, its embeddings folders are its library."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from lib_embedmerge.core.architecture import OTHER_ENCODERS, find_architecture, find_encoder_title
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import HostError
from lib_embedmerge.files.atomic_file import make_folder
from lib_embedmerge.hosts.comfyui.clip_origin import ClipOrigin
from lib_embedmerge.hosts.comfyui.clip_tables import find_patched_tables, make_encoders
from lib_embedmerge.hosts.comfyui.comfy_folders import (
    describe_version,
    find_called_file,
    find_embedding_folders,
    list_checkpoints,
)
from lib_embedmerge.hosts.comfyui.prompt_reading import Surroundings
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.tokenizer import clip_tokenizer

_PATCHED = "Other nodes have patched the token tables, so the embedding is for the patched model."
"""The warning about a CLIP that differs from its file."""

_lock = threading.Lock()
_libraries: dict[tuple[Path, ...], EmbeddingFolder] = {}
"""The library of each set of folders that ComfyUI had; it has one set until it is restarted."""


def find_library() -> EmbeddingFolder:
    """ComfyUI's embeddings, read again if a folder has changed. StorageError if the first folder cannot be created."""
    folders = tuple(find_embedding_folders())
    with _lock:
        if folders not in _libraries:
            make_folder(folders[0])
            _libraries[folders] = EmbeddingFolder(folders[0], clip_tokenizer(), folders[1:])
        library = _libraries[folders]
    library.refresh_if_changed()
    return library


def find_file(name: str) -> Path | None:
    """The file that ComfyUI loads for `embedding:NAME`, or None."""
    return find_called_file(name, find_embedding_folders())


def make_surroundings(title: str = "the loaded model", **given: Any) -> Surroundings:
    """What readers of prompts need from ComfyUI. given: other fields of Surroundings."""
    return Surroundings(find_library, find_file, title, **given)


def make_progress() -> Progress:
    """A function that shows progress on the node that runs."""
    from comfy.utils import ProgressBar

    bar = ProgressBar(1)
    return lambda done, total: bar.update_absolute(done, max(total, 1))


class ComfyHost:
    """A hosts.port.Host for a CLIP in ComfyUI. It has no chooser: the workflow says which model is meant."""

    title = "ComfyUI"
    chooser = None
    pictures = None
    parts = ()
    recipes_follow = False

    def __init__(self, clip: Any = None, origin: ClipOrigin | None = None) -> None:
        """clip: the CLIP that texts are read for; None where only files are of interest.  origin: of the CLIP."""
        self._clip = clip
        self._origin = origin or ClipOrigin()
        self._active: ActiveModel | None = None

    @property
    def program(self) -> str:
        """ComfyUI and its version."""
        return describe_version()

    @property
    def embeddings_folder(self) -> Path:
        """ComfyUI's first embeddings folder."""
        return find_embedding_folders()[0]

    def checkpoints(self) -> dict[str, Path]:
        """Name -> path of ComfyUI's checkpoints."""
        return list_checkpoints()

    def library(self) -> EmbeddingFolder:
        """The embeddings in all of ComfyUI's folders. StorageError if the first one cannot be created."""
        return find_library()

    def active(self) -> ActiveModel:
        """The model of the CLIP. HostError if it is not one that embeddings are made for."""
        if self._active is None:
            self._active = self._make_active()
        return self._active

    def _make_active(self) -> ActiveModel:
        if self._clip is None:
            raise HostError("No CLIP is connected.", hint="Connect the CLIP output of a loader.")
        others = _find_other_encoders(self._clip)
        if others:
            titles = " and ".join(dict.fromkeys(map(find_encoder_title, others)))
            raise HostError(
                f"This model also has the text encoder {titles}, which EmbedMerge cannot make embeddings for.",
                expected="the CLIP of an SDXL, Stable Diffusion 1 or Stable Diffusion 2 model",
            )
        encoders = make_encoders(self._clip.patcher)
        architecture = find_architecture({encoder.key for encoder in encoders})
        if architecture is None:
            raise HostError(
                "This CLIP is not one that EmbedMerge can make embeddings for.",
                expected="the CLIP of an SDXL, Stable Diffusion 1 or Stable Diffusion 2 model",
            )
        patched = find_patched_tables(self._clip.patcher)
        facts = self._origin.find_facts(architecture, patched)
        fingerprints = LiveFingerprints({encoder.key: encoder.table for encoder in encoders}, self._origin.checkpoint)
        model = HostModel(facts, encoders, self.library(), fingerprints.measure, lambda: fingerprints.is_measured)
        precisions = dict.fromkeys(encoder.table.precision for encoder in encoders)
        warnings = (_PATCHED,) if patched else ()
        return ActiveModel(model, f"the connected CLIP, {' and '.join(precisions)}", warnings)

    def before_replacing(self, path: Path) -> None:
        """Do nothing: ComfyUI reads a file each time that a text calls it."""

    def embedding_saved(self, path: Path) -> None:
        """Do nothing: ComfyUI looks for files each time that a text is encoded."""

    def embedding_removed(self, path: Path) -> None:
        """Do nothing: ComfyUI looks for files each time that a text is encoded."""


def _find_other_encoders(clip: Any) -> list[str]:
    """The keys of the text encoders of a CLIP that are not CLIP encoders."""
    return [key for key in OTHER_ENCODERS if getattr(clip.cond_stage_model, key, None) is not None]
