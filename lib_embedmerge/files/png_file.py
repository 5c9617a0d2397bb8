"""Read PNG pictures as far as embeddings need it: their texts, and their pixels exactly as stored.

Only the standard library is used, and only the bytes that are asked for are read. picture_file.py knows what the texts
and pixels mean. Source: the PNG specification, third edition, 5 (chunks), 9 (filters) and 11 (chunk types).
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
"""Chunks before the pixels that are read at most; a picture has about a dozen."""

_MAX_TEXT = 64 * 1024 * 1024
_READ_SIZE = 64 * 1024
_CHANNELS = {2: 3, 6: 4}
"""Colour type -> number of channels, for the types that have red, green and blue."""

_MAX_SIDE = 16_384


@dataclass(frozen=True)
class Pixels:
    """The first rows of a picture.

    rows: one bytes object for each row, 3 bytes a pixel: red, green, blue.
    width, height: of the whole picture, in pixels.
    """

    width: int
    height: int
    rows: list[bytes]


def find_text(path: Path, keyword: bytes) -> bytes | None:
    """The text with this keyword, as bytes, or None. Only texts before the pixels count, where every program puts them.

    Only the heads of chunks and this text are read. StorageError if the file cannot be read or the text is too long.
    """
    with open_regular(path) as file:
        for kind, offset, size in _find_chunks(path, file):
            if kind in {b"tEXt", b"zTXt", b"iTXt"}:
                start = _read(path, file, offset, min(size, len(keyword) + 1))
                if start == keyword + b"\0":
                    if size > _MAX_TEXT:
                        raise _make_length_error(path)
                    return _decode_text(path, kind, _read(path, file, offset, size)[len(keyword) + 1 :])
    return None


def read_pixels(path: Path, rows: int | None = None) -> Pixels | None:
    """The first `rows` rows of a picture, or all rows if it is None.

    None if the picture is not one with 8-bit red, green and blue, or is interlaced or larger than 16,384 pixels a side.
    StorageError if the file is cut off or damaged.
    """
    with open_regular(path) as file:
        head = _read(path, file, _SIGNATURE + 8, 13)
        width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
        depth, colour, interlaced = head[8], head[9], head[12]
        channels = _CHANNELS.get(colour)
        if channels is None or depth != 8 or interlaced or not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
            return None
        wanted = height if rows is None else min(rows, height)
        raw = _decompress_rows(path, file, (1 + channels * width) * wanted)
    lines = _remove_filters(raw, channels * width, channels)
    if len(lines) < wanted:
        raise _make_damage_error(path)
    return Pixels(width, height, [line if channels == 3 else _remove_alpha(line) for line in lines])


def _find_chunks(path: Path, file: FileIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset of the content, size of the content), in bytes, for each chunk before the first one of pixels."""
    offset = _SIGNATURE
    for _ in range(_MAX_CHUNKS):
        head = _read(path, file, offset, 8, is_complete=False)
        if len(head) < 8 or head[4:] in {b"IDAT", b"IEND"}:
            return
        size = int.from_bytes(head[:4], "big")
        yield head[4:], offset + 8, size
        offset += size + 12


def _decompress_rows(path: Path, file: FileIO, size: int) -> bytes:
    """The first `size` bytes of the rows, still filtered; fewer if the picture has no more."""
    *_, (_, last, length) = [(b"", _SIGNATURE - 12, 0), *_find_chunks(path, file)]
    offset = last + length + 4 if last > 0 else _SIGNATURE
    decompressor, rows = zlib.decompressobj(), bytearray()
    while len(rows) < size:
        head = _read(path, file, offset, 8, is_complete=False)
        if head[4:] != b"IDAT":
            break
        length, done = int.from_bytes(head[:4], "big"), 0
        while done < length and len(rows) < size:
            packed = _read(path, file, offset + 8 + done, min(_READ_SIZE, length - done))
            done += len(packed)
            try:
                rows += decompressor.decompress(packed, size - len(rows))
            except zlib.error as error:
                raise _make_damage_error(path) from error
        offset += length + 12
    return bytes(rows)


def _remove_filters(raw: bytes, length: int, step: int) -> list[bytes]:
    """The rows without their filters, each of `length` bytes. raw: filtered rows.  step: bytes of a pixel."""
    rows: list[bytes] = []
    above = bytes(length)
    for start in range(0, len(raw) - length, length + 1):
        line = bytearray(raw[start + 1 : start + 1 + length])
        _remove_filter(raw[start], line, above, step)
        above = bytes(line)
        rows.append(above)
    return rows


def _remove_filter(kind: int, line: bytearray, above: bytes, step: int) -> None:
    """Undo the filter of one row in place. kind: 0 to 4.  above: the row above, unfiltered.  step: bytes of a pixel."""
    if kind == 1:
        for index in range(step, len(line)):
            line[index] = (line[index] + line[index - step]) & 255
    elif kind == 2:
        line[:] = bytes((value + up) & 255 for value, up in zip(line, above, strict=True))
    elif kind == 3:
        for index in range(len(line)):
            left = line[index - step] if index >= step else 0
            line[index] = (line[index] + (left + above[index]) // 2) & 255
    elif kind == 4:
        for index in range(len(line)):
            left, corner = (line[index - step], above[index - step]) if index >= step else (0, 0)
            line[index] = (line[index] + _paeth(left, above[index], corner)) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    """The neighbour that is closest to left + up - corner: the predictor of filter 4."""
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def _remove_alpha(line: bytes) -> bytes:
    kept = bytearray(len(line) // 4 * 3)
    for channel in range(3):
        kept[channel::3] = line[channel::4]
    return bytes(kept)


def _decode_text(path: Path, kind: bytes, content: bytes) -> bytes:
    """The text in a chunk. kind: its type.  content: its bytes after the keyword."""
    if kind == b"tEXt":
        return content
    if kind == b"zTXt":
        return _inflate(path, content[1:])
    is_packed, rest = content[:1] == b"\1", content[2:]
    text = rest.split(b"\0", 2)[-1]  # after the language and the translated keyword
    return _inflate(path, text) if is_packed else text


def _inflate(path: Path, packed: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(packed, _MAX_TEXT)
    except zlib.error as error:
        raise _make_damage_error(path) from error
    if not decompressor.eof:
        raise _make_length_error(path)
    return text


def _read(path: Path, file: FileIO, offset: int, size: int, *, is_complete: bool = True) -> bytes:
    """`size` bytes from an offset. is_complete: whether to raise StorageError if the file has fewer."""
    try:
        file.seek(offset)
        data = file.read(size)
    except OSError as error:
        raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    if is_complete and len(data) < size:
        raise _make_damage_error(path)
    return data


def _make_damage_error(path: Path) -> StorageError:
    return StorageError(f"{quote(path.name)} is a picture that is cut off or damaged.", hint="Get the file again.")


def _make_length_error(path: Path) -> StorageError:
    message = (
        f"{quote(path.name)} is a picture that contains a text of over {_MAX_TEXT:,} bytes, which is not an embedding."
    )
    return StorageError(message, hint="Get the file from a source that you trust.")
