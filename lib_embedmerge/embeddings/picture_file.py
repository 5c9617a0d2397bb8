"""Embeddings in pictures, as AUTOMATIC1111 makes them when it trains: in a text of the PNG, or in the pixels' low bits.

The pixels hold it where the text was lost, and in the other formats, for which Pillow is needed. Source:
AUTOMATIC1111's modules/textual_inversion/image_embedding.py. Which tensors are vectors is forms.py's matter.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.file_kinds import AVIF, JXL, PNG, WEBP, FileKind
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.png_file import Pixels, find_text, read_pixels

_KEYWORD = b"sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
"""Under this key JSON holds a tensor, as nested lists of numbers."""

_MAX_JSON = 64 * 1024 * 1024
_FIRST_ROWS, _LOOKED_AT = 1, 32
"""Rows by which a picture with an embedding in its pixels is told from others: most by the first."""

_COLUMNS = 2
"""Columns without low bits, at the least, of a picture that hides something."""

_LOW = bytes(value & 15 for value in range(256))

_BEGINS = b'{"'
_PILLOW_FORMATS: Mapping[FileKind, str] = {PNG: "PNG", WEBP: "WEBP", JXL: "JXL", AVIF: "AVIF"}
_MAX_PIXELS = 64 * 1024 * 1024


def holds_embedding(path: Path, kind: FileKind) -> bool:
    """Whether a picture holds an embedding, by a look that thousands of previews can be given: at the heads of its
    chunks, and at its first rows of pixels. Always no for formats that are looked into only when they are named.

    StorageError where the file cannot be read.
    """
    if kind is not PNG:
        return False
    if find_text(path, _KEYWORD) is not None:
        return True
    first = read_pixels(path, _FIRST_ROWS)
    if first is None or len(_empty_columns([line.translate(_LOW) for line in first.rows])) < _COLUMNS:
        return False
    pixels = read_pixels(path, _LOOKED_AT)
    return pixels is not None and _begins(_hidden(pixels))


def read_picture(path: Path, kind: FileKind) -> dict[str, Any]:
    """What a picture's embedding is, as its .pt would hold it. StorageError where it holds none, or is damaged."""
    text = find_text(path, _KEYWORD) if kind is PNG else None
    try:
        raw = base64.b64decode(text, validate=True) if text is not None else _from_pixels(path, kind)
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
    return {key: _with_tensors(value) for key, value in content.items()}


def _with_tensors(value: object, depth: int = 0) -> object:
    """The same with tensors where JSON has their numbers. What is nested deeper than any embedding is left out."""
    if not isinstance(value, dict) or depth > 2:
        return value
    if _TENSOR in value:
        return _tensor(value[_TENSOR])
    return {key: _with_tensors(one, depth + 1) for key, one in value.items()}


def _tensor(numbers: object) -> object:
    """A tensor of nested lists of numbers: float32 where that holds them all, as they were before they were written."""
    import torch

    try:
        wide = torch.tensor(numbers, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    narrow = wide.to(torch.float32)
    return narrow if torch.equal(narrow.to(torch.float64).nan_to_num(), wide.nan_to_num()) else wide


def _from_pixels(path: Path, kind: FileKind) -> bytes | None:
    """The JSON text in a picture's pixels, None where there is none."""
    pixels = read_pixels(path) if kind is PNG else None
    if pixels is None:
        pixels = _read_with_pillow(path, kind)
    packed = _hidden(pixels)
    if packed is None or not _begins(packed):
        return None
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, _MAX_JSON)
    except zlib.error as error:
        raise ValueError("its pixels were changed") from error
    if not inflate.eof:
        raise ValueError("it is too long, or cut off")
    return text


def _begins(packed: bytes | None) -> bool:
    """Whether these bytes begin a packed JSON text."""
    try:
        return packed is not None and zlib.decompressobj().decompress(packed, len(_BEGINS)) == _BEGINS
    except zlib.error:
        return False


def _hidden(pixels: Pixels) -> bytes | None:
    """The bytes in a picture's pixels: their low halves in the low bits of a block at its left, their high halves in
    one at its right, each parted from the picture by a column without low bits. None where there are no such columns.
    """
    lines = _cropped(pixels)
    if not lines:
        return None
    low = [line.translate(_LOW) for line in lines]
    empty = _empty_columns(low)
    if len(empty) < _COLUMNS:
        return None
    left = b"".join(line[: 3 * empty[0]] for line in low)
    right = b"".join(line[3 * (empty[-1] + 1) :] for line in low)
    if not left or len(left) != len(right):
        return None
    noise = _noise(len(left))
    return bytes((((b ^ n) & 15) << 4) | ((a ^ n) & 15) for a, b, n in zip(left, right, noise, strict=True))


def _empty_columns(low: Sequence[bytes]) -> list[int]:
    """The places of columns whose values are all zero. low: rows of low bits, 3 bytes for a pixel."""
    places: Sequence[int] = range(len(low[0]) // 3) if low else ()
    for line in low:
        places = [x for x in places if not any(line[3 * x : 3 * x + 3])]
    return list(places)


def _cropped(pixels: Pixels) -> list[bytes]:
    """The rows without a black frame, which some programs put around pictures: black is where any channel is zero."""
    bright = [[x for x in range(pixels.width) if all(line[3 * x : 3 * x + 3])] for line in pixels.rows]
    rows = [place for place, found in enumerate(bright) if found]
    if not rows:
        return []
    first, last = min(found[0] for found in bright if found), max(found[-1] for found in bright if found)
    return [line[3 * first : 3 * (last + 1)] for line in pixels.rows[rows[0] : rows[-1] + 1]]


def _noise(count: int) -> Sequence[int]:
    """What the bits are mixed with: the low halves of a generator's numbers, always the same ones."""
    seed, found = 0, bytearray(count)
    for place in range(count):
        seed = (1664525 * seed + 1013904223) & 0xFFFFFFFF
        found[place] = (seed % 255) & 15
    return found


def _read_with_pillow(path: Path, kind: FileKind) -> Pixels:
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
    except Exception as error:  # Pillow's own, and those of its many decoders
        message = f"{quote(path.name)} is {kind.title} that cannot be read."
        hint = "It is damaged, or the installed Pillow cannot read the format. Use the .pt that was saved beside it."
        raise StorageError(message, hint=hint) from error
