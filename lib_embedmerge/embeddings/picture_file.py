"""Embeddings in pictures that AUTOMATIC1111 makes in training: in a text of a PNG file, or in the low bits of pixels.

The pixels are read if a PNG has lost the text, and for other formats, which need Pillow. Source: AUTOMATIC1111's
modules/textual_inversion/image_embedding.py. forms.py finds the vectors in the content.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from lib_embedmerge.core.arrays import to_float32
from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.file_kinds import AVIF, JXL, PNG, WEBP, FileKind
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.png_file import Pixels, find_text, read_pixels

_KEYWORD = b"sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
"""The key of a tensor in JSON, whose value is nested lists of numbers."""

_MAX_JSON = 64 * 1024 * 1024
_FIRST_ROWS, _CHECKED_ROWS = 1, 32
"""Numbers of rows by which pictures without an embedding in their pixels are recognised. For most one row is enough."""

_COLUMNS = 2
"""Smallest number of columns without low bits in a picture that contains an embedding in its pixels."""

_LOW_BITS = bytes(value & 15 for value in range(256))
"""Table for bytes.translate that keeps the low four bits."""

_JSON_START = b'{"'
_PILLOW_FORMATS: Mapping[FileKind, str] = {PNG: "PNG", WEBP: "WEBP", JXL: "JXL", AVIF: "AVIF"}
_MAX_PIXELS = 64 * 1024 * 1024


def has_embedding(path: Path, kind: FileKind) -> bool:
    """Whether a picture contains an embedding, by a check that is fast enough for thousands of previews.

    It reads only the headers of chunks and the first rows of pixels. Always False for formats other than PNG, which are
    read only when a user names them. StorageError if the file cannot be read.
    """
    if kind is not PNG:
        return False
    if find_text(path, _KEYWORD) is not None:
        return True
    first = read_pixels(path, _FIRST_ROWS)
    if first is None or len(_find_empty_columns([line.translate(_LOW_BITS) for line in first.rows])) < _COLUMNS:
        return False
    pixels = read_pixels(path, _CHECKED_ROWS)
    return pixels is not None and _is_packed_json(_extract_bytes(pixels))


def read_picture(path: Path, kind: FileKind) -> dict[str, Any]:
    """The content of the embedding in a picture, as its .pt file would have it.

    StorageError if the picture contains none or is damaged, or if Pillow is needed but missing.
    """
    text = find_text(path, _KEYWORD) if kind is PNG else None
    try:
        raw = base64.b64decode(text, validate=True) if text is not None else _read_from_pixels(path, kind)
        content = None if raw is None else json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        message = f"The embedding in {quote(path.name)} is damaged."
        raise StorageError(message, hint="Get the picture again, or use the .pt that was saved beside it.") from error
    if content is None:
        hint = "AUTOMATIC1111 puts embeddings into pictures that it saves. A copy in another format or size loses them."
        raise StorageError(f"{quote(path.name)} is a picture without an embedding.", hint=hint)
    if not isinstance(content, dict):
        raise StorageError(
            f"{quote(path.name)} contains something other than an embedding.", hint="Choose the embedding file."
        )
    return {key: _convert_tensors(value) for key, value in content.items()}


def _convert_tensors(value: object, depth: int = 0) -> object:
    """A JSON value with arrays in place of lists of their numbers, at most two levels deep."""
    if not isinstance(value, dict) or depth > 2:
        return value
    if _TENSOR in value:
        return _make_array(value[_TENSOR])
    return {key: _convert_tensors(entry, depth + 1) for key, entry in value.items()}


def _make_array(numbers: object) -> object:
    """An array from nested lists of numbers: float32 if that is exact, as they were stored from, else float64.

    None if they are not a table of numbers.
    """
    try:
        wide = numpy.array(numbers, dtype=numpy.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    narrow = to_float32(wide)
    return narrow if numpy.array_equal(narrow, wide, equal_nan=True) else wide


def _read_from_pixels(path: Path, kind: FileKind) -> bytes | None:
    """The JSON text in a picture's pixels, or None. ValueError if it is damaged, StorageError as in `read_picture`."""
    pixels = read_pixels(path) if kind is PNG else None
    if pixels is None:
        pixels = _read_with_pillow(path, kind)
    packed = _extract_bytes(pixels)
    if packed is None or not _is_packed_json(packed):
        return None
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, _MAX_JSON)
    except zlib.error as error:
        raise ValueError("its pixels were changed") from error
    if not inflate.eof:
        raise ValueError("it is too long, or cut off")
    return text


