"""Handlers of the page Library's events: plain values from the widgets in, HTML out. Nothing here depends on gradio.

The script sends `places`, the files whose rows are ticked: a list of paths in the embeddings folder, in JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.core.fit_status import MAX_RATING
from lib_embedmerge.ui.guards import as_answer, as_html, as_list, without_unprintable
from lib_embedmerge.ui.job_handlers import find_checkpoints, read_list, read_lists
from lib_embedmerge.ui.preview_handlers import PreviewHandlers

if TYPE_CHECKING:
    from lib_embedmerge.actions.managing import FitCache, LibraryLister
    from lib_embedmerge.actions.shelf import PictureCache, PictureFile, ShelfEntry
    from lib_embedmerge.hosts.port import Host
    from lib_embedmerge.recipes.listing import Entry

MAX_ENTRIES = 200
"""How many entries are drawn in one answer."""


class LibraryHandlers(PreviewHandlers):
    """Handlers of the events of the page Library, for one host."""

    def __init__(self, host: Callable[[], Host]) -> None:
        """host: returns the host; first called at the first event."""
        super().__init__(host)
        self._fit_cache: FitCache | None = None
        self._pictures: PictureCache | None = None
        self._lister: LibraryLister | None = None
        self._listed: tuple[Mapping[str, Entry] | None, Markup] = None, Markup()
        """Place -> entry, as the library was listed last, and that list as it was drawn.

        The page asks for its entries only after it has the list.
        """

    @as_html
    def list_library(self) -> Markup:
        """The list of all embeddings, for the script."""
        from lib_embedmerge.actions.managing import LibraryLister
        from lib_embedmerge.ui.views.shelf_view import encode_files, listing_view

        self._lister = self._lister or LibraryLister()
        listing = self._lister.list_entries(self._host())
        entries, files = self._listed
        if listing.entries is not entries:
            files = encode_files(listing.entries)
            self._listed = listing.entries, files
        return listing_view(listing, time.time_ns(), files)

    def draw_entries(self, message: str) -> Markup:
        """What the page shows of some concepts.

        message: the number of the question, and on the next line a list in JSON: for each concept the places of its
        files, that of the embedding itself first.
        """
        number, _, concepts = message.partition("\n")
        return self._draw_entries(number, concepts)

    @as_answer
    def _draw_entries(self, concepts: str) -> Markup:
        from lib_embedmerge.ui.views.entry_view import entries_view

        return entries_view(self._describe(concepts), pictures=self._host().pictures is not None)

    def draw_pictures(self, message: str) -> Markup:
        """The small pictures of some concepts. message: as for `draw_entries`."""
        number, _, concepts = message.partition("\n")
        return self._draw_pictures(number, concepts)

    @as_answer
    def _draw_pictures(self, concepts: str) -> Markup:
        from lib_embedmerge.ui.views.entry_view import number_picture, pictures_view

        return pictures_view(
            {
                one.place: (number_picture(one.picture), self._make_small(one.picture))
                for one in self._describe(concepts)
            }
        )

    def draw_named_pictures(self, message: str) -> Markup:
        """The small pictures of embeddings, by name: those that are other ones than the page has.

        message: the number of the question, and on the next line a list in JSON: for each embedding its name, and the
        number of the picture that the page has, empty if none.
        """
        number, _, names = message.partition("\n")
        return self._draw_named_pictures(number, names)

    @as_answer
    def _draw_named_pictures(self, names: str) -> Markup:
        from lib_embedmerge.actions.shelf import find_pictures
        from lib_embedmerge.ui.views.entry_view import number_picture, pictures_view

        shown = {pair[0]: pair[1] for pair in read_lists(names)[:MAX_ENTRIES] if len(pair) == 2}
        pictures = find_pictures(self._host(), shown)
        drawn = {
            name: (number_picture(picture), self._make_small(picture))
            for name, picture in pictures.items()
            if number_picture(picture) != shown[name]
        }
        return pictures_view(drawn, key="name")

    def _make_small(self, picture: PictureFile | None) -> bytes | None:
        """A picture as a small JPEG; None if there is none or it cannot be read. Kept for the next time."""
        from lib_embedmerge.actions.shelf import PictureCache

        if self._pictures is None:
            self._pictures = PictureCache()
        return self._pictures.find(picture) if picture else None

    def _describe(self, concepts: str) -> list[ShelfEntry]:
        from lib_embedmerge.actions.shelf import describe_concepts, find_active_facts

        facts = find_active_facts(self._host())
        return list(describe_concepts(self._listed[0] or {}, read_lists(concepts)[:MAX_ENTRIES], facts))

    @as_html
    def rate(self, message: str) -> Markup:
        """Save how the user rates a file on the active model. message: a list in JSON: its place, and the rating, which
        is empty to remove it."""
        from lib_embedmerge.actions.rating import rate
        from lib_embedmerge.ui.views.library_view import done_view

        place, rating = [*read_list(message), "", ""][:2]
        model = rate(self._host(), place, int(rating) if rating.isdecimal() else None)
        return done_view(f"Rated {rating} of {MAX_RATING} on {model}." if rating else f"No longer rated on {model}.")

    @as_html
    def save_model_note(self, message: str) -> Markup:
        """Save what the user noted about a file on the active model.

        message: a list in JSON: its place, the rating, the weight and the text, each empty if there is none.
        """
        from lib_embedmerge.actions.rating import read_note, save_model_note
        from lib_embedmerge.ui.views.library_view import done_view

        place, *values = [*read_list(message), "", "", "", ""][:4]
        model = save_model_note(self._host(), place, read_note(*values))
        return done_view(f"The notes about {model} were saved.")

    @as_html
    def make_for_model(self, places: str) -> Markup:
        """Make versions of the files for the active model."""
        from lib_embedmerge.actions.shelf import make_for_model
        from lib_embedmerge.ui.views.library_view import made_view

        return made_view(make_for_model(self._host(), read_list(places)))

    def measure_fits(self, message: str) -> Markup:
        """How files fit the active model. message: the number of the question, and `places` on the next line."""
        number, _, places = message.partition("\n")
        return self._measure_fits(number, places)

    @as_answer
    def _measure_fits(self, places: str) -> Markup:
        from lib_embedmerge.actions.library_effects import find_known_effects
        from lib_embedmerge.actions.managing import FitCache
        from lib_embedmerge.actions.shelf import find_active_facts
        from lib_embedmerge.ui.views.entry_view import fits_view

        if self._fit_cache is None:
            self._fit_cache = FitCache()
        host = self._host()
        fits = self._fit_cache.measure(host, read_list(places))
        effects = find_known_effects(host, {place: file_fit.path for place, file_fit in fits.items()})
        return fits_view(fits, find_active_facts(host), effects)

    @as_html
    def save_notes(self, notes: str, message: str) -> Markup:
        """Set the notes of the files. If that would replace notes that the page did not show, ask the user first.

        message: a list in JSON: the notes in the box before they were edited, then `places`.
        """
        from lib_embedmerge.actions.managing import find_paths, read_notes
        from lib_embedmerge.ui.views.library_view import replacing_view

        shown, *places = read_list(message) or [""]
        expected = {"", _normalise_notes(shown), _normalise_notes(notes)}
        paths = find_paths(self._host(), places)
        others = [path.stem for path in paths if _normalise_notes(read_notes(path)) not in expected]
        if others:
            return replacing_view(others, json.dumps(places))
        return self.replace_notes(notes, json.dumps(places))

    @as_html
    def replace_notes(self, notes: str, places: str) -> Markup:
        """Set the notes of the files, whatever notes they have."""
        from lib_embedmerge.actions.managing import edit_notes
        from lib_embedmerge.ui.views.library_view import done_view

        edit_notes(self._host(), read_list(places), notes)
        return done_view("The notes were saved.")

    @as_html
    def rename(self, name: str, places: str) -> Markup:
        """Give a file another name. places: one file."""
        from lib_embedmerge.actions.managing import rename
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.html import note_list
        from lib_embedmerge.ui.views.library_view import done_view

        renamed = rename(self._host(), read_list(places), name)
        file, *variants = renamed.files
        were = "was" if len(variants) == 1 else "were"
        count = format_count(len(variants), "variant")
        renamed_too = f" {count} for other models {were} renamed too." if variants else ""
        return done_view(f"Renamed to {file.stem}.{renamed_too}") + note_list(renamed.warnings)

    @as_html
    def delete(self, places: str) -> Markup:
        """Move the files into the trash."""
        from lib_embedmerge.actions.managing import delete
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.views.library_view import done_view

        deleted = delete(self._host(), read_list(places))
        return done_view(f"Deleted {format_count(len(deleted.files), 'file')}.", deleted)

    @as_html
    def restore_deleted(self, deletion: str) -> Markup:
        """Move the files of a deletion back from the trash. deletion: its id."""
        from lib_embedmerge.actions.managing import restore_deleted
        from lib_embedmerge.errors import format_count
        from lib_embedmerge.ui.views.library_view import done_view

        return done_view(f"Restored {format_count(len(restore_deleted(self._host(), deletion)), 'file')}.")

    @as_html
    def recover_text(self, places: str) -> Markup:
        """Find the text that an embedding was made from. places: one file."""
        from lib_embedmerge.actions.managing import recover_text
        from lib_embedmerge.ui.views.library_view import recovered_view

        return recovered_view(places, recover_text(self._host(), read_list(places)))

    @as_html
    def save_recovered_text(self, places: str) -> Markup:
        """Save the recovered text as the recipe of the embedding. places: one file."""
        from lib_embedmerge.actions.managing import save_recovered_text
        from lib_embedmerge.ui.views.library_view import done_view

        return done_view(
            f"The text was saved as the recipe of {save_recovered_text(self._host(), read_list(places)).name}."
        )

    @as_html
    def compare(self, checkpoints: Sequence[str], source: str) -> Markup:
        """How far checkpoints are apart. source: a text to compare their outputs for, if not blank."""
        from lib_embedmerge.actions.comparing import CompareRequest, compare_models
        from lib_embedmerge.ui.views.comparison_view import comparison_view

        host = self._host()
        request = CompareRequest(source if source.strip() else None, embeddings=host.library())
        return comparison_view(compare_models(find_checkpoints(host, checkpoints), request))

    @as_list
    def list_checkpoints(self) -> tuple[str, ...]:
        """Checkpoints that files can be rebuilt for."""
        return without_unprintable(tuple(self._host().checkpoints()))


def _normalise_notes(notes: str) -> str:
    """Notes in the form in which a text box returns them: with line feeds, and no blanks at either end."""
    return notes.replace("\r\n", "\n").replace("\r", "\n").strip()
