"""AUTOMATIC1111, Forge and reForge as a host. One adapter: what differs is probed where it differs.

    selected_checkpoint  which checkpoint, in memory or not
    token_tables         where a loaded model keeps its token tables
    live_tables          text encoders over such tables
    embedding_database   what the web UI has to know after a save

The web UI's modules are imported when they are first asked for, so that importing this costs nothing.
"""

from __future__ import annotations

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
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.hosts.webui import embedding_merge, settings
from lib_embedmerge.hosts.webui.embedding_database import forget_file, register_file, release_file
from lib_embedmerge.hosts.webui.live_fingerprints import LiveFingerprints
from lib_embedmerge.hosts.webui.live_tables import LiveEncoder, LiveTable, read_version
from lib_embedmerge.hosts.webui.program import describe_program
from lib_embedmerge.hosts.webui.selected_checkpoint import SelectedCheckpoint, find_selected_checkpoint
from lib_embedmerge.hosts.webui.token_tables import find_token_tables
from lib_embedmerge.tokenizer import clip_tokenizer


class WebuiHost:
    """The web UI that this process is (hosts.port.Host). It has no chooser: the web UI has one."""

    title = "the web UI"
    chooser = None

    @property
    def program(self) -> str:
        """Which web UI, and its version."""
        return describe_program()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: EmbeddingFolder | None = None
        self._files: tuple[object, _File] | None = None
        self._live: _Live | None = None
        self._encoding: _Live | None = None

    @property
    def embeddings_folder(self) -> Path:
        """The web UI's own, from its command line."""
        from modules import shared

        return Path(shared.cmd_opts.embeddings_dir)

    def library(self) -> EmbeddingFolder:
        """The embeddings of that folder, looked through again where it has changed."""
        folder = self.embeddings_folder
        if self._library is None or self._library.folder != folder:
            make_folder(folder)
            self._library = EmbeddingFolder(folder, clip_tokenizer())
        self._library.refresh_if_changed()
        return self._library

    @property
    def recipes_follow(self) -> bool:
        """A setting."""
        return settings.recipes_follow_model()

    def before_replacing(self, path: Path) -> None:
        """Its databases keep copies of the vectors in place of views into the file."""
        from modules import sd_models

        release_file(path, getattr(sd_models.model_data, "sd_model", None))

    def embedding_saved(self, path: Path) -> None:
        """Its databases get it at once, where a model is loaded."""
        from modules import sd_models

        register_file(path, getattr(sd_models.model_data, "sd_model", None))

    def embedding_removed(self, path: Path) -> None:
        """Its databases drop it at once."""
        from modules import sd_models

        forget_file(path, getattr(sd_models.model_data, "sd_model", None))

    def checkpoints(self) -> dict[str, Path]:
        """The web UI's list, by its titles, as of its last look at its folders."""
        from modules import sd_models

        infos = list(sd_models.checkpoints_list.values())
        return {info.title: Path(info.filename) for info in infos}

    def active(self) -> ActiveModel:
        """The model that the next generation will use, which is the selected one: in memory, or read from its file."""
        from modules import sd_models, shared

        choice = find_selected_checkpoint(sd_models, shared)
        tables = find_token_tables(choice.model) if choice.model is not None else {}
        with self._lock:
            if tables and self._live is None:
                self._files = None  # its encoders may hold copies of their tables, which are in memory now
            file = self._file_model(choice)
            if tables:
                return self._from_memory(choice, tables, file)
            self._live = None
            return self._from_file(choice, file)

    def encoding(self) -> HostModel:
        """The model in memory, which encodes the prompts of this moment, whichever is selected.

        The same encoders each time, until it is another one. HostError where there is none.
        """
        from modules import sd_models

        loaded: Any = getattr(sd_models.model_data, "sd_model", None)
        tables = find_token_tables(loaded)
        architecture = find_architecture(frozenset(tables))
        if architecture is None:
            raise HostError("The web UI has not loaded a model that EmbedMerge can use.")
        info = loaded.sd_checkpoint_info
        with self._lock:
            self._encoding = _live(self._encoding, tables, None, (info.filename,))
            facts = ModelFacts(info.name_for_extra, Path(info.filename).name, architecture)
            fingerprints = self._encoding.fingerprints
            return HostModel(facts, self._encoding.encoders, self.library(), fingerprints.measure)

    def _from_file(self, choice: SelectedCheckpoint, file: _File) -> ActiveModel:
        if file.model is None:
            raise file.fault()
        opened = file.model
        warnings = [f"{choice.title} is selected, but {choice.other} is still loaded."] if choice.other else []
        warnings += _warn_of_rivals()
        facts = self._facts(choice, file)
        model = HostModel(facts, opened.encoders, self.library(), opened.fingerprints, lambda: opened.has_fingerprints)
        why = "another model is loaded" if choice.other else "the model is not loaded yet"
        return ActiveModel(model, f"the checkpoint file; {why}", (*warnings, *_replaced(model.facts)))

    def _from_memory(
        self, choice: SelectedCheckpoint, tables: Mapping[str, torch.nn.Module], file: _File
    ) -> ActiveModel:
        self._live = _live(self._live, tables, file, (choice.file, choice.modules))
        facts = self._facts(choice, file, frozenset(tables))
        fingerprints = self._live.fingerprints
        model = HostModel(facts, self._live.encoders, self.library(), fingerprints.measure, lambda: fingerprints.known)
        places = dict.fromkeys(encoder.table.precision for encoder in self._live.encoders)
        warnings = [] if file.model else [f"Its file cannot be read: {file.fault().message}"]
        warnings += _warn_of_rivals()
        return ActiveModel(model, f"the loaded model, {' and '.join(places)}", (*warnings, *_replaced(facts)))

    def _file_model(self, choice: SelectedCheckpoint) -> _File:
        """The checkpoint's file with the text encoder files beside it, opened again where one has changed."""
        files = (choice.file, *choice.modules)
        state = [(file, read_stamp(file)) for file in files]
        if self._files is None or self._files[0] != state:
            self._files = state, _File.open(choice.file, choice.modules)
        return self._files[1]

    def _facts(self, choice: SelectedCheckpoint, file: _File, keys: frozenset[str] = frozenset()) -> ModelFacts:
        known = file.model.facts if file.model else None
        if known is not None and (not keys or keys == set(known.architecture.encoders)):
            return replace(known, sha256=choice.sha256 or known.sha256)
        architecture = find_architecture(keys)
        if architecture is None:
            raise HostError(
                f"EmbedMerge does not know this kind of model: {choice.title} has {', '.join(sorted(keys))}."
            )
        encoder_files = tuple(module.name for module in choice.modules if _has_encoders(module))
        return ModelFacts(
            choice.title, choice.file.name, architecture, sha256=choice.sha256, text_encoder_files=encoder_files
        )


