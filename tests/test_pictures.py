"""Embeddings in pictures, as AUTOMATIC1111 saves them: in a text of the PNG, and in the low bits of the pixels."""

from __future__ import annotations

import base64
import builtins
import json
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from arrays import equal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_embedmerge import load_embedding
from lib_embedmerge.actions import managing as library_actions
from lib_embedmerge.actions.converting import ConversionRequest, convert
from lib_embedmerge.embeddings import pictures
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.picture_file import has_embedding
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files.file_kinds import read_file_start
from lib_embedmerge.files.png_file import read_pixels
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer

Rows = list[bytes]

VECTORS = torch.randn(2, 768, generator=torch.Generator().manual_seed(3)) * 0.02


def content(rows: torch.Tensor = VECTORS, name: str = "birb-style") -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": {"TORCHTENSOR": rows.tolist()}},
        "name": name,
        "step": 500,
        "sd_checkpoint": "abcdef12",
        "sd_checkpoint_name": "v1-5",
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    rows: Rows, texts: bytes = b"", *, filters: tuple[int, ...] = (0,), channels: int = 3, piece: int = 1 << 30
) -> bytes:
    """A PNG picture of these rows, each with one of the filters in turn."""
    width, raw, above = len(rows[0]) // channels, bytearray(), bytes(len(rows[0]))
    for number, line in enumerate(rows):
        kind = filters[number % len(filters)]
        raw += bytes([kind]) + filtered(line, above, kind, channels)
        above = line
    packed = zlib.compress(bytes(raw))
    head = struct.pack(">IIBBBBB", width, len(rows), 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    pixels = b"".join(chunk(b"IDAT", packed[start : start + piece]) for start in range(0, len(packed), piece))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + texts + pixels + chunk(b"IEND", b"")


def filtered(line: bytes, above: bytes, kind: int, step: int) -> bytes:
    def guess(place: int) -> int:
        left = line[place - step] if place >= step else 0
        corner = above[place - step] if place >= step else 0
        up = above[place]
        if kind == 4:
            near = left + up - corner
            return min(((abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner)))[2]
        return {0: 0, 1: left, 2: up, 3: (left + up) // 2}[kind]

    return bytes((one - guess(place)) & 255 for place, one in enumerate(line))


def noise(count: int) -> bytes:
    seed, found = 0, bytearray()
    for _ in range(count):
        seed = (1664525 * seed + 1013904223) % 2**32
        found.append(seed % 255 & 15)
    return bytes(found)


def hidden(data: dict[str, Any], height: int = 64, width: int = 40) -> Rows:
    """The rows of a picture that hides this, as A1111 does: low halves at the left, high halves at the right."""
    packed = zlib.compress(json.dumps(data).encode(), 9)
    size = -(-len(packed) // (3 * height)) * 3 * height
    packed = (packed * (size // len(packed) + 1))[:size]
    mask, line = noise(size), size // height
    pattern = bytes((place * 37 % 13) << 4 | 0x10 for place in range(size))
    low = bytes((byte & 15 ^ one) | high for byte, one, high in zip(packed, mask, pattern, strict=True))
    high = bytes((byte >> 4 ^ one) | up for byte, one, up in zip(packed, mask, pattern, strict=True))
    middle = plain(height, width)
    return [
        low[y * line : (y + 1) * line] + b"\0\0\0" + middle[y] + b"\0\0\0" + high[y * line : (y + 1) * line]
        for y in range(height)
    ]


def plain(height: int = 64, width: int = 64, seed: int = 1) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(1, 256, (height, width * 3), generator=generator, dtype=torch.uint8)
    return [bytes(row.tolist()) for row in pixels]


def text(data: dict[str, Any] | bytes, kind: bytes = b"tEXt", keyword: bytes = b"sd-ti-embedding") -> bytes:
    raw = data if isinstance(data, bytes) else base64.b64encode(json.dumps(data).encode())
    if kind == b"zTXt":
        return chunk(kind, keyword + b"\0\0" + zlib.compress(raw))
    if kind == b"iTXt":
        return chunk(kind, keyword + b"\0\1\0\0\0" + zlib.compress(raw))
    return chunk(kind, keyword + b"\0" + raw)


HOLDING: dict[str, Callable[[], bytes]] = {
    "text": lambda: png(plain(), text(content())),
    "packed text": lambda: png(plain(), text(content(), b"zTXt")),
    "international text": lambda: png(plain(), text(content(), b"iTXt")),
    "text among others": lambda: png(plain(), text(b"prompt", keyword=b"parameters") + text(content())),
    "pixels": lambda: png(hidden(content())),
    "pixels with all filters": lambda: png(hidden(content()), filters=(0, 1, 2, 3, 4)),
    "pixels in many chunks": lambda: png(hidden(content()), piece=1000),
    "pixels with alpha": lambda: png([with_alpha(line) for line in hidden(content())], channels=4, filters=(4, 3)),
    "pixels in a black frame": lambda: png(framed(hidden(content()))),
    "both": lambda: png(hidden(content()), text(content())),
}


def with_alpha(line: bytes) -> bytes:
    return b"".join(line[place : place + 3] + b"\xc8" for place in range(0, len(line), 3))


def framed(rows: Rows, size: int = 5) -> Rows:
    black = bytes(3 * size)
    empty = bytes(len(rows[0]) + 6 * size)
    return [empty] * size + [black + line + black for line in rows] + [empty] * size


@pytest.mark.parametrize("kind", HOLDING)
def test_the_embedding_in_a_picture_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "anything.png"
    path.write_bytes(HOLDING[kind]())
    assert has_embedding(path, read_file_start(path).kind)
    embedding = load_embedding(path)
    assert (embedding.name, embedding.architecture.name, embedding.warnings) == ("birb-style", "sd1", ())
    assert equal(embedding.vectors["clip_l"], VECTORS)
    assert dict(embedding.facts) == {
        "name": "birb-style",
        "step": "500",
        "sd_checkpoint": "abcdef12",
        "sd_checkpoint_name": "v1-5",
    }
    (made,) = convert(ConversionRequest([path], tmp_path / "out"))
    assert made.file.name == "birb-style.safetensors"
    assert equal(load_embedding(made.file).vectors["clip_l"], VECTORS)


@pytest.mark.parametrize("kind", ["pixels", "both"])
def test_the_embedding_of_sdxl_in_a_picture(tmp_path: Path, kind: str) -> None:
    """None writes such pictures, but every form that is read in a .pt is read there too."""
    data = {"clip_l": {"TORCHTENSOR": VECTORS.tolist()}, "clip_g": {"TORCHTENSOR": torch.ones(2, 1280).tolist()}}
    (tmp_path / "x.png").write_bytes(png(hidden(data)) if kind == "pixels" else png(plain(), text(data)))
    assert load_embedding(tmp_path / "x.png").architecture.name == "sdxl"


PLAIN: dict[str, Callable[[], bytes]] = {
    "picture": lambda: png(plain()),
    "picture with alpha": lambda: png(plain(8, 16), channels=4),
    "black picture": lambda: png([bytes(300)] * 40),
    "black columns": lambda: png([line[:30] + bytes(12) + line[42:] for line in plain()]),
    "one black column": lambda: png([line[:30] + bytes(3) + line[33:] for line in plain()]),
    "small": lambda: png(plain(1, 1)),
    "generation data": lambda: png(plain(), text(b"a cat, Steps: 20", keyword=b"parameters")),
    "cut off": lambda: png(plain())[:3000],
    "cut in its head": lambda: png(plain())[:20],
    "no pixels": lambda: (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + chunk(b"IEND", b"")
    ),
    "grey": lambda: (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)) + chunk(b"IEND", b"")
    ),
    "enormous": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31, 2**31, 8, 2, 0, 0, 0)),
    "endless chunks": lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"aaAa", b"") * 5000,
    "damaged pixels": lambda: (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"\xff" * 50)
    ),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_preview_is_no_embedding(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PLAIN[kind]())
    assert list_embeddings(EmbeddingFolder(tmp_path, clip_tokenizer())) == []
    with pytest.raises(StorageError, match=r"^'x\.png' is a (picture|PNG picture)") as caught:
        load_embedding(path)
    assert caught.value.hint


