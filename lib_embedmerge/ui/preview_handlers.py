"""Handlers of the section that makes preview pictures: plain values from the widgets in, HTML or plain values out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from markupsafe import Markup

from lib_embedmerge.errors import EmbedMergeError
from lib_embedmerge.ui.guards import as_html, without_unprintable
from lib_embedmerge.ui.job_handlers import JobHandlers, read_list, read_lists

FIELDS = ("prompt", "negative_prompt", "sampler", "scheduler", "steps", "width", "height", "guidance", "seed")
"""The fields of the section, in order."""


class Choices(NamedTuple):
    """What the section offers. samplers, schedulers: to choose from.  values: of FIELDS."""

    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]
    values: Mapping[str, str]


class PreviewHandlers(JobHandlers):
    """Handlers of the events of the section, for one host."""

    def read_tab_settings(self, message: str) -> Choices:
        """What the section offers, filled with the settings of the web UI's tab txt2img.

        message: the settings as the script has read them from the page, an object in JSON. Those that cannot be used
            here become the section's own.
        """
        from lib_embedmerge.actions.previewing import complete_fields, find_maker

        try:
            maker = find_maker(self._host())
        except EmbedMergeError:
            return Choices((), (), complete_fields({}, (), ()))
        samplers, schedulers = (without_unprintable(tuple(names)) for names in (maker.samplers(), maker.schedulers()))
        return Choices(samplers, schedulers, complete_fields(_read_object(message), samplers, schedulers))

    @as_html
    def start_previews(self, fields: Mapping[str, str], pairs: str) -> Markup:
        """Start a job that makes pictures.

        fields: of FIELDS.  pairs: a list in JSON, for each embedding a list of its place and of that of the file which
            the prompt uses.
        """
        from lib_embedmerge.actions.preview_jobs import PREVIEW_JOBS
        from lib_embedmerge.actions.previewing import read_settings
        from lib_embedmerge.ui.views.error_view import error_view

        subjects = [(pair[0], pair[-1]) for pair in read_lists(pairs) if pair]
        try:
            identity = PREVIEW_JOBS.start(self._host(), subjects, read_settings(fields))
        except EmbedMergeError as error:  # the pictures of the last job stay below it
            return error_view(error) + self.show_last_previews()
        return self.show_job(identity)

    @as_html
    def show_last_previews(self) -> Markup:
        """The progress of the job that makes pictures, or the last pictures that are not saved; nothing if none are."""
        from lib_embedmerge.actions.preview_jobs import PREVIEW_JOBS

        identity = PREVIEW_JOBS.find_unsaved(self._host())
        return self.show_job(identity) if identity else Markup("")

    @as_html
    def set_up_grid(self, message: str) -> Markup:
        """A text that the script pastes into txt2img, where it sets up a grid of some embeddings by checkpoints.

        message: a list in JSON: the settings of the tab txt2img, an object in JSON; then the places of the embeddings.
        """
        from lib_embedmerge.actions.previewing import write_grid
        from lib_embedmerge.ui.views.previews_view import grid_view

        tab, *places = read_list(message) or ["{}"]
        return grid_view(write_grid(self._host(), places, _read_object(tab)), time.time_ns())

    @as_html
    def keep_previews(self, message: str) -> Markup:
        """Make the ticked pictures of a job the previews of their embeddings, and show the rest again.

        message: a list in JSON: the id of the job, then the numbers of the ticked pictures.
        """
        from lib_embedmerge.actions.preview_jobs import PREVIEW_JOBS
        from lib_embedmerge.ui.views.error_view import error_view
        from lib_embedmerge.ui.views.previews_view import kept_view

        identity, *numbers = read_list(message) or [""]
        job = PREVIEW_JOBS.get(identity)
        try:
            kept = kept_view(job.keep([int(number) for number in numbers if number.isdecimal()]))
        except EmbedMergeError as error:
            kept = error_view(error)
        return kept + self.show_job(identity)


def _read_object(message: str) -> dict[str, str]:
    """The texts of an object in JSON. Empty if it is none, as from the page of another version."""
    try:
        values = json.loads(message or "{}")
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in values.items() if isinstance(value, str)} if isinstance(values, dict) else {}
