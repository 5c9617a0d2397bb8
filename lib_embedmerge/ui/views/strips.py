"""The values of a vector as a strip of colours: a picture one pixel high, which the page stretches.

Written by hand as a PNG of four bits a pixel: smaller than what Pillow makes and much faster; with 75 vectors for each
text encoder both count. Format: PNG specification (W3C, third edition), sections 5 and 11.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from struct import pack
from zlib import compress, crc32

from markupsafe import Markup

MAX_CELLS = 1280

_LEVELS = 7
"""Shades on either side of zero; with zero and the colour for what is no number, all that four bits tell apart."""

_MIDDLE = _LEVELS + 0.5
"""Added before cutting to an integer, which rounds."""

_NEGATIVE, _POSITIVE, _NOT_FINITE = (37, 99, 235), (217, 98, 10), (214, 0, 190)
"""Blue and orange stay apart for the colour-blind; what is no number has a colour that no number has."""


def draw_strip(strip: Sequence[float], label: str) -> Markup:
    """A strip as an <img>; nothing where it is empty. label: what it shows, for those who cannot see it.

    Values are shares of full colour: beyond -1 and 1 they look the same, 0 is transparent.
    """
    if not strip:
        return Markup("")
    cells = strip[:MAX_CELLS]
    picture = b64encode(_png(cells)).decode("ascii")
    template = Markup('<img class="embedmerge-strip" alt="%s" width="%d" height="1" src="data:image/png;base64,%s">')
    return template % (label, len(cells), picture)


def _png(cells: Sequence[float]) -> bytes:
    indices = bytes([int(_LEVELS * value + _MIDDLE) if -1 <= value <= 1 else _beyond(value) for value in cells])
    # A hexadecimal digit is a pixel of four bits; a row ends with a whole byte.
    row = bytes.fromhex(f"00{indices.hex()[1::2]}{'0' * (len(cells) % 2)}")
    header = pack(">IIBBBBB", len(cells), 1, 4, 3, 0, 0, 0)  # 4 bits a pixel, colours by palette
    return _HEAD + _chunk(b"IHDR", header) + _PALETTE + _chunk(b"IDAT", compress(row, 6)) + _TAIL


def _beyond(value: float) -> int:
    """The entry of the palette for a value that is not within -1..1; the last one is for NaN and infinity."""
    if value - value != 0:
        return 2 * _LEVELS + 1
    return 2 * _LEVELS if value > 0 else 0


def _chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", crc32(kind + content))


def _palette() -> bytes:
    """Zero is transparent, so that strips stand on a light page as well as on a dark one; magnitude is opacity."""
    colours = [_NEGATIVE] * _LEVELS + [_POSITIVE] * (_LEVELS + 1) + [_NOT_FINITE]
    opacity = [round(255 * abs(level) / _LEVELS) for level in range(-_LEVELS, _LEVELS + 1)] + [255]
    return _chunk(b"PLTE", b"".join(map(bytes, colours))) + _chunk(b"tRNS", bytes(opacity))


_HEAD, _PALETTE, _TAIL = b"\x89PNG\r\n\x1a\n", _palette(), _chunk(b"IEND", b"")
