"""Handlers of what measures effects: jobs in the background whose progress the page shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import HostError, quote
from lib_embedmerge.ui.following_handlers import FollowingHandlers
from lib_embedmerge.ui.guards import as_html
from lib_embedmerge.ui.job_handlers import JobHandlers, find_checkpoints, read_list

if TYPE_CHECKING:
    from lib_embedmerge.actions.grouping_models import By
    from lib_embedmerge.actions.measuring_effect import EffectRequest
    from lib_embedmerge.actions.values import ReadingOptions
    from lib_embedmerge.hosts.port import Host

GROUPED_BY: dict[str, By] = {"how models read the same text": "models", "which models can share a file": "vectors"}
"""Label on the page -> what of checkpoints is compared."""


_STOPPING = 5
"""Seconds that a new measurement of a text waits for the end of the last one."""


class MeasuringHandlers(FollowingHandlers):
    """Handlers of the events of measurements, for one host."""

    @as_html
    def describe_fault(self) -> Markup:
        """Why nothing can be measured on the active model, in a sentence; empty if it can."""
        from lib_embedmerge.actions.active_checkpoint import find_meter_fault
        from lib_embedmerge.ui.html import note, view

        fault = find_meter_fault(self._host())
        return view("measuring", [note(fault, "quiet")]) if fault else Markup("")

    @as_html
    def start_library(self, checkpoints: Sequence[str], places: str, *, remade: bool) -> Markup:
        """Start to measure what the files, or all files if none is ticked, do on checkpoints.

        remade: whether each model gets what the recipe of the embedding gives on it.
        """
        from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
        from lib_embedmerge.actions.library_effects import LibraryEffectRequest
        from lib_embedmerge.actions.managing import find_paths
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS
        from lib_embedmerge.ui.views.effect_view import MEASURED

        host = self._host()
        reference = find_active_checkpoint(host)
        others = [path for path in find_checkpoints(host, checkpoints) if path != reference]
        if not others:
            hint = "Choose one or more that are not the active model."
            raise HostError("No other checkpoint is chosen.", hint=hint)
        library, ticked = host.library(), read_list(places)
        files = find_paths(host, ticked) if ticked else list(library.files())
        if not files:
            raise HostError("There are no embeddings to measure.", hint="Make one on the page Make.")
        request = LibraryEffectRequest(files, reference, others, remade, library)
        return self._show_started(lambda: MEASURING_JOBS.library(host, request), lambda: self.show_running(MEASURED))

    @as_html
    def start_groups(self, checkpoints: Sequence[str], source: str, by: str, limit: str, places: str) -> Markup:
        """Start to measure effects between checkpoints, and to group them.

        source: a text to measure with, if not blank; else 24 of the files are, or if none is ticked, common words.
        by: a label of GROUPED_BY.  limit: the largest effect within a group, in percent.
        """
        from lib_embedmerge.actions.grouping_models import GroupsRequest
        from lib_embedmerge.actions.managing import find_paths
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS
        from lib_embedmerge.actions.rebuilding_groups import choose_files
        from lib_embedmerge.lang.typed import read_typed
        from lib_embedmerge.ui.views.groups_view import GROUPED

        host = self._host()
        paths = find_checkpoints(host, checkpoints)
        if len(paths) < 2:
            raise HostError("Comparing needs two checkpoints.", hint="Choose two or more.")
        words, ticked = ((source,) if source.strip() else ()), read_list(places)
        for word in words:
            read_typed(word)  # finds mistakes before the job starts
        files = find_paths(host, ticked) if ticked and not words else []
        grouped_by = GROUPED_BY.get(by, "models")
        sample = choose_files(files, with_recipe=grouped_by == "vectors") if files else ()
        request = GroupsRequest(sample, words, grouped_by, limit=_read_share(limit), embeddings=host.library())
        named = dict(zip(checkpoints, paths, strict=True))
        return self._show_started(
            lambda: MEASURING_JOBS.groups(host, named, request, files), lambda: self.show_running(GROUPED)
        )

    @as_html
    def weigh_tokens(self, source: str, reading: ReadingOptions | None = None) -> Markup:
        """Start to measure what each token of a text matters on the active model. reading: as on the page Make."""
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS

        return self._start_text(source, reading, MEASURING_JOBS.tokens)

    @as_html
    def shorten(self, source: str, reading: ReadingOptions | None = None) -> Markup:
        """Start to shorten a text to the vectors that one embedding can have. reading: as for `weigh_tokens`."""
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS
        from lib_embedmerge.core.architecture import MAX_VECTORS

        def start(host: Host, text: str, checkpoint: Path, request: EffectRequest) -> str:
            return MEASURING_JOBS.shorten(host, text, checkpoint, MAX_VECTORS, request)

        return self._start_text(source, reading, start)

    def _start_text(
        self, source: str, reading: ReadingOptions | None, start: Callable[[Host, str, Path, EffectRequest], str]
    ) -> Markup:
        """Start to measure a text on the active model, in place of the text that is being measured."""
        from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
        from lib_embedmerge.actions.measuring_effect import EffectRequest
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS
        from lib_embedmerge.actions.values import ReadingOptions
        from lib_embedmerge.lang.typed import read_typed
        from lib_embedmerge.ui.views.weighing_view import WEIGHED

        host = self._host()
        reading = reading or ReadingOptions()
        read_typed(source, reading.attention)  # finds mistakes before the job starts
        checkpoint = find_active_checkpoint(host)
        MEASURING_JOBS.stop_text(host, _STOPPING)
        request = EffectRequest(embeddings=host.library(), attention=reading.attention, follow=reading.follow)
        return self._show_started(lambda: start(host, source, checkpoint, request), lambda: self.show_running(WEIGHED))

    @as_html
    def rebuild_for_groups(self, message: str) -> Markup:
        """Start to rebuild the embeddings for which checkpoints were grouped, for the middle of each group.

        message: a list in JSON with the id of the job that has grouped them.
        """
        from lib_embedmerge.actions.jobs import JOBS
        from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS, GroupsJob

        job = MEASURING_JOBS.get(next(iter(read_list(message)), ""))
        if not isinstance(job, GroupsJob):
            raise HostError("These groups are no longer known.", hint="Measure them again.")
        files, medoids = list(job.files), job.find_medoids()

        def start() -> str:
            return JOBS.start(self._host(), files, medoids)

        return self._show_started(start, JobHandlers(self._host).show_running_job)


def _read_share(percentage: str) -> float:
    """A share from a percentage: 0.1 for `10` or `10%`. HostError if it is none, or below 0."""
    try:
        share = float(percentage.strip().removesuffix("%").replace(",", ".")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise HostError(f"{quote(percentage)} is not a limit.", expected="a percentage, such as 10")
    return share
