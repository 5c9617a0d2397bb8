"""Compress, port and repair embeddings: what the faces ask for, and the files that come of it.

The searches are in checkpoints/ (compressing, porting, repairing). A file is written only at the end, in one piece.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.optimised_files import Result, Target, save_result
from lib_embedmerge.actions.typed_input import read_to_build
from lib_embedmerge.core.architecture import MAX_VECTORS
from lib_embedmerge.core.arrays import Array, require_torch, to_numpy
from lib_embedmerge.core.evaluate import evaluate
from lib_embedmerge.core.staged_progress import StagedProgress
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import ExpressionError, StorageError, format_count, quote
from lib_embedmerge.lang.choices import Attention, ReadAs
from lib_embedmerge.lang.source import parse
from lib_embedmerge.recipes.rebuild import make_variant_name
from lib_embedmerge.recipes.recovery.recover import recover
from lib_embedmerge.recipes.recovery.row_matches import RowMatches
from lib_embedmerge.recipes.recovery.source_printing import Speller, print_segments

if TYPE_CHECKING:
    from lib_embedmerge.core.optimising_answers import OptimisedAnswer
    from lib_embedmerge.core.ports import Progress
    from lib_embedmerge.facade import CheckpointModel

COMPRESS = (
    "What the cross-attentions read from all positions, asked with fixed random queries, in several prompts: 0 is the "
    "same as with all vectors, 1 as little as without any."
)
PORT = (
    "The states of this model in several prompts that common words predict, as its cross-attentions read them: 0 is "
    "the same as predicted, 1 as far as without the embedding."
)
PORT_OF_TEXT = "All vectors are rows of the first model, so its text was made again: this is exact."
REPAIR = (
    "How much the embedding changes what the cross-attentions read of the other words of a prompt: 1 is as much as "
    "usual words do."
)


@dataclass(frozen=True)
class CompressRequest:
    """What to compress. source: a text, or None.  file: an embedding, if there is no text.  count: of the new vectors.

    steps: of the search, None for the usual number.
    """

    target: Target
    count: int
    source: str | None = None
    file: Path | None = None
    seed: int = 0
    attention: Attention = "drop"
    read_as: ReadAs = "auto"
    steps: int | None = None


def compress(model: CheckpointModel, request: CompressRequest, progress: Progress | None = None) -> OptimisedAnswer:
    """Compress a text or an embedding into fewer vectors, and save it. If pruning is as good, the pruned text is saved.

    progress: called with (done, in all). An exception that it raises ends the work; nothing is written then.
    ExpressionError or StorageError for a source or a file that cannot be used, TakenError if the file exists,
    CheckpointError if the model cannot be run or has no U-Net.
    """
    started = time.monotonic()
    require_torch("Compressing embeddings is")
    from lib_embedmerge.checkpoints.compressing import AVERAGED, CUT, PRUNED, STEPS, Compressor

    _check_count(request.count)
    block, of, metadata = _read_source(model, request)
    full = len(next(iter(block.values())))
    name = _name_compressed(request)
    request.target.check(name, model.facts.architecture)
    stages = StagedProgress(progress, (1, 1, 8))
    model.fingerprints(stages.stage(0))
    compressor = Compressor(model, request.seed, stages.stage(1))
    steps = STEPS if request.steps is None else request.steps
    is_text = request.source is not None
    found = compressor.compress(block, request.count, whole=not is_text, steps=steps, progress=stages.stage(2))
    pruned = {key: to_numpy(rows)[list(found.kept)] for key, rows in block.items()}
    text = _write_as_text(pruned, model) if found.is_pruning_as_good else None
    baselines = {kind: found.baselines[kind] for kind in (CUT, PRUNED, AVERAGED)}
    result = Result(
        name,
        pruned if text else found.vectors,
        "compress",
        COMPRESS,
        baselines[PRUNED] if text else found.error,
        baselines,
        of,
        full,
        recipe=text,
        metadata=metadata,
        seed=request.seed,
        notes=_describe_compression(full, request.count, text, as_good=found.is_pruning_as_good),
    )
    return save_result(result, model, request.target, started)


@dataclass(frozen=True)
class PortRequest:
    """What to port. file: an embedding.  steps: of the search, None for the usual number."""

    target: Target
    file: Path
    steps: int | None = None


def port(
    a: CheckpointModel, b: CheckpointModel, request: PortRequest, progress: Progress | None = None
) -> OptimisedAnswer:
    """Carry an embedding from model A to model B, and save it. Arguments and errors as for `compress`."""
    started = time.monotonic()
    require_torch("Porting embeddings is")
    embedding = load_embedding(request.file)
    _check_fits(embedding, a)
    _check_fits(embedding, b)
    name = request.target.name or make_variant_name(embedding.name, b)
    request.target.check(name, b.facts.architecture)
    stages = StagedProgress(progress, (1, 2, 3, 6))
    b.fingerprints(stages.stage(0))
    recovery = recover(embedding, a)
    stages.stage(1)(1, 1)
    if recovery.is_text:
        made = evaluate(parse(recovery.expression), b)
        result = Result(
            name, made, "port", PORT_OF_TEXT, 0.0, {}, embedding.name, embedding.count, recipe=recovery.expression,
            metadata=embedding.metadata, notes=("Every vector is text: the file has its recipe.",),
        )  # fmt: skip
        return save_result(result, b, request.target, started)
    from lib_embedmerge.checkpoints.porting import LEAST_SCORE, STEPS, Porter

    free = [index for index, vector in enumerate(recovery.vectors) if vector.token is None]
    known = {key: rows.copy() for key, rows in embedding.vectors.items()}
    for encoder in b.encoders:
        for index, vector in enumerate(recovery.vectors):
            if vector.token is not None:
                known[encoder.key][index] = to_numpy(encoder.vectors([vector.token]))[0] * vector.stretch
    porter = Porter(a, b, progress=stages.stage(2))
    steps = STEPS if request.steps is None else request.steps
    found = porter.port(embedding.vectors, known, free, steps=steps, progress=stages.stage(3))
    notes = [_describe_map(porter.start, porter.map.score, moved=porter.map.score >= LEAST_SCORE)]
    if known_count := embedding.count - len(free):
        notes.append(f"{format_count(known_count, 'vector')} of {embedding.count} are text, and exact.")
    result = Result(
        name, found.vectors, "port", PORT, found.error, found.baselines, embedding.name, embedding.count,
        metadata=embedding.metadata, notes=tuple(notes),
    )  # fmt: skip
    return save_result(result, b, request.target, started)


@dataclass(frozen=True)
class RepairRequest:
    """What to repair. file: an embedding.  steps: of the search, None for the usual number."""

    target: Target
    file: Path
    steps: int | None = None


def repair(model: CheckpointModel, request: RepairRequest, progress: Progress | None = None) -> OptimisedAnswer:
    """Repair an embedding that drowns its prompts, and save a copy. Arguments and errors as for `compress`."""
    started = time.monotonic()
    require_torch("Repairing embeddings is")
    from lib_embedmerge.checkpoints.repairing import STEPS, Repairer

    embedding = load_embedding(request.file)
    _check_fits(embedding, model)
    name = request.target.name or f"{embedding.name}-repaired"
    request.target.check(name, model.facts.architecture)
    stages = StagedProgress(progress, (1, 2, 6))
    model.fingerprints(stages.stage(0))
    repairer = Repairer(model, stages.stage(1))
    steps = STEPS if request.steps is None else request.steps
    found = repairer.repair(embedding.vectors, steps=steps, progress=stages.stage(2))
    notes = [f"The mean cosine of its vectors with what they were is {found.cosine:.2f}."]
    if not found.was_needed:
        notes.insert(0, "It hardly drowns its prompts, so there was little to repair.")
    result = Result(
        name, found.vectors, "repair", REPAIR, found.disturbance, found.baselines, embedding.name, embedding.count,
        metadata=embedding.metadata, notes=tuple(notes),
    )  # fmt: skip
    return save_result(result, model, request.target, started)


def _read_source(
    model: CheckpointModel, request: CompressRequest
) -> tuple[Mapping[str, Array], str, Mapping[str, str]]:
    """(vectors, the text or the name of the embedding, the metadata of the embedding)."""
    if request.source is not None:
        typed = read_to_build(request.source, request.attention, request.read_as)
        block = evaluate(typed.parsed, model, limit=None)
        if not len(next(iter(block.values()))):
            raise StorageError("The text has no vectors.", hint="Give a text with words.")
        return block, request.source, {}
    if request.file is None:
        raise StorageError("There is nothing to compress.", hint="Give a text or an embedding.")
    embedding = load_embedding(request.file)
    _check_fits(embedding, model)
    return embedding.vectors, embedding.name, embedding.metadata


def _name_compressed(request: CompressRequest) -> str:
    if request.target.name:
        return request.target.name
    if request.file is None:
        raise StorageError("The embedding needs a name.", hint="Give one.")
    return f"{load_embedding(request.file).name}-{request.count}"


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_VECTORS:
        message = f"An embedding has 1 to {MAX_VECTORS} vectors, not {count}."
        raise StorageError(message, hint="Web UIs read prompts in chunks of that size.")


def _check_fits(embedding: Embedding, model: CheckpointModel) -> None:
    """StorageError if an embedding is of another architecture than a model."""
    if embedding.architecture != model.facts.architecture:
        message = (
            f"{quote(embedding.name)} is for {embedding.architecture.title}; {model.facts.title} is a model of "
            f"{model.facts.architecture.title}."
        )
        raise StorageError(message, hint="Use models of its own architecture, or convert it.")


def _write_as_text(vectors: Mapping[str, Array], model: CheckpointModel) -> str | None:
    """A source that gives vectors which are rows of the model; None if they are not all rows."""
    segments = RowMatches({key: to_numpy(rows) for key, rows in vectors.items()}, model).find_segments()
    if segments is None:
        return None
    try:
        return print_segments(segments, model, Speller(model))
    except ExpressionError:
        return None


def _describe_map(start: str, score: float, *, moved: bool) -> str:
    """What common words predict of the other model, in one or two sentences."""
    began = {
        "identity": "No map of the rows of common words holds for other words, so the same vectors are the best guess.",
        "procrustes": "A turn that fits the rows of common words holds for other words, too.",
        "ridge": "A linear map that fits the rows of common words holds for other words, too.",
    }[start]
    if not moved:
        return f"{began} Nothing better could be predicted from states (R² {score:.2f})."
    return f"{began} What other words change beyond that is predicted from states, with an R² of {score:.2f}."


def _describe_compression(full: int, count: int, text: str | None, *, as_good: bool) -> tuple[str, ...]:
    if full <= count:
        return (f"The source has {format_count(full, 'vector')}, so nothing is left out.",)
    if text is not None:
        return ("Leaving out the words that matter least is as good, so that text was saved. It has a recipe.",)
    if as_good:
        return ("Leaving out the vectors that matter least is as good. They are not text, so they have no recipe.",)
    return ("It has no recipe: it fits only the model that it was made for.",)
