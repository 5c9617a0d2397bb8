"""Write what restoring.py has found: the text into the tag of each file, and a variant for each checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, hash_vectors, load_embedding
from lib_embedmerge.embeddings.interrupted import clean_up_folder
from lib_embedmerge.embeddings.metadata import read_own_metadata, rewrite_metadata
from lib_embedmerge.embeddings.names import find_name_error
from lib_embedmerge.embeddings.tag import ModelTag
from lib_embedmerge.embeddings.tag_writing import Origin, add_recipe, retag, set_payload_hash
from lib_embedmerge.errors import StorageError, TakenError, quote
from lib_embedmerge.files.safetensors_file import read_payload
from lib_embedmerge.recipes.rebuild import make_variant, make_variant_name
from lib_embedmerge.recipes.recovery.readings import Verdict
from lib_embedmerge.recipes.restoring import FoundText
from lib_embedmerge.recipes.run import RECIPE_ERRORS, run_recipe
from lib_embedmerge.recipes.variant_writing import SKIPPED, UP_TO_DATE, WRITTEN, Variant, write_variants

PLANNED = "planned"
"""The status of a file for which something would be written."""

_GROUP = 16
"""Files that are written together."""


@dataclass(frozen=True)
class RestoreWishes:
    """How a library is restored.

    folder: where new files are written; None to tag the files as they are and write variants beside them.
    only_sure: leave alone the files of which some vector is only likely.
    before_replacing: called with the path of a file that is about to be changed.
    is_stopped: whether the caller wants no more; asked before each group of files.
    """

    folder: Path | None = None
    only_sure: bool = False
    before_replacing: Callable[[Path], None] = lambda _: None
    is_stopped: Callable[[], bool] = lambda: False


@dataclass
class Restored:
    """What became of one file.

    planned: the files that would be written.  written: those that were.
    status: PLANNED, WRITTEN, UP_TO_DATE or SKIPPED.  reason: why nothing or not everything was written.
    """

    found: FoundText
    planned: list[Path] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    status: str = SKIPPED
    reason: str | None = None


def plan(files: Sequence[FoundText], models: Mapping[Path, Model], wishes: RestoreWishes) -> list[Restored]:
    """What would be written for each file."""
    return [_plan_file(file, models, wishes) for file in files]


def _plan_file(file: FoundText, models: Mapping[Path, Model], wishes: RestoreWishes) -> Restored:
    restored = Restored(file, reason=file.reason)
    embedding = file.embedding
    if embedding is None or file.text is None:
        return restored
    if wishes.only_sure and not file.is_sure:
        restored.reason = "Some of its words are not certain."
        return restored
    if not file.has_recipe or wishes.folder:
        restored.planned.append(_find_tagged(file, wishes.folder))
    for checkpoint, model in models.items():
        if not _is_made_for(file, checkpoint, model):
            folder = wishes.folder or file.source.parent
            restored.planned.append(folder / (make_variant_name(embedding.name, model) + SUFFIX))
    restored.status = PLANNED if restored.planned else UP_TO_DATE
    return restored


def _is_made_for(file: FoundText, checkpoint: Path, model: Model) -> bool:
    """Whether the file itself has the rows of this checkpoint."""
    assert file.embedding is not None  # only files with a text are planned
    same = file.embedding.architecture == model.facts.architecture
    return same and file.verdict == Verdict.EXACT and file.checkpoint == checkpoint


def _find_tagged(file: FoundText, folder: Path | None) -> Path:
    """The file that gets the tag: the file itself, or a new one."""
    assert file.embedding is not None  # only files with a text are planned
    if folder is None and _is_own(file.source):
        return file.source
    return (folder or file.source.parent) / (file.embedding.name + SUFFIX)


def _is_own(path: Path) -> bool:
    """Whether a tag can be written into a file."""
    try:
        read_own_metadata(path)
    except StorageError:
        return False
    return True


def write(plans: Sequence[Restored], models: Mapping[Path, Model], wishes: RestoreWishes) -> Iterator[Restored]:
    """Write what was planned, and yield each file when it is done. A fault of a file is its reason.

    Stopping between two files leaves the others as they are. The next run finds what is written and goes on.
    CheckpointError if a checkpoint cannot be read.
    """
    for model in models.values():
        model.fingerprints()
    folders = {path.parent for restored in plans for path in restored.planned}
    for folder in folders:
        if folder.is_dir():
            clean_up_folder(folder)
    for start in range(0, len(plans), _GROUP):
        if wishes.is_stopped():
            return
        group = plans[start : start + _GROUP]
        for restored in group:
            if restored.status == PLANNED:
                _write_tag(restored, models, wishes)
        for checkpoint, model in models.items():
            _write_group(group, checkpoint, model, wishes)
        yield from group


def _write_tag(restored: Restored, models: Mapping[Path, Model], wishes: RestoreWishes) -> None:
    """Write the text into the tag of the file itself, or a new file with the same vectors."""
    file = restored.found
    embedding = file.embedding
    assert embedding is not None  # it was planned
    restored.status = UP_TO_DATE
    target = _find_tagged(file, wishes.folder)
    if target not in restored.planned:
        return
    try:
        if target == file.source:
            wishes.before_replacing(target)
            rewrite_metadata(target, lambda metadata: _tag_unchanged(file, models, metadata))
        elif _has_text(target, file):
            return
        else:
            if error := find_name_error(embedding.name):
                raise StorageError(error)
            metadata = _make_tag(file, models, embedding.metadata)
            Embedding(embedding.name, embedding.vectors, metadata).save(target.parent)
        restored.written.append(target)
        restored.status = WRITTEN
    except TakenError:
        restored.status, restored.reason = SKIPPED, f"{target.name} already exists and is another embedding."
    except StorageError as error:
        restored.status, restored.reason = SKIPPED, error.message


def _has_text(path: Path, file: FoundText) -> bool:
    """Whether a file has these vectors and this text already, from an earlier run."""
    try:
        existing = load_embedding(path)
    except StorageError:
        return False
    assert file.embedding is not None  # it was planned
    same = hash_vectors(existing.vectors) == hash_vectors(file.embedding.vectors)
    return same and existing.recipe == file.text


def _tag_unchanged(file: FoundText, models: Mapping[Path, Model], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the tag. StorageError if the file's vectors or its recipe have changed since they were read."""
    current = load_embedding(file.source)
    assert file.embedding is not None  # it was planned
    if hash_vectors(current.vectors) != hash_vectors(file.embedding.vectors) or current.recipe:
        raise StorageError(f"{quote(file.source.name)} was changed in the meantime.", hint="Restore it again.")
    payload = hashlib.sha256(read_payload(file.source)).hexdigest()
    return set_payload_hash(_make_tag(file, models, metadata), payload)


