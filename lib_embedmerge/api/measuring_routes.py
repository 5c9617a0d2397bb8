"""The functions of the routes that measure effects. Each starts a job in the background."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Query

from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS
from lib_embedmerge.api.guard import AsciiJson
from lib_embedmerge.api.named_files import (
    find_checkpoint_file,
    find_checkpoint_files,
    find_embedding_file,
    find_embedding_files,
)
from lib_embedmerge.api.refused_requests import WRONG, RefusedError
from lib_embedmerge.api.schemas import MeasureEffectRequest, MeasureGroupsRequest, ShortenRequest, WeighTokensRequest
from lib_embedmerge.hosts.port import Host


class MeasuringRoutes:
    """The routes for a host. host: returns the host; called at each request."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host

    def effect(self, request: MeasureEffectRequest) -> AsciiJson:
        """Measure how differently an embedding or a text acts on several checkpoints, in the background."""
        from lib_embedmerge.actions.measuring_effect import EffectRequest

        host = self._host()
        if (request.source is None) == (request.embedding is None):
            raise RefusedError(WRONG, "Give a text or an embedding.", hint="Give one of source and embedding.")
        checkpoints = find_checkpoint_files(host, request.checkpoints)
        if len(checkpoints) < 2:
            raise RefusedError(WRONG, "An effect needs two checkpoints.", hint="Give two or more.")
        if request.source is not None:
            _check(request.source)
        embedding = None if request.embedding is None else find_embedding_file(host, request.embedding)
        wanted = EffectRequest(request.source, embedding, request.remake, host.library(), request.clip_skip)
        return AsciiJson({"job": MEASURING_JOBS.effect(host, checkpoints, wanted)})

    def groups(self, request: MeasureGroupsRequest) -> AsciiJson:
        """Find out which checkpoints can share a file, in the background."""
        from lib_embedmerge.actions.grouping_models import GroupsRequest

        host = self._host()
        checkpoints = find_checkpoint_files(host, request.checkpoints)
        for word in request.words:
            _check(word)
        wanted = GroupsRequest(
            files=find_embedding_files(host, request.embeddings),
            words=request.words,
            by=request.by,
            limit=request.limit,
            embeddings=host.library(),
            clip_skip=request.clip_skip,
        )
        named = {str(path): path for path in checkpoints}
        return AsciiJson({"job": MEASURING_JOBS.groups(host, named, wanted)})

    def tokens(self, request: WeighTokensRequest) -> AsciiJson:
        """Measure what each token of a text matters on a checkpoint, in the background."""
        from lib_embedmerge.actions.measuring_effect import EffectRequest

        host = self._host()
        checkpoint = find_checkpoint_file(host, request.checkpoint)
        _check(request.source)
        wanted = EffectRequest(embeddings=host.library(), clip_skip=request.clip_skip)
        return AsciiJson({"job": MEASURING_JOBS.tokens(host, request.source, checkpoint, wanted)})

    def shorten(self, request: ShortenRequest) -> AsciiJson:
        """Leave out of a prompt what matters least on a checkpoint, in the background."""
        from lib_embedmerge.actions.measuring_effect import EffectRequest

        host = self._host()
        checkpoint = find_checkpoint_file(host, request.checkpoint)
        _check(request.source)
        wanted = EffectRequest(embeddings=host.library(), clip_skip=request.clip_skip)
        return AsciiJson({"job": MEASURING_JOBS.shorten(host, request.source, checkpoint, request.vectors, wanted)})

    def progress(
        self, job: str, after: int = Query(0, ge=0, description="Skip this many of the first results.")
    ) -> AsciiJson:
        """The progress, counted in values that were read, and the results when it is done."""
        return AsciiJson(MEASURING_JOBS.get(job).state().as_json(after))

    def cancel(self, job: str) -> AsciiJson:
        """Stop a measurement. It has no results then."""
        running = MEASURING_JOBS.get(job)
        running.cancel()
        return AsciiJson(running.state().as_json())


def _check(source: str) -> None:
    """ExpressionError, with its place, for the first mistake in a text, before a job starts."""
    from lib_embedmerge.lang.typed import read_typed

    read_typed(source)
