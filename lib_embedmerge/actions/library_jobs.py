"""Restores and conversions in the background: start them, follow their progress, stop them.

As jobs.py, which does so for rebuilds. What a job does is imported when it starts.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib_embedmerge.actions.jobs import AlreadyRunningError, NoSuchJobError
from lib_embedmerge.core.recovery_answers import LibraryJobAnswer
from lib_embedmerge.errors import UNEXPECTED, UNEXPECTED_HINT, EmbedMergeError
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.carrying_files import CarryRequest
    from lib_embedmerge.actions.restoring_folders import RestoreRequest

_log = logging.getLogger(__name__)

_KEPT = 20
"""How many jobs that have ended keep their results."""

Work = Callable[["LibraryJob"], Iterator[Any]]
"""A function that does the work of a job, and yields an answer for each file."""


@dataclass(frozen=True)
class LibraryJobState:
    """The progress of a job.

    done, total: files.  seconds_left: an estimate, or None if no file is done yet or the job has ended.
    results: the answers of the files that are done, in order.  error: why it failed.
    """

    state: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    seconds_left: float | None = None
    results: tuple[Any, ...] = ()
    error: EmbedMergeError | None = None

    def as_json(self, after: int = 0) -> LibraryJobAnswer:
        """All of it as plain values. after: how many of the first results are left out."""
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "seconds_left": self.seconds_left,
            "results": list(self.results[after:]),
            "error": self.error.as_json() if self.error else None,
        }


class LibraryJob:
    """A job in a daemon thread, which ends with the program.  total: of files."""

    def __init__(self, host: Host, total: int, work: Work) -> None:
        self.library_folder = host.embeddings_folder.resolve()
        self._host, self._total, self._work = host, total, work
        self._results: list[Any] = []
        self._end: tuple[Literal["done", "cancelled", "failed"], EmbedMergeError | None] | None = None
        self._cancelled = threading.Event()
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmerge-library", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_stopped(self) -> bool:
        """Whether the user wants no more."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop the job before its next file. Files that are written stay."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> LibraryJobState:
        """Wait for the end, at most `timeout` seconds, and return the progress."""
        self._thread.join(timeout)
        return self.state()

    def state(self) -> LibraryJobState:
        """The progress now."""
        end = self._end  # read first: if the job has ended, the results are complete
        results = tuple(self._results)
        if end is not None:
            return LibraryJobState(end[0], len(results), self._total, None, results, end[1])
        pace = (time.monotonic() - self._started_at) / len(results) if results else None
        left = None if pace is None else pace * (self._total - len(results))
        return LibraryJobState("running", len(results), self._total, left, results)

    def _run(self) -> None:
        try:
            for answer in self._work(self):
                self._tell_host(answer)
                self._results.append(answer)
            is_whole = len(self._results) >= self._total or not self.is_stopped()
            self._end = ("done" if is_whole else "cancelled"), None
        except EmbedMergeError as error:
            self._end = "failed", error
        except Exception:  # noqa: BLE001 -- a bug: it is logged, since a thread has no caller, and becomes a sentence
            _log.exception(UNEXPECTED)
            self._end = "failed", EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT)

    def _tell_host(self, answer: Any) -> None:
        """Tell the host of the files that were written. If it cannot load one, the answer says so."""
        for file in answer.get("written") or filter(None, [answer.get("file")]):
            if fault := self._find_fault(Path(file)):
                answer["reason"] = f"Saved, but {self._host.title} has not loaded it yet: {fault}"

    def _find_fault(self, file: Path) -> str | None:
        """Why the host cannot load a file that was written; None if it can."""
        try:
            self._host.embedding_saved(file)
        except EmbedMergeError as error:
            return error.message
        return None


class LibraryJobs:
    """Jobs by id. One at a time runs for each folder of embeddings. The last ones that have ended are kept."""

    def __init__(self) -> None:
        self._jobs: dict[str, LibraryJob] = {}
        self._lock = threading.Lock()

    def restore(self, host: Host, request: RestoreRequest) -> str:
        """Start to restore files, and return the id of the job. AlreadyRunningError if one is running."""

        def work(job: LibraryJob) -> Iterator[Any]:
            from lib_embedmerge.actions.restoring_folders import restore

            wishes = replace(request.wishes, is_stopped=job.is_stopped, before_replacing=host.before_replacing)
            return iter(restore(replace(request, wishes=wishes), embeddings=host.library()))

        return self._start(host, len(request.paths), work)

    def carry(self, host: Host, request: CarryRequest, checkpoint: Path, naming: Path | None) -> str:
        """Start to make files for another architecture, and return the id of the job. Errors as for `restore`."""

        def work(job: LibraryJob) -> Iterator[Any]:
            from lib_embedmerge.actions.carrying_files import carry_files
            from lib_embedmerge.checkpoints.model import open_checkpoint

            named_by = open_checkpoint(naming) if naming else None
            return iter(carry_files(request, open_checkpoint(checkpoint), named_by, is_stopped=job.is_stopped))

        return self._start(host, len(request.paths), work)

    def get(self, identity: str) -> LibraryJob:
        """The job with this id. NoSuchJobError if there is none."""
        job = self._jobs.get(identity)
        if job is None:
            message = "This job is unknown."
            raise NoSuchJobError(message, hint=f"Only the last {_KEPT} jobs are kept, until the program ends.")
        return job

    def cancel_all(self) -> None:
        """Stop each job before its next file."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()

    def _start(self, host: Host, total: int, work: Work) -> str:
        folder = host.embeddings_folder.resolve()
        with self._lock:
            for job in self._jobs.values():
                if job.library_folder == folder and job.state().state == "running":
                    message = "A job with these embeddings is already running."
                    raise AlreadyRunningError(message, hint="Wait until it is done, or cancel it.")
            ended = [key for key, job in self._jobs.items() if job.state().state != "running"]
            for key in ended[: max(0, len(ended) - _KEPT + 1)]:
                del self._jobs[key]
            identity = secrets.token_urlsafe(12)
            self._jobs[identity] = LibraryJob(host, total, work)
            self._jobs[identity].start()
            return identity


LIBRARY_JOBS = LibraryJobs()
"""The jobs of this process."""
