"""The form of an embedding's file, as forms.py recognises it, and reading the vectors by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy

from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.embeddings.form_parts import StoredTensor, describe_values, read_numbers
from lib_embedmerge.files.safetensors_header import TensorInfo
from lib_embedmerge.files.stored_values import StoredValues, join_rows


@dataclass(frozen=True)
class Layout:
    """The form of a file: which of its tensors are the vectors. Found by their names and shapes, without values.

    parts: encoder key -> the tensors whose rows are its vectors, in order.  count: number of vectors of an encoder.
    source: the form, for people.  bundled: the embedding's name in a file of several, else None.
    warnings: what a user should know, one sentence each.
    facts: what the file says besides its vectors, such as `step`.
    token: the placeholder that the embedding was trained with, such as `<cat-toy>`; None if the file does not say.
    uneven: a sentence that says that the CLIP encoders have different numbers of vectors; None if they do not.
    """

    parts: Mapping[str, tuple[StoredTensor, ...]]
    architecture: Architecture
    count: int
    source: str
    bundled: str | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token: str | None = None
    uneven: str | None = None


def read_vectors(
    layout: Layout, read: Callable[[TensorInfo], StoredValues] | None = None
) -> tuple[dict[str, numpy.ndarray], tuple[str, ...]]:
    """Read the vectors: encoder key -> float32 [n, width], and all warnings about the file.

    read: returns the values for a TensorInfo; needed if the content came from a safetensors header.
    NaN and infinity are kept, with a warning. In an uneven layout, zero vectors fill up the shorter ones.
    """
    vectors = {key: stored.to_float32() for key, stored in read_stored_vectors(layout, read).items()}
    if layout.uneven:
        vectors = {key: numpy.pad(rows, ((0, layout.count - len(rows)), (0, 0))) for key, rows in vectors.items()}
    return vectors, (*layout.warnings, *describe_values(vectors))


def read_stored_vectors(
    layout: Layout, read: Callable[[TensorInfo], StoredValues] | None = None
) -> dict[str, StoredValues]:
    """Read the vectors like `read_vectors`, bit for bit in the dtype in which they are stored.

    If an encoder's vectors are in several tensors, they get a dtype that holds all of their values.
    """
    return {
        key: join_rows([read_numbers(part, read).reshape(-1, part.shape[-1]) for part in parts])
        for key, parts in layout.parts.items()
    }
