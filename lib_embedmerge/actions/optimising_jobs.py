"""Compressions, ports and repairs in the background. What a job does is imported when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lib_embedmerge.actions.background_jobs import Jobs
from lib_embedmerge.actions.measuring_jobs import MeasuringJob
from lib_embedmerge.core.optimising_answers import OptimisedAnswer
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.optimising import CompressRequest, PortRequest, RepairRequest

_PAUSE = 0.002
"""Seconds that a job rests at each step, so that the threads that answer the page can work."""


class OptimisingJob(MeasuringJob):
    """Makes one file. If it is cancelled, it stops at the next step and writes nothing."""

    def __init__(self, host: Host, make: Callable[[Progress], OptimisedAnswer]) -> None:
        """make: does the work. Its argument is called as the work goes on, and raises CancelledError to end it."""
        super().__init__(host, lambda progress: [self._make_and_tell(make, progress)])

    def _make_and_tell(self, make: Callable[[Progress], OptimisedAnswer], progress: Progress) -> OptimisedAnswer:
        """The answer. The page is answered while the work goes on."""

        def report(done: int, total: int) -> None:
            time.sleep(_PAUSE)
            progress(done, total)

        return make(report)


class OptimisingJobs(Jobs[OptimisingJob]):
    """Compressions, ports and repairs by id."""

    running_message = "An embedding is already being compressed, ported or repaired."
    noun = "job"

    def compress(self, host: Host, request: CompressRequest, checkpoint: Path) -> str:
        """Start to compress, and return the id of the job. AlreadyRunningError if one is running."""

        def make(progress: Progress) -> OptimisedAnswer:
            from lib_embedmerge.actions.optimising import compress
            from lib_embedmerge.facade import open_checkpoint

            return compress(open_checkpoint(checkpoint, embeddings=host.library()), request, progress)

        return self._begin(host, lambda: OptimisingJob(host, make))

    def port(self, host: Host, request: PortRequest, a: Path, b: Path) -> str:
        """Start to port from the checkpoint `a` to `b`, and return the id of the job. Errors as for `compress`."""

        def make(progress: Progress) -> OptimisedAnswer:
            from lib_embedmerge.actions.optimising import port
            from lib_embedmerge.facade import open_checkpoint

            return port(open_checkpoint(a), open_checkpoint(b), request, progress)

        return self._begin(host, lambda: OptimisingJob(host, make))

    def repair(self, host: Host, request: RepairRequest, checkpoint: Path) -> str:
        """Start to repair, and return the id of the job. Errors as for `compress`."""

        def make(progress: Progress) -> OptimisedAnswer:
            from lib_embedmerge.actions.optimising import repair
            from lib_embedmerge.facade import open_checkpoint

            return repair(open_checkpoint(checkpoint), request, progress)

        return self._begin(host, lambda: OptimisingJob(host, make))


OPTIMISING_JOBS = OptimisingJobs()
"""The compressions, ports and repairs of this process."""
