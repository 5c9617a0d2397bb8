"""Jobs in the background: start them, follow their progress, stop them. Other modules have the kinds of jobs."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from lib_embedmerge.errors import UNEXPECTED, UNEXPECTED_HINT, EmbedMergeError, HostError

if TYPE_CHECKING:
    from pathlib import Path

    from lib_embedmerge.hosts.port import Host

_log = logging.getLogger(__name__)

_PAUSE = 0.002
"""Seconds that a job rests before each file."""

_KEPT = 20
"""How many jobs of a kind that have ended keep their results."""

Result = TypeVar("Result")
State = TypeVar("State")


class AlreadyRunningError(HostError):
    """Raised if a job of this kind is running for embeddings in the same library."""


class NoSuchJobError(HostError):
    """Raised if there is no job with this id, or no longer."""


class CancelledError(Exception):
    """Raised inside a job to stop it."""


class BackgroundJob(ABC, Generic[Result, State]):
    """A job in a daemon thread, which ends with the program.

    make_state: makes the progress of: `running`, `done`, `cancelled` or `failed`; how much is done; how much there is;
        an estimate of the seconds left from the pace so far, or None if nothing is done yet or the job has ended; the
        results, in order; why it failed, or None.
    """

    running_message: str = ""
    """What the error says if another job is started while one of this class is running; empty for that of its kind."""

    def __init__(self, host: Host, total: int, make_state: Callable[..., State]) -> None:
        """host: whose embeddings are changed.  total: how many results there will be."""
        self.library_folder: Path = host.embeddings_folder.resolve()
        self._host, self._total, self._make_state = host, total, make_state
        self._results: list[Result] = []
        self._end: tuple[Literal["done", "cancelled", "failed"], EmbedMergeError | None] | None = None
        self._cancelled = threading.Event()
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="embedmerge-job", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the job has not ended."""
        return self._end is None

    @property
    def is_stopping(self) -> bool:
        """Whether the job was cancelled and has not ended yet."""
        return self.is_running and self._cancelled.is_set()

    def state(self) -> State:
        """The progress now."""
        end = self._end  # read first: if the job has ended, the results are complete
        results = tuple(self._results)
        if end is not None:
            return self._make_state(end[0], len(results), self._total, None, results, end[1])
        pace = (time.monotonic() - self._started_at) / len(results) if results else None
        left = None if pace is None else pace * (self._total - len(results))
        return self._make_state("running", len(results), self._total, left, results, None)

    def cancel(self) -> None:
        """Stop the job before its next file. Files that are written stay."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> State:
        """Wait for the end, at most `timeout` seconds, and return the progress."""
        self._thread.join(timeout)
        return self.state()

    @abstractmethod
    def _work(self) -> None:
        """Do the work, and append each result to `_results`."""

    def _run(self) -> None:
        try:
            self._work()
            if len(self._results) < self._total:
                self._stop_if_cancelled()
            self._end = "done", None
        except CancelledError:
            self._end = "cancelled", None
        except EmbedMergeError as error:
            self._end = "failed", error
        except Exception:  # noqa: BLE001 -- a bug: it is logged, since a thread has no caller, and becomes a sentence
            _log.exception(UNEXPECTED)
            self._end = "failed", EmbedMergeError(UNEXPECTED, hint=UNEXPECTED_HINT)

    def _is_stopped(self) -> bool:
        """Whether the user wants no more. Also lets other threads run for a moment, before each file.

        They answer the page, which would stand still if the job computed without a pause.
        """
        time.sleep(_PAUSE)
        return self._cancelled.is_set()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _find_fault(self, file: Path) -> str | None:
        """Tell the host that a file was written, and return a sentence if it cannot load it."""
        try:
            self._host.embedding_saved(file)
        except EmbedMergeError as error:
            return f"Saved, but {self._host.title} has not loaded it yet: {error.message}"
        return None


Job = TypeVar("Job", bound=BackgroundJob[Any, Any])


class Jobs(Generic[Job]):
    """Jobs of one kind by id. One at a time runs for each folder of embeddings. The last that have ended are kept."""

    running_message: str
    """What the error says if a job is running that has no message of its own."""
    noun: str
    """What a job is called."""
    kept: int | None = None
    """How many jobs that have ended keep their results; None for the usual number."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        _KINDS.append(self)

    def get(self, identity: str) -> Job:
        """The job with this id. NoSuchJobError if there is none."""
        if (job := self.find(identity)) is None:
            raise _make_unknown_error(self.noun, self._count_kept())
        return job

    def find(self, identity: str) -> Job | None:
        """The job with this id, or None."""
        return self._jobs.get(identity)

    def running(self, host: Host) -> str | None:
        """The id of the job that is running for the host's embeddings, or None."""
        with self._lock:
            return self._find_running(host)

    def cancel_all(self) -> None:
        """Stop each job before its next file."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()

    def _begin(self, host: Host, make_job: Callable[[], Job]) -> str:
        """Start a job and return its id. AlreadyRunningError if one is running for the host's embeddings."""
        with self._lock:
            if (running := self._find_running(host)) is not None:
                message = self._jobs[running].running_message or self.running_message
                raise AlreadyRunningError(message, hint="Wait until it is done, or cancel it.")
            ended = [key for key, job in self._jobs.items() if not job.is_running]
            for key in ended[: max(0, len(ended) - self._count_kept() + 1)]:
                del self._jobs[key]
            identity = secrets.token_urlsafe(12)
            self._jobs[identity] = job = make_job()
            job.begin()
            return identity

    def _count_kept(self) -> int:
        return _KEPT if self.kept is None else self.kept

    def _find_running(self, host: Host) -> str | None:
        folder = host.embeddings_folder.resolve()
        for identity, job in self._jobs.items():
            if job.library_folder == folder and job.is_running:
                return identity
        return None


def _make_unknown_error(noun: str, kept: int = _KEPT) -> NoSuchJobError:
    last = f"the last {kept} {noun}s are" if kept > 1 else f"the last {noun} is"
    hint = f"Only {last} kept, until the program ends."
    return NoSuchJobError(f"This {noun} is unknown.", hint=hint)


_KINDS: list[Jobs[Any]] = []


def find_job(identity: str) -> BackgroundJob[Any, Any]:
    """The job of any kind with this id. NoSuchJobError if there is none."""
    for jobs in _KINDS:
        job: BackgroundJob[Any, Any] | None = jobs.find(identity)
        if job is not None:
            return job
    raise _make_unknown_error("job")


def cancel_all_jobs() -> None:
    """Stop each job of this process, of any kind, before its next file."""
    for jobs in _KINDS:
        jobs.cancel_all()
