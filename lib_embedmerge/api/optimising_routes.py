"""The functions of the routes that compress, port and repair embeddings. Each starts a job in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Query

from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS
from lib_embedmerge.api.guard import AsciiJson
from lib_embedmerge.api.named_files import find_checkpoint_file, find_embedding_file
from lib_embedmerge.api.refused_requests import WRONG, RefusedError
from lib_embedmerge.api.schemas import CompressVectorsRequest, PortVectorsRequest, RepairVectorsRequest
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.optimised_files import Target


class OptimisingRoutes:
    """The routes for a host. host: returns the host; called at each request."""

    def __init__(self, host: Callable[[], Host]) -> None:
        self._host = host

    def compress(self, request: CompressVectorsRequest) -> AsciiJson:
        """Make fewer vectors that do the same as a text or an embedding, in the background."""
        from lib_embedmerge.actions.optimising import CompressRequest
        from lib_embedmerge.actions.typed_input import read_to_build

        host = self._host()
        if (request.source is None) == (request.embedding is None):
            raise RefusedError(WRONG, "Give a text or an embedding.", hint="Give one of source and embedding.")
        if request.source is not None and request.name is None:
            raise RefusedError(WRONG, "The embedding needs a name.", hint="Give a name.")
        checkpoint = find_checkpoint_file(host, request.checkpoint)
        file = None if request.embedding is None else find_embedding_file(host, request.embedding)
        if request.source is not None:
            read_to_build(request.source)  # finds mistakes before the job starts
        target = _make_target(host, request.name, overwrite=request.overwrite)
        wanted = CompressRequest(target, request.vectors, request.source, file, request.seed)
        return AsciiJson({"job": OPTIMISING_JOBS.compress(host, wanted, checkpoint)})

    def port(self, request: PortVectorsRequest) -> AsciiJson:
        """Carry an embedding to another model of the same architecture, in the background."""
        from lib_embedmerge.actions.optimising import PortRequest

        host = self._host()
        first, second = (find_checkpoint_file(host, name) for name in (request.made_for, request.to))
        file = find_embedding_file(host, request.embedding)
        wanted = PortRequest(_make_target(host, request.name, overwrite=request.overwrite), file)
        return AsciiJson({"job": OPTIMISING_JOBS.port(host, wanted, first, second)})

    def repair(self, request: RepairVectorsRequest) -> AsciiJson:
        """Repair an embedding that drowns the other words of a prompt, in the background."""
        from lib_embedmerge.actions.optimising import RepairRequest

        host = self._host()
        checkpoint = find_checkpoint_file(host, request.checkpoint)
        file = find_embedding_file(host, request.embedding)
        wanted = RepairRequest(_make_target(host, request.name, overwrite=request.overwrite), file)
        return AsciiJson({"job": OPTIMISING_JOBS.repair(host, wanted, checkpoint)})

    def progress(
        self, job: str, after: int = Query(0, ge=0, description="Skip this many of the first results.")
    ) -> AsciiJson:
        """The progress, and the result when it is done."""
        return AsciiJson(OPTIMISING_JOBS.get(job).state().as_json(after))

    def cancel(self, job: str) -> AsciiJson:
        """Stop a job. It writes nothing then."""
        running = OPTIMISING_JOBS.get(job)
        running.cancel()
        return AsciiJson(running.state().as_json())


def _make_target(host: Host, name: str | None, *, overwrite: bool) -> Target:
    from lib_embedmerge.actions.optimised_files import Target

    return Target(host.embeddings_folder, name, overwrite, host)
