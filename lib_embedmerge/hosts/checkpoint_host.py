"""Checkpoint files as a host: the page of its own. One user, who chooses the model here."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.core.endings import CHECKPOINTS
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import CheckpointError, HostError, Remedy, quote
from lib_embedmerge.files.atomic_file import make_folder
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.tokenizer import clip_tokenizer

_DIFFUSERS = "model_index.json"


class CheckpointHost:
    """Models from files (hosts.port.Host), and the chooser of them (hosts.port.Chooser).

    embeddings_folder: where embeddings lie and are saved; made when it is first needed.
    """

    title = "EmbedMerge"
    program = "a page of its own"
    recipes_follow = False

    def __init__(self, embeddings: Path, *, checkpoint: Path | None = None, models: Path | None = None) -> None:
        """checkpoint: what is active at first.  models: a folder whose checkpoints, below it too, can be chosen."""
        self.embeddings_folder = embeddings
        self._models = models
        self._given = checkpoint
        self._path = checkpoint
        self._model: CheckpointModel | None = None
        self._library: EmbeddingFolder | None = None
        self._lock = threading.Lock()
        if checkpoint is None and (first := next(iter(self.checkpoints().items()), None)):
            self._path = first[1]

    @property
    def chooser(self) -> CheckpointHost:
        """Itself."""
        return self

    def active(self) -> ActiveModel:
        """The chosen checkpoint. HostError where nothing can be chosen, CheckpointError where it cannot be read."""
        with self._lock:
            if self._path is None:
                place = f" in {quote(self._models)}" if self._models else ""
                raise HostError(f"No checkpoint was found{place}.", remedy=Remedy.GIVE_CHECKPOINT)
            if self._model is None:
                self._model = open_checkpoint(self._path)
            self._model.name_embeddings(self.library())
            return ActiveModel(self._model, "the checkpoint file")

    def library(self) -> EmbeddingFolder:
        """The embeddings folder, looked through again where it has changed."""
        if self._library is None:
            make_folder(self.embeddings_folder)
            self._library = EmbeddingFolder(self.embeddings_folder, clip_tokenizer())
        self._library.refresh_if_changed()
        return self._library

    def before_replacing(self, path: Path) -> None:
        """Nobody else holds it."""

    def embedding_saved(self, path: Path) -> None:
        """Nobody else is to be told."""

    def embedding_removed(self, path: Path) -> None:
        """Nobody else knows it."""

    @property
    def chosen(self) -> str | None:
        """The active one of them."""
        return next((title for title, path in self.checkpoints().items() if path == self._path), None)

    def choose_any(self) -> None:
        """Open the first that can be; where none can, the first stays chosen, and `active` says what is wrong."""
        for checkpoint in self.checkpoints():
            with contextlib.suppress(CheckpointError):
                self.choose(checkpoint)
                return

    def choose(self, checkpoint: str) -> None:
        """Open one of `checkpoints`. The active one stays where that fails."""
        path = self.checkpoints().get(checkpoint)
        if path is None:
            raise HostError(f"The checkpoint {quote(checkpoint)} no longer exists.", hint="Choose another one.")
        model = open_checkpoint(path)
        with self._lock:
            self._path, self._model = path, model

    def checkpoints(self) -> dict[str, Path]:
        """The checkpoint that was named first, and those of the models folder as they lie there now."""
        found = {} if self._given is None else {self._given.name: self._given}
        if self._models is None:
            return found
        for path in _checkpoints_below(self._models):
            if path != self._given:
                title = path.relative_to(self._models).as_posix()
                found[str(path) if title in found else title] = path
        return found


def _checkpoints_below(folder: Path) -> Iterator[Path]:
    """Checkpoint files and diffusers folders, in alphabetical order; what is inside such a folder is part of it."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if _DIFFUSERS in files:
            folders.clear()
            yield Path(parent)
            continue
        yield from (Path(parent, name) for name in sorted(files) if name.lower().endswith(CHECKPOINTS))
