"""An embedding with its vectors, its tag and its file. Files of any tool can be read; one form is written.

forms.py knows which tensors of a file are vectors, tag.py what metadata mean, files/safetensors_file.py the format of
files. library.py finds the embeddings of a folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy

from lib_embedmerge.core.architecture import (
    MAX_VECTORS,
    OTHER_ENCODERS,
    WIDTHS,
    Architecture,
    find_architecture,
)
from lib_embedmerge.core.arrays import Array, is_tensor, to_float16, to_float32, to_numpy
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings.embedding_file import EmbeddingFile, open_embedding_file
from lib_embedmerge.embeddings.form_layout import Layout
from lib_embedmerge.embeddings.form_parts import shorten
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag import ModelTag, read_tag
from lib_embedmerge.embeddings.tag_writing import check_size, set_payload_hash
from lib_embedmerge.errors import Remedy, StorageError, TakenError, quote
from lib_embedmerge.files.atomic_file import make_folder, write_atomically
from lib_embedmerge.files.grouped_writes import WriteGroup
from lib_embedmerge.files.safetensors_file import encode_safetensors, hash_payload
from lib_embedmerge.files.stamps import Identity
from lib_embedmerge.files.stored_values import StoredValues, store

DTYPES = ("float32", "float16")
"""The dtypes in which vectors can be saved. The first is the default, because stable-diffusion.cpp reads no other."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """An embedding: a name, and input vectors for each text encoder of an architecture.

    name: its name in prompts, and the stem of its file.
    vectors: encoder key -> float32 array of numpy [n, width], a copy of the argument, which may be a tensor of torch.
        All CLIP encoders have the same n, from 1 to 75 unless it was read from a file; OTHER_ENCODERS may have another
        n.
    metadata: the texts in the file's header, which include the tag.  path: the file that it was read from.
    warnings: what a user should know about the file, one sentence each.
    facts: what the file says besides its vectors, such as `step` or `token`.
    half: a sentence that says that it is half of a pair and how to join the two; None if it is whole.
    uneven: a sentence that says that the file has fewer vectors for one encoder, which zero vectors fill up; else None.
    own: whether the arrays given as `vectors` are used by nobody else, so that they need not be copied.
    StorageError if no architecture has these vectors.
    """

    name: str
    vectors: Mapping[str, numpy.ndarray]
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    half: str | None = None
    uneven: str | None = None
    own: InitVar[bool] = False

    def __post_init__(self, own: bool) -> None:
        architecture = find_architecture(set(self.vectors))
        if architecture is None:
            given = ", ".join(map(repr, sorted(self.vectors))) or "none"
            raise StorageError(f"No model has exactly these text encoders: {given}.")
        vectors = {key: _check_vectors(key, self.vectors[key], copy=not own) for key in architecture.encoders}
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
        """The architecture of the models that it is for, which has the same text encoders."""
        architecture = find_architecture(set(self.vectors))
        assert architecture is not None  # checked in __post_init__
        return architecture

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return len(next(iter(self.vectors.values())))

    @property
    def tag(self) -> ModelTag | None:
        """The model tag in its metadata, or None."""
        return read_tag(self.metadata)

    @property
    def recipe(self) -> str | None:
        """The source text that it was made from, or None if its tag has none."""
        return self.tag.recipe if self.tag else None

    @property
    def follows_recipe(self) -> bool:
        """Whether the vectors were made again from its recipe. Always False here."""
        return False

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        overwrite: bool = False,
        seen: Identity | None = None,
        group: WriteGroup | None = None,
    ) -> Path:
        """Write `<name>.safetensors` into a folder, creating it if it is missing, and return the path of the file.

        A crash leaves the old file or the new one. The same embedding gives the same bytes.
        dtype: `float32` or `float16`.
        seen: the identity of the file to overwrite, from `files.stamps.read_identity`. ChangedError if it is another
            file now.
        group: writes the file with others, so it is at its path only after `group.finish`.
        StorageError if the name cannot be that of a file, or a value is not finite or too large for float16. TakenError
        if the file exists and `overwrite` is false.
        """
        if error := find_name_error(self.name):
            raise StorageError(error, hint="Choose another name.")
        tensors = self._make_tensors(dtype)
        metadata = set_payload_hash(self.metadata, hash_payload(tensors))
        check_size(metadata)
        path = Path(folder) / (self.name + SUFFIX)
        make_folder(path.parent)
        if not overwrite:
            check_not_existing(path)
        write = group.add if group else write_atomically
        write(path, encode_safetensors(tensors, metadata), overwrite=overwrite, seen=seen)
        return path

    def _make_tensors(self, dtype: str) -> dict[str, StoredValues]:
        """Name of the tensor in the file -> values in `dtype`. StorageError if they cannot be stored."""
        if dtype not in DTYPES:
            raise StorageError(f"Vectors cannot be saved as {quote(dtype)}.", hint=f"Use {' or '.join(DTYPES)}.")
        tensors = {}
        for key, name in self.architecture.tensor_names.items():
            rows = self.vectors[key]
            _check_finite(key, rows, "is not a finite number", "Change the expression that makes it.")
            if dtype == "float16":
                rows = to_float16(rows)
                _check_finite(key, rows, "is too large for float16 (over 65,504)", "Save it as float32.")
            tensors[name] = store(rows)
        return tensors


@dataclass(frozen=True)
class EmbeddingHeader:
    """An embedding in a safetensors file of which only the header was read. file: the open file."""

    file: EmbeddingFile

    @property
    def name(self) -> str:
        """Its name in prompts."""
        return self.file.name

    @property
    def path(self) -> Path:
        """The file that it was read from."""
        return self.file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts in the file's header, which include the tag."""
        return self.file.metadata

    @property
    def layout(self) -> Layout:
        """The form of the file: which of its tensors are the vectors."""
        return self.file.layout

    @property
    def count(self) -> int:
        """Vectors for each text encoder."""
        return self.layout.count

    @property
    def architecture(self) -> Architecture:
        """The architecture of the models that it is for."""
        return self.layout.architecture

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the file, as far as its header tells, one sentence each."""
        return self.file.warnings

    @property
    def half(self) -> str | None:
        """A sentence that says that it is half of a pair and how to join the two; None if it is whole."""
        return self.file.half

    def load(self) -> Embedding:
        """The embedding with its vectors. StorageError if the file was changed meanwhile or cannot be read."""
        return _load(self.file)

    @property
    def tag(self) -> ModelTag | None:
        """The model tag in its metadata, or None."""
        return read_tag(self.metadata)


def hash_vectors(vectors: Mapping[str, Array]) -> str:
    """The hash that identifies an embedding in any file and under any name: sha256 hex over its vectors as float32.

    In float32 files of EmbedMerge modelspec.hash_sha256 has the same value.  vectors: encoder key -> [n, width].
    """
    return hash_payload({key: store(to_float32(to_numpy(rows))) for key, rows in vectors.items()})


def check_not_existing(path: Path) -> None:
    """TakenError if a file exists at `path`."""
    if os.path.lexists(path):
        hint = "Choose another name, or overwrite it."
        raise TakenError(f"{path.name} already exists.", hint=hint, remedy=Remedy.OVERWRITE)


def load_embedding(path: str | os.PathLike[str], *, bundled: str | None = None, uneven: bool = False) -> Embedding:
    """Load the embedding in a file of any form that web UIs and trainers write, whatever its name ends in.

    bundled: the name of one embedding in a file that bundles several. The embedding gets that name; one in a picture
        gets the name that the picture contains; others get the stem of the file.
    uneven: whether to load one that has different numbers of vectors for its encoders, filled up with zero vectors.
    StorageError, which names the file, if it does not contain a valid embedding.
    """
    return _load(open_embedding_file(Path(path), bundled=bundled, uneven=uneven))


def read_embedding_header(path: str | os.PathLike[str], *, bundled: str | None = None) -> EmbeddingHeader:
    """Read only the header of an embedding's safetensors file: well under a second for a thousand files.

    bundled: the name of one embedding in a file that bundles several.
    StorageError as in `load_embedding`, and for files of other formats. Damage in the vectors is not noticed.
    """
    return EmbeddingHeader(open_embedding_file(Path(path), bundled=bundled, header_only=True))


def open_embedding(path: str | os.PathLike[str]) -> EmbeddingHeader | Embedding:
    """Read the header of an embedding's file, or the whole embedding if the file is of a form without a header.

    StorageError as in `load_embedding`.
    """
    file = open_embedding_file(Path(path))
    return EmbeddingHeader(file) if file.has_header else _load(file)


def _load(file: EmbeddingFile) -> Embedding:
    """The embedding in an open file with its vectors. StorageError if they cannot be read."""
    vectors, warnings = file.read_vectors()
    facts = dict(file.layout.facts)
    if file.layout.token is not None:
        facts["token"] = shorten(file.layout.token, quote="")
    about = (*file.warnings, *warnings)
    half, uneven = file.half, file.layout.uneven
    return Embedding(file.name, vectors, file.metadata, file.path, about, facts, half, uneven, own=True)


def _check_vectors(key: str, rows: object, *, copy: bool) -> numpy.ndarray:
    """The vectors for one encoder as float32. StorageError if they are not floating-point [n, width].

    rows: an array of numpy or a tensor of torch on any device.  copy: whether to copy what is float32 already.
    """
    if is_tensor(rows) and rows.is_floating_point():
        rows = rows.detach().cpu().float().numpy()
    if not isinstance(rows, numpy.ndarray) or rows.dtype.kind != "f":
        raise StorageError(f"The vectors for {key} are not an array of floating-point numbers.")
    if rows.ndim != 2 or rows.shape[1] != WIDTHS.get(key, rows.shape[1]):
        width = WIDTHS.get(key, "width")
        raise StorageError(f"The vectors for {key} have the shape {list(rows.shape)}, not [n, {width}].")
    with numpy.errstate(over="ignore"):
        return rows.astype(numpy.float32, order="C", copy=copy)


def _check_finite(key: str, rows: numpy.ndarray, fault: str, hint: str) -> None:
    """StorageError if a value is not finite. fault: what is wrong with the value, the end of a sentence."""
    is_finite = numpy.isfinite(rows)
    if not is_finite.all():  # only then is it worth to look for the place, which takes many times as long
        row, column = numpy.argwhere(~is_finite)[0].tolist()
        raise StorageError(f"Vector {row + 1} of {key}, value {column + 1}, {fault}.", hint=hint)
