"""Actions on checkpoint files and embedding files, without a web UI: the work of the command line.

Values in, plain values out, which are also the JSON of the command line. Heavy imports are inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lib_embedmerge.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import SaveRequest
    from lib_embedmerge.core.answers import (
        BuildAnswer,
        InfoAnswer,
        ListedEmbedding,
        ParseAnswer,
        RebuildAnswer,
        ShowAnswer,
    )
    from lib_embedmerge.core.groupings import Grouping
    from lib_embedmerge.core.outline import Outliner
    from lib_embedmerge.core.ports import Progress
    from lib_embedmerge.core.recovery_answers import RecoverFileAnswer
    from lib_embedmerge.embeddings.embedding import Embedding
    from lib_embedmerge.facade import CheckpointModel
    from lib_embedmerge.lang.typed import Typed
    from lib_embedmerge.recipes.recovery.recover import CheckpointRecoveries


def build(
    model: CheckpointModel,
    request: SaveRequest,
    folder: Path,
    embeddings: Path | None = None,
    progress: Progress | None = None,
) -> list[BuildAnswer]:
    """Build an embedding and save it into a folder: one result for each file, several if the source was split.

    embeddings: a folder whose embeddings the same prompts will find, for advice on the name.
    progress: called with (bytes done, bytes in all) while the model is fingerprinted.
    Only a file of that name in the folder itself is in the way: TakenError, unless the request overwrites it. Else
    raises as saving.save.
    """
    from lib_embedmerge.actions.json_answers import saved_as_json
    from lib_embedmerge.actions.saving import make_existing_error, save
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.hosts.folder_host import FolderHost
    from lib_embedmerge.tokenizer import clip_tokenizer

    names = EmbeddingFolder(embeddings, clip_tokenizer()).names() if embeddings and embeddings.is_dir() else ()
    request = replace(request, known_names=frozenset(names), only_own_file=True)
    saved = save(FolderHost(model, folder), request, progress)
    if saved.existing:
        raise make_existing_error(saved)
    results = [saved_as_json(file, saved.kind) for file in saved.files]
    for result in results:
        result["warnings"] = list(dict.fromkeys((*model.facts.warnings, *result["warnings"])))
    return results


def show(
    file: Path,
    bundled: str | None,
    nearest: int,
    open_model: Callable[[], CheckpointModel] | None = None,
    doctor: Literal["check", "fix"] | None = None,
) -> ShowAnswer:
    """Figures and tag of an embedding. With a model also the nearest tokens of each vector, and whether it fits.

    bundled: the name of the embedding, in a file that bundles several.  nearest: how many tokens for each vector.
    open_model: called after the file was read, so that a wrong file costs no wait.
    doctor: `check` adds what is wrong with the vectors to the notes; `fix` also saves a copy without that beside it.
    StorageError if the file is not a sound embedding, or if a fixed copy cannot be saved.
    """
    from lib_embedmerge.actions.json_answers import embedding_as_json
    from lib_embedmerge.embeddings.embedding import load_embedding

    embedding = load_embedding(file, bundled=bundled, uneven=doctor is not None)
    model = open_model() if open_model else None
    answer = embedding_as_json(embedding, model, nearest)
    if doctor:
        answer["notes"] += _examine(embedding, file.parent, model, is_fixed=doctor == "fix")
    return answer


def _examine(embedding: Embedding, folder: Path, model: CheckpointModel | None, *, is_fixed: bool) -> list[str]:
    """What is wrong with an embedding, and where the fixed copy is, if there is one. One sentence each."""
    from lib_embedmerge.recipes.doctor import find_flaws, fix, name_copy

    flaws = find_flaws(embedding, model)
    sentences = [flaw.sentence for flaw in flaws]
    if is_fixed and any(flaw.can_be_fixed for flaw in flaws):
        path = fix(embedding, name_copy(embedding.name), model).save(folder)
        sentences.append(f"A copy without this was saved as {path}.")
    return sentences


def list_folder(folder: Path, open_model: Callable[[], CheckpointModel] | None = None) -> list[ListedEmbedding]:
    """Every embedding of a folder, by its header alone. With a model also whether each fits.

    open_model: called after the folder was read.
    """
    from lib_embedmerge.actions.json_answers import listing_as_json
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.recipes.listing import list_embeddings
    from lib_embedmerge.tokenizer import clip_tokenizer

    entries = list_embeddings(EmbeddingFolder(folder, clip_tokenizer()))
    return listing_as_json(entries, open_model() if open_model else None)


@dataclass(frozen=True)
class RebuildRequest:
    """The embeddings to rebuild, and the checkpoints to rebuild them for.

    paths: embedding files, or folders of them.
    embeddings: a folder of embeddings that recipes may name.
    folder: where variants are written, None for the folder of each embedding.  device: `cpu`, `cuda` or `auto`.
    """

    paths: Sequence[Path]
    checkpoints: Sequence[Path]
    embeddings: Path
    folder: Path | None = None
    device: str = "cpu"

    def open(self, checkpoint: Path) -> CheckpointModel:
        """One of the checkpoints."""
        from lib_embedmerge.facade import open_checkpoint

        return open_checkpoint(checkpoint, embeddings=self.embeddings, device=self.device)


def rebuild(request: RebuildRequest, progress: Progress | None = None) -> Iterator[RebuildAnswer]:
    """Make variants of embeddings for other checkpoints. Yields the result of each pair as soon as it is done.

    progress: called with (pairs done, pairs in all).
    """
    from lib_embedmerge.recipes.rebuild import rebuild_for_each

    sources = list_sources(request)
    checkpoints = list(dict.fromkeys(request.checkpoints))
    results = rebuild_for_each(sources, checkpoints, request.open, request.folder)
    for done, (checkpoint, rebuilt) in enumerate(results, 1):
        if progress:
            progress(done, len(sources) * len(checkpoints))
        yield rebuilt.as_json(checkpoint)


def list_sources(request: RebuildRequest) -> list[Path]:
    """The embedding files of a request, each once; those of a folder in the order of its listing."""
    from lib_embedmerge.embeddings.library import EmbeddingFolder
    from lib_embedmerge.tokenizer import clip_tokenizer

    sources: dict[Path, None] = {}
    for path in request.paths:
        sources |= dict.fromkeys(EmbeddingFolder(path, clip_tokenizer()).files() if path.is_dir() else [path])
    return list(sources)


def is_nothing_rebuilt(results: Sequence[RebuildAnswer]) -> bool:
    """Whether `rebuild` skipped all pairs."""
    from lib_embedmerge.recipes.variant_writing import SKIPPED

    return all(result["status"] == SKIPPED for result in results)


@dataclass(frozen=True)
class RecoveredFile:
    """An embedding, and the text that was recovered from it on each checkpoint."""

    embedding: Embedding
    recovered: CheckpointRecoveries

    def save(self, *, force: bool, progress: Progress | None = None) -> Path:
        """Save the recovered text as the recipe of the embedding. Returns the file that has it now.

        force: whether to save it even if the text does not give the vectors, or if there is a recipe already.
        StorageError if it is refused or the disk refuses.
        progress: called with (bytes done, bytes in all) while the model is fingerprinted.
        """
        from lib_embedmerge.facade import open_checkpoint
        from lib_embedmerge.recipes.recovery.save_recovered import save_recovered

        best = self.recovered.best
        return save_recovered(self.embedding, best, open_checkpoint(best.checkpoint), force=force, progress=progress)

    def as_json(self, file: Path | None = None) -> RecoverFileAnswer:
        """Plain values. file: where the text was saved as the recipe, if it was."""
        return {"name": self.embedding.name, **self.recovered.as_json(), "file": str(file) if file else None}


def recover(
    file: Path,
    bundled: str | None,
    checkpoints: Sequence[str],
    device: str = "cpu",
    progress: Progress | None = None,
) -> RecoveredFile:
    """Find the text, or the sum of texts, that an embedding was made from, on the checkpoint that explains it best.

    progress: called with (checkpoints done, checkpoints in all).
    """
    from functools import partial

    from lib_embedmerge.embeddings.embedding import load_embedding
    from lib_embedmerge.facade import open_checkpoint
    from lib_embedmerge.recipes.recovery.recover import recover_on_each

    embedding = load_embedding(file, bundled=bundled)
    unique = list(dict.fromkeys(checkpoints))
    models = ((path, partial(open_checkpoint, path, device=device)) for path in unique)

    def report(count: int) -> None:
        if progress:
            progress(count, len(unique))

    report(0)
    return RecoveredFile(embedding, recover_on_each(embedding, models, report))


def parse(typed: Typed, by: Grouping, model: CheckpointModel | None, embeddings: Path | None) -> ParseAnswer:
    """How a text is read: its kind, its canonical form, and its parts with their token ids.

    model: the model whose tokens and embeddings are used, None for any SDXL model.
    embeddings: without a model, a folder of embeddings that the text may name.
    """
    from lib_embedmerge.actions.json_answers import parsed_as_json

    return parsed_as_json(typed, _make_outliner(model, embeddings), by, model)


def _make_outliner(model: CheckpointModel | None, embeddings: Path | None) -> Outliner:
    from lib_embedmerge.core.outliners import make_outliner, make_outliner_without_model

    if model is not None:
        return make_outliner(model)
    from lib_embedmerge.tokenizer import clip_tokenizer

    if embeddings is None:
        return make_outliner_without_model(clip_tokenizer())
    from lib_embedmerge.embeddings.library import EmbeddingFolder

    return make_outliner_without_model(clip_tokenizer(), EmbeddingFolder(embeddings, clip_tokenizer()))


def describe_checkpoint(model: CheckpointModel, progress: Progress | None = None) -> InfoAnswer:
    """The facts in a checkpoint's file, and the fingerprints of its text encoders.

    progress: called with (bytes done, bytes in all) while the model is fingerprinted.
    """
    from lib_embedmerge.core.statistics import finite_or_none

    fingerprints = model.fingerprints(progress)
    facts = model.facts
    return {
        "title": facts.title,
        "file": str(model.path),
        "layout": facts.layout,
        "architecture": facts.architecture.name,
        "variant": facts.variant,
        "prediction_type": facts.prediction_type,
        "zero_terminal_snr": facts.zero_terminal_snr,
        "text_encoder_files": list(facts.text_encoder_files),
        "encoders": {
            encoder.key: {
                "width": encoder.width,
                "vocabulary_size": encoder.vocabulary_size,
                "mean_length": finite_or_none(fingerprints[encoder.key].mean_length),
                "token_table": fingerprints[encoder.key].token_table,
                "text_encoder": fingerprints[encoder.key].text_encoder,
            }
            for encoder in model.encoders
        },
        "warnings": [*facts.warnings, *model.list_broken_parts()],
    }


def is_checkpoint(path: Path) -> bool:
    """Whether a file can be opened as a checkpoint."""
    from lib_embedmerge.facade import open_checkpoint

    try:
        open_checkpoint(path)
    except CheckpointError:
        return False
    return True


def is_embedding(path: Path) -> bool:
    """Whether a file can be loaded as an embedding."""
    from lib_embedmerge.embeddings.embedding import load_embedding

    try:
        load_embedding(path)
    except StorageError:
        return False
    return True
