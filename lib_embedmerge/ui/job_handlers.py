"""Handlers of jobs that run in the background while the page shows their progress."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import HostError, quote
from lib_embedmerge.ui.following_handlers import FollowingHandlers
from lib_embedmerge.ui.guards import as_html

if TYPE_CHECKING:
    from pathlib import Path

    from lib_embedmerge.hosts.port import Host


class JobHandlers(FollowingHandlers):
    """Handlers of the events of background jobs, for one host."""

    @as_html
    def start_rebuild(self, checkpoints: Sequence[str], places: str) -> Markup:
        """Start a job that makes variants of the files for checkpoints."""
        from lib_embedmerge.actions.jobs import JOBS
        from lib_embedmerge.actions.managing import find_paths

        host = self._host()

        def start() -> str:
            targets = _find_targets(host, checkpoints, "rebuild")
            return JOBS.start(host, find_paths(host, read_list(places)), targets)

        return self._show_started(start, self.show_running_job)

    @as_html
    def start_restore(self, checkpoints: Sequence[str], places: str, *, only_sure: bool) -> Markup:
        """Start a job that finds the texts of files, or of all files if none is ticked. It writes nothing.

        only_sure: whether files are left alone of which some words are not certain.
        """
        from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS
        from lib_embedmerge.actions.managing import find_paths
        from lib_embedmerge.actions.restoring_folders import RestoreRequest, RestoreWishes

        host = self._host()

        def start() -> str:
            targets = _find_targets(host, checkpoints, "restore")
            ticked = read_list(places)
            paths = find_paths(host, ticked) if ticked else [host.embeddings_folder]
            wishes = RestoreWishes(only_sure=only_sure)
            return LIBRARY_JOBS.restore(host, RestoreRequest(paths, targets, wishes, dry_run=True))

        return self._show_started(start, self.show_running_job)

    @as_html
    def write_restored(self, message: str) -> Markup:
        """Write the ticked files of a restore that has found their texts.

        message: a list in JSON: the id of the job, then the numbers of the ticked results.
        """
        from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS

        identity, *numbers = read_list(message) or [""]
        chosen = [int(number) for number in numbers if number.isdecimal()]

        def start() -> str:
            return LIBRARY_JOBS.write_chosen(self._host(), identity, chosen)

        return self._show_started(start, self.show_running_job)

    @as_html
    def show_running_job(self) -> Markup:
        """The progress of the rebuild or the restore that is running; nothing if none is."""
        from lib_embedmerge.actions.jobs import JOBS
        from lib_embedmerge.actions.library_jobs import LIBRARY_JOBS

        host = self._host()
        identity = JOBS.running(host) or LIBRARY_JOBS.running_restore(host)
        return self.show_job(identity) if identity else Markup("")


def find_checkpoints(host: Host, checkpoints: Sequence[str]) -> list[Path]:
    """The files of checkpoints by their titles. HostError if one no longer exists."""
    paths = host.checkpoints()
    if gone := [title for title in checkpoints if title not in paths]:
        raise HostError(f"{quote(gone[0])} no longer exists.", hint="Remove it from the chosen checkpoints.")
    return [paths[title] for title in checkpoints]


def _find_targets(host: Host, checkpoints: Sequence[str], action: str) -> list[Path]:
    """As `find_checkpoints`, HostError if none is chosen. action: what is to be done for them, a verb."""
    if not checkpoints:
        raise HostError("No checkpoint is chosen.", hint=f"Choose one or more to {action} for.")
    return find_checkpoints(host, checkpoints)


def read_list(places: str) -> list[str]:
    """The texts of a list in JSON. Empty if it is not one, as from the page of another version."""
    return [value for value in _read_json_list(places) if isinstance(value, str)]


def read_lists(concepts: str) -> list[list[str]]:
    """The lists of texts in a list in JSON. Empty as for `read_list`."""
    lists = (value for value in _read_json_list(concepts) if isinstance(value, list))
    return [[place for place in places if isinstance(place, str)] for places in lists]


def _read_json_list(text: str) -> list[object]:
    try:
        values = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) else []
