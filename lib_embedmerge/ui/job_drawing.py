"""Draws the progress or the results of any job in the background, each kind in its own element of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from lib_embedmerge.actions.background_jobs import BackgroundJob
    from lib_embedmerge.actions.measuring_jobs import MeasuringJob
    from lib_embedmerge.hosts.port import Host


def draw_job(identity: str, job: BackgroundJob[Any, Any]) -> Markup:
    """The progress of a job, or its results. identity: the id of the job."""
    from lib_embedmerge.actions.library_jobs import LibraryJob
    from lib_embedmerge.actions.measuring_jobs import MeasuringJob
    from lib_embedmerge.actions.preview_jobs import PreviewJob
    from lib_embedmerge.ui.views.job_view import job_view, stopping_view
    from lib_embedmerge.ui.views.previews_view import previews_view
    from lib_embedmerge.ui.views.restoring_view import restoring_view

    if job.is_stopping:
        return stopping_view(identity)
    if isinstance(job, PreviewJob):
        return previews_view(identity, job.state())
    if isinstance(job, MeasuringJob):
        return _draw_measurement(identity, job)
    if isinstance(job, LibraryJob):
        return restoring_view(identity, job.state())
    return job_view(identity, job.state())


def _draw_measurement(identity: str, job: MeasuringJob) -> Markup:
    from lib_embedmerge.actions.measuring_jobs import GroupsJob, ShortenJob, TokensJob
    from lib_embedmerge.actions.optimising_jobs import OptimisingJob

    state = job.state()
    if isinstance(job, GroupsJob):
        from lib_embedmerge.ui.views.groups_view import groups_view

        return groups_view(identity, state, job)
    if isinstance(job, TokensJob):
        from lib_embedmerge.ui.views.weighing_view import tokens_view

        return tokens_view(identity, state, job.source)
    if isinstance(job, ShortenJob):
        from lib_embedmerge.ui.views.weighing_view import shortened_view

        return shortened_view(identity, state, job.source)
    if isinstance(job, OptimisingJob):
        from lib_embedmerge.ui.views.optimised_view import optimised_view

        return optimised_view(identity, state)
    from lib_embedmerge.ui.views.effect_view import library_effect_view

    return library_effect_view(identity, state)


def find_running(host: Host, place: str) -> str | None:
    """The id of the job that is running and belongs to an element of the page, or None. place: name of the element."""
    from lib_embedmerge.actions.measuring_jobs import MEASURING_JOBS, GroupsJob, LibraryEffectJob, TextJob
    from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS
    from lib_embedmerge.ui.views.effect_view import MEASURED
    from lib_embedmerge.ui.views.groups_view import GROUPED
    from lib_embedmerge.ui.views.weighing_view import WEIGHED

    kinds: dict[str, type] = {MEASURED: LibraryEffectJob, GROUPED: GroupsJob, WEIGHED: TextJob}
    if place not in kinds:
        return OPTIMISING_JOBS.running(host)
    identity = MEASURING_JOBS.running(host)
    return identity if identity and isinstance(MEASURING_JOBS.get(identity), kinds[place]) else None
