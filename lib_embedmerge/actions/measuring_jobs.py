"""Measurements of effects in the background. What a job does is imported when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.actions.background_jobs import BackgroundJob, Jobs
from lib_embedmerge.actions.library_jobs import LibraryJobState
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import GroupsRequest
    from lib_embedmerge.actions.measuring_effect import EffectRequest

_Measure = Callable[[Progress], list[Any]]
"""A function that measures and gives the answers. Its argument is called with (values read, values in all)."""


class MeasuringJob(BackgroundJob[Any, LibraryJobState]):
    """A measurement. Its state counts values that were read, not results, which come all at once at the end."""

    def __init__(self, host: Host, measure: _Measure) -> None:
        super().__init__(host, 0, LibraryJobState)
        self._measure = measure
        self._read: tuple[int, int] = (0, 0)

    def state(self) -> LibraryJobState:
        """The progress now."""
        ended = super().state()
        done, total = self._read
        if ended.state != "running":
            return LibraryJobState(ended.state, done, total, None, ended.results, ended.error)
        seconds = time.monotonic() - self._started_at
        left = seconds / done * (total - done) if done else None
        return LibraryJobState("running", done, total, left)

    def _work(self) -> None:
        self._results.extend(self._measure(self._report))

    def _report(self, done: int, total: int) -> None:
        self._stop_if_cancelled()
        self._read = done, total


class MeasuringJobs(Jobs[MeasuringJob]):
    """Measurements by id."""

    running_message = "A measurement is already running."
    noun = "measurement"

    def effect(self, host: Host, checkpoints: Sequence[Path], request: EffectRequest) -> str:
        """Start to measure effects, and return the id of the job. AlreadyRunningError if one is running."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.measuring_effect import measure_effects

            return [one.as_json() for one in measure_effects(checkpoints, request, progress)]

        return self._begin(host, lambda: MeasuringJob(host, measure))

    def groups(self, host: Host, checkpoints: Sequence[Path], request: GroupsRequest) -> str:
        """Start to group checkpoints, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.grouping_models import group_models

            return list(group_models(checkpoints, request, progress).as_json())

        return self._begin(host, lambda: MeasuringJob(host, measure))

    def tokens(self, host: Host, source: str, checkpoint: Path, request: EffectRequest) -> str:
        """Start to weigh the tokens of a text, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.weighing_tokens import weigh_tokens

            return [one.as_json() for one in weigh_tokens(source, str(checkpoint), request, progress)]

        return self._begin(host, lambda: MeasuringJob(host, measure))

    def shorten(self, host: Host, source: str, checkpoint: Path, vectors: int, request: EffectRequest) -> str:
        """Start to shorten a prompt, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.shortening import shorten

            return [shorten(source, str(checkpoint), vectors, request, progress).as_json()]

        return self._begin(host, lambda: MeasuringJob(host, measure))


MEASURING_JOBS = MeasuringJobs()
"""The measurements of this process."""
