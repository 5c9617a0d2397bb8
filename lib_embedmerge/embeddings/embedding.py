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

from lib_embedmerge.core.architecture import (
    MAX_VECTORS,
    OTHER_ENCODERS,
    WIDTHS,
    Architecture,
    find_architecture,
)
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings.embedding_file import EmbeddingFile, open_embedding_file
from lib_embedmerge.embeddings.form_parts import shorten
from lib_embedmerge.embeddings.forms import Layout
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.embeddings.tag_writing import check_size, with_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, TakenError, quote
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.safetensors_file import encode_safetensors, hash_payload
from lib_embedmerge.files.stamps import Identity

if TYPE_CHECKING:
    import torch


DTYPES = ("float32", "float16")
"""What vectors can be saved as. stable-diffusion.cpp reads the first only, so it is the usual one."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """A named run of input vectors for each text encoder of an architecture.

    name: the file's stem, and what calls it in a prompt.
    vectors: encoder key -> float32 CPU tensor [n, width], contiguous, a copy of what was given; the same n for each
        of CLIP, 1 to 75 unless `path` says that it was read from a file. Those of OTHER_ENCODERS may be more or fewer.
    metadata: texts that the file carries, the tag among them.  path: where it was read from.
    warnings: what a person should know of the file, one sentence each.
    facts: what the file says beside its vectors, `step` or `token` among them.
    half: that it is half of a pair, and how to join the two; None where it is whole.
    Raises StorageError where the vectors do not fit any architecture.
    """

    name: str
    vectors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    half: str | None = None

    def __post_init__(self) -> None:
        architecture = find_architecture(set(self.vectors))
        if architecture is None:
            given = ", ".join(map(repr, sorted(self.vectors))) or "none"
            raise StorageError(f"No model has exactly these text encoders: {given}.")
        vectors = {key: _checked_vectors(key, self.vectors[key]) for key in architecture.encoders}
        counts = {len(rows) for key, rows in vectors.items() if key not in OTHER_ENCODERS} or {
            len(next(iter(vectors.values())))
        }
        if len(counts) > 1:
            raise StorageError("Every text encoder must have the same number of vectors.")
        if self.path is None and not 1 <= max(counts) <= MAX_VECTORS:
            message = f"An embedding has 1 to {MAX_VECTORS} vectors, not {max(counts)}."
            raise StorageError(message, hint="Web UIs read prompts in chunks of that size.")
        object.__setattr__(self, "vectors", MappingProxyType(vectors))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def architecture(self) -> Architecture:
        """What models it is for, by its text encoders."""
        found = find_architecture(set(self.vectors))
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

    @property
    def follows_recipe(self) -> bool:
        """False: these are the vectors of a file, or new ones."""
        return False

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
        if error := find_name_error(self.name):
            raise StorageError(error, hint="Choose another name.")
        tensors = self._tensors(dtype)
        metadata = with_payload_hash(self.metadata, hash_payload(tensors))
        check_size(metadata)
        path = Path(folder) / (self.name + SUFFIX)
        make_folder(path.parent)
        if not overwrite:
            check_not_existing(path)
        write_atomically(path, encode_safetensors(tensors, metadata), overwrite=overwrite, seen=seen)
        return path

    def _tensors(self, dtype: str) -> dict[str, torch.Tensor]:
        """Tensor name in the file -> the values to store."""
        import torch

        if dtype not in DTYPES:
            raise StorageError(f"Vectors cannot be saved as {quote(dtype)}.", hint=f"Use {' or '.join(DTYPES)}.")
        stored = torch.float16 if dtype == "float16" else torch.float32
        tensors = {}
        for key, name in self.architecture.tensor_names.items():
            _refuse_row(key, self.vectors[key], "is not a finite number", "Change the expression that makes it.")
            tensors[name] = self.vectors[key].to(stored)
            _refuse_row(key, tensors[name], "is too large for float16 (over 65,504)", "Save it as float32.")
        return tensors


@dataclass(frozen=True)
class EmbeddingHeader:
    """What a file's header alone tells of its embedding; no vector is read for it.

    file: what was opened.  warnings: what a person should know of the file, as far as its header tells.
    """

    file: EmbeddingFile

    @property
    def name(self) -> str:
        """What calls it in a prompt."""
        return self.file.name

    @property
    def path(self) -> Path:
        """Where it was read from."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts that the file carries, the tag among them."""
        return self.file.metadata

    @property
    def layout(self) -> Layout:
        """Which of the file's tensors are its vectors."""
        return self.file.layout

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return self.layout.count

    @property
    def architecture(self) -> Architecture:
        """What models it is for."""
        return self.layout.architecture

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the file, as far as its header tells."""
        return self.file.warnings

    @property
    def half(self) -> str | None:
        """That it is half of a pair, and how to join the two; None where it is whole."""
        return self.file.half

    def load(self) -> Embedding:
        """The embedding with its vectors. StorageError where the file has changed meanwhile, or its values are none."""
        return _loaded(self.file)

    @property
    def tag(self) -> ModelTag | None:
        """What the metadata say of its model and maker; None where they say nothing."""
        return read_tag(self.metadata)


def hash_vectors(vectors: Mapping[str, torch.Tensor]) -> str:
    """What tells an embedding in whatever file and under whatever name: sha256 hex over its vectors as float32.

    Of a float32 file of ours it is what modelspec.hash_sha256 has. vectors: encoder key -> [n, width].
    """
    return hash_payload({key: rows.float() for key, rows in vectors.items()})


def check_not_existing(path: Path) -> None:
    """TakenError where there is such a file, for those who save without overwriting."""
    if os.path.lexists(path):
        hint = "Choose another name, or overwrite it."
        raise TakenError(f"{path.name} already exists.", hint=hint, remedy=Remedy.OVERWRITE)


def load_embedding(path: str | os.PathLike[str], *, bundled: str | None = None) -> Embedding:
    """The embedding in a file, in any form that web UIs and trainers write, whatever the file's name ends in.

    bundled: which one, of a file that bundles several. Its name is then the one it has there; that of a picture is the
    one that the picture says, and of any other file its stem. StorageError, which names the file, where it is no sound
    embedding.
    """
    return _loaded(open_embedding_file(Path(path), bundled=bundled))


def read_embedding_header(path: str | os.PathLike[str], *, bundled: str | None = None) -> EmbeddingHeader:
    """What a safetensors file holds, from its header alone: a thousand take well under a second.

    StorageError as load_embedding, but damage inside the vectors goes unseen.
    """
    return EmbeddingHeader(open_embedding_file(Path(path), bundled=bundled, header_only=True))


def open_embedding(path: str | os.PathLike[str]) -> EmbeddingHeader | Embedding:
    """What there is to see of a file without reading vectors; one of a form without a header is read whole.

    StorageError as load_embedding.
    """
    file = open_embedding_file(Path(path))
    return EmbeddingHeader(file) if file.has_header else _loaded(file)


def _loaded(file: EmbeddingFile) -> Embedding:
    vectors, warnings = file.vectors()
    facts = dict(file.layout.facts)
    if file.layout.token is not None:
        facts["token"] = shorten(file.layout.token, quote="")
    return Embedding(file.name, vectors, file.metadata, file.path, (*file.warnings, *warnings), facts, file.half)


def _checked_vectors(key: str, rows: torch.Tensor) -> torch.Tensor:
    """A float32 CPU copy of a table of vectors. StorageError where it is none."""
    import torch

    if not isinstance(rows, torch.Tensor) or not rows.is_floating_point():
        raise StorageError(f"The vectors for {key} are not a tensor of floating-point numbers.")
    if rows.dim() != 2 or rows.shape[1] != WIDTHS.get(key, rows.shape[1]):
        width = WIDTHS.get(key, "width")
        raise StorageError(f"The vectors for {key} have the shape {list(rows.shape)}, not [n, {width}].")
    return rows.detach().to(device="cpu", dtype=torch.float32, copy=True).contiguous()


def _refuse_row(key: str, rows: torch.Tensor, fault: str, hint: str) -> None:
    bad = (~rows.isfinite()).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise StorageError(f"Vector {row + 1} of {key}, value {column + 1}, {fault}.", hint=hint)
