"""Where a file can be dropped, or chosen."""

from __future__ import annotations

from markupsafe import Markup

from lib_embedmerge.storage.endings import SUFFIXES
from lib_embedmerge.ui.dropped import MAX_DROPPED
from lib_embedmerge.ui.html import view


def drop_view() -> Markup:
    """The place, with the largest size that is taken in bytes; the script does the rest (embedmerge_dropping.js)."""
    place = Markup(
        '<label class="embedmerge-drop" data-embedmerge-largest="{}">'
        '<span>or drop a file here, or <span class="embedmerge-choose">choose one</span></span>'
        '<input type="file" accept="{}" class="embedmerge-chooser"></label>'
    ).format(MAX_DROPPED, ",".join(SUFFIXES))
    return view("dropping", [place])
