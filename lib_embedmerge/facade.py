"""What scripts import: checkpoints that build embeddings, and embeddings that say how they fit a model.

The classes below these know nothing of recipes. Here they get the methods that README promises, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.checkpoints import model
from lib_embedmerge.core.arrays import require_torch, to_tensor
from lib_embedmerge.core.ports import EmbeddingNames, Model
from lib_embedmerge.embeddings import embedding
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.recipes.build import BuildOptions, build_embedding
from lib_embedmerge.tokenizer import clip_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from lib_embedmerge.recipes.fit import Fit


@dataclass(frozen=True, eq=False)
class Embedding(embedding.Embedding):
    """An embedding that can be compared with a model."""

    @classmethod
    def of(cls, stored: embedding.Embedding) -> Embedding:
        """The same embedding, with this class's methods. Its vectors are shared, not copied."""
        public = object.__new__(cls)
        public.__dict__.update(stored.__dict__)
        return public

    def tensors(self, device: str = "cpu") -> dict[str, Tensor]:
        """The vectors as tensors of torch: encoder key -> float32 [n, width] on a device, a copy.

        device: as torch spells it, `cpu` or `cuda`.  HostError if torch is not installed.
        """
        require_torch("Tensors are")
        return {key: to_tensor(rows.copy(), device) for key, rows in self.vectors.items()}

    def fit(self, model: Model) -> Fit:
        """How the embedding fits a model, measured: `.status`, `.detail`, `.advice` (recipes/fit.py).

        Fingerprints the model if that was not done before. CheckpointError if the model's file cannot be read.
        """
        from lib_embedmerge.recipes.fit import measure_fit

        return measure_fit(self, model)


class CheckpointModel(model.CheckpointModel):
    """A checkpoint that builds embeddings."""

    def build(self, source: str, *, name: str, notes: str = "", negative: bool | None = None) -> Embedding:
        """The embedding that an expression or prompt makes on this model, tagged, not yet saved.

        notes, negative: the user's own, for the tag.  Raises what recipes.build.build_embedding raises.
        """
        return Embedding.of(build_embedding(self, source, name, BuildOptions(notes=notes, negative=negative)))


def open_checkpoint(
    path: str | Path | Sequence[str | Path],
    *,
    embeddings: str | Path | EmbeddingNames | None = None,
    text_encoders: Sequence[str | Path] = (),
    device: str = "cpu",
) -> CheckpointModel:
    """Open a checkpoint: a file, a diffusers folder, a folder or a sequence of text encoder files (clip_l, clip_g).

    embeddings: a folder of embedding files that texts may name, or an EmbeddingNames.
    text_encoders: files or folders whose encoders replace the checkpoint's own, or supply those it lacks.
    device: `cpu`, `cuda`, or `auto` for cuda where there is one.
    Raises CheckpointError for everything that is wrong with the files or the device, StorageError for `embeddings`.
    """
    names = EmbeddingFolder(embeddings, clip_tokenizer()) if isinstance(embeddings, (str, Path)) else embeddings
    return CheckpointModel.open(path, embeddings=names, text_encoders=text_encoders, device=device)


def load_embedding(path: str | os.PathLike[str], *, bundled: str | None = None) -> Embedding:
    """The embedding in a file, in any form that web UIs and trainers write, whatever the file's name ends in.

    bundled: which one, of a file that bundles several. Its name is then the one it has there; that of a picture is the
    one that the picture says, and of any other file its stem. StorageError, which names the file, if it is not a sound
    embedding.
    """
    return Embedding.of(embedding.load_embedding(path, bundled=bundled))
