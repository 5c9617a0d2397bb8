"""An embedding's file opened: in which form it is, whatever its name ends in, and which of its tensors are the vectors.

What the bytes of each form mean is known in safetensors_file.py, pickle_file.py and picture_file.py; which tensors are
vectors, in forms.py. What becomes of them is embedding.py's and converting.py's matter.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import CLIP_G, CLIP_L
from lib_embedmerge.core.endings import CHECKPOINT, READABLE, SUFFIX
from lib_embedmerge.embeddings.form_bundles import list_bundled_names
from lib_embedmerge.embeddings.forms import Layout, read_stored, read_vectors, recognise
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.file_kinds import (
    PICKLES,
    PICTURES,
    SAFETENSORS,
    FileKind,
    make_unreadable_error,
    read_file_start,
)
from lib_embedmerge.files.pickle_file import load_tensors
from lib_embedmerge.files.safetensors_file import Header, TensorInfo, read_header, read_tensor

if TYPE_CHECKING:
    import torch

_FIRST_HALF, _SECOND_HALF = "learned_embeds", "learned_embeds_2"
"""What diffusers calls the two files of one embedding for SDXL: vectors for CLIP-L, and those for CLIP-G."""


@dataclass(frozen=True)
class EmbeddingFile:
    """One embedding in a file.

    name: what calls it in a prompt.  layout: where its vectors are.  metadata: texts that the file carries for it.
    warnings: what a person should know, one sentence each; `half` among them, where it is half of a pair.
    has_header: whether no vector was read to know all this.
    """

    path: Path
    name: str
    layout: Layout
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()
    half: str | None = None
    has_header: bool = False

    def vectors(self) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        """Encoder key -> float32 CPU tensor [n, width], and what a person should know of the values.

        StorageError, which names the file, where it has changed meanwhile or cannot be read.
        """
        with _naming(self.path):
            vectors, warnings = read_vectors(self.layout, self._reader())
        return vectors, warnings[len(self.layout.warnings) :]

    def stored(self) -> dict[str, torch.Tensor]:
        """The same vectors bit for bit, in the dtype in which they are stored."""
        with _naming(self.path):
            return read_stored(self.layout, self._reader())

    def _reader(self) -> Callable[[TensorInfo], torch.Tensor]:
        return lambda info: read_tensor(self.path, info)


def open_embedding_file(path: Path, *, bundled: str | None = None, header_only: bool = False) -> EmbeddingFile:
    """The embedding in a file of any form. bundled: which one, of a file that bundles several.

    StorageError, which names the file, where it is no sound embedding, and with `header_only` where its form has no
    header that could be read alone.
    """
    kind, header = _checked(path)
    if header_only and header is None:
        raise StorageError(
            f"{quote(path.name)} has no header that can be read alone.",
            hint="Only safetensors files have one. Load the whole file.",
        )
    content, metadata, name = _content(path, kind, header)
    with _naming(path):
        layout = recognise(content, bundled=bundled)
    half = _half_of_pair(path, layout)
    warnings = [*layout.warnings, *([half] if half else []), *_warn_of_suffix(path, kind)]
    # Those of a LoRA that bundles it are the LoRA's own: they say nothing of the embedding.
    own = metadata if layout.bundled is None else MappingProxyType({})
    called = layout.bundled or name or path.stem
    return EmbeddingFile(path, called, layout, own, tuple(warnings), half, header is not None)


def list_names_in_file(path: Path) -> tuple[str, ...]:
    """How a file of several embeddings calls them; none for a file of one. StorageError as `open_embedding_file`."""
    content, _, _ = _content(path, *_checked(path))
    with _naming(path):
        return list_bundled_names(content)


def _content(path: Path, kind: FileKind, header: Header | None) -> tuple[object, Mapping[str, str], str | None]:
    """What a file holds, the texts that it carries, and what it says that it is called. header: of a safetensors
    file."""
    if header is not None:
        return header.tensors, header.metadata, None
    if kind in PICTURES:
        # Only for pictures; all other files go without.
        from lib_embedmerge.embeddings.picture_file import read_picture

        content = read_picture(path, kind)
        name = content.get("name")
        return content, MappingProxyType({}), name if isinstance(name, str) and name.strip() else None
    return load_tensors(path), MappingProxyType({}), None


def _checked(path: Path) -> tuple[FileKind, Header | None]:
    """What a file is that may be an embedding by its name, and its header where it is safetensors, or StorageError
    saying what it is instead."""
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise _misnamed(path)
    if suffix != SUFFIX:
        look = read_file_start(path)
        if look.kind in (*PICKLES, *PICTURES):
            return look.kind, None
        return SAFETENSORS, read_header(path)  # which says what else it is
    try:
        return SAFETENSORS, read_header(path)  # of thousands in a listing, so each is opened once
    except StorageError:
        look = read_file_start(path)
        if look.kind in (*PICKLES, *PICTURES):
            return look.kind, None
        raise


def _misnamed(path: Path) -> StorageError:
    """What a file is that no tool would take for an embedding by its name."""
    look = read_file_start(path)
    if look.kind is not SAFETENSORS and look.kind not in (*PICKLES, *PICTURES):
        return make_unreadable_error(path, look)
    is_checkpoint = path.suffix.lower() == CHECKPOINT
    said = "is a checkpoint, not an embedding" if is_checkpoint else "does not have the file ending of an embedding"
    return StorageError(f"{quote(path.name)} {said}.", hint="Embedding files end in .safetensors, .pt or .bin.")


def _warn_of_suffix(path: Path, kind: FileKind) -> list[str]:
    """What there is to say of a form under a name that promises another one: web UIs go by the name."""
    is_named = path.suffix.lower() == SUFFIX
    if kind is SAFETENSORS and not is_named:
        return [f"It is a safetensors file, but web UIs load it only if its name ends in {SUFFIX}."]
    if kind in PICKLES and is_named:
        return ["It is a PyTorch file, but web UIs load it only if its name ends in .pt. Rename or convert it."]
    return []


def _half_of_pair(path: Path, layout: Layout) -> str | None:
    """That it is one of the two files in which diffusers keeps one embedding for SDXL, and how to join them."""
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
    """Where the other half of a pair of diffusers would be, by the file's name; None where that is none of theirs."""
    stem = path.name
    if re.match(rf"{_SECOND_HALF}\b", stem):
        return path.with_name(stem.replace(_SECOND_HALF, _FIRST_HALF, 1))
    if re.match(rf"{_FIRST_HALF}\b", stem):
        return path.with_name(stem.replace(_FIRST_HALF, _SECOND_HALF, 1))
    return None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Faults inside here begin with the file's name."""
    try:
        yield
    except StorageError as error:
        if path.name in error.message:
            raise
        raise StorageError(f"{quote(path.name)}: {error.message}", hint=error.hint) from error
