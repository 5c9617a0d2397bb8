"""The host for the command line: a model and a folder of embeddings. No other program has to be notified of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.tokenizer import clip_tokenizer


@dataclass(frozen=True)
class FolderHost:
    """A hosts.port.Host for a model that is open already. embeddings_folder: where embeddings are saved."""

    model: Model
    embeddings_folder: Path
    title = "EmbedMerge"
    program = "the command line"
    chooser = None
    pictures = None
    parts = ()
    recipes_follow = False

    def checkpoints(self) -> Mapping[str, Path]:
        """Empty, because the user of the command line names the checkpoint."""
        return {}

    def active(self) -> ActiveModel:
        """The model."""
        return ActiveModel(self.model, "the checkpoint file")

    def library(self) -> EmbeddingFolder:
        """The folder. StorageError if it does not exist; saving creates it."""
        self._library.refresh_if_changed()
        return self._library

    @cached_property
    def _library(self) -> EmbeddingFolder:
        return EmbeddingFolder(self.embeddings_folder, clip_tokenizer())

    def before_replacing(self, path: Path) -> None:
        """Do nothing: no other program has the file open."""

    def embedding_saved(self, path: Path) -> None:
        """Do nothing: no other program uses the file."""

    def embedding_removed(self, path: Path) -> None:
        """Do nothing: no other program uses the file."""
