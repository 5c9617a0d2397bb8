"""Restores, conversions and recoveries in the background. What a job does is imported when it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib_embedmerge.actions.background_jobs import BackgroundJob, CancelledError, Jobs
from lib_embedmerge.core.recovery_answers import LibraryJobAnswer
from lib_embedmerge.errors import EmbedMergeError, HostError
from lib_embedmerge.hosts.port import Host

if TYPE_CHECKING:
    from lib_embedmerge.actions.carrying_files import CarryRequest
    from lib_embedmerge.actions.restoring_folders import RestoreRequest
    from lib_embedmerge.core.ports import Model
    from lib_embedmerge.embeddings.embedding import Embedding


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


class LibraryJob(BackgroundJob[Any, LibraryJobState]):
    """A restore, a conversion or a recovery.  request: of a restore; None for the others."""

    def __init__(
        self,
        host: Host,
        total: int,
        list_answers: Callable[[Callable[[], bool]], Iterable[Any]],
        request: RestoreRequest | None = None,
    ) -> None:
        """total: of files.  list_answers: does the work, and gives an answer for each file. Its argument says whether
        to stop."""
        super().__init__(host, total, LibraryJobState)
        self._list_answers = list_answers
        self.request = request

    def _work(self) -> None:
        for answer in self._list_answers(self._is_stopped):
            self._tell_host(answer)
            self._results.append(answer)

    def _tell_host(self, answer: Any) -> None:
        """Tell the host of the files that were written. If it cannot load one, the answer says so."""
        for file in answer.get("written") or filter(None, [answer.get("file")]):
            if fault := self._find_fault(Path(file)):
                answer["reason"] = fault


class LibraryJobs(Jobs[LibraryJob]):
    """Restores, conversions and recoveries by id."""

    running_message = "A job with these embeddings is already running."
    noun = "job"

    def restore(self, host: Host, request: RestoreRequest) -> str:
        """Start to restore files, and return the id of the job. AlreadyRunningError if one is running."""

        request = replace(request, paths=request.list_sources())  # folders are read once

        def work(is_stopped: Callable[[], bool]) -> Iterable[Any]:
            from lib_embedmerge.actions.restoring_folders import restore

            wishes = replace(request.wishes, is_stopped=is_stopped, before_replacing=host.before_replacing)
            return restore(replace(request, wishes=wishes), embeddings=host.library())

        return self._begin(host, lambda: LibraryJob(host, len(request.paths), work, request))

    def running_restore(self, host: Host) -> str | None:
        """The id of the restore that is running for the host's embeddings, or None."""
        identity = self.running(host)
        return identity if identity and self.get(identity).request else None

    def write_chosen(self, host: Host, identity: str, numbers: Sequence[int]) -> str:
        """Start to write files of a restore that was a dry run, and return the id of the new job.

        identity: of the job that was the dry run.  numbers: of its results that the user has chosen.
        NoSuchJobError if there is no such job. HostError if nothing is chosen. AlreadyRunningError if one is running.
        """
        job = self.get(identity)
        results = job.state().results
        chosen = [Path(results[number]["source"]) for number in numbers if number < len(results)]
        if job.request is None or not chosen:
            raise HostError("No file is chosen.", hint="Choose the files to write.")
        return self.restore(host, replace(job.request, paths=chosen, dry_run=False))

    def carry(self, host: Host, request: CarryRequest, checkpoint: Path, naming: Path | None) -> str:
        """Start to make files for another architecture, and return the id of the job. Errors as for `restore`."""

        def work(is_stopped: Callable[[], bool]) -> Iterable[Any]:
            from lib_embedmerge.actions.carrying_files import carry_files
            from lib_embedmerge.checkpoints.model import open_checkpoint

            named_by = open_checkpoint(naming) if naming else None
            return carry_files(request, open_checkpoint(checkpoint), named_by, is_stopped=is_stopped)

        return self._begin(host, lambda: LibraryJob(host, len(request.paths), work))

    def recover(self, host: Host, embedding: Embedding, models: Sequence[tuple[str, Callable[[], Model]]]) -> str:
        """Start to find the text of an embedding, and return the id of the job. Errors as for `restore`.

        models: name of each model and the function that opens it.
        """

        def work(is_stopped: Callable[[], bool]) -> Iterable[Any]:
            from lib_embedmerge.recipes.recovery.recover import recover_on_each

            def open_unless_stopped(open_model: Callable[[], Model]) -> Model:
                if is_stopped():
                    raise CancelledError
                return open_model()

            asked = [(name, partial(open_unless_stopped, open_model)) for name, open_model in models]
            yield {"name": embedding.name, **recover_on_each(embedding, asked).as_json()}

        return self._begin(host, lambda: LibraryJob(host, 1, work))


LIBRARY_JOBS = LibraryJobs()
"""The restores, conversions and recoveries of this process."""
