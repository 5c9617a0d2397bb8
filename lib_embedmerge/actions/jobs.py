"""Rebuilds in the background: start them, follow their progress, stop them.

recipes/rebuild.py does the work. It is imported when the first rebuild starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lib_embedmerge.actions.background_jobs import BackgroundJob, Jobs
from lib_embedmerge.core.answers import JobStateAnswer
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.checkpoints.model import CheckpointModel
    from lib_embedmerge.recipes.variant_writing import RebuildResult


class Result(NamedTuple):
    """The result for one embedding and one checkpoint. source, checkpoint: their files."""

    source: Path
    checkpoint: Path
    rebuilt: RebuildResult


@dataclass(frozen=True)
class JobState:
    """The progress of a rebuild.

    done, total: pairs of an embedding and a checkpoint.  seconds_left: an estimate from the pace so far, or None if no
    pair is done yet or the job has ended.  results: of the pairs that are done, in order.  error: why it failed.
    """

    state: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    seconds_left: float | None = None
    results: tuple[Result, ...] = ()
    error: EmbedMergeError | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Status -> number of results with it."""
        return Counter(result.rebuilt.status for result in self.results)

    def as_json(self, after: int = 0) -> JobStateAnswer:
        """All of it as plain values. after: how many of the first results are left out."""
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds_left": self.seconds_left,
            "counts": dict(self.counts),
            "results": [result.rebuilt.as_json(result.checkpoint) for result in self.results[after:]],
            "error": self.error.as_json() if self.error else None,
        }


class RebuildJob(BackgroundJob[Result, JobState]):
    """A rebuild. `start` makes it."""

    def __init__(self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None) -> None:
        super().__init__(host, len(sources) * len(checkpoints), JobState)
        self._sources, self._checkpoints, self._folder = tuple(sources), tuple(checkpoints), folder

    @classmethod
    def start(
        cls, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> RebuildJob:
        """Start a job. folder: where variants are written, None for the folders of their sources.

        An error in an embedding or a checkpoint becomes part of the results.
        """
        job = cls(host, sources, checkpoints, folder)
        job.begin()
        return job

    def _work(self) -> None:
        from lib_embedmerge.recipes.rebuild import Asked, rebuild_for_each
        from lib_embedmerge.recipes.variant_writing import WRITTEN

        asked = Asked(self._host.before_replacing, self._is_stopped)
        results = rebuild_for_each(self._sources, self._checkpoints, self._open, self._folder, asked)
        for checkpoint, rebuilt in results:
            result = self._notify_host(rebuilt) if rebuilt.status == WRITTEN else rebuilt
            self._results.append(Result(rebuilt.source, checkpoint, result))

    def _open(self, checkpoint: Path) -> CheckpointModel:
        """The model of a checkpoint, with its fingerprints, which can take a minute."""
        self._stop_if_cancelled()
        from lib_embedmerge.checkpoints.model import open_checkpoint

        model = open_checkpoint(checkpoint, embeddings=self._host.library())
        model.fingerprints(lambda done, total: self._stop_if_cancelled())
        self._stop_if_cancelled()
        return model

    def _notify_host(self, rebuilt: RebuildResult) -> RebuildResult:
        """Tell the host that a file was written. If the host cannot load it, the result only says so."""
        assert rebuilt.file is not None  # since it was written
        fault = self._find_fault(rebuilt.file)
        return replace(rebuilt, reason=fault) if fault else rebuilt


class RebuildJobs(Jobs[RebuildJob]):
    """Rebuilds by id."""

    running_message = "A rebuild of these embeddings is already running."
    noun = "rebuild"

    def start(
        self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> str:
        """Start a job and return its id. AlreadyRunningError if one is running for the host's embeddings."""
        return self._begin(host, lambda: RebuildJob(host, sources, checkpoints, folder))


JOBS = RebuildJobs()
"""The rebuilds of this process, which the tab and the API share."""
