"""Measurements of effects in the background. What a job does is imported when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_embedmerge.actions.background_jobs import BackgroundJob, Jobs
from lib_embedmerge.actions.library_jobs import LibraryJobState
from lib_embedmerge.core.ports import Progress
from lib_embedmerge.errors import HostError
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import GroupsRequest, ModelGroups
    from lib_embedmerge.actions.library_effects import LibraryEffectRequest
    from lib_embedmerge.actions.measuring_effect import EffectRequest

_Measure = Callable[[Progress], Iterable[Any]]
"""A function that measures and gives the answers. Its argument is called with (values read, values in all)."""


class MeasuringJob(BackgroundJob[Any, LibraryJobState]):
    """A measurement. Its state counts values that were read, not results."""

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
        self._results.extend(self._measure(self._report))  # one by one, also if the last one is never reached
        total = max(1, self._read[1])  # nothing is reported if all is known already
        self._read = total, total

    def _report(self, done: int, total: int) -> None:
        self._stop_if_cancelled()
        self._read = done, total


class LibraryEffectJob(MeasuringJob):
    """Measures what embeddings of the library do on other models. If it is cancelled, it has the results so far."""

    running_message = "What embeddings do on other models is already being measured, on the page Library."


class TextJob(MeasuringJob):
    """Measures a typed text on one model. source: the text."""

    running_message = "A text is already being measured, on the page Make."

    def __init__(self, host: Host, source: str, measure: _Measure) -> None:
        super().__init__(host, measure)
        self.source = source


class TokensJob(TextJob):
    """Measures what each token of a text matters."""


class ShortenJob(TextJob):
    """Shortens a text."""


class GroupsJob(MeasuringJob):
    """Groups checkpoints.

    checkpoints, request: what is grouped, and by what.  titles: of the checkpoints, for people.
    files: the embeddings that the groups are for; of many, the request has only some.
    groups: the result, None until the job is done.
    """

    running_message = "Effects between checkpoints are already being measured, on the page Library."

    def __init__(
        self, host: Host, checkpoints: Mapping[str, Path], request: GroupsRequest, files: Sequence[Path] = ()
    ) -> None:
        """checkpoints: title -> file."""
        super().__init__(host, self._group)
        self.titles, self.checkpoints = tuple(checkpoints), tuple(checkpoints.values())
        self.request, self.files = request, tuple(files) or tuple(request.files)
        self.groups: ModelGroups | None = None

    def find_medoids(self) -> list[Path]:
        """The checkpoint of each group for which a file is best made. HostError if the job is not done."""
        if self.groups is None:
            raise HostError("The groups are not known yet.", hint="Wait until they are measured.")
        medoids = {group["medoid"] for group in self.groups.as_json()}
        return [path for path in self.checkpoints if str(path) in medoids]

    def _group(self, progress: Progress) -> Iterable[Any]:
        from lib_embedmerge.actions.grouping_models import group_models

        self.groups = group_models(self.checkpoints, self.request, progress)
        return self.groups.as_json()


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

    def library(self, host: Host, request: LibraryEffectRequest) -> str:
        """Start to measure embeddings on other models, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> Iterable[Any]:
            from lib_embedmerge.actions.library_effects import measure_library

            return measure_library(request, progress)

        return self._begin(host, lambda: LibraryEffectJob(host, measure))

    def stop_text(self, host: Host, seconds: float) -> None:
        """Stop the measurement of a text that is running, if one is, and wait for its end for some seconds."""
        identity = self.running(host)
        if identity is not None and isinstance(job := self.get(identity), TextJob):
            job.cancel()
            job.wait(seconds)

    def groups(
        self, host: Host, checkpoints: Mapping[str, Path], request: GroupsRequest, files: Sequence[Path] = ()
    ) -> str:
        """Start to group checkpoints, and return the id of the job. Errors as for `effect`.

        checkpoints: title -> file.  files: the embeddings that the groups are for, if not those of the request.
        """
        return self._begin(host, lambda: GroupsJob(host, checkpoints, request, files))

    def tokens(self, host: Host, source: str, checkpoint: Path, request: EffectRequest) -> str:
        """Start to weigh the tokens of a text, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.weighing_tokens import weigh_tokens

            return [one.as_json() for one in weigh_tokens(source, str(checkpoint), request, progress)]

        return self._begin(host, lambda: TokensJob(host, source, measure))

    def shorten(self, host: Host, source: str, checkpoint: Path, vectors: int, request: EffectRequest) -> str:
        """Start to shorten a prompt, and return the id of the job. Errors as for `effect`."""

        def measure(progress: Progress) -> list[Any]:
            from lib_embedmerge.actions.shortening import shorten

            return [shorten(source, str(checkpoint), vectors, request, progress).as_json()]

        return self._begin(host, lambda: ShortenJob(host, source, measure))


MEASURING_JOBS = MeasuringJobs()
"""The measurements of this process."""