def _make_tag(file: FoundText, models: Mapping[Path, Model], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with the text. Only a file with the rows of a checkpoint is said to be made for it."""
    if file.has_recipe:
        return dict(metadata)
    exact = file.verdict == Verdict.EXACT and file.checkpoint is not None
    model = models.get(file.checkpoint) if exact and file.checkpoint else None
    assert file.embedding is not None and file.text is not None  # it was planned
    if model is None or model.facts.architecture != file.embedding.architecture:
        return add_recipe(metadata, file.text)
    origin = Origin(
        name=file.embedding.name,
        model=model.facts,
        date=datetime.now(timezone.utc),
        fingerprints=model.fingerprints(),
        recipe=file.text,
    )
    return retag(metadata, origin)


def _write_group(group: Sequence[Restored], checkpoint: Path, model: Model, wishes: RestoreWishes) -> None:
    """Write the variants of some files for a checkpoint, together."""
    made: list[tuple[Restored, Variant]] = []
    for restored in group:
        if restored.status in {SKIPPED, PLANNED} or _is_made_for(restored.found, checkpoint, model):
            continue
        try:
            made.append((restored, _make_variant(restored.found, model, wishes.folder)))
        except RECIPE_ERRORS as error:
            restored.reason = f"Its text cannot be built for {model.facts.title}: {error.message}"
    results = write_variants([variant for _, variant in made], model, wishes.before_replacing)
    for (restored, _), result in zip(made, results, strict=True):
        if result.status == WRITTEN and result.file:
            restored.written.append(result.file)
            restored.status = WRITTEN
        elif result.status == SKIPPED:
            restored.reason = result.reason


def _make_variant(file: FoundText, model: Model, folder: Path | None) -> Variant:
    """The variant of a file for a model. ExpressionError or StorageError if its text cannot be built."""
    original = file.embedding
    assert original is not None and file.text is not None  # it was planned
    tag = replace(original.tag or ModelTag(), recipe=file.text)
    made = make_variant(original, tag, run_recipe(file.text, tag.uses, model), model, datetime.now(timezone.utc))
    base = ModelTag(recipe=file.text, uses=tag.uses)
    return Variant(file.source, original, base, made, folder or file.source.parent)