DAMAGED = {
    "no base64": text(b"%%%"),
    "no json": text(base64.b64encode(b"{]")),
    "a list": text(base64.b64encode(b"[1]")),
    "deep": text(base64.b64encode(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "no vectors": text({"name": "x"}),
    "ragged": text({"string_to_param": {"*": {"TORCHTENSOR": [[1.0], [1.0, 2.0]]}}}),
    "texts": text({"string_to_param": {"*": {"TORCHTENSOR": ["a"]}}}),
    "large numbers": text({"string_to_param": {"*": {"TORCHTENSOR": [10**400]}}}),
    "a width of none": text({"string_to_param": {"*": {"TORCHTENSOR": [[1.0, 2.0]]}}}),
    "bomb": chunk(b"zTXt", b"sd-ti-embedding\0\0" + zlib.compress(bytes(70 * 1024 * 1024), 9)),
    "no zlib": chunk(b"zTXt", b"sd-ti-embedding\0\0abc"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_wrong_with_an_embedding_in_a_picture_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(plain(), DAMAGED[kind]))
    with pytest.raises(StorageError, match=r"'x\.png'"):
        load_embedding(path)
    for entry in list_embeddings(EmbeddingFolder(tmp_path, clip_tokenizer())):
        assert not entry.is_usable


def test_pixels_that_were_changed(tmp_path: Path) -> None:
    rows = hidden(content())
    rows[40] = bytes(value ^ 3 if place < 15 else value for place, value in enumerate(rows[40]))
    (tmp_path / "x.png").write_bytes(png(rows))
    with pytest.raises(StorageError, match=r"The embedding in .* is damaged"):
        load_embedding(tmp_path / "x.png")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    places=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 6000),
)
def test_any_change_of_a_picture_gives_an_embedding_or_a_sentence(
    tmp_path: Path, places: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(png(hidden(content(VECTORS[:1]), 16, 8), text(content(VECTORS[:1]))))
    for place, byte in places:
        data[place % len(data)] = byte
    (tmp_path / "x.png").write_bytes(data[: len(data) - cut])
    list_embeddings(EmbeddingFolder(tmp_path, clip_tokenizer()))
    try:
        load_embedding(tmp_path / "x.png")
    except StorageError as error:
        assert "x.png" in error.message


# Other formats, by Pillow.


@pytest.mark.parametrize("ending", [".webp", ".png"])
def test_a_picture_of_another_format_is_looked_into_where_pillow_is(tmp_path: Path, ending: str) -> None:
    image = pytest.importorskip("PIL.Image")
    rows = hidden(content())
    picture = image.frombytes("RGB", (len(rows[0]) // 3, len(rows)), b"".join(rows))
    path = tmp_path / f"x{ending}"
    picture.save(path, "WEBP", lossless=True)
    assert equal(load_embedding(path).vectors["clip_l"], VECTORS)
    picture.save(path, "WEBP", quality=50)
    with pytest.raises(StorageError, match="is a picture without an embedding"):
        load_embedding(path)


def test_without_pillow_a_sentence_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (tmp_path / "x.webp").write_bytes(b"RIFF\x24\0\0\0WEBPVP8L" + bytes(100))
    with pytest.raises(StorageError, match="needs the Python package Pillow") as caught:
        load_embedding(tmp_path / "x.webp")
    assert "pip install pillow" in (caught.value.hint or "")
    (tmp_path / "x.png").write_bytes(png(hidden(content())))
    assert load_embedding(tmp_path / "x.png").count == 2


# In a library.


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "trained.png").write_bytes(HOLDING["text"]())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "shared.PNG").write_bytes(png(hidden(content(VECTORS + 1, "other-style"))))
    (tmp_path / "x.preview.png").write_bytes(HOLDING["text"]())
    (tmp_path / "style.preview.PNG").write_bytes(HOLDING["pixels"]())
    for number in range(20):
        (tmp_path / f"look{number}.png").write_bytes(png(plain(seed=number)))
    return tmp_path


def test_pictures_with_an_embedding_are_listed_and_previews_are_not(library: Path) -> None:
    folder = EmbeddingFolder(library, clip_tokenizer())
    entries = {entry.path.relative_to(library).as_posix(): entry for entry in list_embeddings(folder)}
    assert {place: (entry.name, entry.count, entry.reason) for place, entry in entries.items()} == {
        "trained.png": ("birb-style", 2, None),
        "sub/shared.PNG": ("other-style", 2, None),
    }
    assert folder.names() == ("birb-style", "other-style")
    assert equal(folder.load("other-style").vectors["clip_l"], VECTORS + 1)
    ids = clip_tokenizer().encode("a birb-style b")
    assert folder.find(ids, 1) == ("birb-style", len(ids) - 2)


def test_an_embedding_of_its_own_comes_before_one_in_a_picture(library: Path) -> None:
    convert(ConversionRequest([library / "trained.png"], library / "sub"))
    folder = EmbeddingFolder(library, clip_tokenizer())
    assert folder.path("birb-style") == library / "sub" / "birb-style.safetensors"
    assert folder.warnings == ("'trained.png' is ignored: 'birb-style' is the name of 'sub/birb-style.safetensors'.",)


def test_a_picture_is_looked_into_once_for_each_of_its_states(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    original = pictures.read_file_start
    monkeypatch.setattr(pictures, "read_file_start", lambda path: looked.append(path.name) or original(path))
    folder = EmbeddingFolder(library, clip_tokenizer())
    for _ in range(3):
        assert len(folder.files()) == 2
        folder.refresh()
    assert len(looked) == 22
    (library / "look0.png").write_bytes(png(plain(), text(content(name="new-style"))))
    assert "new-style" in folder.names()
    assert len(looked) == 23


def test_previews_cost_a_listing_little(tmp_path: Path) -> None:
    data = png(plain(64, 1024), filters=(4,))
    for number in range(200):
        (tmp_path / f"look{number}.png").write_bytes(data)
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    started = time.perf_counter()
    assert folder.names() == ()
    assert time.perf_counter() - started < 200 * 0.05


def test_only_the_rows_that_are_asked_for_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(plain(64), filters=(1, 2, 3, 4)))
    pixels = read_pixels(tmp_path / "x.png", 2)
    assert pixels is not None
    assert (pixels.width, pixels.height, pixels.rows) == (64, 64, plain(64)[:2])
    whole = read_pixels(tmp_path / "x.png")
    assert whole is not None and whole.rows == plain(64)


def test_a_picture_is_not_renamed(library: Path) -> None:
    host = CheckpointHost(library)
    with pytest.raises(StorageError, match="the name that is stored inside") as caught:
        library_actions.rename(host, ["trained.png"], "newname1")
    assert "embedmerge convert trained.png" in (caught.value.hint or "")
    deleted = library_actions.delete(host, ["trained.png"])
    assert deleted.files == ("trained.png",)
    library_actions.restore_deleted(host, deleted.id)
    assert "birb-style" in host.library().names()
