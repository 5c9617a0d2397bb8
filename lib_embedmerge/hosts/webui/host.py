"""The host for AUTOMATIC1111, Forge and reForge. Where they differ, their capabilities are probed.

    selected_checkpoint  the selected checkpoint, and whether it is in memory
    token_tables         the token tables in a loaded model
    embedding_database   the web UI's databases of embeddings, updated after a save

The web UI's modules are imported inside functions, so that importing this module imports none of them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from lib_embedmerge.hosts.live_host import LiveHost, require
from lib_embedmerge.hosts.picture_port import PictureMaker
from lib_embedmerge.hosts.selection import SelectedCheckpoint
from lib_embedmerge.hosts.webui import embedding_merge, settings
from lib_embedmerge.hosts.webui.embedding_database import forget_file, register_file, release_file
from lib_embedmerge.hosts.webui.needs import FOLDER, MODEL, PARTS, PICTURES
from lib_embedmerge.hosts.webui.picture_maker import WebuiPictures
from lib_embedmerge.hosts.webui.program import describe_program
from lib_embedmerge.hosts.webui.selected_checkpoint import find_selected_checkpoint
from lib_embedmerge.hosts.webui.token_tables import TokenTables


class WebuiHost(LiveHost):
    """A hosts.port.Host for the web UI in this process."""

    parts = PARTS

    def __init__(self) -> None:
        super().__init__()
        self._token_tables = TokenTables()

    @property
    def program(self) -> str:
        """The family and version of the web UI."""
        return describe_program()

    @property
    def embeddings_folder(self) -> Path:
        """The web UI's own embeddings folder, from its command line."""
        try:
            from modules import shared

            folder = shared.cmd_opts.embeddings_dir
        except (ImportError, AttributeError):
            require(FOLDER)
            raise
        return _make_path(str(folder))

    @property
    def recipes_follow(self) -> bool:
        """Whether the setting is on that uses the recipes of embeddings in prompts."""
        return settings.recipes_follow_model()

    @functools.cached_property
    def pictures(self) -> PictureMaker | None:  # type: ignore[override] # only read
        """What makes pictures; None if the web UI lacks something for it."""
        return None if PICTURES.find_missing() else WebuiPictures()

    def before_replacing(self, path: Path) -> None:
        """Replace the vectors in the web UI's databases, which may be views into the file, by copies."""
        from modules import sd_models

        release_file(path, getattr(sd_models.model_data, "sd_model", None))

    def embedding_saved(self, path: Path) -> None:
        """Add the file to the web UI's databases, if a model is loaded."""
        from modules import sd_models

        register_file(path, getattr(sd_models.model_data, "sd_model", None))

    def embedding_removed(self, path: Path) -> None:
        """Remove the file from the web UI's databases."""
        from modules import sd_models

        forget_file(path, getattr(sd_models.model_data, "sd_model", None))

    def checkpoints(self) -> dict[str, Path]:
        """Title -> path of the checkpoints in the web UI's list, which the web UI refreshes itself."""
        from modules import sd_models

        infos = list(sd_models.checkpoints_list.values())
        return {info.title: Path(info.filename) for info in infos}

    def _find_selected(self) -> SelectedCheckpoint:
        require(MODEL)
        from modules import sd_models, shared

        return find_selected_checkpoint(sd_models, shared)

    def _find_loaded(self) -> Any:
        from modules import sd_models

        return getattr(sd_models.model_data, "sd_model", None)

    def _find_tables(self, model: Any) -> dict[str, torch.nn.Module]:
        return self._token_tables.find(model)

    def _find_warnings(self) -> list[str]:
        """A warning if the extension Embedding Merge is installed, with which of the two handles prompts."""
        if not embedding_merge.is_installed():
            return []
        acting = "EmbedMerge" if settings.handles_inline() else embedding_merge.TITLE
        return [
            f"{embedding_merge.TITLE} is installed too; {acting} handles expressions in prompts (Settings, EmbedMerge)."
        ]


@functools.lru_cache(maxsize=1)
def _make_path(folder: str) -> Path:
    """The path of the embeddings folder, which every prompt with an expression asks for: the same object each time."""
    return Path(folder)
