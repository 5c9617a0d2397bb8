"""Read a source from an argument or from standard input."""

from __future__ import annotations

import codecs
import sys

from lib_embedmerge.errors import StorageError


def read_source(text: str) -> str:
    """The source: `text` itself, or standard input without its last line end if `text` is `-`.

    Standard input is UTF-8, or UTF-16 if it begins with a byte order mark. StorageError if it is missing or neither.
    """
    if text != "-":
        return text
    if sys.stdin is None:
        raise StorageError("There is no standard input to read the source from.", hint="Give the source itself.")
    try:
        content = sys.stdin.buffer.read()
        # PowerShell's > writes UTF-16 with a byte order mark.
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return content.decode(encoding).removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        message = f"Standard input is not UTF-8: byte {error.start + 1} is invalid."
        raise StorageError(message, hint="Save the text as UTF-8.") from error
