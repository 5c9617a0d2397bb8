"""Files that are dropped into the page. The page's script reads them and sends their content as text.

gradio's own component for files is not used, because it accepts a path or an address from whoever sends a request:
version 3.41.2 copies any file of the machine into its cache, 4.40 fetches any address. Here a request can only contain
the content of a file and its name. While it is inspected, the content is in a temporary folder, under a fixed name.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from markupsafe import Markup

from lib_embedmerge.core.endings import SUFFIXES
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.ui.html import view

MAX_DROPPED = 16_000_000
"""Bytes of the largest file that is accepted. An embedding for SDXL with 75 vectors takes 614,400."""

_SUFFIX = re.compile(r"\.[a-z0-9]{1,12}")
_LONGEST_NAME = 255


def drop_view() -> Markup:
    """The area where a file can be dropped or chosen, with the largest accepted size in bytes.

    The script javascript/embedmerge_dropping.js reads the file and sends it.
    """
    area = Markup(
        '<label class="embedmerge-drop" data-embedmerge-largest="{}">'
        '<span>or drop a file here, or <span class="embedmerge-choose">choose one</span></span>'
        '<input type="file" accept="{}" class="embedmerge-chooser"></label>'
    ).format(MAX_DROPPED, ",".join(SUFFIXES))
    return view("dropping", [area])


@contextlib.contextmanager
def open_dropped_file(message: str) -> Iterator[tuple[Path, str]]:
    """Keep a dropped file on disk during the `with` block. Gives its path, and its own name without folders.

    message: JSON from the page's script: {"name", "size" in bytes, "data" in base64, or null if the file is too large}.
    StorageError if the file is too large or the message is not of this form.
    """
    name, data = _decode_message(message)
    suffix = PureWindowsPath(name).suffix.lower()
    with tempfile.TemporaryDirectory(prefix="embedmerge-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"dropped{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        path.write_bytes(data)
        yield path, name


def _decode_message(message: str) -> tuple[str, bytes]:
    """The name and the content of a dropped file. StorageError if it is too large or did not arrive completely."""
    hint = "Reload the page, then drop it again."
    try:
        fields = json.loads(message)
        name, size, encoded = fields["name"], fields["size"], fields["data"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StorageError("The file did not arrive.", hint=hint) from error
    if not isinstance(name, str) or not isinstance(size, int):
        raise StorageError("The file did not arrive.", hint=hint)
    name = PureWindowsPath(name).name[:_LONGEST_NAME] or "dropped"
    if size > MAX_DROPPED or (isinstance(encoded, str) and len(encoded) > MAX_DROPPED * 4 // 3 + 4):
        sentence = f"{quote(name)} has {size:,} bytes; the page accepts at most {MAX_DROPPED:,}."
        hint = "Embeddings are smaller. Put the file into the embeddings folder, or use the command `embedmerge show`."
        raise StorageError(sentence, hint=hint)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise StorageError(f"{quote(name)} did not arrive completely.", hint=hint) from error
    if len(data) != size:
        raise StorageError(f"{quote(name)} did not arrive completely.", hint=hint)
    return name, data
