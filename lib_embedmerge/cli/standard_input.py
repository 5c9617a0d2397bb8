"""A source that the command line names, or that is piped into it."""

from __future__ import annotations

import codecs
import sys

from lib_embedmerge.errors import StorageError


def read_source(text: str) -> str:
    """The source as given, or from standard input, less the line end that a shell adds.

    Standard input is UTF-8, or UTF-16 where it begins with the mark of that.
    """
    if text != "-":
        return text
    if sys.stdin is None:
        raise StorageError("There is no standard input to read the source from.", hint="Give the source itself.")
    try:
        content = sys.stdin.buffer.read()
        # What PowerShell's > writes begins with a mark of UTF-16.
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return content.decode(encoding).removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        message = f"Standard input is not UTF-8: byte {error.start + 1} is invalid."
        raise StorageError(message, hint="Save the text as UTF-8.") from error
