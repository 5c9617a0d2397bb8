"""Restore a library whose models are not at hand: find the text of each file, tag it, and build it for other models.

All files are read first and named together, so a token table is gone through a few times, however many files there are
(recovery/across_models.py). Then each is written by itself: whatever was written is found as it should be by the next
run, which goes on from there. Old files are never removed; a tag changes no bit of a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy

from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.operations import is_finite
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors, load_embedding
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.errors import ExpressionError, StorageError, quote
from lib_embedmerge.recipes.recovery.across_models import read_files
from lib_embedmerge.recipes.recovery.drifted_rows import Certainty, NamedVector
from lib_embedmerge.recipes.recovery.file_context import Drift
from lib_embedmerge.recipes.recovery.readings import Reading, Verdict
from lib_embedmerge.recipes.recovery.recover import recover_reading
from lib_embedmerge.recipes.recovery.shared_encoders import share_encoders
from lib_embedmerge.recipes.recovery.source_printing import Speller, print_segments
from lib_embedmerge.recipes.table_groups import group_by_table, hash_rows

_ORDER = (Verdict.EXACT, Verdict.TEXT, Verdict.SUMS, Verdict.MIXED, Verdict.NOT_TEXT)
"""The verdicts, the best first."""

KNOWN = (Verdict.EXACT, Verdict.TEXT, Verdict.SUMS)
"""The verdicts with a text for all vectors."""


@dataclass(frozen=True)
class FoundText:
    """What is known of one file of a library, before anything is written.

    embedding: None if the file cannot be read, for `reason`.
    verdict, vectors, drift: as in a Reading, on the nearest checkpoint; None and empty if there is no reading.
    text: the expression for all vectors, from the tag or recovered; None if there is none.
    has_recipe: whether the text is that of the tag.
    checkpoint: the nearest of the checkpoints.
    group: number of the table that it comes from, see TableGroups.
    warnings: one sentence each.  reason: why it cannot be restored.
    """

    source: Path
    embedding: Embedding | None = None
    verdict: Verdict | None = None
    vectors: tuple[NamedVector, ...] = ()
    drift: Mapping[str, Drift] = field(default_factory=dict)
    text: str | None = None
    has_recipe: bool = False
    checkpoint: Path | None = None
    group: int | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def is_sure(self) -> bool:
        """Whether every vector is exact or sure, or the text is that of the tag."""
        certain = {Certainty.EXACT, Certainty.SURE}
        return self.has_recipe or all(vector.certainty in certain for vector in self.vectors)


def find_texts(
    sources: Sequence[Path],
    checkpoints: Sequence[Path],
    open_model: Callable[[Path], Model],
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[FoundText]:
    """What is known of each file, on the checkpoint that is nearest to it. Nothing is written.

    CheckpointError if a checkpoint cannot be read.
    """
    found = [_load(source) for source in sources]
    for checkpoint in checkpoints:
        if is_stopped():
            break
        found = _read_on(found, checkpoint, open_model(checkpoint))
    return _compare_files([_conclude(file) for file in found])


def _load(source: Path) -> FoundText:
    """One file with its vectors, if it has some that can be read."""
    try:
        embedding = load_embedding(source)
    except StorageError as error:
        return FoundText(source, reason=error.message)
    tag = embedding.tag or ModelTag()
    if tag.variant_of:
        return FoundText(source, reason=f"It is the version of {tag.variant_of} for another model.")
    if not all(map(is_finite, embedding.vectors.values())):
        return FoundText(source, reason=f"{quote(source.name)} has values that are not finite numbers.")
    if not 1 <= embedding.count <= MAX_VECTORS:
        reason = f"It has {embedding.count} vectors; one expression makes 1 to {MAX_VECTORS}."
        return FoundText(source, reason=reason)
    return FoundText(source, embedding, text=tag.recipe, has_recipe=tag.recipe is not None)


def _read_on(files: Sequence[FoundText], checkpoint: Path, model: Model) -> list[FoundText]:
    """The same with what this checkpoint tells, where that is better than what others told."""
    result = list(files)
    by_keys: dict[tuple[str, ...], list[int]] = {}
    keys_of_model = [encoder.key for encoder in model.encoders]
    for index, file in enumerate(files):
        if file.embedding and (keys := tuple(key for key in keys_of_model if key in file.embedding.vectors)):
            by_keys.setdefault(keys, []).append(index)
    for keys, indices in by_keys.items():
        shared = share_encoders(model, keys)
        speller = Speller(shared)
        readings = read_files([_select(files[index], keys) for index in indices], shared)
        for index, reading in zip(indices, readings, strict=True):
            told = _tell(files[index], reading, shared, speller)
            if _rank(told) < _rank(result[index]):
                result[index] = replace(told, checkpoint=checkpoint)
    return result


def _select(file: FoundText, keys: Sequence[str]) -> dict[str, numpy.ndarray]:
    assert file.embedding is not None  # only files with vectors are read
    return {key: file.embedding.vectors[key] for key in keys}


def _tell(file: FoundText, reading: Reading, model: Model, speller: Speller) -> FoundText:
    """The file with what was read from its vectors on a model."""
    if reading.may_be_exact and file.embedding is not None and set(file.embedding.vectors) == set(reading.keys):
        recovery = recover_reading(file.embedding, model, reading)
        text = file.text if file.has_recipe else recovery.expression if recovery.is_text else None
        return replace(file, verdict=recovery.verdict, vectors=recovery.vectors, drift=recovery.drift, text=text)
    text = file.text
    if text is None and reading.verdict in KNOWN:
        try:
            text = print_segments({reading.keys or _all_keys(model): reading.segments}, model, speller)
        except ExpressionError:  # too long
            return replace(file, verdict=Verdict.NOT_TEXT, vectors=reading.vectors)
    return replace(file, verdict=reading.verdict, vectors=reading.vectors, drift=reading.drift, text=text)


def _all_keys(model: Model) -> tuple[str, ...]:
    return tuple(encoder.key for encoder in model.encoders)


def _rank(file: FoundText) -> tuple[int, float]:
    """A smaller value for a file that is better explained."""
    if file.verdict is None:
        return len(_ORDER), 0.0
    return _ORDER.index(file.verdict), max((drift.median for drift in file.drift.values()), default=0.0)


def _conclude(file: FoundText) -> FoundText:
    """The file with the reason why it has no text, if it has none."""
    if file.embedding is None or file.text is not None:
        return file
    if file.verdict is None:
        kind = file.embedding.architecture.title
        return replace(file, reason=f"It is for {kind}, and none of the checkpoints has a text encoder for it.")
    if file.verdict == Verdict.MIXED:
        known = sum(vector.token is not None for vector in file.vectors)
        return replace(
            file, reason=f"Only {known} of its {len(file.vectors)} vectors are words; the others were trained."
        )
    return replace(file, reason="Its vectors were trained: they match the words of none of the checkpoints.")


def _compare_files(files: Sequence[FoundText]) -> list[FoundText]:
    """The files with their groups, and with warnings of wrong labels and of equal files."""
    vectors = [file.embedding.vectors if file.embedding else {} for file in files]
    tokens = [
        {
            (key, vector.token): rows[index].astype(numpy.float16).tobytes()
            for key, rows in of_file.items()
            for index, vector in enumerate(file.vectors)
            if vector.token is not None and vector.certainty in {Certainty.EXACT, Certainty.SURE}
        }
        for file, of_file in zip(files, vectors, strict=True)
    ]
    groups = group_by_table([file.source.stem for file in files], [hash_rows(rows) for rows in vectors], tokens)
    first: dict[str, Path] = {}
    compared = []
    for index, file in enumerate(files):
        warnings = [groups.contradictions[index]] if index in groups.contradictions else []
        if file.embedding:
            same = first.setdefault(hash_vectors(file.embedding.vectors), file.source)
            if same != file.source:
                warnings.append(f"It has the same vectors as {quote(same.name)}.")
        compared.append(replace(file, group=groups.groups[index], warnings=(*file.warnings, *warnings)))
    return compared
