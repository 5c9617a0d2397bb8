"""A checkpoint file or folder opened as a model (core.ports.Model): the package's entry, `open_checkpoint`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.facts import Assembled, assemble
from lib_embedmerge.checkpoints.measured import MeasuredEncoders
from lib_embedmerge.checkpoints.sources import open_pair, open_source
from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, ModelFacts, Progress
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.errors import CheckpointError, quote

if TYPE_CHECKING:
    from lib_embedmerge.storage.embedding import Embedding


class CheckpointModel:
    """A model whose token tables are rows in files. Opening reads headers; everything else comes when asked for.

    path: what was named, the first of several.  device: where vectors are given.
    """

    def __init__(self, path: Path, assembled: Assembled, device: torch.device) -> None:
        self.path = path
        self.device = device
        self._facts = assembled.facts
        self._measured = MeasuredEncoders(assembled.encoders)
        self._encoders = tuple(
            CheckpointEncoder(source, device, self._measured.mean_length) for source in assembled.encoders
        )
        self._embeddings: EmbeddingNames = NoEmbeddings()

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    @property
    def encoders(self) -> tuple[CheckpointEncoder, ...]:
        """In the order of facts.architecture.encoders."""
        return self._encoders

    @property
    def embeddings(self) -> EmbeddingNames:
        """What texts may name."""
        return self._embeddings

    def name_embeddings(self, embeddings: str | Path | EmbeddingNames) -> None:
        """Let texts name these: a folder of embedding files, or anything that finds names. StorageError for a folder
        that is not there."""
        if isinstance(embeddings, (str, Path)):
            # Only where a folder is given; it brings the reading of embedding files along.
            from lib_embedmerge.storage.library import EmbeddingFolder

            embeddings = EmbeddingFolder(Path(embeddings), self._encoders[0].tokenizer)
        self._embeddings = embeddings

    def build(self, source: str, *, name: str, notes: str = "", negative: bool | None = None) -> Embedding:
        """The embedding that an expression or prompt makes on this model, tagged, not yet saved.

        notes, negative: the user's own, for the tag.  Raises what storage.build.build_embedding raises.
        """
        from lib_embedmerge.storage.build import Wishes, build_embedding

        return build_embedding(self, source, name, Wishes(notes=notes, negative=negative))

    @property
    def fingerprints_known(self) -> bool:
        """Whether `fingerprints` answers at once, from the cache."""
        return self._measured.known

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. The first time for a file all its text encoders are read, at disk speed.

        progress: called with (bytes done, bytes in all). CheckpointError where a file cannot be read.
        """
        return self._measured.fingerprints(progress)


def open_checkpoint(
    path: str | Path | Sequence[str | Path],
    *,
    embeddings: str | Path | EmbeddingNames | None = None,
    text_encoders: Sequence[str | Path] = (),
    device: str = "cpu",
) -> CheckpointModel:
    """Open a checkpoint: a file, a diffusers folder, a folder or a sequence of text encoder files (clip_l, clip_g).

    embeddings: a folder of embedding files that texts may name, or an EmbeddingNames.
    text_encoders: files or folders whose encoders stand in for the checkpoint's own, or supply those it lacks.
    device: `cpu`, `cuda`, or `auto` for cuda where there is one.
    Raises CheckpointError for everything that is wrong with the files or the device, StorageError for `embeddings`.
    """
    torch_device = _device(device)
    paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(one) for one in path]
    if not paths:
        raise CheckpointError("No checkpoint was given.", hint="Give a checkpoint file or folder.")
    source = open_source(paths[0]) if len(paths) == 1 else open_pair(paths)
    given = [text_encoders] if isinstance(text_encoders, (str, Path)) else text_encoders
    assembled = assemble(source, [open_source(Path(one)) for one in given])
    model = CheckpointModel(paths[0], assembled, torch_device)
    if embeddings is not None:
        model.name_embeddings(embeddings)
    return model


def _device(name: str) -> torch.device:
    if name not in {"cpu", "cuda", "auto"}:
        raise CheckpointError(f"Unknown device {quote(name)}.", expected="cpu, cuda or auto")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise CheckpointError("PyTorch finds no CUDA device on this computer.", hint="Use the device cpu or auto.")
    return torch.device("cpu")
