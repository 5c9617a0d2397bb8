"""Files that are dropped into the page: the page's script reads them, and sends what they hold as a text.

Not gradio's own component, which takes a path or an address from whoever asks: version 3.41.2 copies any file of the
machine into its cache for that, 4.40 fetches any address. Here a request can say what a file holds and what it is
called, and nothing else. The file lies in a folder of its own, under a name of ours, for as long as it is looked at.
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
"""Bytes of a file. An embedding for SDXL of 75 vectors takes 614,400."""

_SUFFIX = re.compile(r"\.[a-z0-9]{1,12}")
_LONGEST_NAME = 255


def drop_view() -> Markup:
    """Where a file can be dropped, or chosen, with the largest size that is taken in bytes; the script does the rest
    (embedmerge_dropping.js)."""
    place = Markup(
        '<label class="embedmerge-drop" data-embedmerge-largest="{}">'
        '<span>or drop a file here, or <span class="embedmerge-choose">choose one</span></span>'
        '<input type="file" accept="{}" class="embedmerge-chooser"></label>'
    ).format(MAX_DROPPED, ",".join(SUFFIXES))
    return view("dropping", [place])


@contextlib.contextmanager
def dropped_file(said: str) -> Iterator[tuple[Path, str]]:
    """A file that was dropped, and what its owner calls it, without folders. It is gone at the end.

    said: JSON of the page's script: {"name", "size" in bytes, "data" in base64, null where that is too much}.
    StorageError where it is too large, or this is no such text.
    """
    name, data = _read(said)
    suffix = PureWindowsPath(name).suffix.lower()
    with tempfile.TemporaryDirectory(prefix="embedmerge-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"dropped{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        path.write_bytes(data)
        yield path, name


def _read(said: str) -> tuple[str, bytes]:
    hint = "Reload the page, then drop it again."
    try:
        told = json.loads(said)
        name, size, encoded = told["name"], told["size"], told["data"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StorageError("The file did not arrive.", hint=hint) from error
    if not isinstance(name, str) or not isinstance(size, int):
        raise StorageError("The file did not arrive.", hint=hint)
    name = PureWindowsPath(name).name[:_LONGEST_NAME] or "dropped"
    if size > MAX_DROPPED or (isinstance(encoded, str) and len(encoded) > MAX_DROPPED * 4 // 3 + 4):
        message = f"{quote(name)} has {size:,} bytes; the page accepts at most {MAX_DROPPED:,}."
        hint = "Embeddings are smaller. Put the file into the embeddings folder, or use the command `embedmerge show`."
        raise StorageError(message, hint=hint)
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise StorageError(f"{quote(name)} did not arrive completely.", hint=hint) from error
    if len(data) != size:
        raise StorageError(f"{quote(name)} did not arrive completely.", hint=hint)
    return name, data
