"""What the hosts have in common whose program loads models by itself: the web UIs' and SD.Next's.

A host of this kind says where its program keeps what (the abstract methods). This module makes the active model of it:
from the tables in memory, or else from the checkpoint's file.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lib_embedmerge.core.architecture import Architecture, find_architecture
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import HostError
from lib_embedmerge.files.atomic_file import make_folder
from lib_embedmerge.files.stamps import read_stamp
from lib_embedmerge.hosts.checkpoint_files import CheckpointFile, has_encoders, warn_of_encoder_files
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.host_parts import Part
from lib_embedmerge.hosts.live_encoders import LiveEncoders, reuse_or_make_encoders
from lib_embedmerge.hosts.picture_port import PictureMaker
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.hosts.selection import SelectedCheckpoint
from lib_embedmerge.tokenizer import clip_tokenizer


class LiveHost(ABC):
    """Most of a hosts.port.Host for a program in this process. It has no chooser, because the program has its own.

    own_rows: how many rows at the beginning of a token table are the model's own, where the program adds rows for
        embeddings; None if all are.
    """

    title = "the web UI"
    chooser = None
    pictures: PictureMaker | None = None
    parts: tuple[Part, ...] = ()
    own_rows: int | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: EmbeddingFolder | None = None
        self._opened: tuple[object, CheckpointFile] | None = None  # stamps of the files, and the file
        self._selected: LiveEncoders | None = None
        self._loaded: LiveEncoders | None = None

    @property
    @abstractmethod
    def embeddings_folder(self) -> Path:
        """The program's own embeddings folder."""

    @abstractmethod
    def _find_selected(self) -> SelectedCheckpoint:
        """The checkpoint that the next generation will use. HostError if there is none."""

    @abstractmethod
    def _find_loaded(self) -> Any:
        """The program's model object that is in memory, whichever is selected; None, or a placeholder, if none is."""

    @abstractmethod
    def _find_tables(self, model: Any) -> dict[str, torch.nn.Module]:
        """Encoder key -> the layer with the token table. Empty if `model` has no usable table in memory.

        HostError if the model has text encoders other than CLIP.
        """

    def _find_title(self, info: Any) -> str:
        """The program's name for a checkpoint. info: the program's object for it."""
        title: str = info.name_for_extra
        return title

    def _find_warnings(self) -> list[str]:
        """What a user should know of the program besides, one sentence each."""
        return []

    def library(self) -> EmbeddingFolder:
        """The embeddings in the folder, read again if it has changed. StorageError if it cannot be created."""
        folder = self.embeddings_folder
        if self._library is None or self._library.folder != folder:
            make_folder(folder)
            self._library = EmbeddingFolder(folder, clip_tokenizer())
        self._library.refresh_if_changed()
        return self._library

    def active(self) -> ActiveModel:
        """The selected model, which the next generation will use: the one in memory, or else read from its file.

        HostError if there is none that EmbedMerge can use, CheckpointError if its file cannot be read.
        """
        checkpoint = self._find_selected()
        tables = self._find_tables(checkpoint.model) if checkpoint.model is not None else {}
        with self._lock:
            if tables and self._selected is None:
                self._opened = None  # frees the copies of tables that its encoders may hold
            file = self._open_file(checkpoint)
            if tables:
                return self._make_loaded(checkpoint, tables, file)
            self._selected = None
            return self._make_unloaded(checkpoint, file)

    def find_loaded_model(self) -> HostModel:
        """The model in memory, which encodes prompts now, whichever is selected.

        Its `encoders` are the same objects until another model is loaded. HostError if no usable model is loaded.
        """
        loaded = self._find_loaded()
        tables = self._find_tables(loaded)
        architecture = find_architecture(frozenset(tables))
        if architecture is None:
            raise HostError("The web UI has not loaded a model that EmbedMerge can use.")
        info = loaded.sd_checkpoint_info
        with self._lock:
            self._loaded = reuse_or_make_encoders(self._loaded, tables, None, (info.filename,), self.own_rows)
            facts = _make_loaded_facts(self._find_title(info), info.filename, architecture)
            fingerprints = self._loaded.fingerprints
            return HostModel(facts, self._loaded.encoders, self.library(), fingerprints.measure)

    def _make_unloaded(self, checkpoint: SelectedCheckpoint, file: CheckpointFile) -> ActiveModel:
        """The active model if the selected checkpoint is not in memory. CheckpointError if it cannot be read."""
        if file.error is not None:
            raise copy.copy(file.error)
        assert file.model is not None
        opened = file.model
        title, other = checkpoint.title, checkpoint.other
        warnings = [f"{title} is selected, but {other} is still loaded."] if other else []
        warnings += self._find_warnings()
        facts = self._find_facts(checkpoint, file)
        model = HostModel(facts, opened.encoders, self.library(), opened.fingerprints, lambda: opened.has_fingerprints)
        why = "another model is loaded" if other else "the model is not loaded yet"
        warnings += warn_of_encoder_files(model.facts)
        return ActiveModel(model, f"the checkpoint file; {why}", tuple(warnings), _find_whole_file(checkpoint, facts))

    def _make_loaded(
        self, checkpoint: SelectedCheckpoint, tables: Mapping[str, torch.nn.Module], file: CheckpointFile
    ) -> ActiveModel:
        """The active model if the selected checkpoint is in memory. tables: encoder key -> layer with the table."""
        source = (checkpoint.file, checkpoint.modules)
        self._selected = live = reuse_or_make_encoders(self._selected, tables, file, source, self.own_rows)
        facts = self._find_facts(checkpoint, file, frozenset(tables))
        fingerprints = live.fingerprints
        model = HostModel(facts, live.encoders, self.library(), fingerprints.measure, lambda: fingerprints.is_measured)
        precisions = dict.fromkeys(encoder.table.precision for encoder in live.encoders)
        warnings = [f"Its file cannot be read: {file.error.message}"] if file.error else []
        warnings += self._find_warnings()
        vectors_from = f"the loaded model, {' and '.join(precisions)}"
        warnings += warn_of_encoder_files(facts)
        return ActiveModel(model, vectors_from, tuple(warnings), _find_whole_file(checkpoint, facts))

    def _open_file(self, checkpoint: SelectedCheckpoint) -> CheckpointFile:
        """The checkpoint's file with its other text encoder files. They are opened again if one of them has changed."""
        files = (checkpoint.file, *checkpoint.modules)
        stamps = [(file, read_stamp(file)) for file in files]
        if self._opened is None or self._opened[0] != stamps:
            self._opened = stamps, CheckpointFile.open(checkpoint.file, checkpoint.modules)
        return self._opened[1]

    def _find_facts(
        self, checkpoint: SelectedCheckpoint, file: CheckpointFile, keys: frozenset[str] = frozenset()
    ) -> ModelFacts:
        """The facts about the selected model: from its file, or if that cannot be read, as far as they are known.

        keys: of the text encoders in memory; empty if the model is not in memory. If the file has other encoders, its
            facts are not used.
        """
        in_file = file.model.facts if file.model else None
        if in_file is not None and (not keys or keys == set(in_file.architecture.encoders)):
            return replace(in_file, sha256=checkpoint.sha256 or in_file.sha256)
        title = checkpoint.title
        architecture = find_architecture(keys)
        if architecture is None:
            message = f"EmbedMerge cannot use this kind of model: {title} has {', '.join(sorted(keys))}."
            raise HostError(message, hint="Choose an SDXL, SD 1 or SD 2 checkpoint.")
        encoder_files = tuple(module.name for module in checkpoint.modules if has_encoders(module))
        return ModelFacts(
            title, checkpoint.file.name, architecture, sha256=checkpoint.sha256, text_encoder_files=encoder_files
        )


@lru_cache(maxsize=2)
def _make_loaded_facts(title: str, file: str, architecture: Architecture) -> ModelFacts:
    """What is known of a model in memory: its program's name for it, and its file. The last one is kept."""
    return ModelFacts(title, Path(file).name, architecture)


def _find_whole_file(checkpoint: SelectedCheckpoint, facts: ModelFacts) -> Path | None:
    """The file or folder of a checkpoint, if it has all of the model."""
    return None if facts.text_encoder_files else checkpoint.file


def require(part: Part) -> None:
    """HostError if the program lacks something that a part needs."""
    if (sentence := part.describe_missing()) is not None:
        raise HostError(sentence, hint="Please report this as a bug, with the report from Help.")
