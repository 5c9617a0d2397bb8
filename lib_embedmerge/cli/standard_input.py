"""A source that the command line names, or that is piped into it."""

from __future__ import annotations

import sys

from lib_embedmerge.errors import StorageError


def read_source(text: str) -> str:
    """The source as given, or from standard input: UTF-8, less the line end that a shell puts behind it."""
    if text != "-":
        return text
    if sys.stdin is None:
        raise StorageError("There is no standard input to read the source from.", hint="Give the source itself.")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        message = f"Standard input is not UTF-8: byte {error.start + 1} does not fit."
        raise StorageError(message, hint="Save the text as UTF-8.") from error
