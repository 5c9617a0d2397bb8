"""The functions of the routes. They call the actions of the tab and the command line, and answer their plain values.

They are not async, so fastapi runs each call in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Query

from lib_embedmerge.actions.jobs import JOBS
from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS
from lib_embedmerge.api.guard import AsciiJson
from lib_embedmerge.api.named_files import (
    find_checkpoint_file,
    find_checkpoint_files,
    find_embedding_file,
    find_embedding_files,
)
from lib_embedmerge.api.refused_requests import WRONG, RefusedError
from lib_embedmerge.api.schemas import (
    CHECKPOINT,
    EMBEDDING,
    BuildRequest,
    CompareRequest,
    ConvertRequest,
    ParseRequest,
    RebuildRequest,
    RecoverRequest,
    RestoreLibraryRequest,
)
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model


class Routes:
    """The routes for a host. host: returns the host; called at each request, so that it is made when needed."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host

    def parse(self, request: ParseRequest) -> AsciiJson:
        """The kind of text, its usual spelling, and its parts with their token ids, as the active model reads them."""
        from lib_embedmerge.actions.json_answers import parsed_as_json
        from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
        from lib_embedmerge.lang.typed import read_typed

        typed = read_typed(request.source, request.attention, request.read_as)
        host = self._host()
        return AsciiJson(parsed_as_json(typed, make_host_outliner(host, find_active_model(host)), request.by))

    def build(self, request: BuildRequest) -> AsciiJson:
        """Build on the active model and save into the embeddings folder. With `split` the answer is a list."""
        from lib_embedmerge.actions.json_answers import saved_as_json
        from lib_embedmerge.actions.saving import make_existing_error, save
        from lib_embedmerge.actions.saving_values import SaveRequest

        saved = save(self._host(), SaveRequest(**dict(request)))
        if saved.existing:
            raise make_existing_error(saved)
        builds = [saved_as_json(file, saved.kind) for file in saved.files]
        return AsciiJson(builds if request.split else builds[0])

    def show(
        self,
        embedding: str = Query(..., description=EMBEDDING),
        checkpoint: str | None = Query(None, description=f"Leave it out for the active model. {CHECKPOINT}"),
        nearest: int = Query(3, ge=0, le=100, description="How many nearest tokens to list for each vector."),
    ) -> AsciiJson:
        """Statistics and metadata, the nearest tokens of each vector, and how the embedding fits a model."""
        from lib_embedmerge.actions.json_answers import embedding_as_json
        from lib_embedmerge.embeddings.embedding import load_embedding
        from lib_embedmerge.hosts.host_outliners import find_active_model

        host = self._host()
        loaded = load_embedding(find_embedding_file(host, embedding))
        model = find_active_model(host) if checkpoint is None else _find_model(host, checkpoint)
        return AsciiJson(embedding_as_json(loaded, model, nearest))

    def list_all(
        self,
        *,
        fit: bool = Query(default=False, description="Whether to say how each embedding fits the active model."),
        checkpoint: str | None = Query(None, description=f"Say how each embedding fits this checkpoint. {CHECKPOINT}"),
    ) -> AsciiJson:
        """Every embedding file. Vectors are read only if `fit` or `checkpoint` is given."""
        from lib_embedmerge.actions.json_answers import listing_as_json
        from lib_embedmerge.recipes.listing import list_embeddings

        host = self._host()
        model = _find_model(host, checkpoint) if fit or checkpoint is not None else None
        return AsciiJson(listing_as_json(list_embeddings(host.library()), model))

    def rebuild(self, request: RebuildRequest) -> AsciiJson:
        """Rebuild embeddings for other checkpoints in the background. Only one such job runs at a time."""
        host = self._host()
        checkpoints = find_checkpoint_files(host, request.checkpoints)
        if not request.embeddings:
            raise RefusedError(WRONG, "No embedding is given.", hint="Give a list of embeddings, or `all`.")
        return AsciiJson({"job": JOBS.start(host, find_embedding_files(host, request.embeddings), checkpoints)})

    def progress(
        self, job: str, after: int = Query(0, ge=0, description="Skip this many of the first results.")
    ) -> AsciiJson:
        """The progress of a rebuild, and the result for each pair so far."""
        return AsciiJson(JOBS.get(job).state().as_json(after))

    def cancel(self, job: str) -> AsciiJson:
        """Stop a rebuild before its next file. Files that are written stay."""
        rebuild = JOBS.get(job)
        rebuild.cancel()
        return AsciiJson(rebuild.state().as_json())

    def recover(self, request: RecoverRequest) -> AsciiJson:
        """The text, or the sum of texts, that an embedding is made of, on the checkpoint that explains it best."""
        from lib_embedmerge.embeddings.embedding import load_embedding
        from lib_embedmerge.recipes.recovery.recover import recover_on_each

        host = self._host()
        embedding = load_embedding(find_embedding_file(host, request.embedding))
        models = list(_list_openers(host, request.checkpoints))
        if request.background:
            return AsciiJson({"job": LIBRARY_JOBS.recover(host, embedding, models)})
        return AsciiJson({"name": embedding.name, **recover_on_each(embedding, models).as_json()})

    def convert(self, request: ConvertRequest) -> AsciiJson:
        """Make embeddings for a model of another architecture, in the background."""
        from lib_embedmerge.actions.carrying_files import CarryRequest

        host = self._host()
        checkpoint = find_checkpoint_file(host, request.checkpoint)
        naming = None if request.named_by is None else find_checkpoint_file(host, request.named_by)
        files = find_embedding_files(host, request.embeddings)
        wanted = CarryRequest(files, request.to, replace=request.overwrite, only_shared=request.only_shared)
        return AsciiJson({"job": LIBRARY_JOBS.carry(host, wanted, checkpoint, naming)})

    def restore(self, request: RestoreLibraryRequest) -> AsciiJson:
        """Find the texts of embeddings, and write them unless it is a dry run, in the background."""
        from lib_embedmerge.actions.restoring_folders import RestoreRequest, RestoreWishes

        host = self._host()
        checkpoints = find_checkpoint_files(host, request.checkpoints)
        if not request.embeddings:
            raise RefusedError(WRONG, "No embedding is given.", hint="Give a list of embeddings, or `all`.")
        files = find_embedding_files(host, request.embeddings)
        wishes = RestoreWishes(only_sure=request.only_sure)
        return AsciiJson(
            {"job": LIBRARY_JOBS.restore(host, RestoreRequest(files, checkpoints, wishes, request.dry_run))}
        )

    def library_progress(
        self, job: str, after: int = Query(0, ge=0, description="Skip this many of the first results.")
    ) -> AsciiJson:
        """The progress, and the answer for each file so far."""
        return AsciiJson(LIBRARY_JOBS.get(job).state().as_json(after))

    def cancel_library(self, job: str) -> AsciiJson:
        """Stop before the next file. Files that are written stay."""
        running = LIBRARY_JOBS.get(job)
        running.cancel()
        return AsciiJson(running.state().as_json())

    def compare(self, request: CompareRequest) -> AsciiJson:
        """How token tables, layers and the outputs for a text or an embedding differ. One answer for each pair."""
        from lib_embedmerge.actions import comparing

        host = self._host()
        paths = find_checkpoint_files(host, request.checkpoints)
        embedding = None if request.embedding is None else find_embedding_file(host, request.embedding)
        comparison = comparing.CompareRequest(request.source, embedding, host.library())
        return AsciiJson([pair.as_json() for pair in comparing.compare_models(paths, comparison)])


def _open_checkpoint(host: Host, path: Path) -> Model:
    from lib_embedmerge.checkpoints.model import open_checkpoint

    return open_checkpoint(path, embeddings=host.library())


def _find_model(host: Host, checkpoint: str | None) -> Model:
    """The model of a checkpoint, or the active model for None."""
    return host.active().model if checkpoint is None else _open_checkpoint(host, find_checkpoint_file(host, checkpoint))


def _list_openers(host: Host, checkpoints: Sequence[str] | None) -> Iterator[tuple[str, Callable[[], Model]]]:
    """For each checkpoint, or for the active model if None: its label, and a function that returns its model."""
    if checkpoints is None:
        model = host.active().model
        yield model.facts.title, lambda: model
        return
    for path in find_checkpoint_files(host, checkpoints):
        yield str(path), partial(_open_checkpoint, host, path)
