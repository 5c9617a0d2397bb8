"""Writing variants of embeddings for other models: many files together, and none over a file that is something else.

rebuild.py makes the variants.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, read_embedding_header
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import StorageError, TakenError
from lib_embedmerge.files.atomic_file import ChangedError
from lib_embedmerge.files.grouped_writes import WriteGroup
from lib_embedmerge.files.locks import lock_folders
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.files.stamps import read_identity
from lib_embedmerge.recipes.fit import fit_by_tag, is_current_variant

if TYPE_CHECKING:
    from lib_embedmerge.core.answers import RebuildAnswer

WRITTEN, SAME_VECTORS, UP_TO_DATE, SKIPPED = "written", "same vectors", "up to date", "skipped"
"""The status of a result: a variant was written; the embedding itself has the right vectors; the variant that exists is
up to date; or no variant can be written."""

SHARED = "shared"
"""The status for a model that uses the variant for another one."""

_ATTEMPTS = 20
"""How often to try to write a variant whose file another program changes in the meantime."""


@dataclass(frozen=True)
class RebuildResult:
    """The result of rebuilding one embedding for one model.

    source: file of the embedding.  status: WRITTEN, SAME_VECTORS, UP_TO_DATE or SKIPPED.
    file: the variant; None if there is none.  reason: why no file was written, one sentence; None if one was.
    """

    source: Path
    status: str
    file: Path | None = None
    reason: str | None = None

    def as_json(self, checkpoint: Path | str) -> RebuildAnswer:
        """All fields as plain values. checkpoint: the model, by the path or title that the user gave."""
        return {
            "source": str(self.source),
            "checkpoint": str(checkpoint),
            "file": str(self.file) if self.file else None,
            "status": self.status,
            "reason": self.reason,
        }


class NotWrittenError(Exception):
    """Raised if no variant is written. status, reason, file: for the RebuildResult."""

    def __init__(self, status: str, reason: str, file: Path | None = None) -> None:
        super().__init__(status, reason, file)
        self.status, self.reason, self.file = status, reason, file

    def as_result(self, source: Path) -> RebuildResult:
        """The result for the embedding in the file `source`."""
        return RebuildResult(source, self.status, self.file, self.reason)


@dataclass(frozen=True)
class Variant:
    """A variant that is made but not written.

    source: file of the original.  original, tag: the original and its tag.  embedding: the variant itself.
    folder: where it is to be written.
    """

    source: Path
    original: Embedding
    tag: ModelTag
    embedding: Embedding
    folder: Path

    @property
    def path(self) -> Path:
        """The file that it is to be written to."""
        return self.folder / (self.embedding.name + SUFFIX)


def write_variants(
    variants: Sequence[Variant], model: Model, before_replacing: Callable[[Path], None], attempts: int = _ATTEMPTS
) -> list[RebuildResult]:
    """Write variants for a model and flush them to the disk together. Gives a result for each, in order.

    An existing file is replaced only if it is an outdated variant of the same embedding for the same model.
    before_replacing: called with the path of a file that is about to be replaced.
    attempts: how often to try if other programs change the files meanwhile.
    """
    try:
        with lock_folders({variant.folder for variant in variants}), WriteGroup() as group:
            results = [_add(variant, model, before_replacing, group) for variant in variants]
            faults = iter(group.finish())
    except StorageError as error:  # another program has a folder locked
        return [RebuildResult(variant.source, SKIPPED, reason=error.message) for variant in variants]
    finished = []
    for variant, result in zip(variants, results, strict=True):
        fault = next(faults) if result.status == WRITTEN else None
        if isinstance(fault, (ChangedError, TakenError)):
            finished.append(_write_again(variant, model, before_replacing, attempts - 1))
        else:
            finished.append(RebuildResult(variant.source, SKIPPED, reason=fault.message) if fault else result)
    return finished


def _add(variant: Variant, model: Model, before_replacing: Callable[[Path], None], group: WriteGroup) -> RebuildResult:
    """Add a variant to a group of files that are written. The result is that of the variant if the group succeeds."""
    path = variant.path
    try:
        seen = read_identity(path)
        exists = os.path.lexists(path)
        if exists:
            _check_replaceable(path, variant.original, variant.tag, model)
            before_replacing(path)
        dtype = _find_dtype(variant.source)
        variant.embedding.save(variant.folder, dtype=dtype, overwrite=exists, seen=seen, group=group)
    except NotWrittenError as reason:
        return reason.as_result(variant.source)
    except StorageError as error:
        return RebuildResult(variant.source, SKIPPED, reason=error.message)
    return RebuildResult(variant.source, WRITTEN, path)


def _write_again(
    variant: Variant, model: Model, before_replacing: Callable[[Path], None], attempts: int
) -> RebuildResult:
    """Write a variant whose file was changed in the meantime, by another program or by the same group."""
    if attempts <= 0:
        reason = f"{variant.path.name} was changed by another program again and again."
        return RebuildResult(variant.source, SKIPPED, reason=reason)
    return write_variants([variant], model, before_replacing, attempts)[0]


def _check_replaceable(path: Path, embedding: Embedding, tag: ModelTag, model: Model) -> None:
    """NotWrittenError unless the existing file is an outdated variant of the embedding for this model."""
    try:
        existing = read_embedding_header(path).tag
    except StorageError:
        existing = None
    if existing is None or existing.variant_of != embedding.name:
        raise NotWrittenError(SKIPPED, f"{path.name} already exists and is not a version of {embedding.name}.")
    if not fit_by_tag(existing, model) and (existing.made_for, existing.file_name) != (
        model.facts.title,
        model.facts.file_name,
    ):
        raise NotWrittenError(SKIPPED, f"{path.name} already exists and is for another model, {existing.made_for}.")
    if is_current_variant(existing, embedding.name, tag, model):
        raise NotWrittenError(UP_TO_DATE, f"{path.name} already exists.", path)


def _find_dtype(source: Path) -> str:
    """The dtype in which to store a variant: `float16` if the source file stores only that, else `float32`."""
    if source.suffix.lower() != SUFFIX:
        return "float32"
    half = all(info.dtype == "F16" for info in read_header(source).tensors.values())
    return "float16" if half else "float32"
