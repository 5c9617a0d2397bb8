"""Rebuilds that go on in the background: how far one is, what it gave, and how it is stopped.

What is done with one embedding is recipes/rebuild.py's. That needs torch, and is imported when the first one begins.
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
    from lib_embedmerge.recipes.rebuild import RebuildResult

_log = logging.getLogger(__name__)

_KEPT = 20
"""Jobs that are over of which the results can still be asked for."""


class AlreadyRunningError(HostError):
    """A rebuild of the same embeddings is under way."""


class NoSuchJobError(HostError):
    """There never was a job of that id, or it is long over."""


class _CancelledError(Exception):
    """The job is to stop here."""


class Result(NamedTuple):
    """What became of one embedding for one checkpoint, both named by their files."""

    source: Path
    checkpoint: Path
    rebuilt: RebuildResult


@dataclass(frozen=True)
class JobState:
    """How far a rebuild is.

    done, total: pairs of an embedding and a checkpoint.  seconds_left: by the pace so far; None while there is none,
    and when it is over.  results: of the pairs that are done, in order.  error: why it failed.
    """

    state: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    seconds_left: float | None = None
    results: tuple[Result, ...] = ()
    error: EmbedMergeError | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Status -> how many results have it."""
        return Counter(result.rebuilt.status for result in self.results)

    def as_json(self, after: int = 0) -> JobStateAnswer:
        """All of it, plain. after: how many of the first results to leave out."""
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
    """A rebuild in a thread of its own, which ends with the program. Made by `start`."""

    def __init__(self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None) -> None:
        self.library_folder = host.embeddings_folder.resolve()
        self._host = host
        self._sources, self._checkpoints, self._folder = tuple(sources), tuple(checkpoints), folder
        self._results: list[Result] = []
        self._end: tuple[Literal["done", "cancelled", "failed"], EmbedMergeError | None] | None = None
        self._cancelled = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmerge-rebuild", daemon=True)

    @classmethod
    def start(
        cls, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> RebuildJob:
        """Begin. folder: where variants go, None for beside their sources.

        What is wrong with an embedding or a checkpoint is told in the results.
        """
        job = cls(host, sources, checkpoints, folder)
        job._thread.start()
        return job

    def state(self) -> JobState:
        """How far it is."""
        end = self._end  # read first: where it is over, all results are there
        results = tuple(self._results)
        total = len(self._sources) * len(self._checkpoints)
        if end is not None:
            return JobState(end[0], len(results), total, None, results, end[1])
        pace = (time.monotonic() - self._begun) / len(results) if results else None
        left = None if pace is None else pace * (total - len(results))
        return JobState("running", len(results), total, left, results)

    def cancel(self) -> None:
        """Have it stop before the next file. What is written stays."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> JobState:
        """How far it is once it is over, or after this many seconds."""
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
        except Exception:  # noqa: BLE001 -- nobody catches in a thread; a bug of ours is logged, and told in a sentence
            _log.exception(UNEXPECTED)
            self._end = "failed", EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT)

    def _rebuild(self) -> None:
        from lib_embedmerge.recipes.rebuild import WRITTEN, rebuild_for_each

        begun = rebuild_for_each(
            self._sources, self._checkpoints, self._opened, self._folder, self._host.before_replacing
        )
        for checkpoint, rebuilt in begun:
            known = self._made_known(rebuilt) if rebuilt.status == WRITTEN else rebuilt
            self._results.append(Result(rebuilt.source, checkpoint, known))
            if len(self._results) < len(self._sources) * len(self._checkpoints):
                self._stop_if_cancelled()

    def _opened(self, checkpoint: Path) -> CheckpointModel:
        """A checkpoint's model, fingerprinted, which can take a minute."""
        self._stop_if_cancelled()
        from lib_embedmerge.checkpoints.model import open_checkpoint

        model = open_checkpoint(checkpoint, embeddings=self._host.library())
        model.fingerprints(lambda done, total: self._stop_if_cancelled())
        self._stop_if_cancelled()
        return model

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _made_known(self, rebuilt: RebuildResult) -> RebuildResult:
        """Told to the host; a complaint of its is no fault of the file that is written."""
        assert rebuilt.file is not None  # as it is written
        try:
            self._host.embedding_saved(rebuilt.file)
        except EmbedMergeError as error:
            return replace(rebuilt, reason=f"Saved, but {self._host.title} has not loaded it yet: {error.message}")
        return rebuilt


class Jobs:
    """Rebuilds by id. One runs at a time for a folder of embeddings; of those that are over, the last are kept."""

    def __init__(self) -> None:
        self._jobs: dict[str, RebuildJob] = {}
        self._lock = threading.Lock()

    def start(
        self, host: Host, sources: Sequence[Path], checkpoints: Sequence[Path], folder: Path | None = None
    ) -> str:
        """Begin one; its id. AlreadyRunningError where one is under way for the host's embeddings."""
        with self._lock:
            if self._running(host) is not None:
                message = "A rebuild of these embeddings is already running."
                raise AlreadyRunningError(message, hint="Wait until it is done, or cancel it.")
            over = [key for key, job in self._jobs.items() if job.state().state != "running"]
            for key in over[: max(0, len(over) - _KEPT + 1)]:
                del self._jobs[key]
            identity = secrets.token_urlsafe(12)
            self._jobs[identity] = RebuildJob.start(host, sources, checkpoints, folder)
            return identity

    def get(self, identity: str) -> RebuildJob:
        """That job. NoSuchJobError where there is none."""
        job = self._jobs.get(identity)
        if job is None:
            message = "This rebuild is unknown."
            raise NoSuchJobError(message, hint=f"Only the last {_KEPT} rebuilds are kept, until the program ends.")
        return job

    def running(self, host: Host) -> str | None:
        """The id of the one that is under way for the host's embeddings."""
        with self._lock:
            return self._running(host)

    def cancel_all(self) -> None:
        """Have each stop before its next file."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()

    def _running(self, host: Host) -> str | None:
        folder = host.embeddings_folder.resolve()
        for identity, job in self._jobs.items():
            if job.library_folder == folder and job.state().state == "running":
                return identity
        return None


JOBS = Jobs()
"""Those of this process, so that the tab and the API know of each other's."""
