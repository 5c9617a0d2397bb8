"""Rebuilds in the background: start them, follow their progress, stop them.

recipes/rebuild.py does the work. It is imported when the first rebuild starts.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lib_embedmerge.core.answers import JobStateAnswer
from lib_embedmerge.errors import UNEXPECTED, UNEXPECTED_HINT, EmbedMergeError, HostError
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.checkpoints.model import CheckpointModel
    from lib_embedmerge.recipes.variant_writing import RebuildResult

_log = logging.getLogger(__name__)

_PAUSE = 0.002
"""Seconds that a job rests before each embedding."""

_KEPT = 20
"""How many jobs that have ended keep their results."""


class AlreadyRunningError(HostError):
    """Raised if a rebuild of embeddings in the same library is running."""


class NoSuchJobError(HostError):
    """Raised if there is no job with this id, or no longer."""


class _CancelledError(Exception):
    """Raised inside a job to stop it."""


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


class RebuildJob:
    """A rebuild in a daemon thread, which ends with the program. `start` makes it."""

    def __init__(self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None) -> None:
        self.library_folder = host.embeddings_folder.resolve()
        self._host = host
        self._sources, self._checkpoints, self._folder = tuple(sources), tuple(checkpoints), folder
        self._results: list[Result] = []
        self._end: tuple[Literal["done", "cancelled", "failed"], EmbedMergeError | None] | None = None
        self._cancelled = threading.Event()
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmerge-rebuild", daemon=True)

    @classmethod
    def start(
        cls, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> RebuildJob:
        """Start a job. folder: where variants are written, None for the folders of their sources.

        An error in an embedding or a checkpoint becomes part of the results.
        """
        job = cls(host, sources, checkpoints, folder)
        job._thread.start()
        return job

    def state(self) -> JobState:
        """The progress now."""
        end = self._end  # read first: if the job has ended, the results are complete
        results = tuple(self._results)
        total = len(self._sources) * len(self._checkpoints)
        if end is not None:
            return JobState(end[0], len(results), total, None, results, end[1])
        pace = (time.monotonic() - self._started_at) / len(results) if results else None
        left = None if pace is None else pace * (total - len(results))
        return JobState("running", len(results), total, left, results)

    def cancel(self) -> None:
        """Stop the job before its next embedding. Files that are written stay."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> JobState:
        """Wait for the end, at most `timeout` seconds, and return the progress."""
        self._thread.join(timeout)
        return self.state()

    def _run(self) -> None:
        try:
            self._rebuild()
            self._end = "done", None
        except _CancelledError:
            self._end = "cancelled", None
        except EmbedMergeError as error:
            self._end = "failed", error
        except Exception:  # noqa: BLE001 -- a bug: it is logged, since a thread has no caller, and becomes a sentence
            _log.exception(UNEXPECTED)
            self._end = "failed", EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT)

    def _rebuild(self) -> None:
        from lib_embedmerge.recipes.rebuild import Asked, rebuild_for_each
        from lib_embedmerge.recipes.variant_writing import WRITTEN

        asked = Asked(self._host.before_replacing, self._is_stopped)
        results = rebuild_for_each(self._sources, self._checkpoints, self._open, self._folder, asked)
        for checkpoint, rebuilt in results:
            result = self._notify_host(rebuilt) if rebuilt.status == WRITTEN else rebuilt
            self._results.append(Result(rebuilt.source, checkpoint, result))
        if len(self._results) < len(self._sources) * len(self._checkpoints):
            self._stop_if_cancelled()

    def _is_stopped(self) -> bool:
        """Whether the user wants no more. Also lets other threads run for a moment, before each embedding.

        They answer the page, which would stand still if the rebuild computed without a pause.
        """
        time.sleep(_PAUSE)
        return self._cancelled.is_set()

    def _open(self, checkpoint: Path) -> CheckpointModel:
        """The model of a checkpoint, with its fingerprints, which can take a minute."""
        self._stop_if_cancelled()
        from lib_embedmerge.checkpoints.model import open_checkpoint

        model = open_checkpoint(checkpoint, embeddings=self._host.library())
        model.fingerprints(lambda done, total: self._stop_if_cancelled())
        self._stop_if_cancelled()
        return model

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _notify_host(self, rebuilt: RebuildResult) -> RebuildResult:
        """Tell the host that a file was written. If the host cannot load it, the result only says so."""
        assert rebuilt.file is not None  # since it was written
        try:
            self._host.embedding_saved(rebuilt.file)
        except EmbedMergeError as error:
            return replace(rebuilt, reason=f"Saved, but {self._host.title} has not loaded it yet: {error.message}")
        return rebuilt


class Jobs:
    """Rebuilds by id. One at a time runs for each folder of embeddings. The last ones that have ended are kept."""

    def __init__(self) -> None:
        self._jobs: dict[str, RebuildJob] = {}
        self._lock = threading.Lock()

    def start(
        self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> str:
        """Start a job and return its id. AlreadyRunningError if one is running for the host's embeddings."""
        with self._lock:
            if self._find_running(host) is not None:
                message = "A rebuild of these embeddings is already running."
                raise AlreadyRunningError(message, hint="Wait until it is done, or cancel it.")
            ended = [key for key, job in self._jobs.items() if job.state().state != "running"]
            for key in ended[: max(0, len(ended) - _KEPT + 1)]:
                del self._jobs[key]
            identity = secrets.token_urlsafe(12)
            self._jobs[identity] = RebuildJob.start(host, sources, checkpoints, folder)
            return identity

    def get(self, identity: str) -> RebuildJob:
        """The job with this id. NoSuchJobError if there is none."""
        job = self._jobs.get(identity)
        if job is None:
            message = "This rebuild is unknown."
            raise NoSuchJobError(message, hint=f"Only the last {_KEPT} rebuilds are kept, until the program ends.")
        return job

    def running(self, host: Host) -> str | None:
        """The id of the job that is running for the host's embeddings, or None."""
        with self._lock:
            return self._find_running(host)

    def cancel_all(self) -> None:
        """Stop each job before its next file."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()

    def _find_running(self, host: Host) -> str | None:
        folder = host.embeddings_folder.resolve()
        for identity, job in self._jobs.items():
            if job.library_folder == folder and job.state().state == "running":
                return identity
        return None


JOBS = Jobs()
"""The jobs of this process, which the tab and the API share."""
