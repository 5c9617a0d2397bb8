"""Inspect an embedding: its metadata, whether it fits the active model, the figures of its vectors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.figures import measure_vectors
from lib_embedmerge.actions.managing import find_paths, make_place
from lib_embedmerge.actions.shelf import find_active_facts
from lib_embedmerge.actions.values import Inspection
from lib_embedmerge.core.architecture import WIDTHS
from lib_embedmerge.core.parts import Part
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings.embedding import Embedding, load_embedding
from lib_embedmerge.embeddings.sidecars import read_sidecars
from lib_embedmerge.errors import EmbedMergeError, StorageError
from lib_embedmerge.hosts.port import Host
from lib_embedmerge.recipes.doctor import find_flaws, name_copy
from lib_embedmerge.recipes.fit import Fit, measure_fit

if TYPE_CHECKING:
    import numpy

_NEAREST = 3


def list_names(host: Host) -> tuple[str, ...]:
    """The names of the embeddings that can be inspected; none if their folder is missing."""
    try:
        return host.library().names()
    except StorageError:
        return ()


def inspect_name(host: Host, name: str) -> Inspection:
    """Inspect an embedding of the library, found by name as in a prompt. StorageError if there is no usable one."""
    embedding = load_name(host, name)
    return _inspect(host, embedding, embedding.path)


def load_name(host: Host, name: str) -> Embedding:
    """The embedding of the library with this name, also one that only a fixed copy can be used of."""
    library = host.library()
    try:
        return library.load(name)
    except StorageError:
        return load_embedding(library.path(name), uneven=True)


def inspect_place(host: Host, place: str) -> Inspection:
    """Inspect a file of the library, also one that prompts do not find. StorageError if it cannot be used.

    place: its path in the library, as in actions/managing.py.
    """
    path = find_paths(host, [place])[0]
    return _inspect(host, load_embedding(path, uneven=True), path)


def inspect_file(host: Host, path: Path, shown_name: str) -> Inspection:
    """Inspect a dropped file. path: where it is stored now. StorageError if it is not a sound embedding.

    shown_name: the name that the user's file has. It is only shown; no file of this name is opened.
    """
    embedding, file_name = load_file(path, shown_name)
    return replace(_inspect(host, embedding, None), file_name=file_name)


def load_file(path: Path, shown_name: str) -> tuple[Embedding, str]:
    """The embedding of a dropped file, with the name that the user knows, and its file name. As in `inspect_file`."""
    file_name = re.split(r"[/\\]", shown_name)[-1] or path.name
    try:
        embedding = load_embedding(path, uneven=True)
    except StorageError as error:
        raise StorageError(error.message.replace(path.name, file_name), hint=error.hint) from error
    return replace(embedding, name=Path(file_name).stem), file_name


def find_model_for(host: Host, embedding: Embedding) -> Model | None:
    """The active model; None if there is none, or if the embedding is for another architecture."""
    try:
        model = host.active().model
    except EmbedMergeError:
        return None
    return model if model.facts.architecture == embedding.architecture else None


def _inspect(host: Host, embedding: Embedding, path: Path | None) -> Inspection:
    model, fit, error = _measure_fit(host, embedding)
    recipe = embedding.recipe or (fit.text if fit else None)
    flaws = find_flaws(embedding, model)
    whole = Part("embedding", embedding.name, (None,) * embedding.count, 0)
    return Inspection(
        name=embedding.name,
        file_name=embedding.path.name if embedding.path else embedding.name,
        path=path,
        architecture=embedding.architecture.title,
        count=embedding.count,
        tag=embedding.tag,
        metadata=embedding.metadata,
        fit=fit,
        fit_error=error,
        recipe=recipe,
        warnings=embedding.warnings,
        facts=embedding.facts,
        encoders=measure_vectors(_select_clip(embedding), model, [whole], _NEAREST),
        flaws=tuple(flaws),
        fixed_name=name_copy(embedding.name) if any(flaw.can_be_fixed for flaw in flaws) else "",
        place=make_place(host.library(), path) if path else "",
        model=find_active_facts(host),
        sidecar=read_sidecars(path) if path else None,
    )


def _select_clip(embedding: Embedding) -> dict[str, numpy.ndarray]:
    """The vectors that are shown: those for CLIP encoders. Others cannot be compared with tokens of CLIP."""
    return {key: rows for key, rows in embedding.vectors.items() if key in WIDTHS}


def _measure_fit(host: Host, embedding: Embedding) -> tuple[Model | None, Fit | None, EmbedMergeError | None]:
    """The active model, the fit, and the error if it is unknown. The model is None if the embedding is for others."""
    try:
        model = host.active().model
        fit = measure_fit(embedding, model)
    except EmbedMergeError as error:
        return None, None, error
    return (model if model.facts.architecture == embedding.architecture else None), fit, None
