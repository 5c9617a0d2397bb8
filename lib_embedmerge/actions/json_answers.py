"""The JSON answers of the command line and the HTTP API about embeddings and sources, as plain values.

Values that are a whole answer have a method `as_json` instead. Heavy imports are inside the functions, so that parsing
a source does not import numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib_embedmerge.core.calling import list_calls

if TYPE_CHECKING:
    from lib_embedmerge.actions.saving_values import SavedFile
    from lib_embedmerge.core.answers import (
        BuildAnswer,
        ListedEmbedding,
        ModelNoteAnswer,
        ParseAnswer,
        ShowAnswer,
        ShownEncoder,
        SidecarAnswer,
    )
    from lib_embedmerge.core.groupings import Grouping
    from lib_embedmerge.core.outline import Outliner
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.embeddings.embedding import Embedding
    from lib_embedmerge.embeddings.sidecars import SidecarFacts
    from lib_embedmerge.embeddings.tag import ModelTag
    from lib_embedmerge.lang.source import Source
    from lib_embedmerge.lang.typed import Typed
    from lib_embedmerge.recipes.listing import Entry, FileFit

Json = dict[str, Any]


def parsed_as_json(typed: Typed, outliner: Outliner, by: Grouping, model: Model | None = None) -> ParseAnswer:
    """How a typed text is read: its kind, canonical form, parts and warnings.

    model: the model whose embeddings the outliner finds; with it there are warnings about embeddings of other models.
    EvaluationError, with its position in the typed text, if the text has no meaning.
    """
    from lib_embedmerge.core.parts import find_parts
    from lib_embedmerge.errors import ExpressionError
    from lib_embedmerge.lang.prompt_notes import find_prompt_notes

    read = typed.parsed
    try:
        count, parts = len(outliner.outline(read)), find_parts(read, outliner, by)
    except ExpressionError as error:
        raise typed.map_error(error) from error
    return {
        "kind": typed.kind,
        "source": typed.source,
        "canonical": read.canonical,
        "meant": typed.meant.source if typed.meant else None,
        "vectors": count,
        "by": by,
        "parts": [part.as_json() for part in parts],
        "warnings": [*typed.all_remarks, *find_prompt_notes(read), *describe_mixed_models(read, outliner, model)],
    }


def describe_mixed_models(read: Source, outliner: Outliner, model: Model | None) -> list[str]:
    """A sentence for each embedding in a source that was made for another model.

    Empty without a model, or if its fingerprints are not known yet: measuring them would delay answers while typing.
    """
    texts = outliner.texts
    if model is None or not texts.find_names(read.texts()) or not model.has_fingerprints:
        return []
    from lib_embedmerge.recipes.foreign_embeddings import find_foreign_embeddings  # which needs numpy

    return [mixed.sentence for mixed in find_foreign_embeddings(read, [texts], model)]


def saved_as_json(file: SavedFile, kind: str) -> BuildAnswer:
    """The answer about an embedding that was built and saved. kind: whether the text was an expression or a prompt."""
    return {
        "file": str(file.path),
        "name": file.name,
        "kind": kind,
        "source": file.source,
        "vectors": file.vectors,
        "calls": list_calls(file.name),
        "encoders": {key: {"width": width, "mean_length": length} for key, (width, length) in file.encoders.items()},
        "tag": dict(file.tag),
        "warnings": list(file.warnings),
    }


def embedding_as_json(embedding: Embedding, model: Model | None, nearest: int) -> ShowAnswer:
    """Figures and tag of an embedding. With a model also `nearest` tokens of each vector, and whether it fits.

    CheckpointError if the model's file cannot be read.
    """
    from lib_embedmerge.core.statistics import measure_vector
    from lib_embedmerge.embeddings.conversion import suggest_name
    from lib_embedmerge.embeddings.sidecars import read_sidecars
    from lib_embedmerge.recipes.fit import measure_fit

    fit = measure_fit(embedding, model) if model is not None else None
    encoders: dict[str, ShownEncoder] = {}
    for key, vectors in embedding.vectors.items():
        tokens = _find_nearest(embedding, key, model, nearest)
        rows = [{**measure_vector(row).as_json(), "nearest": near} for row, near in zip(vectors, tokens, strict=True)]
        encoders[key] = {"width": vectors.shape[1], "rows": rows}
    return {
        "name": embedding.name,
        "architecture": embedding.architecture.name,
        "vectors": embedding.count,
        "encoders": encoders,
        "metadata": dict(embedding.metadata),
        "fit": fit.as_json() if fit else None,
        "notes_by_model": notes_as_json(embedding.tag),
        "sidecar": _sidecar_as_json(read_sidecars(embedding.path)) if embedding.path else None,
        "notes": list(embedding.warnings),
        "facts": dict(embedding.facts),
        "suggested_name": suggest_name(embedding.facts.get("token")),
    }


def listing_as_json(entries: Sequence[Entry], model: Model | None) -> list[ListedEmbedding]:
    """The files of a library. With a model also whether each fits, for which vectors may be read.

    CheckpointError if the model's file cannot be read.
    """
    from lib_embedmerge.recipes.listing import measure_fits

    usable = [entry.path for entry in entries if entry.is_usable]
    fits = {file_fit.path: file_fit for file_fit in measure_fits(usable, model)} if model else {}
    return [_make_entry(entry, fits.get(entry.path)) for entry in entries]


def _make_entry(entry: Entry, file_fit: FileFit | None) -> ListedEmbedding:
    tag, fit = entry.tag, file_fit.fit if file_fit else None
    return {
        "name": entry.name,
        "file": str(entry.path),
        "vectors": entry.count,
        "architecture": entry.architecture.name if entry.architecture else None,
        "made_for": tag.made_for if tag else None,
        "recipe": tag.recipe if tag else None,
        "notes": tag.notes if tag else None,
        "notes_by_model": notes_as_json(tag),
        "sidecar": _sidecar_as_json(entry.sidecar),
        "date": entry.date or None,
        "fit": fit.as_json() if fit else None,
        "reason": file_fit.error if file_fit and file_fit.error else entry.reason,
    }


def notes_as_json(tag: ModelTag | None) -> dict[str, ModelNoteAnswer]:
    """The user's notes about single models."""
    return {name: note.as_json() for name, note in tag.notes_by_model.items()} if tag else {}


def _sidecar_as_json(facts: SidecarFacts | None) -> SidecarAnswer | None:
    return facts.as_json() if facts else None


def _find_nearest(embedding: Embedding, key: str, model: Model | None, count: int) -> list[list[Json]]:
    """For each vector its nearest tokens in the model's encoder `key`; none if the model has no such encoder."""
    encoder = next((encoder for encoder in model.encoders if encoder.key == key), None) if model else None
    if encoder is None or not count:
        return [[] for _ in embedding.vectors[key]]
    from lib_embedmerge.core.statistics import finite_or_none
    from lib_embedmerge.tokenizer.vocabulary import make_readable

    nearest = encoder.nearest(embedding.vectors[key], count)
    return [
        [
            {
                "token": near.token,
                "text": make_readable(near.token),
                "id": near.id,
                "cosine": finite_or_none(near.cosine),
            }
            for near in row
        ]
        for row in nearest
    ]
