"""A checkpoint file or folder as a model (core.ports.Model). facade.py adds the methods for scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lib_embedmerge.checkpoints.encoder import CheckpointEncoder
from lib_embedmerge.checkpoints.facts import AssembledModel, assemble_model
from lib_embedmerge.checkpoints.measured import MeasuredEncoders
from lib_embedmerge.checkpoints.position_ids import warn_of_position_ids
from lib_embedmerge.checkpoints.sources import open_pair, open_source
from lib_embedmerge.core.arrays import CPU, require_torch
from lib_embedmerge.core.ports import EmbeddingNames, Fingerprint, ModelFacts, Progress
from lib_embedmerge.core.texts import NoEmbeddings
from lib_embedmerge.errors import CheckpointError, quote

_Opened = TypeVar("_Opened", bound="CheckpointModel")


class CheckpointModel:
    """A model that is read from files. Opening it reads only headers; weights are read when they are needed.

    path: the file or folder that was opened, the first one of several.
    device: of the vectors, as torch spells it: arrays of numpy on `cpu`, tensors of torch on `cuda:0`.
    """

    def __init__(self, path: Path, assembled: AssembledModel, device: str) -> None:
        self.path = path
        self.device = device
        self._facts = assembled.facts
        self._sources = assembled.encoders
        self._measured = MeasuredEncoders(assembled.encoders)
        self._encoders = tuple(
            CheckpointEncoder(source, device, self._measured.mean_length) for source in assembled.encoders
        )
        self._embeddings: EmbeddingNames = NoEmbeddings()

    @classmethod
    def open(
        cls: type[_Opened],
        path: str | Path | Sequence[str | Path],
        *,
        embeddings: EmbeddingNames | None = None,
        text_encoders: Sequence[str | Path] = (),
        device: str = "cpu",
    ) -> _Opened:
        """Open a checkpoint: a file, a diffusers folder, a folder or a sequence of text encoder files (clip_l, clip_g).

        embeddings: the embeddings that texts may name.
        text_encoders: files or folders whose encoders replace the checkpoint's own, or supply those it lacks.
        device: `cpu`, `cuda`, or `auto` for cuda if there is a CUDA device.
        CheckpointError if the files or the device cannot be used.
        """
        chosen_device = _choose_device(device)
        paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(part) for part in path]
        if not paths:
            raise CheckpointError("No checkpoint was given.", hint="Give a checkpoint file or folder.")
        source = open_source(paths[0]) if len(paths) == 1 else open_pair(paths)
        given = [text_encoders] if isinstance(text_encoders, (str, Path)) else text_encoders
        assembled = assemble_model(source, [open_source(Path(encoder)) for encoder in given])
        model = cls(paths[0], assembled, chosen_device)
        if embeddings is not None:
            model.name_embeddings(embeddings)
        return model

    @property
    def facts(self) -> ModelFacts:
        """The facts that a tag records."""
        return self._facts

    @property
    def encoders(self) -> tuple[CheckpointEncoder, ...]:
        """The text encoders, in the order of facts.architecture.encoders."""
        return self._encoders

    @property
    def embeddings(self) -> EmbeddingNames:
        """The embeddings that texts may name."""
        return self._embeddings

    def name_embeddings(self, embeddings: EmbeddingNames) -> None:
        """Set the embeddings that texts may name."""
        self._embeddings = embeddings

    def list_broken_parts(self) -> list[str]:
        """What is broken in the text encoders without changing their vectors: one sentence each.

        CheckpointError if a file cannot be read.
        """
        return list(warn_of_position_ids(self._sources))

    @property
    def has_fingerprints(self) -> bool:
        """Whether `fingerprints` would return without reading any weights."""
        return self._measured.is_cached

    def fingerprints(self, progress: Progress | None = None) -> Mapping[str, Fingerprint]:
        """Encoder key -> fingerprint. Reads the text encoders completely unless the cache has their fingerprints.

        progress: called with (bytes done, total bytes).  CheckpointError if a file cannot be read.
        """
        return self._measured.fingerprints(progress)


def open_checkpoint(
    path: str | Path | Sequence[str | Path],
    *,
    embeddings: EmbeddingNames | None = None,
    text_encoders: Sequence[str | Path] = (),
    device: str = "cpu",
) -> CheckpointModel:
    """Open a checkpoint. Arguments and errors are those of `CheckpointModel.open`."""
    return CheckpointModel.open(path, embeddings=embeddings, text_encoders=text_encoders, device=device)


def _choose_device(name: str) -> str:
    """`cpu` or `cuda:0`, for `cpu`, `cuda` or `auto`. CheckpointError for another name, or if there is no CUDA device.

    HostError for `cuda` if torch is not installed.
    """
    if name not in {CPU, "cuda", "auto"}:
        raise CheckpointError(f"Unknown device {quote(name)}.", expected="cpu, cuda or auto")
    if name == CPU or (name == "auto" and not _has_cuda()):
        return CPU
    require_torch("The device cuda is")
    if not _has_cuda():
        raise CheckpointError("PyTorch finds no CUDA device on this computer.", hint="Use the device cpu or auto.")
    import torch

    return f"cuda:{torch.cuda.current_device()}"


def _has_cuda() -> bool:
    """Whether there is torch and a CUDA device."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()
