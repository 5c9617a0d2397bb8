"""The host for AUTOMATIC1111, Forge and reForge. Where they differ, their capabilities are probed.

    selected_checkpoint  the selected checkpoint, and whether it is in memory
    token_tables         the token tables in a loaded model
    live_tables          text encoders with these tables
    embedding_database   the web UI's databases of embeddings, updated after a save

The web UI's modules are imported inside functions, so that importing this module imports none of them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib_embedmerge.checkpoints.model import CheckpointModel, open_checkpoint
from lib_embedmerge.checkpoints.sources import open_source
from lib_embedmerge.core.architecture import WIDTHS, find_architecture
from lib_embedmerge.core.ports import ModelFacts
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import CheckpointError, HostError
from lib_embedmerge.files.atomic_file import make_folder
from lib_embedmerge.files.stamps import read_stamp
from lib_embedmerge.hosts.host_model import HostModel
from lib_embedmerge.hosts.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.hosts.webui import embedding_merge, settings
from lib_embedmerge.hosts.webui.embedding_database import forget_file, register_file, release_file
from lib_embedmerge.hosts.webui.live_tables import LiveEncoder, LiveTable, read_version
from lib_embedmerge.hosts.webui.program import describe_program
from lib_embedmerge.hosts.webui.selected_checkpoint import SelectedCheckpoint, find_selected_checkpoint
from lib_embedmerge.hosts.webui.token_tables import find_token_tables
from lib_embedmerge.tokenizer import clip_tokenizer


class WebuiHost:
    """A hosts.port.Host for the web UI in this process. It has no chooser, because the web UI has its own."""

    title = "the web UI"
    chooser = None

    @property
    def program(self) -> str:
        """The family and version of the web UI."""
        return describe_program()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: EmbeddingFolder | None = None
        self._opened: tuple[object, _CheckpointFile] | None = None  # stamps of the files, and the file
        self._selected: _LiveEncoders | None = None
        self._loaded: _LiveEncoders | None = None

    @property
    def embeddings_folder(self) -> Path:
        """The web UI's own embeddings folder, from its command line."""
        from modules import shared

        return Path(shared.cmd_opts.embeddings_dir)

    def library(self) -> EmbeddingFolder:
        """The embeddings in the folder, read again if it has changed. StorageError if it cannot be created."""
        folder = self.embeddings_folder
        if self._library is None or self._library.folder != folder:
            make_folder(folder)
            self._library = EmbeddingFolder(folder, clip_tokenizer())
        self._library.refresh_if_changed()
        return self._library

    @property
    def recipes_follow(self) -> bool:
        """Whether the setting is on that uses the recipes of embeddings in prompts."""
        return settings.recipes_follow_model()

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

    def active(self) -> ActiveModel:
        """The selected model, which the next generation will use: the one in memory, or else read from its file.

        HostError if there is none that EmbedMerge can use, CheckpointError if its file cannot be read.
        """
        from modules import sd_models, shared

        checkpoint = find_selected_checkpoint(sd_models, shared)
        tables = find_token_tables(checkpoint.model) if checkpoint.model is not None else {}
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
        from modules import sd_models

        loaded: Any = getattr(sd_models.model_data, "sd_model", None)
        tables = find_token_tables(loaded)
        architecture = find_architecture(frozenset(tables))
        if architecture is None:
            raise HostError("The web UI has not loaded a model that EmbedMerge can use.")
        info = loaded.sd_checkpoint_info
        with self._lock:
            self._loaded = _reuse_or_make_encoders(self._loaded, tables, None, (info.filename,))
            facts = ModelFacts(info.name_for_extra, Path(info.filename).name, architecture)
            fingerprints = self._loaded.fingerprints
            return HostModel(facts, self._loaded.encoders, self.library(), fingerprints.measure)

    def _make_unloaded(self, checkpoint: SelectedCheckpoint, file: _CheckpointFile) -> ActiveModel:
        """The active model if the selected checkpoint is not in memory. CheckpointError if it cannot be read."""
        if file.error is not None:
            raise copy.copy(file.error)
        assert file.model is not None
        opened = file.model
        title, other = checkpoint.title, checkpoint.other
        warnings = [f"{title} is selected, but {other} is still loaded."] if other else []
        warnings += _warn_of_embedding_merge()
        facts = self._find_facts(checkpoint, file)
        model = HostModel(facts, opened.encoders, self.library(), opened.fingerprints, lambda: opened.has_fingerprints)
        why = "another model is loaded" if other else "the model is not loaded yet"
        return ActiveModel(model, f"the checkpoint file; {why}", (*warnings, *_warn_of_encoder_files(model.facts)))

    def _make_loaded(
        self, checkpoint: SelectedCheckpoint, tables: Mapping[str, torch.nn.Module], file: _CheckpointFile
    ) -> ActiveModel:
        """The active model if the selected checkpoint is in memory. tables: encoder key -> layer with the table."""
        source = (checkpoint.file, checkpoint.modules)
        self._selected = live = _reuse_or_make_encoders(self._selected, tables, file, source)
        facts = self._find_facts(checkpoint, file, frozenset(tables))
        fingerprints = live.fingerprints
        model = HostModel(facts, live.encoders, self.library(), fingerprints.measure, lambda: fingerprints.is_measured)
        precisions = dict.fromkeys(encoder.table.precision for encoder in live.encoders)
        warnings = [f"Its file cannot be read: {file.error.message}"] if file.error else []
        warnings += _warn_of_embedding_merge()
        vectors_from = f"the loaded model, {' and '.join(precisions)}"
        return ActiveModel(model, vectors_from, (*warnings, *_warn_of_encoder_files(facts)))

    def _open_file(self, checkpoint: SelectedCheckpoint) -> _CheckpointFile:
        """The checkpoint's file with its other text encoder files. They are opened again if one of them has changed."""
        files = (checkpoint.file, *checkpoint.modules)
        stamps = [(file, read_stamp(file)) for file in files]
        if self._opened is None or self._opened[0] != stamps:
            self._opened = stamps, _CheckpointFile.open(checkpoint.file, checkpoint.modules)
        return self._opened[1]

    def _find_facts(
        self, checkpoint: SelectedCheckpoint, file: _CheckpointFile, keys: frozenset[str] = frozenset()
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
        encoder_files = tuple(module.name for module in checkpoint.modules if _has_encoders(module))
        return ModelFacts(
            title, checkpoint.file.name, architecture, sha256=checkpoint.sha256, text_encoder_files=encoder_files
        )


@dataclass(frozen=True)
class _LiveEncoders:
    """The text encoders of one model in memory.

    state: equal for two models only if they are from the same files and no table was overwritten in between.
    """

    state: object
    encoders: tuple[LiveEncoder, ...]
    fingerprints: LiveFingerprints

    def are_of(self, tables: Mapping[str, torch.nn.Module]) -> bool:
        """Whether these encoders have exactly these tables."""
        return all(encoder.table.is_table_of(tables[encoder.key]) for encoder in self.encoders)


def _reuse_or_make_encoders(
    previous: _LiveEncoders | None,
    tables: Mapping[str, torch.nn.Module],
    file: _CheckpointFile | None,
    source: tuple[object, ...],
) -> _LiveEncoders:
    """The encoders for these tables: the previous ones if they have these tables with the same values, else new ones.

    file: of the model, for its fingerprints.  source: the files that the tables were loaded from.
    """
    state = (source, {key: read_version(layer) for key, layer in tables.items()})
    if previous is not None and previous.state == state and previous.are_of(tables):
        return previous
    live_tables = {key: LiveTable(tables[key]) for key in WIDTHS if key in tables}
    fingerprints = LiveFingerprints(live_tables, file.model if file else None)
    encoders = tuple(LiveEncoder(key, table, fingerprints.mean_length) for key, table in live_tables.items())
    return _LiveEncoders(state, encoders, fingerprints)


@dataclass(frozen=True)
class _CheckpointFile:
    """An opened checkpoint file: its model, or the error that says why there is none.

    The error is a copy, and is copied again to be raised: an exception that was raised keeps the frames alive that it
    passed, and the model with them.
    """

    model: CheckpointModel | None
    error: CheckpointError | None = None

    @classmethod
    def open(cls, checkpoint: Path, modules: Sequence[Path]) -> _CheckpointFile:
        """Open a checkpoint, with the text encoders in `modules` in place of its own. Never raises."""
        try:
            encoders = [module for module in modules if _has_encoders(module)]
            return cls(open_checkpoint(checkpoint, text_encoders=encoders))
        except CheckpointError as error:
            return cls(None, copy.copy(error))


def _has_encoders(module: Path) -> bool:
    """Whether a file has text encoders. Forge's list of additional modules also contains VAEs."""
    try:
        return bool(open_source(module).encoders)
    except CheckpointError:
        return False


def _warn_of_encoder_files(facts: ModelFacts) -> tuple[str, ...]:
    """A warning if text encoders come from other files than the checkpoint."""
    files = facts.text_encoder_files
    return (f"The text encoders come from {' and '.join(files)}, not from the checkpoint.",) if files else ()


def _warn_of_embedding_merge() -> list[str]:
    """A warning if the extension Embedding Merge is installed, with which of the two handles prompts."""
    if not embedding_merge.is_installed():
        return []
    acting = "EmbedMerge" if settings.handles_inline() else embedding_merge.TITLE
    return [
        f"{embedding_merge.TITLE} is installed too; {acting} handles expressions in prompts (Settings, EmbedMerge)."
    ]
