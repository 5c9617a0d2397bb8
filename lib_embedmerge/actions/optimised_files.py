"""Files of embeddings whose vectors were improved, and the answers about them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.saving import check_can_save, make_existing_error, save_made
from lib_embedmerge.core.architecture import Architecture
from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.embeddings.embedding import Embedding, check_not_existing
from lib_embedmerge.embeddings.tag_writing import Origin, retag

if TYPE_CHECKING:
    from lib_embedmerge.core.optimising_answers import HeldOutAnswer, OptimisedAnswer
    from lib_embedmerge.facade import CheckpointModel
    from lib_embedmerge.hosts.port import Host


@dataclass(frozen=True)
class Target:
    """Where the result is written.

    folder: its folder.  name: of the embedding; None for one that is made of the original's.
    overwrite: whether an existing file is replaced.
    host: whose library gets the file, as if it was saved on the page Make; None for a folder alone.
    """

    folder: Path
    name: str | None = None
    overwrite: bool = False
    host: Host | None = None

    def check(self, name: str, architecture: Architecture) -> None:
        """TakenError if a file exists that is not to be replaced, before any work is done."""
        if self.host is not None:
            check_can_save(self.host, name, architecture, replace=self.overwrite)
        elif not self.overwrite:
            check_not_existing(self.folder / (name + SUFFIX))

    def save(self, embedding: Embedding) -> tuple[Path, tuple[str, ...]]:
        """The file that was written, and warnings about it. Raises as `check` does, and StorageError for the disk."""
        if self.host is None:
            return embedding.save(self.folder, overwrite=self.overwrite), ()
        saved = save_made(self.host, embedding, replace=self.overwrite)
        if saved.existing:
            raise make_existing_error(saved)
        return saved.files[0].path, saved.warnings


@dataclass(frozen=True)
class Result:
    """What is written.

    metadata: of the original, whose entries of other tools and notes are kept.  recipe: a source that makes the
    vectors, if there is one.  of: the text or the name of what it was made from, which had `of_count` vectors.
    """

    name: str
    vectors: Mapping[str, Array]
    method: str
    objective: str
    ours: float
    baselines: Mapping[str, float]
    of: str
    of_count: int
    notes: tuple[str, ...] = ()
    recipe: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None


def save_result(result: Result, model: CheckpointModel, target: Target, started: float) -> OptimisedAnswer:
    """Save the embedding, with what was done in its tag. started: the time of time.monotonic() when the work began."""
    held_out: HeldOutAnswer = {
        "ours": finite_or_none(result.ours),
        "baselines": {name: finite_or_none(value) for name, value in result.baselines.items()},
    }
    made_by: dict[str, object] = {
        "method": result.method,
        "objective": result.objective,
        "held_out": held_out,
        "of": result.of,
        "vectors": result.of_count,
    }
    if result.seed is not None:
        made_by["seed"] = result.seed
    origin = Origin(
        name=result.name,
        model=model.facts,
        date=datetime.now(timezone.utc),
        fingerprints=model.fingerprints(),
        recipe=result.recipe,
        made_by={} if result.recipe else made_by,
    )
    vectors = {key: to_numpy(rows) for key, rows in result.vectors.items()}
    made = Embedding(result.name, vectors, retag(result.metadata, origin))
    file, warnings = target.save(made)
    return {
        "file": str(file),
        "vectors": made.count,
        "objective": result.objective,
        "held_out": held_out,
        "seconds": round(time.monotonic() - started, 3),
        "notes": [*result.notes, *warnings],
    }
