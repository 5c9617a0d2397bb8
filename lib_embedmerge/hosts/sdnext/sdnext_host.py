"""The host for SD.Next: a pipeline of diffusers in memory, or the selected checkpoint's file.

    chosen_checkpoint   the selected checkpoint, and whether it is in memory
    pipeline_encoders   the text encoders of a loaded pipeline
    pipeline_database   the pipeline's database of embeddings, updated after a save

SD.Next's modules are imported inside functions, so that importing this module imports none of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from lib_embedmerge.hosts.live_host import LiveHost, require
from lib_embedmerge.hosts.sdnext.chosen_checkpoint import (
    find_chosen_checkpoint,
    find_loaded_pipeline,
    find_loaded_refiner,
    find_title,
    list_checkpoints,
)
from lib_embedmerge.hosts.sdnext.pipeline_database import forget_file, register_file, release_file
from lib_embedmerge.hosts.sdnext.pipeline_encoders import OWN_ROWS, find_encoders
from lib_embedmerge.hosts.sdnext.sdnext_needs import DATABASE, FOLDER, MODEL, PARTS
from lib_embedmerge.hosts.selection import SelectedCheckpoint
from lib_embedmerge.hosts.webui import settings

_MAX_VERSION = 100


class SdNextHost(LiveHost):
    """A hosts.port.Host for the SD.Next in this process."""

    title = "SD.Next"
    parts = PARTS
    own_rows = OWN_ROWS

    @property
    def program(self) -> str:
        """SD.Next and its version."""
        return f"SD.Next, {_read_version() or 'of an unknown version'}"

    @property
    def embeddings_folder(self) -> Path:
        """The folder of the setting "Folder with textual inversion embeddings"."""
        require(FOLDER)
        from modules import shared

        return Path(shared.opts.embeddings_dir).absolute()

    @property
    def recipes_follow(self) -> bool:
        """Whether the setting is on that uses the recipes of embeddings in prompts."""
        return settings.recipes_follow_model()

    def before_replacing(self, path: Path) -> None:
        """Replace the vectors in the pipeline's database, which may be views into the file, by copies."""
        release_file(path, find_loaded_pipeline())

    def embedding_saved(self, path: Path) -> None:
        """Add the file to the pipeline's tokenizers and tables, if a model is loaded."""
        if not DATABASE.find_missing():
            register_file(path, find_loaded_pipeline())

    def embedding_removed(self, path: Path) -> None:
        """Remove the file from the pipeline's tokenizers."""
        if not DATABASE.find_missing():
            forget_file(path, find_loaded_pipeline())

    def checkpoints(self) -> dict[str, Path]:
        """Title -> file or folder of the checkpoints in SD.Next's list, which SD.Next refreshes itself."""
        return list_checkpoints()

    def _find_selected(self) -> SelectedCheckpoint:
        require(MODEL)
        return find_chosen_checkpoint()

    def find_pipeline(self) -> Any:
        """SD.Next's model object that encodes prompts, or None if it is not loaded."""
        return find_loaded_pipeline()

    def _find_loaded(self) -> Any:
        return self.find_pipeline()

    def _find_tables(self, model: Any) -> dict[str, torch.nn.Module]:
        return {encoder.key: encoder.layer for encoder in find_encoders(model)}

    def _find_title(self, info: Any) -> str:
        return find_title(info)

    def _find_warnings(self) -> list[str]:
        """A warning if SD.Next will use no embedding because its own support for them is switched off."""
        from modules import shared

        if getattr(shared.opts, "diffusers_enable_embed", True):
            return []
        return ["SD.Next uses no embeddings, because its setting 'Enable embeddings support' is off."]


class RefinerHost(SdNextHost):
    """The same, but its loaded model is the refiner, which encodes the prompts of its pass itself."""

    def find_pipeline(self) -> Any:
        """SD.Next's model object of the refiner, or None if it is not loaded."""
        return find_loaded_refiner()


def _read_version() -> str | None:
    """The commit that SD.Next has read of itself at its start, and its date; None if it has read none."""
    read = getattr(sys.modules.get("installer"), "version", None)
    if not isinstance(read, dict):
        return None
    return " ".join(str(read[key]) for key in ("commit", "updated") if read.get(key))[:_MAX_VERSION] or None
