"""Text of unknown origin, for tables."""

from __future__ import annotations

from rich.text import Text

from lib_embedmerge.errors import escape_unprintable


def as_plain_text(text: object) -> Text:
    """Text without markup, and without anything that a terminal or a reader's eye would act on."""
    return Text(escape_unprintable(str(text)))
