"""PNG pictures as far as embeddings are kept in them: their texts, and their pixels as they stand in the file.

Only the standard library is used, and nothing more is read than is asked for. What the texts and pixels mean is
picture_file.py's matter. Source: the PNG specification, third edition, 5 (chunks), 9 (filters) and 11 (chunk types).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.opening import open_regular

_SIGNATURE = 8
_MAX_CHUNKS = 1000
"""Chunks before the pixels; a picture has a dozen."""

_MAX_TEXT = 64 * 1024 * 1024
_PIECE = 64 * 1024
_CHANNELS = {2: 3, 6: 4}
"""Colour type -> channels, for those with red, green and blue of one byte each."""

_MAX_SIDE = 16_384


@dataclass(frozen=True)
class Pixels:
    """The first rows of a picture. rows: each 3 bytes for a pixel, red, green, blue.  height: of the whole picture."""

    width: int
    height: int
    rows: list[bytes]


def find_text(path: Path, keyword: bytes) -> bytes | None:
    """The text of this keyword that stands before the pixels, where every program writes them; None for none.

    Reads the heads of chunks and that text alone. StorageError where the file cannot be read or the text is too long.
    """
    with open_regular(path) as file:
        for kind, place, size in _chunks(path, file):
            if kind in {b"tEXt", b"zTXt", b"iTXt"}:
                start = _read(path, file, place, min(size, len(keyword) + 1))
                if start == keyword + b"\0":
                    if size > _MAX_TEXT:
                        raise _too_long(path)
                    return _text(path, kind, _read(path, file, place, size)[len(keyword) + 1 :])
    return None


def read_pixels(path: Path, rows: int | None = None) -> Pixels | None:
    """The first `rows` rows of the picture, or all; None where it is none of whole bytes in red, green and blue.

    StorageError where the file is cut off or damaged.
    """
    with open_regular(path) as file:
        head = _read(path, file, _SIGNATURE + 8, 13)
        width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
        depth, colour, interlaced = head[8], head[9], head[12]
        channels = _CHANNELS.get(colour)
        if channels is None or depth != 8 or interlaced or not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
            return None
        wanted = height if rows is None else min(rows, height)
        raw = _unpacked(path, file, (1 + channels * width) * wanted)
    lines = _unfiltered(raw, channels * width, channels)
    if len(lines) < wanted:
        raise _damaged(path)
    return Pixels(width, height, [line if channels == 3 else _without_alpha(line) for line in lines])


def _chunks(path: Path, file: FileIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, place of its content, size of that) for each chunk up to the first of pixels."""
    place = _SIGNATURE
    for _ in range(_MAX_CHUNKS):
        head = _read(path, file, place, 8, all_of_it=False)
        if len(head) < 8 or head[4:] in {b"IDAT", b"IEND"}:
            return
        size = int.from_bytes(head[:4], "big")
        yield head[4:], place + 8, size
        place += size + 12


def _unpacked(path: Path, file: FileIO, size: int) -> bytes:
    """That many bytes of the rows as they stand in the file, with their filters; fewer where it ends before."""
    *_, (_, last, length) = [(b"", _SIGNATURE - 12, 0), *_chunks(path, file)]
    place = last + length + 4 if last > 0 else _SIGNATURE
    inflate, made = zlib.decompressobj(), bytearray()
    while len(made) < size:
        head = _read(path, file, place, 8, all_of_it=False)
        if head[4:] != b"IDAT":
            break
        length, done = int.from_bytes(head[:4], "big"), 0
        while done < length and len(made) < size:
            piece = _read(path, file, place + 8 + done, min(_PIECE, length - done))
            done += len(piece)
            try:
                made += inflate.decompress(piece, size - len(made))
            except zlib.error as error:
                raise _damaged(path) from error
        place += length + 12
    return bytes(made)


def _unfiltered(raw: bytes, length: int, step: int) -> list[bytes]:
    """The rows, each of `length` bytes, that filters were put on. step: bytes of a pixel."""
    rows: list[bytes] = []
    above = bytes(length)
    for start in range(0, len(raw) - length, length + 1):
        line = bytearray(raw[start + 1 : start + 1 + length])
        _unfilter(raw[start], line, above, step)
        above = bytes(line)
        rows.append(above)
    return rows


def _unfilter(kind: int, line: bytearray, above: bytes, step: int) -> None:
    if kind == 1:
        for place in range(step, len(line)):
            line[place] = (line[place] + line[place - step]) & 255
    elif kind == 2:
        line[:] = bytes((one + up) & 255 for one, up in zip(line, above, strict=True))
    elif kind == 3:
        for place in range(len(line)):
            left = line[place - step] if place >= step else 0
            line[place] = (line[place] + (left + above[place]) // 2) & 255
    elif kind == 4:
        for place in range(len(line)):
            left, corner = (line[place - step], above[place - step]) if place >= step else (0, 0)
            line[place] = (line[place] + _paeth(left, above[place], corner)) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def _without_alpha(line: bytes) -> bytes:
    kept = bytearray(len(line) // 4 * 3)
    for channel in range(3):
        kept[channel::3] = line[channel::4]
    return bytes(kept)


def _text(path: Path, kind: bytes, content: bytes) -> bytes:
    """The text of a chunk, what stands after its keyword."""
    if kind == b"tEXt":
        return content
    if kind == b"zTXt":
        return _inflated(path, content[1:])
    is_packed, rest = content[:1] == b"\1", content[2:]
    text = rest.split(b"\0", 2)[-1]  # after the language, and the keyword in it
    return _inflated(path, text) if is_packed else text


def _inflated(path: Path, packed: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, _MAX_TEXT)
    except zlib.error as error:
        raise _damaged(path) from error
    if not inflate.eof:
        raise _too_long(path)
    return text


def _read(path: Path, file: FileIO, place: int, size: int, *, all_of_it: bool = True) -> bytes:
    try:
        file.seek(place)
        found = file.read(size)
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    if all_of_it and len(found) < size:
        raise _damaged(path)
    return found


def _damaged(path: Path) -> StorageError:
    return StorageError(f"{quote(path.name)} is a picture that is cut off or damaged.", hint="Get the file again.")


def _too_long(path: Path) -> StorageError:
    message = f"{quote(path.name)} is a picture with a text of over {_MAX_TEXT:,} bytes, which is no embedding."
    return StorageError(message, hint="Get the file from a place that you trust.")