@dataclass(frozen=True)
class _Live:
    """Text encoders over the tables of one model in memory. state: what tells it from another one's."""

    state: object
    encoders: tuple[LiveEncoder, ...]
    fingerprints: LiveFingerprints

    def is_over(self, tables: Mapping[str, torch.nn.Module]) -> bool:
        return all(encoder.table.is_of(tables[encoder.key]) for encoder in self.encoders)


def _live(
    known: _Live | None,
    tables: Mapping[str, torch.nn.Module],
    file: _File | None,
    source: tuple[object, ...],
) -> _Live:
    """Those that are known, as long as they are over the same tables with the same values; else new ones.

    source: the files that the tables are from.
    """
    state = (source, {key: read_version(layer) for key, layer in tables.items()})
    if known is not None and known.state == state and known.is_over(tables):
        return known
    live = {key: LiveTable(tables[key]) for key in WIDTHS if key in tables}
    fingerprints = LiveFingerprints(live, file.model if file else None)
    encoders = tuple(LiveEncoder(key, table, fingerprints.mean_length) for key, table in live.items())
    return _Live(state, encoders, fingerprints)


@dataclass(frozen=True)
class _File:
    """A checkpoint's file: its model, or the fields of the CheckpointError that says why there is none."""

    model: CheckpointModel | None
    message: str = ""
    expected: str | None = None
    hint: str | None = None

    @classmethod
    def open(cls, checkpoint: Path, modules: Sequence[Path]) -> _File:
        """Open a checkpoint with the text encoders among these files."""
        try:
            encoders = [module for module in modules if _has_encoders(module)]
            return cls(open_checkpoint(checkpoint, text_encoders=encoders))
        except CheckpointError as error:
            return cls(None, error.message, error.expected, error.hint)

    def fault(self) -> CheckpointError:
        """The error, made for each time it is raised: one that was kept would keep the frames of each raise alive."""
        return CheckpointError(self.message, expected=self.expected, hint=self.hint)


def _has_encoders(module: Path) -> bool:
    """Forge lists VAEs among the same files."""
    try:
        return bool(open_source(module).encoders)
    except CheckpointError:
        return False


def _replaced(facts: ModelFacts) -> tuple[str, ...]:
    files = facts.text_encoder_files
    return (f"The text encoders come from {' and '.join(files)}, not from the checkpoint.",) if files else ()


def _warn_of_rivals() -> list[str]:
    if not embedding_merge.is_installed():
        return []
    acting = "EmbedMerge" if settings.handles_inline() else embedding_merge.TITLE
    return [
        f"{embedding_merge.TITLE} is installed too; {acting} handles expressions in prompts (Settings, EmbedMerge)."
    ]
