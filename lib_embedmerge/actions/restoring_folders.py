"""Restore folders of embeddings: find the text of each file, and write it as its recipe and for other checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.checkpoints.model import open_checkpoint
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.recipes.recovery.recovery_results import count_certainties
from lib_embedmerge.recipes.restore_writing import Restored, RestoreWishes, plan, write
from lib_embedmerge.recipes.restoring import find_texts
from lib_embedmerge.tokenizer import clip_tokenizer

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import EmbeddingNames, Model, Progress
    from lib_embedmerge.core.recovery_answers import RestoreAnswer


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, and for what.

    paths: folders of embeddings, or files.
    checkpoints: the models that name the words, and for which variants are made.
    wishes: how to write.  dry_run: whether nothing is written.  device: `cpu`, `cuda` or `auto`.
    """

    paths: Sequence[Path]
    checkpoints: Sequence[Path]
    wishes: RestoreWishes = field(default_factory=RestoreWishes)
    dry_run: bool = False
    device: str = "cpu"

    def list_sources(self) -> list[Path]:
        """The files, each once."""
        sources: dict[Path, None] = {}
        for path in self.paths:
            sources |= dict.fromkeys(EmbeddingFolder(path, clip_tokenizer()).files() if path.is_dir() else [path])
        return list(sources)


def restore(
    request: RestoreRequest,
    progress: Progress | None = None,
    embeddings: EmbeddingNames | None = None,
    on_open: Callable[[Model], None] = lambda _: None,
) -> Iterator[RestoreAnswer]:
    """Restore the files, and yield what became of each: in a dry run what would become of it.

    progress: called with (files done, files in all).  embeddings: that recipes may name.
    on_open: called with each checkpoint when it is opened.
    CheckpointError if a checkpoint cannot be read. StorageError if a folder cannot be.
    """
    models: dict[Path, Model] = {}

    def open_model(checkpoint: Path) -> Model:
        if checkpoint not in models:
            model = open_checkpoint(checkpoint, embeddings=embeddings, device=request.device)
            on_open(model)
            models[checkpoint] = model
        return models[checkpoint]

    sources = request.list_sources()
    checkpoints = list(dict.fromkeys(request.checkpoints))
    found = find_texts(sources, checkpoints, open_model, request.wishes.is_stopped)
    if request.wishes.is_stopped():
        return
    plans = plan(found, models, request.wishes)
    results = iter(plans) if request.dry_run else write(plans, models, request.wishes)
    for done, restored in enumerate(results, 1):
        yield as_answer(restored)
        if progress:
            progress(done, len(sources))


def as_answer(restored: Restored) -> RestoreAnswer:
    """Plain values."""
    found = restored.found
    return {
        "source": str(found.source),
        "verdict": found.verdict.value if found.verdict else None,
        "certainty": count_certainties(found.vectors),
        "text": found.text,
        "group": found.group,
        "written": [str(path) for path in restored.written],
        "status": restored.status,
        "reason": restored.reason,
        "planned": [str(path) for path in restored.planned],
        "checkpoint": str(found.checkpoint) if found.checkpoint else None,
        "drift": {key: drift.as_json() for key, drift in found.drift.items()},
        "warnings": list(found.warnings),
    }
