"""What the command line and the HTTP API answer of embeddings and sources, as plain values: their JSON.

Values that are an answer by themselves bring their own `as_json`. Heavy imports stand inside the functions: to parse a
source needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib_embedmerge.core.calling import list_calls
from lib_embedmerge.core.texts import EmbeddingRun

if TYPE_CHECKING:
    from lib_embedmerge.actions.values import SavedFile
    from lib_embedmerge.core.answers import BuildAnswer, ListedEmbedding, ParseAnswer, ShowAnswer, ShownEncoder
    from lib_embedmerge.core.groupings import Grouping
    from lib_embedmerge.core.outline import Outliner
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.embeddings.embedding import Embedding
    from lib_embedmerge.lang.source import Source
    from lib_embedmerge.lang.typed import Typed
    from lib_embedmerge.recipes.listing import Entry, FileFit

Json = dict[str, Any]


def parsed_as_json(typed: Typed, outliner: Outliner, by: Grouping, model: Model | None = None) -> ParseAnswer:
    """How a text that was typed is read: kind, canonical spelling, parts, and what to know of it.

    model: whose embeddings the outliner finds in texts; those that were made for another one are told then.
    EvaluationError, placed in the text as typed, where it has no meaning.
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
    """What to say of the embeddings in a source that were made for another model, one sentence each; nothing without a
    model, or while its fingerprints are not known, for which nobody who types is to wait."""
    texts = outliner.texts
    names_any = any(isinstance(run, EmbeddingRun) for text in read.texts() for run in texts.runs(text))
    if model is None or not names_any or not model.has_fingerprints:
        return []
    from lib_embedmerge.recipes.foreign_embeddings import find_foreign_embeddings  # which needs torch

    return [mixed.sentence for mixed in find_foreign_embeddings(read, [texts], model)]


def saved_as_json(file: SavedFile, kind: str) -> BuildAnswer:
    """An embedding that was built from text and written to a file. kind: how the text was read."""
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
    """An embedding's figures and tag; with a model that many nearest tokens of each vector, and how it fits.

    CheckpointError where the model's file cannot be read.
    """
    from lib_embedmerge.core.statistics import measure_vector
    from lib_embedmerge.embeddings.conversion import suggest_name
    from lib_embedmerge.recipes.fit import measure_fit as fit_of

    fit = fit_of(embedding, model) if model is not None else None
    encoders: dict[str, ShownEncoder] = {}
    for key, vectors in embedding.vectors.items():
        tokens = _nearest(embedding, key, model, nearest)
        rows = [{**measure_vector(row).as_json(), "nearest": near} for row, near in zip(vectors, tokens, strict=True)]
        encoders[key] = {"width": vectors.shape[1], "rows": rows}
    return {
        "name": embedding.name,
        "architecture": embedding.architecture.name,
        "vectors": embedding.count,
        "encoders": encoders,
        "metadata": dict(embedding.metadata),
        "fit": fit.as_json() if fit else None,
        "notes": list(embedding.warnings),
        "facts": dict(embedding.facts),
        "suggested_name": suggest_name(embedding.facts.get("token")),
    }


def listing_as_json(entries: Sequence[Entry], model: Model | None) -> list[ListedEmbedding]:
    """The files of a library; with a model how each fits, for which its vectors may be read.

    CheckpointError where the model's file cannot be read.
    """
    from lib_embedmerge.recipes.listing import measure_fits

    usable = [entry.path for entry in entries if entry.is_usable]
    fits = {one.path: one for one in measure_fits(usable, model)} if model else {}
    return [_listed(entry, fits.get(entry.path)) for entry in entries]


def _listed(entry: Entry, found: FileFit | None) -> ListedEmbedding:
    tag, fit = entry.tag, found.fit if found else None
    return {
        "name": entry.name,
        "file": str(entry.path),
        "vectors": entry.count,
        "architecture": entry.architecture.name if entry.architecture else None,
        "made_for": tag.made_for if tag else None,
        "recipe": tag.recipe if tag else None,
        "notes": tag.notes if tag else None,
        "date": entry.date or None,
        "fit": fit.as_json() if fit else None,
        "reason": found.error if found and found.error else entry.reason,
    }


def _nearest(embedding: Embedding, key: str, model: Model | None, count: int) -> list[list[Json]]:
    """For each vector its nearest tokens in the model's encoder of that key; none where there is no such encoder."""
    encoder = next((encoder for encoder in model.encoders if encoder.key == key), None) if model else None
    if encoder is None or not count:
        return [[] for _ in embedding.vectors[key]]
    from lib_embedmerge.core.statistics import finite_or_none
    from lib_embedmerge.tokenizer.vocabulary import make_readable

    found = encoder.nearest(embedding.vectors[key], count)
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
        for row in found
    ]
