"""What happens on each event of the page Library: plain values from the widgets in, HTML out. Knows no gradio.

Files are named by the script, as a list of places in JSON: those whose rows are ticked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import EmbedMergeError, HostError, quote
from lib_embedmerge.ui.guards import as_answer, as_html, as_list, without_unprintable

if TYPE_CHECKING:
    from pathlib import Path

    from lib_embedmerge.actions.managing import FitCache
    from lib_embedmerge.hosts.port import Host


class LibraryHandlers:
    """The events of the library over one host."""

    def __init__(self, host: Callable[[], Host]) -> None:
        """host: gives the host; asked at the first event, not before."""
        self._host = host
        self._fits_known: FitCache | None = None

    @as_html
    def list_library(self) -> Markup:
        """The table."""
        from lib_embedmerge.actions.managing import list_library
        from lib_embedmerge.ui.views.library_view import listing_view

        return listing_view(list_library(self._host()))

    def fits(self, asked: str) -> Markup:
        """How some files fit the active model. asked: the number of the question, and in the next line their places."""
        number, _, places = asked.partition("\n")
        return self._measure_fits(number, places)

    @as_answer
    def _measure_fits(self, places: str) -> Markup:
        from lib_embedmerge.actions.managing import FitCache
        from lib_embedmerge.ui.views.library_view import fits_view

        if self._fits_known is None:
            self._fits_known = FitCache()
        return fits_view(self._fits_known.of(self._host(), _list(places)))

    @as_html
    def note(self, notes: str, said: str) -> Markup:
        """Set the notes of the files; where that would replace some that were not shown, ask first.

        said: what was in the box before it was edited, and the places, in JSON.
        """
        from lib_embedmerge.actions.managing import find_paths, read_notes
        from lib_embedmerge.ui.views.library_view import replacing_view

        shown, *places = _list(said) or [""]
        known = {"", _alike(shown), _alike(notes)}
        others = [path.stem for path in find_paths(self._host(), places) if _alike(read_notes(path)) not in known]
        if others:
            return replacing_view(others, json.dumps(places))
        return self.renote(notes, json.dumps(places))

    @as_html
    def renote(self, notes: str, places: str) -> Markup:
        """Set the notes of the files, whatever they are."""
        from lib_embedmerge.actions.managing import edit_notes
        from lib_embedmerge.ui.views.library_view import done_view

        edit_notes(self._host(), _list(places), notes)
        return done_view("The notes were saved.")

    @as_html
    def rename(self, name: str, places: str) -> Markup:
        """Give the one file another name."""
        from lib_embedmerge.actions.managing import rename
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.html import note_list
        from lib_embedmerge.ui.views.library_view import done_view

        renamed = rename(self._host(), _list(places), name)
        own, *variants = renamed.files
        were = "was" if len(variants) == 1 else "were"
        along = f" {format_count(len(variants), 'variant')} for other models {were} renamed too." if variants else ""
        return done_view(f"Renamed to {own.stem}.{along}") + note_list(renamed.warnings)

    @as_html
    def delete(self, places: str) -> Markup:
        """Move the files into the trash."""
        from lib_embedmerge.actions.managing import delete
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.views.library_view import done_view

        deleted = delete(self._host(), _list(places))
        return done_view(f"Deleted {format_count(len(deleted.files), 'file')}.", deleted)

    @as_html
    def restore_deleted(self, deletion: str) -> Markup:
        """Bring back what a deletion moved into the trash."""
        from lib_embedmerge.actions.managing import restore_deleted
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.views.library_view import done_view

        return done_view(f"Restored {format_count(len(restore_deleted(self._host(), deletion)), 'file')}.")

    @as_html
    def recover(self, places: str) -> Markup:
        """What the one file's vectors are made of."""
        from lib_embedmerge.actions.managing import recover_text
        from lib_embedmerge.ui.views.library_view import recovered_view

        return recovered_view(places, recover_text(self._host(), _list(places)))

    @as_html
    def keep(self, places: str) -> Markup:
        """Make that its recipe."""
        from lib_embedmerge.actions.managing import save_recovered_text
        from lib_embedmerge.ui.views.library_view import done_view

        return done_view(
            f"The text was saved as the recipe of {save_recovered_text(self._host(), _list(places)).name}."
        )

    @as_html
    def compare(self, checkpoints: Sequence[str], source: str) -> Markup:
        """How far checkpoints are apart, and what they make of a text, where there is one."""
        from lib_embedmerge.actions.comparing import CompareRequest, compare_models
        from lib_embedmerge.ui.views.comparison_view import comparison_view

        host = self._host()
        wanted = CompareRequest(source if source.strip() else None, embeddings=host.library())
        return comparison_view(compare_models(_files(host, checkpoints), wanted))

    @as_list
    def checkpoints(self) -> tuple[str, ...]:
        """What files can be rebuilt for."""
        return without_unprintable(tuple(self._host().checkpoints()))

    @as_html
    def rebuild(self, checkpoints: Sequence[str], places: str) -> Markup:
        """Begin to make variants of the files for these checkpoints."""
        from lib_embedmerge.actions.jobs import JOBS
        from lib_embedmerge.actions.managing import find_paths
        from lib_embedmerge.ui.views.error_view import error_view

        host = self._host()
        try:
            wanted = _files(host, checkpoints)
            if not wanted:
                raise HostError("No checkpoint is chosen.", hint="Choose one or more to rebuild for.")
            identity = JOBS.start(host, find_paths(host, _list(places)), wanted)
        except EmbedMergeError as error:  # told beside the one that is under way, which stays in sight
            return error_view(error) + self.running()
        return self.job(identity)

    @as_html
    def running(self) -> Markup:
        """How far the rebuild is that is under way; nothing where none is."""
        from lib_embedmerge.actions.jobs import JOBS

        identity = JOBS.running(self._host())
        return self.job(identity) if identity else Markup("")

    @as_html
    def job(self, identity: str) -> Markup:
        """How far a rebuild is."""
        from lib_embedmerge.actions.jobs import JOBS
        from lib_embedmerge.ui.views.library_view import job_view

        return job_view(identity, JOBS.get(identity).state())

    @as_html
    def cancel(self, identity: str) -> Markup:
        """Have a rebuild stop."""
        from lib_embedmerge.actions.jobs import JOBS

        JOBS.get(identity).cancel()
        JOBS.get(identity).wait(5)
        return self.job(identity)


def _files(host: Host, checkpoints: Sequence[str]) -> list[Path]:
    """The files of checkpoints by their titles. HostError where one is there no more."""
    known = host.checkpoints()
    if gone := [title for title in checkpoints if title not in known]:
        raise HostError(f"{quote(gone[0])} no longer exists.", hint="Remove it from the chosen checkpoints.")
    return [known[title] for title in checkpoints]


def _alike(notes: str) -> str:
    """Notes as a browser gives them back, which knows one end of a line, and as they are stored."""
    return notes.replace("\r\n", "\n").replace("\r", "\n").strip()


def _list(places: str) -> list[str]:
    """What the script sends. An empty list for what is none: the page of another version."""
    try:
        found = json.loads(places or "[]")
    except (ValueError, RecursionError):
        return []
    return [place for place in found if isinstance(place, str)] if isinstance(found, list) else []
