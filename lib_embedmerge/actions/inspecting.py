"""An embedding looked at: what it says of itself, whether it fits the active model, what its vectors look like."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.figures import measure_vectors
from lib_embedmerge.actions.values import Inspection
from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.core.parts import Part
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.fit import Fit, measure_fit

if TYPE_CHECKING:
    import torch

_NEAREST = 3


def list_names(host: Host) -> tuple[str, ...]:
    """The embeddings that can be inspected by name; none where their folder is missing."""
    try:
        return host.library().names()
    except StorageError:
        return ()


def inspect_name(host: Host, name: str) -> Inspection:
    """An embedding of the library, found as in a prompt. StorageError where there is none or its file is unusable."""
    embedding = host.library().load(name)
    return _inspection(host, embedding, embedding.path)


def inspect_file(host: Host, path: Path, shown_name: str) -> Inspection:
    """A file that was dropped in and lies at `path`. StorageError where it is no sound embedding.

    shown_name: what its owner calls it. It is shown and nothing else: no file is looked for by it.
    """
    file_name = re.split(r"[/\\]", shown_name)[-1] or path.name
    try:
        embedding = load_embedding(path)
    except StorageError as error:
        raise StorageError(error.message.replace(path.name, file_name), hint=error.hint) from error
    inspection = _inspection(host, replace(embedding, name=Path(file_name).stem), None)
    return replace(inspection, file_name=file_name)


def _inspection(host: Host, embedding: Embedding, path: Path | None) -> Inspection:
    model, found, error = _fit(host, embedding)
    recipe = embedding.recipe or (found.text if found else None)
    whole = Part("embedding", embedding.name, (None,) * embedding.count, 0)
    return Inspection(
        name=embedding.name,
        file_name=embedding.path.name if embedding.path else embedding.name,
        path=path,
        architecture=embedding.architecture.title,
        count=embedding.count,
        tag=embedding.tag,
        metadata=embedding.metadata,
        fit=found,
        fit_error=error,
        recipe=recipe,
        warnings=embedding.warnings,
        facts=embedding.facts,
        encoders=measure_vectors(_of_clip(embedding), model, [whole], _NEAREST),
    )


def _of_clip(embedding: Embedding) -> dict[str, torch.Tensor]:
    """The vectors that are drawn: those for other models' encoders mean nothing beside a CLIP's."""
    return {key: rows for key, rows in embedding.vectors.items() if key in WIDTHS}


def _fit(host: Host, embedding: Embedding) -> tuple[Model | None, Fit | None, EmbedMergeError | None]:
    """The active model where its tokens can be compared with the vectors, how they fit, and why that is not known."""
    try:
        model = host.active().model
        found = measure_fit(embedding, model)
    except EmbedMergeError as error:
        return None, None, error
    return (model if model.facts.architecture == embedding.architecture else None), found, None
