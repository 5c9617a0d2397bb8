"""Text of unknown origin, for tables."""

from __future__ import annotations

from rich.text import Text

from lib_embedmerge.errors import printable


def as_plain_text(text: object) -> Text:
    """Text without markup, and without anything that a terminal or a reader's eye would act on."""
    return Text(printable(str(text)))
