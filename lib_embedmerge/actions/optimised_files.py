"""Files of embeddings whose vectors were improved, and the answers about them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.core.arrays import Array, to_numpy
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.core.statistics import finite_or_none
from lib_embedmerge.embeddings.embedding import Embedding, check_not_existing
from lib_embedmerge.embeddings.tag_writing import Origin, retag

if TYPE_CHECKING:
    from lib_embedmerge.core.optimising_answers import HeldOutAnswer, OptimisedAnswer
    from lib_embedmerge.facade import CheckpointModel


@dataclass(frozen=True)
class Target:
    """Where the result is written.

    folder: its folder.  name: of the embedding; None for one that is made of the original's.
    overwrite: whether an existing file is replaced.
    """

    folder: Path
    name: str | None = None
    overwrite: bool = False

    def check(self, name: str) -> None:
        """TakenError if the file exists and is not to be replaced, before any work is done."""
        if not self.overwrite:
            check_not_existing(self.folder / (name + SUFFIX))


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
    file = made.save(target.folder, overwrite=target.overwrite)
    return {
        "file": str(file),
        "vectors": made.count,
        "objective": result.objective,
        "held_out": held_out,
        "seconds": round(time.monotonic() - started, 3),
        "notes": list(result.notes),
    }
