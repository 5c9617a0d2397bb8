"""A mistake in a prompt as one or two sentences, with its place: for programs that show plain text alone."""

from __future__ import annotations

from lib_embedmerge.errors import EmbedMergeError, escape_unprintable

_MAX_SHOWN = 60
"""Most characters of an expression that a message quotes."""


def make_sentence(error: EmbedMergeError, position: str) -> str:
    """The message of an error, its position in words, and the hint."""
    hint = f" {escape_unprintable(error.hint)}" if error.hint else ""
    return f"{escape_unprintable(error.message)} (At {position}.){hint}"


def describe_position(start: int, title: str, expression: str) -> str:
    """A position for `make_sentence`.

    start: of the mistake, in the text.  title: what the text is called.  expression: which has the mistake.
    """
    shown = expression if len(expression) <= _MAX_SHOWN else expression[: _MAX_SHOWN - 1] + "…"
    return f"character {start + 1} of the {title}, in {escape_unprintable(shown)}"
