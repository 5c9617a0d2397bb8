"""Invisible characters, which copied texts often contain."""

from __future__ import annotations

import unicodedata

_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\ufe0e\ufe0f")
"""Characters that show nothing although Unicode classes them as letters, symbols or marks."""


def is_invisible(character: str) -> bool:
    """Whether a character is invisible. Spaces, tabs and line breaks are not."""
    if character in "\t\n\r":
        return False
    return unicodedata.category(character) in ("Cf", "Cc") or character in _BLANK


def remove_invisible(text: str) -> str:
    """A text without its invisible characters; spaces, tabs and line breaks stay."""
    return "".join(character for character in text if not is_invisible(character))
