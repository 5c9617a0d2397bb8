"""The pictures that web UIs show for embeddings, `name.png` or `name.preview.png` beside the file, made small.

Every picture is decoded and written again as a JPEG, so that nothing else that its file contains reaches a page.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

from lib_embedmerge.core.endings import PREVIEWS
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.opening import check_regular, open_regular

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_SIDES = (256, 384)
"""Most pixels of a small picture, width and height. The cards of web UIs are as high as that."""
_MAX_FILE = 64 * 1024 * 1024
"""Bytes of the largest file that is opened."""
_MAX_PIXELS = 64 * 1024 * 1024
_QUALITY = 82


def find_preview(path: Path) -> Path | None:
    """The picture that web UIs show for the embedding in a file; None if there is none.

    For an embedding that is stored in a picture it is this picture.
    """
    if path.suffix.lower() in PREVIEWS:
        return path
    return next((picture for ending in PREVIEWS if (picture := path.with_name(path.stem + ending)).is_file()), None)


def find_first_preview(paths: Iterable[Path]) -> Path | None:
    """The picture of the first of these files that has one."""
    return next((picture for path in paths if (picture := find_preview(path))), None)


def make_small_picture(path: Path) -> bytes | None:
    """A picture as a JPEG of at most 256 by 384 pixels; None if it cannot be read, or Pillow is missing.

    Of an animation it is the first picture.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return None
    try:
        if check_regular(path) > _MAX_FILE:
            return None
        with warnings.catch_warnings(), open_regular(path) as file, Image.open(file, formats=_FORMATS) as opened:
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, which the next line refuses
            if opened.width * opened.height > _MAX_PIXELS:
                return None
            opened.draft("RGB", _SIDES)  # of a JPEG, only as many details are decoded
            opened.thumbnail(_SIDES, Image.Resampling.BILINEAR, reducing_gap=2.0)
            turned = (ImageOps.exif_transpose(opened) or opened).convert("RGBA")
            small = Image.new("RGB", turned.size, "white")
            small.paste(turned, mask=turned)
    except (StorageError, OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError):
        return None
    written = io.BytesIO()
    small.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
