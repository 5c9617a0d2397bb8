"""What each route does: the actions of the tab and the command line, and their plain values as answers.

These are plain functions, which fastapi runs in threads of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Query

from lib_embedmerge.actions.jobs import JOBS
from lib_embedmerge.api.guard import Answer
from lib_embedmerge.api.named_files import checkpoint_file, checkpoint_files, embedding_file, embedding_files
from lib_embedmerge.api.refused_requests import WRONG, RefusedError
from lib_embedmerge.api.schemas import (
    CHECKPOINT,
    EMBEDDING,
    BuildRequest,
    CompareRequest,
    ParseRequest,
    RebuildRequest,
    RecoverRequest,
)
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.core.ports import Model


class Routes:
    """The API of a host. host: gives it; asked at each call, so that it is made when it is first needed."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host

    def parse(self, request: ParseRequest) -> Answer:
        """The kind of text, its usual spelling, and its parts with their token ids, as the active model reads them."""
        from lib_embedmerge.actions.json_answers import parsed_as_json
        from lib_embedmerge.hosts.host_outliners import find_active_model, make_host_outliner
        from lib_embedmerge.lang.typed import read_typed

        typed = read_typed(request.source, request.attention, request.read_as)
        host = self._host()
        return Answer(parsed_as_json(typed, make_host_outliner(host, find_active_model(host)), request.by))

    def build(self, request: BuildRequest) -> Answer:
        """Build on the active model and save into the embeddings folder. With `split` the answer is a list."""
        from lib_embedmerge.actions.json_answers import saved_as_json
        from lib_embedmerge.actions.saving import existing_error, save
        from lib_embedmerge.actions.values import SaveRequest

        done = save(self._host(), SaveRequest(**{name: getattr(request, name) for name in _SAVED}))
        if done.existing:
            raise existing_error(done)
        made = [saved_as_json(file, done.kind) for file in done.files]
        return Answer(made if request.split else made[0])

    def show(
        self,
        embedding: str = Query(..., description=EMBEDDING),
        checkpoint: str | None = Query(None, description=f"Leave it out for the active model. {CHECKPOINT}"),
        nearest: int = Query(3, ge=0, le=100, description="How many nearest tokens to list for each vector."),
    ) -> Answer:
        """Statistics and metadata, the nearest tokens of each vector, and how the embedding fits a model."""
        from lib_embedmerge.actions.json_answers import embedding_as_json
        from lib_embedmerge.embeddings.embedding import load_embedding
        from lib_embedmerge.hosts.host_outliners import find_active_model

        host = self._host()
        found = load_embedding(embedding_file(host, embedding))
        model = find_active_model(host) if checkpoint is None else _model(host, checkpoint)
        return Answer(embedding_as_json(found, model, nearest))

    def list_all(
        self,
        *,
        fit: bool = Query(default=False, description="Whether to say how each embedding fits the active model."),
        checkpoint: str | None = Query(None, description=f"Say how each embedding fits this checkpoint. {CHECKPOINT}"),
    ) -> Answer:
        """Every embedding file. Vectors are read only if `fit` or `checkpoint` is given."""
        from lib_embedmerge.actions.json_answers import listing_as_json
        from lib_embedmerge.recipes.listing import list_embeddings

        host = self._host()
        model = _model(host, checkpoint) if fit or checkpoint is not None else None
        return Answer(listing_as_json(list_embeddings(host.library()), model))

    def rebuild(self, request: RebuildRequest) -> Answer:
        """Rebuild embeddings for other checkpoints in the background. Only one such job runs at a time."""
        host = self._host()
        checkpoints = checkpoint_files(host, request.checkpoints)
        if not request.embeddings:
            raise RefusedError(WRONG, "No embedding is given.", hint="Give a list of embeddings, or `all`.")
        return Answer({"job": JOBS.start(host, embedding_files(host, request.embeddings), checkpoints)})

    def progress(
        self, job: str, after: int = Query(0, ge=0, description="Skip this many of the first results.")
    ) -> Answer:
        """The progress of a rebuild, and the result for each pair so far."""
        return Answer(JOBS.get(job).state().as_json(after))

    def cancel(self, job: str) -> Answer:
        """Stop a rebuild before its next file. Files that are written stay."""
        found = JOBS.get(job)
        found.cancel()
        return Answer(found.state().as_json())

    def recover(self, request: RecoverRequest) -> Answer:
        """The text, or the sum of texts, that an embedding is made of, on the checkpoint that explains it best."""
        from lib_embedmerge.embeddings.embedding import load_embedding
        from lib_embedmerge.recipes.recovery.recover import recover_on_each

        host = self._host()
        embedding = load_embedding(embedding_file(host, request.embedding))
        found = recover_on_each(embedding, _openers(host, request.checkpoints))
        return Answer({"name": embedding.name, **found.as_json()})

    def compare(self, request: CompareRequest) -> Answer:
        """How token tables, layers and the outputs for a text or an embedding differ. One answer for each pair."""
        from lib_embedmerge.actions import comparing

        host = self._host()
        paths = checkpoint_files(host, request.checkpoints)
        embedding = None if request.embedding is None else embedding_file(host, request.embedding)
        wanted = comparing.CompareRequest(request.source, embedding, host.library())
        return Answer([pair.as_json() for pair in comparing.compare_models(paths, wanted)])


_SAVED = ("source", "name", "notes", "negative", "dtype", "split", "overwrite", "attention", "read_as", "follow")


def _open(host: Host, path: Path) -> Model:
    from lib_embedmerge.checkpoints.model import open_checkpoint

    return open_checkpoint(path, embeddings=host.library())


def _model(host: Host, checkpoint: str | None) -> Model:
    """The checkpoint that is named, or the active model."""
    return host.active().model if checkpoint is None else _open(host, checkpoint_file(host, checkpoint))


def _openers(host: Host, checkpoints: Sequence[str] | None) -> Iterator[tuple[str, Callable[[], Model]]]:
    """What models are called, and what opens them."""
    if checkpoints is None:
        model = host.active().model
        yield model.facts.title, lambda: model
        return
    for path in checkpoint_files(host, checkpoints):
        yield str(path), partial(_open, host, path)
