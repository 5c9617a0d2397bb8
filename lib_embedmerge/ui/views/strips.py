"""The values of a vector as a strip of colours: an image one pixel high, which the page stretches.

The PNG, with four bits for each pixel, is written by hand: much faster than with Pillow, and smaller. Both matter with
75 vectors for each text encoder. Format: PNG specification (W3C, third edition), sections 5 and 11.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from struct import pack
from zlib import compress, crc32

from markupsafe import Markup

MAX_CELLS = 1280

_LEVELS = 7
"""Shades on either side of zero. With zero and the colour for NaN and infinity they use all 16 values of four bits."""

_MIDDLE = _LEVELS + 0.5
"""Added before truncation to an integer, so that values are rounded."""

_NEGATIVE, _POSITIVE, _NOT_FINITE = (37, 99, 235), (217, 98, 10), (214, 0, 190)
"""Colour-blind people can tell blue from orange. NaN and infinity have a colour that no number has."""


def draw_strip(strip: Sequence[float], label: str) -> Markup:
    """A strip as an <img>, or nothing if it is empty.

    strip: values from -1 to 1. Those outside this range have full colour, 0 is transparent.
    label: describes the strip to people who cannot see it.
    """
    if not strip:
        return Markup("")
    cells = strip[:MAX_CELLS]
    picture = b64encode(_encode_png(cells)).decode("ascii")
    template = Markup('<img class="embedmerge-strip" alt="%s" width="%d" height="1" src="data:image/png;base64,%s">')
    return template % (label, len(cells), picture)


def _encode_png(cells: Sequence[float]) -> bytes:
    indices = bytes([int(_LEVELS * value + _MIDDLE) if -1 <= value <= 1 else _clip_index(value) for value in cells])
    # Each hexadecimal digit is a pixel of four bits. A row is padded to a whole byte.
    row = bytes.fromhex(f"00{indices.hex()[1::2]}{'0' * (len(cells) % 2)}")
    header = pack(">IIBBBBB", len(cells), 1, 4, 3, 0, 0, 0)  # 4 bits a pixel, colours by palette
    return _HEAD + _pack_chunk(b"IHDR", header) + _PALETTE + _pack_chunk(b"IDAT", compress(row, 6)) + _TAIL


def _clip_index(value: float) -> int:
    """The palette index for a value outside -1..1. The last entry is for NaN and infinity."""
    if value - value != 0:
        return 2 * _LEVELS + 1
    return 2 * _LEVELS if value > 0 else 0


def _pack_chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", crc32(kind + content))


def _make_palette() -> bytes:
    """The PNG chunks with the palette. Magnitude is opacity and zero is transparent, for light and dark pages alike."""
    colours = [_NEGATIVE] * _LEVELS + [_POSITIVE] * (_LEVELS + 1) + [_NOT_FINITE]
    opacity = [round(255 * abs(level) / _LEVELS) for level in range(-_LEVELS, _LEVELS + 1)] + [255]
    return _pack_chunk(b"PLTE", b"".join(map(bytes, colours))) + _pack_chunk(b"tRNS", bytes(opacity))


_HEAD, _PALETTE, _TAIL = b"\x89PNG\r\n\x1a\n", _make_palette(), _pack_chunk(b"IEND", b"")
