"""What the faces (tab, generation hook, page, API) ask of the program that they run in. Protocols and values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.hosts.host_parts import Part
    from lib_embedmerge.hosts.picture_port import PictureMaker


@dataclass(frozen=True)
class ActiveModel:
    """The model that texts are read for at this moment.

    vectors_from: where its vectors come from, for people: `the loaded model, float16 on cuda:0`.
    warnings: what a user should know of that, one sentence each: another model is loaded than the one selected, text
        encoders stand in for the checkpoint's own, ...
    checkpoint: the file or folder that has all of the model; None if there is none, or if other files supply its text
        encoders.
    """

    model: Model
    vectors_from: str
    warnings: tuple[str, ...] = ()
    checkpoint: Path | None = None


class Chooser(Protocol):
    """Which checkpoint is active, where a host lets its user choose that here; web UIs have a chooser of their own."""

    @property
    def chosen(self) -> str | None: ...

    def choose(self, checkpoint: str) -> None:
        """Make one of the host's checkpoints the active model. CheckpointError or HostError where it cannot be used."""
        ...


class Host(Protocol):
    """A program with an active model and a folder of embeddings."""

    @property
    def title(self) -> str:
        """What the program is called, for people."""
        ...

    @property
    def program(self) -> str:
        """What the program is and its version, for bug reports; nothing that says whose or where it is."""
        ...

    @property
    def embeddings_folder(self) -> Path:
        """Where new embeddings are saved; it may not exist yet."""
        ...

    @property
    def chooser(self) -> Chooser | None: ...

    @property
    def pictures(self) -> PictureMaker | None:
        """What makes pictures from prompts; None if the program does not, or not in a way that EmbedMerge can use."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """What EmbedMerge does in the program that depends on what the program has."""
        ...

    def checkpoints(self) -> Mapping[str, Path]:
        """Every checkpoint that the program has, as shown to people -> its file or folder, as they lie there now."""
        ...

    def active(self) -> ActiveModel:
        """The active model. Never loads one: where none is in memory, it is read from its file.

        HostError where there is none, or none with CLIP text encoders; CheckpointError where its file is unusable.
        """
        ...

    def library(self) -> EmbeddingFolder:
        """The embeddings that texts may name, as they lie there now. StorageError where there can be no such folder."""
        ...

    @property
    def recipes_follow(self) -> bool:
        """Whether in its prompts embeddings with recipes stand for what these give on the active model."""
        ...

    def before_replacing(self, path: Path) -> None:
        """Let go of this embedding file, which is about to be replaced: Windows replaces none that is mapped."""
        ...

    def embedding_saved(self, path: Path) -> None:
        """Let the program use this file, new or replaced, from its next prompt on."""
        ...

    def embedding_removed(self, path: Path) -> None:
        """Let the program's prompts no longer find this file, which is gone."""
        ...
