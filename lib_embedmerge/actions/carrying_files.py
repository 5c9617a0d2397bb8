"""Make embeddings for models of another architecture, file by file (recipes/carrying.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.core.architecture import ARCHITECTURES
from lib_embedmerge.core.endings import SUFFIX
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.embedding import Embedding, check_not_existing, load_embedding
from lib_embedmerge.embeddings.model_notes import without_model_notes
from lib_embedmerge.embeddings.tag_writing import Origin, retag
from lib_embedmerge.errors import CheckpointError, StorageError, quote
from lib_embedmerge.recipes.carrying import Carried, carry
from lib_embedmerge.recipes.rebuild import make_variant_name
from lib_embedmerge.recipes.recovery.recovery_results import count_certainties
from lib_embedmerge.recipes.variant_writing import SKIPPED, WRITTEN

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model, Progress
    from lib_embedmerge.core.recovery_answers import CarriedAnswer


@dataclass(frozen=True)
class CarryRequest:
    """What to make, and where.

    paths: files of embeddings.  to: name of the architecture, `sdxl`, `sd1`, `sd2`.
    folder: where to write, None for the folder of each file.  name: of the embedding if there is only one.
    replace: whether existing files may be replaced.  only_shared: as for `carry`.
    """

    paths: Sequence[Path]
    to: str
    folder: Path | None = None
    name: str | None = None
    replace: bool = False
    only_shared: bool = False


def carry_files(
    request: CarryRequest,
    target: Model,
    naming: Model | None = None,
    progress: Progress | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[CarriedAnswer]:
    """Make each embedding for the target, and yield what became of it. A fault of a file is an answer.

    naming: as for `carry`.  progress: called with (files done, files in all).
    CheckpointError if the target is of another architecture than was asked for.
    """
    check_architecture(request.to, target)
    target.fingerprints()
    for done, path in enumerate(request.paths, 1):
        if is_stopped():
            return
        yield _carry_file(path, request, target, naming)
        if progress:
            progress(done, len(request.paths))


def check_architecture(name: str, target: Model) -> None:
    """CheckpointError if a model is not of the architecture with this name."""
    if target.facts.architecture.name != name:
        title = next((known.title for known in ARCHITECTURES if known.name == name), name)
        message = f"{target.facts.title} is a model of {target.facts.architecture.title}, not of {title}."
        raise CheckpointError(message, hint=f"Give a checkpoint of {title}.")


def _carry_file(path: Path, request: CarryRequest, target: Model, naming: Model | None) -> CarriedAnswer:
    nothing = count_certainties(())
    answer: CarriedAnswer = {
        "source": str(path),
        "file": None,
        "status": SKIPPED,
        "certainty": nothing,
        "checkpoint": target.facts.title,
        "verdict": None,
        "text": None,
        "warnings": [],
        "reason": None,
    }
    try:
        embedding = load_embedding(path)
        if embedding.architecture == target.facts.architecture:
            message = f"{quote(path.name)} is already for {target.facts.architecture.title}."
            raise StorageError(message, hint="To make it for another model of this architecture, rebuild it.")
        name = request.name or make_variant_name(embedding.name, target)
        folder = request.folder or path.parent
        if not request.replace:
            check_not_existing(folder / (name + SUFFIX))
        carried = carry(embedding, target, naming, only_shared=request.only_shared)
        made = Embedding(name, carried.vectors, _make_metadata(embedding, name, carried, target))
        answer["file"] = str(made.save(folder, overwrite=request.replace))
    except StorageError as error:
        answer["reason"] = error.message
        return answer
    answer["status"] = WRITTEN
    answer["certainty"] = carried.recovery.certainty
    answer["verdict"] = carried.recovery.verdict.value
    answer["text"] = carried.text
    answer["warnings"] = list(carried.notes)
    return answer


def _make_metadata(embedding: Embedding, name: str, carried: Carried, target: Model) -> dict[str, str]:
    """The tag. Vectors that are not all text are not said to be rows of the model, so they get no fingerprints."""
    origin_of = f"{embedding.path.name if embedding.path else embedding.name}: {embedding.architecture.title}"
    kept = without_model_notes(embedding.metadata)  # which are about models that cannot use the new file
    origin = Origin(
        name=name,
        model=target.facts,
        date=datetime.now(timezone.utc),
        fingerprints=target.fingerprints() if carried.text else {},
        recipe=carried.text,
    )
    return {**retag(kept, origin), keys.CONVERTED_FROM: origin_of}
