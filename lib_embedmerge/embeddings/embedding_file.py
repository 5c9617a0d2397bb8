"""Opening an embedding's file: its form, whatever its name ends in, and its tensors that are the vectors.

files/safetensors_file.py, files/pickle_file.py and picture_file.py read the formats; forms.py knows which tensors are
vectors. embedding.py and conversion.py use the result.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L
from lib_embedmerge.core.endings import CHECKPOINT, READABLE, SUFFIX
from lib_embedmerge.embeddings.form_bundles import list_bundled_names
from lib_embedmerge.embeddings.form_layout import Layout, read_stored_vectors, read_vectors
from lib_embedmerge.embeddings.forms import recognise
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.file_kinds import (
    PICKLES,
    PICTURES,
    SAFETENSORS,
    FileKind,
    make_unreadable_error,
    read_file_start,
)
from lib_embedmerge.files.safetensors_file import Header, TensorInfo, read_header, read_tensor
from lib_embedmerge.files.stored_values import StoredValues

_FIRST_HALF, _SECOND_HALF = "learned_embeds", "learned_embeds_2"
"""Names that diffusers gives to the two files of an embedding for SDXL, with vectors for CLIP-L and for CLIP-G."""


@dataclass(frozen=True)
class EmbeddingFile:
    """One embedding in a file.

    name: its name in prompts.  layout: the tensors that are its vectors.
    metadata: the texts in the file's header; empty if they belong to the LoRA that bundles the embedding.
    warnings: what a user should know, one sentence each, `half` included.
    half: a sentence that says that it is half of a pair and how to join the two; None if it is whole.
    has_header: whether the file has a header that was read without reading vectors.
    """

    path: Path
    name: str
    layout: Layout
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    half: str | None = None
    has_header: bool = False

    def read_vectors(self) -> tuple[dict[str, numpy.ndarray], tuple[str, ...]]:
        """Read the vectors: encoder key -> float32 [n, width], and warnings about their values.

        StorageError, which names the file, if it was changed meanwhile or cannot be read.
        """
        with _name_in_errors(self.path):
            vectors, warnings = read_vectors(self.layout, self._reader())
        return vectors, warnings[len(self.layout.warnings) :]

    def read_stored_vectors(self) -> dict[str, StoredValues]:
        """Read the vectors bit for bit, in the dtype in which they are stored. StorageError as in `read_vectors`."""
        with _name_in_errors(self.path):
            return read_stored_vectors(self.layout, self._reader())

    def _reader(self) -> Callable[[TensorInfo], StoredValues]:
        """A function that reads the values for a TensorInfo from the file."""
        return lambda info: read_tensor(self.path, info)


def open_embedding_file(
    path: Path, *, bundled: str | None = None, header_only: bool = False, uneven: bool = False
) -> EmbeddingFile:
    """Open the embedding in a file of any form.

    bundled: the name of one embedding in a file that bundles several.
    uneven: as for `recognise`.
    header_only: whether to refuse files of forms without a header, which would be read whole.
    StorageError, which names the file, if it does not contain a valid embedding, or is refused.
    """
    kind, header = _identify(path)
    if header_only and header is None:
        raise StorageError(
            f"{quote(path.name)} has no header that can be read alone.",
            hint="Only safetensors files have one. Load the whole file.",
        )
    content, metadata, name = _read_content(path, kind, header)
    with _name_in_errors(path):
        layout = recognise(content, bundled=bundled, uneven=uneven)
    half = _describe_half(path, layout)
    warnings = [*layout.warnings, *([half] if half else []), *_warn_of_suffix(path, kind)]
    # The metadata of a LoRA that bundles embeddings are about the LoRA, not about the embedding.
    own_metadata = metadata if layout.bundled is None else MappingProxyType({})
    in_prompts = layout.bundled or name or path.stem
    return EmbeddingFile(path, in_prompts, layout, own_metadata, tuple(warnings), half, header is not None)


def list_names_in_file(path: Path) -> tuple[str, ...]:
    """The names of the embeddings in a file that bundles several; none for a file of one embedding.

    StorageError as in `open_embedding_file`.
    """
    content, _, _ = _read_content(path, *_identify(path))
    with _name_in_errors(path):
        return list_bundled_names(content)


def _read_content(path: Path, kind: FileKind, header: Header | None) -> tuple[object, Mapping[str, str], str | None]:
    """The content of a file for `recognise`, its metadata, and the name that it contains, or None.

    header: of a safetensors file; None for others.
    """
    if header is not None:
        return header.tensors, header.metadata, None
    if kind in PICTURES:
        # This and the reader of pickles are imported late, because most files need neither.
        from lib_embedmerge.embeddings.picture_file import read_picture

        content = read_picture(path, kind)
        name = content.get("name")
        return content, MappingProxyType({}), name if isinstance(name, str) and name.strip() else None
    from lib_embedmerge.files.pickle_file import load_tensors

    return load_tensors(path), MappingProxyType({}), None


def _identify(path: Path) -> tuple[FileKind, Header | None]:
    """The kind of an embedding's file, and its header if it is a safetensors file.

    StorageError if its name has another ending than embeddings, or if its bytes are those of another kind of file.
    """
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise _describe_wrong_ending(path)
    if suffix != SUFFIX:
        start = read_file_start(path)
        if start.kind in (*PICKLES, *PICTURES):
            return start.kind, None
        return SAFETENSORS, read_header(path)  # the error says what the file is instead
    try:
        return SAFETENSORS, read_header(path)  # first, because a list has thousands and each should be opened only once
    except StorageError:
        start = read_file_start(path)
        if start.kind in (*PICKLES, *PICTURES):
            return start.kind, None
        raise


def _describe_wrong_ending(path: Path) -> StorageError:
    """The error for a file whose name does not end like that of an embedding."""
    start = read_file_start(path)
    if start.kind is not SAFETENSORS and start.kind not in (*PICKLES, *PICTURES):
        return make_unreadable_error(path, start)
    is_checkpoint = path.suffix.lower() == CHECKPOINT
    fault = "is a checkpoint, not an embedding" if is_checkpoint else "does not have the file ending of an embedding"
    return StorageError(f"{quote(path.name)} {fault}.", hint="Embedding files end in .safetensors, .pt or .bin.")


def _warn_of_suffix(path: Path, kind: FileKind) -> list[str]:
    """A warning if the ending of a file does not match its format, because web UIs go by the ending."""
    ends_in_safetensors = path.suffix.lower() == SUFFIX
    if kind is SAFETENSORS and not ends_in_safetensors:
        return [f"It is a safetensors file, but web UIs load it only if its name ends in {SUFFIX}."]
    if kind in PICKLES and ends_in_safetensors:
        return ["It is a PyTorch file, but web UIs load it only if its name ends in .pt. Rename or convert it."]
    return []


def _describe_half(path: Path, layout: Layout) -> str | None:
    """A sentence that says that a file is half of a pair of diffusers and how to join the two; None if it is whole."""
    if len(layout.parts) != 1 or layout.token is None:
        return None
    partner = find_partner(path)
    key = next(iter(layout.parts))
    if partner is not None and partner.is_file() and key in {CLIP_L, CLIP_G}:
        first, second = sorted((path.name, partner.name), key=len)
        how = f"Join them: embedmerge convert {first} {second} --name NAME."
        return f"It is half of a pair of diffusers files; the other half is {quote(partner.name)}. {how}"
    if key == CLIP_G:
        how = "Join it with the one for CLIP-L: embedmerge convert FIRST SECOND --name NAME."
        return f"It has vectors only for CLIP-G, like the second half of a pair of diffusers files. {how}"
    return None


def find_partner(path: Path) -> Path | None:
    """The path of the other half of a pair of diffusers, which need not exist; None for other names."""
    name = path.name
    if re.match(rf"{_SECOND_HALF}\b", name):
        return path.with_name(name.replace(_SECOND_HALF, _FIRST_HALF, 1))
    if re.match(rf"{_FIRST_HALF}\b", name):
        return path.with_name(name.replace(_FIRST_HALF, _SECOND_HALF, 1))
    return None


@contextlib.contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Put the file's name before the message of each StorageError in the `with` block that does not contain it."""
    try:
        yield
    except StorageError as error:
        if path.name in error.message:
            raise
        raise StorageError(f"{quote(path.name)}: {error.message}", hint=error.hint) from error
