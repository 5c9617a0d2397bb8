"""Text of unknown origin, to be printed in tables."""

from __future__ import annotations

from rich.text import Text

from lib_embedmerge.errors import escape_unprintable


def as_plain_text(text: object) -> Text:
    """Text that rich prints without reading markup, with escapes for control characters and other unprintable ones."""
    return Text(escape_unprintable(str(text)))
