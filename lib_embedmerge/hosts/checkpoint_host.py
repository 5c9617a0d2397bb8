"""The host for the page of its own (`embedmerge serve`): checkpoint files, one of which the user chooses."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.core.endings import CHECKPOINTS
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import CheckpointError, HostError, Remedy, quote
from lib_embedmerge.files.atomic_file import make_folder
from lib_embedmerge.hosts.picture_port import PictureMaker
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.tokenizer import clip_tokenizer

_DIFFUSERS = "model_index.json"
"""A file that every diffusers folder has."""


class CheckpointHost:
    """A hosts.port.Host with models from files, which is also its own hosts.port.Chooser.

    embeddings_folder: where embeddings are found and saved; created when it is first needed.
    """

    title = "EmbedMerge"
    program = "a page of its own"
    recipes_follow = False
    parts = ()
    pictures: PictureMaker | None = None

    def __init__(
        self,
        embeddings: Path,
        *,
        checkpoint: Path | None = None,
        models: Path | None = None,
        more: Sequence[Path] = (),
    ) -> None:
        """more: other folders of embeddings, which need not exist.

        checkpoint: the one that is active first; None for the first of `models`.

        models: a folder; the checkpoints in it and its subfolders can be chosen.
        """
        self.embeddings_folder = embeddings
        self._more = tuple(more)
        self._models = models
        self._first = checkpoint
        self._path = checkpoint
        self._model: CheckpointModel | None = None
        self._library: EmbeddingFolder | None = None
        self._lock = threading.Lock()
        if checkpoint is None and (first := next(iter(self.checkpoints().items()), None)):
            self._path = first[1]

    @property
    def chooser(self) -> CheckpointHost:
        """This object."""
        return self

    def active(self) -> ActiveModel:
        """The chosen checkpoint. HostError if there is none to choose, CheckpointError if it cannot be read."""
        with self._lock:
            if self._path is None:
                where = f" in {quote(self._models)}" if self._models else ""
                raise HostError(f"No checkpoint was found{where}.", remedy=Remedy.GIVE_CHECKPOINT)
            if self._model is None:
                self._model = open_checkpoint(self._path)
            self._model.name_embeddings(self.library())
            return ActiveModel(self._model, "the checkpoint file", checkpoint=self._path)

    def library(self) -> EmbeddingFolder:
        """The embeddings folder, read again if it has changed. StorageError if it cannot be created."""
        if self._library is None:
            make_folder(self.embeddings_folder)
            self._library = EmbeddingFolder(self.embeddings_folder, clip_tokenizer(), self._more)
        self._library.refresh_if_changed()
        return self._library

    def before_replacing(self, path: Path) -> None:
        """Do nothing: no other program has the file open."""

    def embedding_saved(self, path: Path) -> None:
        """Do nothing: `library` finds the file."""

    def embedding_removed(self, path: Path) -> None:
        """Do nothing: `library` finds that the file is gone."""

    @property
    def chosen(self) -> str | None:
        """The title of the active checkpoint in `checkpoints`; None if it is not among them."""
        return next((title for title, path in self.checkpoints().items() if path == self._path), None)

    def choose_any(self) -> None:
        """Choose the first checkpoint that can be opened.

        If none can, the choice does not change, and `active` raises the error.
        """
        for checkpoint in self.checkpoints():
            with contextlib.suppress(CheckpointError):
                self.choose(checkpoint)
                return

    def choose(self, checkpoint: str) -> None:
        """Open one of `checkpoints` and make it active. If that fails, the active one does not change.

        HostError if it no longer exists, CheckpointError if it cannot be read.
        """
        path = self.checkpoints().get(checkpoint)
        if path is None:
            raise HostError(f"The checkpoint {quote(checkpoint)} no longer exists.", hint="Choose another one.")
        model = open_checkpoint(path)
        with self._lock:
            self._path, self._model = path, model

    def checkpoints(self) -> dict[str, Path]:
        """Title -> path of the first checkpoint and of those that are in the models folder now."""
        by_title = {} if self._first is None else {self._first.name: self._first}
        if self._models is None:
            return by_title
        for path in _find_checkpoints(self._models):
            if path != self._first:
                title = path.relative_to(self._models).as_posix()
                by_title[str(path) if title in by_title else title] = path
        return by_title


def _find_checkpoints(folder: Path) -> Iterator[Path]:
    """The checkpoint files and diffusers folders in a folder and its subfolders, in alphabetical order.

    Files inside a diffusers folder are not listed separately.
    """
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if _DIFFUSERS in files:
            folders.clear()
            yield Path(parent)
            continue
        yield from (Path(parent, name) for name in sorted(files) if name.lower().endswith(CHECKPOINTS))