def _is_packed_json(packed: bytes | None) -> bool:
    """Whether bytes are the beginning of a JSON object compressed by zlib."""
    try:
        return packed is not None and zlib.decompressobj().decompress(packed, len(_JSON_START)) == _JSON_START
    except zlib.error:
        return False


def _extract_bytes(pixels: Pixels) -> bytes | None:
    """The bytes that are stored in a picture's pixels, or None if there are none.

    A block at the left has the low halves of the bytes in its low bits, and a block at the right the high halves. A
    column without low bits separates each block from the picture.
    """
    lines = _remove_frame(pixels)
    if not lines:
        return None
    low = [line.translate(_LOW_BITS) for line in lines]
    empty = _find_empty_columns(low)
    if len(empty) < _COLUMNS:
        return None
    left = b"".join(line[: 3 * empty[0]] for line in low)
    right = b"".join(line[3 * (empty[-1] + 1) :] for line in low)
    if not left or len(left) != len(right):
        return None
    noise = _generate_noise(len(left))
    return bytes((((b ^ n) & 15) << 4) | ((a ^ n) & 15) for a, b, n in zip(left, right, noise, strict=True))


def _find_empty_columns(low: Sequence[bytes]) -> list[int]:
    """The indices of columns whose values are all zero. low: rows of low bits, 3 bytes for a pixel."""
    columns: Sequence[int] = range(len(low[0]) // 3) if low else ()
    for line in low:
        columns = [x for x in columns if not any(line[3 * x : 3 * x + 3])]
    return list(columns)


def _remove_frame(pixels: Pixels) -> list[bytes]:
    """The rows of a picture without the black frame that some programs add. A pixel is black if a channel is zero."""
    bright = [[x for x in range(pixels.width) if all(line[3 * x : 3 * x + 3])] for line in pixels.rows]
    rows = [y for y, columns in enumerate(bright) if columns]
    if not rows:
        return []
    first = min(columns[0] for columns in bright if columns)
    last = max(columns[-1] for columns in bright if columns)
    return [line[3 * first : 3 * (last + 1)] for line in pixels.rows[rows[0] : rows[-1] + 1]]


def _generate_noise(count: int) -> Sequence[int]:
    """The numbers 0 to 15 that are combined with the bits by XOR. A generator with a fixed seed makes them."""
    seed, noise = 0, bytearray(count)
    for index in range(count):
        seed = (1664525 * seed + 1013904223) & 0xFFFFFFFF
        noise[index] = (seed % 255) & 15
    return noise


def _read_with_pillow(path: Path, kind: FileKind) -> Pixels:
    """All pixels of a picture. StorageError if Pillow is missing or cannot read it."""
    try:
        from PIL import Image
    except ImportError as error:
        message = f"{quote(path.name)} is {kind.title}. Reading it needs the Python package Pillow."
        raise StorageError(
            message, hint="Install it: pip install pillow. Or use the .pt that was saved beside it."
        ) from error
    try:
        with open_regular(path) as file, Image.open(file, formats=[_PILLOW_FORMATS[kind]]) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                raise ValueError("too large")
            image = opened.convert("RGB")
            data, step = image.tobytes(), 3 * image.width
            rows = [data[start : start + step] for start in range(0, len(data), step)]
            return Pixels(image.width, image.height, rows)
    except Exception as error:  # Pillow and its many decoders raise many kinds
        message = f"{quote(path.name)} is {kind.title} that cannot be read."
        hint = "It is damaged, or the installed Pillow cannot read the format. Use the .pt that was saved beside it."
        raise StorageError(message, hint=hint) from error
