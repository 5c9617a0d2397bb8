"""An embedding: its vectors, its tag, its file. Reads what any tool writes, writes one form.

Which tensors of a file are vectors is forms.py's knowledge, what metadata say tag.py's, how bytes lie in a file that of
safetensors_file.py. Where a set of embeddings lies is library.py's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import MAX_VECTORS, WIDTHS, Architecture, architecture_of
from lib_embedmerge.errors import StorageError, TakenError
from lib_embedmerge.storage.atomic_file import make_folder, write_atomically
from lib_embedmerge.storage.forms import Layout, read_vectors, recognise
from lib_embedmerge.storage.names import SUFFIX, name_error
from lib_embedmerge.storage.pickle_file import load_tensors
from lib_embedmerge.storage.safetensors_file import (
    TensorInfo,
    encode_safetensors,
    payload_sha256,
    read_header,
    read_tensor,
)
from lib_embedmerge.storage.stamps import Identity
from lib_embedmerge.storage.tag import ModelTag, UsedEmbedding, check_size, read_tag, with_payload_hash

if TYPE_CHECKING:
    import torch

    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.storage.fit import Fit

DTYPES = ("float32", "float16")
"""What vectors can be saved as. stable-diffusion.cpp reads the first only, so it is the usual one."""

_PICTURES = frozenset((".png", ".webp", ".jxl", ".avif", ".jpg", ".jpeg", ".gif"))
_SIDECARS = frozenset((".json", ".txt", ".info", ".yaml", ".md"))


@dataclass(frozen=True, eq=False)
class Embedding:
    """A named run of input vectors for each text encoder of an architecture.

    name: the file's stem, and what calls it in a prompt.
    vectors: encoder key -> float32 CPU tensor [n, width], contiguous, a copy of what was given; the same n for each,
        1 to 75 unless `path` says that it was read from a file.
    metadata: texts that the file carries, the tag among them.  path: where it was read from.
    notes: what a person should know of the file, one sentence each.
    Raises StorageError where the vectors do not fit any architecture.
    """

    name: str
    vectors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    path: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        architecture = architecture_of(set(self.vectors))
        if architecture is None:
            given = ", ".join(map(repr, sorted(self.vectors))) or "none"
            raise StorageError(f"No architecture has vectors for exactly these text encoders: {given}.")
        vectors = {key: _checked_vectors(key, self.vectors[key]) for key in architecture.encoders}
        counts = {len(rows) for rows in vectors.values()}
        if len(counts) > 1:
            raise StorageError("The text encoders have different numbers of vectors; they must be equally many.")
        if self.path is None and not 1 <= max(counts) <= MAX_VECTORS:
            message = f"An embedding has 1 to {MAX_VECTORS} vectors, not {max(counts)}."
            raise StorageError(message, hint="Web UIs hold that many in one chunk of a prompt.")
        object.__setattr__(self, "vectors", MappingProxyType(vectors))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def architecture(self) -> Architecture:
        """What models it is for, by its text encoders."""
        found = architecture_of(set(self.vectors))
        assert found is not None  # checked when made
        return found

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return len(next(iter(self.vectors.values())))

    @property
    def tag(self) -> ModelTag | None:
        """What its metadata say of its model and maker; None where they say nothing."""
        return read_tag(self.metadata)

    @property
    def recipe(self) -> str | None:
        """The source text that it was made from, where its tag has one."""
        return self.tag.recipe if self.tag else None

    def fit(self, model: Model) -> Fit:
        """How it fits a model, measured: `.status`, `.detail`, `.advice` (storage/fit.py).

        Fingerprints the model where that is not done yet. CheckpointError where the model's file cannot be read.
        """
        from lib_embedmerge.storage.fit import fit

        return fit(self, model)

    def used(self) -> UsedEmbedding:
        """What a tag records of it where a recipe names it."""
        tag = self.tag or ModelTag()
        return UsedEmbedding(vectors_sha256(self.vectors), tag.recipe, tag.uses, self.count)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        seen: Identity | None = None,
    ) -> Path:
        """Write `<name>.safetensors` into the folder, which is made where missing; the path of the file.

        A crash leaves the old file or the new one. The same embedding gives the same bytes. StorageError where the
        name cannot be a file's, a value is not finite or too large for float16, or there is such a file and
        `overwrite` is not given (TakenError).
        seen: what `stamps.identity` said of the file that is to be overwritten; ChangedError where it is another now.
        """
        if error := name_error(self.name):
            raise StorageError(error, hint="Choose another name.")
        tensors = self._tensors(dtype)
        metadata = with_payload_hash(self.metadata, payload_sha256(tensors))
        check_size(metadata)
        path = Path(folder) / (self.name + SUFFIX)
        make_folder(path.parent)
        if not overwrite:
            refuse_existing(path)
        write_atomically(path, encode_safetensors(tensors, metadata), overwrite=overwrite, seen=seen)
        return path

    def _tensors(self, dtype: str) -> dict[str, torch.Tensor]:
        """Tensor name in the file -> the values to store."""
        import torch

        if dtype not in DTYPES:
            raise StorageError(f"Vectors cannot be saved as {dtype!r}.", hint=f"Use {' or '.join(DTYPES)}.")
        stored = torch.float16 if dtype == "float16" else torch.float32
        tensors = {}
        for key, name in self.architecture.tensor_names.items():
            _refuse_row(key, self.vectors[key], "is not a finite number", "Change the expression that gave it.")
            tensors[name] = self.vectors[key].to(stored)
            _refuse_row(key, tensors[name], "is too large for float16 (over 65,504)", "Save it as float32.")
        return tensors


@dataclass(frozen=True)
class EmbeddingHeader:
    """What a .safetensors file's header alone tells of its embedding; no vector is read for it."""

    name: str
    path: Path
    metadata: Mapping[str, str]
    layout: Layout

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return self.layout.count

    @property
    def architecture(self) -> Architecture:
        """What models it is for."""
        return self.layout.architecture

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the file, as far as its header tells."""
        return self.layout.notes

    def load(self) -> Embedding:
        """The embedding with its vectors. StorageError where the file has changed meanwhile, or its values are none."""

        def read(info: TensorInfo) -> torch.Tensor:
            return read_tensor(self.path, info)

        try:
            vectors, notes = read_vectors(self.layout, read)
        except StorageError as error:
            raise _naming(self.path, error) from error
        return Embedding(self.name, vectors, self.metadata, self.path, notes)

    @property
    def tag(self) -> ModelTag | None:
        """What the metadata say of its model and maker; None where they say nothing."""
        return read_tag(self.metadata)


def vectors_sha256(vectors: Mapping[str, torch.Tensor]) -> str:
    """What tells an embedding in whatever file and under whatever name: sha256 hex over its vectors as float32.

    Of a float32 file of ours it is what modelspec.hash_sha256 has. vectors: encoder key -> [n, width].
    """
    return payload_sha256({key: rows.float() for key, rows in vectors.items()})


def refuse_existing(path: Path) -> None:
    """TakenError where there is such a file, for those who save without overwriting."""
    if os.path.lexists(path):
        hint = "Choose another name, or overwrite it (--force; overwrite=True in Python)."
        raise TakenError(f"{path.name} exists already.", hint=hint)


def load_embedding(path: str | os.PathLike[str], *, bundled: str | None = None) -> Embedding:
    """The embedding in a .safetensors, .pt or .bin file, in any form that web UIs and trainers write.

    bundled: which one, of a LoRA file that bundles several. Its name is then the one it has there, else the file's
    stem. StorageError, which names the file, where it is no sound embedding.
    """
    file = Path(path)
    if _checked_suffix(file) == SUFFIX:
        return read_embedding_header(file, bundled=bundled).load()
    content = load_tensors(file)
    try:
        layout = recognise(content, bundled=bundled)
        vectors, notes = read_vectors(layout)
    except StorageError as error:
        raise _naming(file, error) from error
    return Embedding(layout.bundled or file.stem, vectors, {}, file, notes)


def read_embedding_header(path: str | os.PathLike[str], *, bundled: str | None = None) -> EmbeddingHeader:
    """What a .safetensors file holds, from its header alone: a thousand take well under a second.

    StorageError as load_embedding, but damage inside the vectors goes unseen.
    """
    file = Path(path)
    if _checked_suffix(file) != SUFFIX:
        raise StorageError(f"{file.name!r} has no header of its own.", hint="Only .safetensors files do; load it.")
    header = read_header(file)
    try:
        layout = recognise(header.tensors, bundled=bundled)
    except StorageError as error:
        raise _naming(file, error) from error
    # Those of a LoRA that bundles it are the LoRA's own: they say nothing of the embedding.
    metadata = header.metadata if layout.bundled is None else {}
    return EmbeddingHeader(layout.bundled or file.stem, file, metadata, layout)


def _checked_suffix(file: Path) -> str:
    """The lower-case suffix of a file that may be an embedding, or StorageError saying what it is instead."""
    suffix = file.suffix.lower()
    try:
        is_folder = file.is_dir()
    except OSError:
        is_folder = False
    if is_folder:
        raise StorageError(f"{file.name!r} is a folder.", hint="Give one embedding file in it.")
    if suffix in {SUFFIX, ".pt", ".bin"}:
        return suffix
    if suffix in _PICTURES:
        hint = "Where it holds an embedding, AUTOMATIC1111 can save that as a file."
        raise StorageError(f"{file.name!r} is a picture, not an embedding file.", hint=hint)
    kind = (
        "a checkpoint" if suffix in {".ckpt", ".gguf"} else "a text file" if suffix in _SIDECARS else "something else"
    )
    raise StorageError(
        f"{file.name!r} is {kind}, not an embedding file.", hint="They end in .safetensors, .pt or .bin."
    )


def _naming(file: Path, error: StorageError) -> StorageError:
    """The same fault, its sentence beginning with the file's name."""
    return error if file.name in error.message else StorageError(f"{file.name!r}: {error.message}", hint=error.hint)


def _checked_vectors(key: str, rows: torch.Tensor) -> torch.Tensor:
    """A float32 CPU copy of a table of vectors. StorageError where it is none."""
    import torch

    if not isinstance(rows, torch.Tensor) or not rows.is_floating_point():
        raise StorageError(f"The vectors for {key} are not a tensor of floating-point numbers.")
    if rows.dim() != 2 or rows.shape[1] != WIDTHS[key]:
        raise StorageError(f"The vectors for {key} have the shape {list(rows.shape)}, not [n, {WIDTHS[key]}].")
    return rows.detach().to(device="cpu", dtype=torch.float32, copy=True).contiguous()


def _refuse_row(key: str, rows: torch.Tensor, fault: str, hint: str) -> None:
    bad = (~rows.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise StorageError(f"Vector {row + 1} of {key}, value {column + 1}, {fault}.", hint=hint)
