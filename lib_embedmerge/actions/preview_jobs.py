"""Jobs in the background that make preview pictures: one without any embedding, then one for each embedding."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lib_embedmerge.actions.background_jobs import BackgroundJob, CancelledError, Jobs
from lib_embedmerge.actions.previewing import (
    KeptPreviews,
    MadePicture,
    Subject,
    find_maker,
    find_subjects,
    has_preview,
    keep_previews,
)
from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.temporary_folder import TemporaryFolder
from lib_embedmerge.hosts.picture_port import PictureSettings, SkippedError
from lib_embedmerge.hosts.port import Host


@dataclass(frozen=True)
class PreviewState:
    """The progress of a job.

    done, total: pictures.  seconds_left: an estimate, or None if that is not known or the job has ended.
    results: what was made, in order; the picture without any embedding comes first.  error: why it failed.
    is_waiting: whether the program makes other pictures first.  settings: of all pictures.
    kept: the numbers of the results that are the previews of their embeddings now.
    """

    state: Literal["running", "done", "cancelled", "failed"]
    done: int
    total: int
    seconds_left: float | None = None
    results: tuple[MadePicture, ...] = ()
    error: EmbedMergeError | None = None
    is_waiting: bool = False
    settings: PictureSettings | None = None
    kept: frozenset[int] = frozenset()

    @property
    def unsaved(self) -> list[int]:
        """The numbers of the pictures with an embedding that are not its preview."""
        made = [number for number, result in enumerate(self.results) if result.subject and result.picture]
        return [number for number in made if number not in self.kept]


class PreviewJob(BackgroundJob[MadePicture, PreviewState]):
    """A job that makes pictures in a folder for temporary files, which is deleted with the job."""

    def __init__(self, host: Host, subjects: Sequence[Subject], settings: PictureSettings) -> None:
        """settings: with the prompts in which the embeddings are put."""
        self._makes_any = any(subject.reason is None for subject in subjects)
        super().__init__(host, len(subjects) + self._makes_any, PreviewState)
        self._maker = find_maker(host)
        self._subjects, self._settings = tuple(subjects), settings
        self._kept: frozenset[int] = frozenset()
        self._keeping = threading.Lock()
        self._ending = threading.Lock()
        self._is_with_maker = False
        self._folder: TemporaryFolder | None = None

    def state(self) -> PreviewState:
        """The progress now."""
        state = replace(super().state(), settings=self._settings, kept=self._kept)
        if state.state != "running":
            return state
        share = self._maker.share
        done = state.done + (share or 0)
        left = (time.monotonic() - self._started_at) / done * (state.total - done) if done >= 0.05 else None
        return replace(state, seconds_left=left, is_waiting=share is None)

    def cancel(self) -> None:
        """Interrupt the picture that is being made, and make no other. Nothing happens if the job has ended."""
        with self._ending:
            if not self.is_running:
                return
            super().cancel()
            if not self._is_with_maker:  # between two pictures
                return
            if self._maker.share is None:  # it waits for its turn, and makes nothing when that comes
                self._end = "cancelled", None
            else:
                self._maker.interrupt()

    def keep(self, numbers: Sequence[int]) -> KeptPreviews:
        """Make some of the results the previews of their embeddings. HostError if `numbers` is empty."""
        with self._keeping:
            wanted = [number for number in numbers if number not in self._kept]
            kept, saved = keep_previews(self._host, self.state().results, wanted)
            self._kept |= saved
        return kept

    def _work(self) -> None:
        try:
            self._make_all()
        except EmbedMergeError:
            if not self.is_running:  # it was cancelled while it waited
                raise CancelledError from None
            raise

    def _make_all(self) -> None:
        self._folder = TemporaryFolder("embedmerge-previews-")
        folder = self._folder.path
        if self._makes_any:
            self._add(self._make_without(folder / "without.png"))
        for number, subject in enumerate(self._subjects):
            self._stop_if_cancelled()
            self._add(self._try_to_make(subject, folder / f"{number}.png"))

    def _add(self, result: MadePicture) -> None:
        """Add a result, unless the job has ended already because it was cancelled."""
        with self._ending:
            if not self.is_running:
                raise CancelledError
            self._results.append(result)

    def _make_without(self, file: Path) -> MadePicture:
        try:
            return MadePicture(None, self._make(None, file))
        except SkippedError as error:
            return MadePicture(None, reason=error.message)

    def _try_to_make(self, subject: Subject, file: Path) -> MadePicture:
        """The picture of an embedding. An error becomes part of the result, so that the others get theirs."""
        reason = subject.reason
        if reason is None and not subject.path.is_file():
            reason = "It was deleted in the meantime."
        if reason is not None:
            return MadePicture(subject, reason=reason)
        try:
            return MadePicture(subject, self._make(subject.name, file), has_other=has_preview(subject.path))
        except EmbedMergeError as error:
            return MadePicture(subject, reason=error.advice)

    def _make(self, name: str | None, file: Path) -> Path:
        """Make a picture and write it to a file. name: of the embedding in the prompts, or None."""
        others = [other for subject in self._subjects for other in (subject.name, subject.path.stem)]
        settings = replace(self._settings, prompts=self._settings.prompts.put(name, others))
        with self._ending:
            self._stop_if_cancelled()
            self._is_with_maker = True
        try:
            picture = self._maker.make(settings, name, self._cancelled.is_set)
        finally:
            with self._ending:
                self._is_with_maker = False
        if picture is None:
            raise CancelledError
        write_atomically(file, picture, overwrite=True, durable=False)
        return file


class PreviewJobs(Jobs[PreviewJob]):
    """Jobs that make preview pictures, by id."""

    running_message = "Preview pictures of this library are already being made."
    noun = "job"
    kept = 1  # their pictures lie on the disk

    def start(self, host: Host, pairs: Sequence[tuple[str, str]], settings: PictureSettings) -> str:
        """Start to make pictures, and return the id of the job. pairs: as for `find_subjects`, whose errors it raises.

        HostError if the host makes no pictures. AlreadyRunningError if such a job is running.
        """
        find_maker(host)
        subjects = find_subjects(host, pairs)
        return self._begin(host, lambda: PreviewJob(host, subjects, settings))

    def find_unsaved(self, host: Host) -> str | None:
        """The id of the job that is running for the host's embeddings, else of the last one with pictures to save."""
        with self._lock:
            running, folder = self._find_running(host), host.embeddings_folder.resolve()
            newest_first = [(key, job) for key, job in self._jobs.items() if job.library_folder == folder][::-1]
        return running or next((key for key, job in newest_first if job.state().unsaved), None)


PREVIEW_JOBS = PreviewJobs()
"""The jobs of this process that make preview pictures."""
