"""What handlers of background jobs have in common: show a job, cancel it, and show one that is started now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.ui.guards import as_html

if TYPE_CHECKING:
    from lib_embedmerge.hosts.port import Host


class FollowingHandlers:
    """Handlers of jobs whose progress the page shows, for one host."""

    def __init__(self, host: Callable[[], Host]) -> None:
        """host: returns the host; first called at the first event."""
        self._host = host

    @as_html
    def show_running(self, place: str) -> Markup:
        """The progress of the job that belongs to an element of the page; nothing if none is running.

        place: name of the element.
        """
        from lib_embedmerge.ui.job_drawing import find_running

        identity = find_running(self._host(), place)
        return self.show_job(identity) if identity else Markup("")

    @as_html
    def show_job(self, identity: str) -> Markup:
        """The progress of a job, or its results. identity: the id of the job."""
        from lib_embedmerge.actions.background_jobs import find_job
        from lib_embedmerge.ui.job_drawing import draw_job

        return draw_job(identity, find_job(identity))

    @as_html
    def cancel_job(self, identity: str) -> Markup:
        """Stop a job. identity: the id of the job."""
        from lib_embedmerge.actions.background_jobs import find_job

        find_job(identity).cancel()
        find_job(identity).wait(5)
        return self.show_job(identity)

    def _show_started(self, start: Callable[[], str], show_running: Callable[[], Markup]) -> Markup:
        """The progress of a job that is started now; if it cannot be, the error, above what is running in its place.

        start: starts the job, and returns its id.  show_running: the progress of the running job of the same place. A
            job of another place is not drawn here, because the buttons of each place belong to its own jobs.
        """
        from lib_embedmerge.ui.views.error_view import error_view

        try:
            return self.show_job(start())
        except EmbedMergeError as error:
            return error_view(error) + show_running()
