"""Recognise what a file is by its first bytes and its size, whatever its name: one answer for all readers.

A reader calls `read_file_start`, reads the kinds that it knows, and raises `make_unreadable_error` for all others. What
the bytes of a kind mean is known to its reader: safetensors_file.py, pickle_file.py, picture_file.py. To recognise one
more kind, add a row to `_MARKS`. Its rows are tried in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_embedmerge.errors import StorageError, quote
from lib_embedmerge.files.disk_faults import describe_disk_fault
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.safetensors_header import MAX_HEADER

_HEAD = 512
"""Bytes that are read at most; a tar archive has its mark at offset 257."""

_SAFETENSORS_HEAD = 9
"""Bytes that nearly always suffice to recognise a safetensors file."""

_SMALLEST = 10
"""Size in bytes of the smallest safetensors file: the 8 bytes of the length, then `{}`."""

_AGAIN = "Download it again."
_STOPPED = "The download or copy did not finish. Get the file again."
_UNPACK = "Unpack it and use the file inside."
_CONVERT = "Get a safetensors version of the file."
_ITSELF = "Download the file itself."
_PICTURE = "Choose the model or embedding itself, not its picture."


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    title: completes the sentence "<file> is ...".  hint: what to do if a file of this kind cannot be used.
    """

    title: str
    hint: str


@dataclass(frozen=True)
class FileStart:
    """What the first bytes of a file say. kind: what the file is.  size: of the whole file, in bytes."""

    kind: FileKind
    size: int


SAFETENSORS = FileKind("a safetensors file", _AGAIN)
TORCH_ZIP = FileKind("a zip archive or a pickle of PyTorch", "If it is a PyTorch file, rename it to .pt or .ckpt.")
TORCH_LEGACY = FileKind("a pickle of PyTorch", "If it is a PyTorch file, rename it to .pt or .ckpt.")
PICKLE = FileKind("a pickle that PyTorch did not write", _CONVERT)
PNG = FileKind("a PNG picture", _PICTURE)
WEBP = FileKind("a WebP picture", _PICTURE)
JXL = FileKind("a JPEG XL picture", _PICTURE)
AVIF = FileKind("an AVIF picture", _PICTURE)

UNKNOWN = FileKind(
    "neither a safetensors file nor a pickle of PyTorch",
    "It has another format, is damaged, or its download did not finish. Get the file again.",
)

PICKLES = (TORCH_ZIP, TORCH_LEGACY, PICKLE)
PICTURES = (PNG, WEBP, JXL, AVIF)

_EMPTY = FileKind("empty", _AGAIN)
_TINY = FileKind("too small to be a model or an embedding", _AGAIN)
_ZEROS = FileKind("filled only with zeros", "The download stopped or the disk failed. Download it again.")
_PAGE = FileKind("a web page, not a model", "The website sent a login or error page. Download it again.")
_JSON = FileKind("a JSON file, not a model", _ITSELF)
_TEXT = FileKind("a text file, not a model", _ITSELF)
_GGUF = FileKind(
    "a GGUF file, whose rounded values differ from those of the model",
    "Use the safetensors version of the model or of its text encoders.",
)

_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number at the start of files by torch.save before 1.6, as every pickle protocol writes it."""

_OLD_PICKLE = re.compile(rb"(\(dp?\d*\n|\(lp?\d*\n|\(i[\w.]+\n|c[\w.]+\n\w+\n|\}q|\]q)")


def _begins(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _has_at(offset: int, *marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[offset:].startswith(marks)


_ARCHIVE = "{} archive, not a model"
_MARKS: Sequence[tuple[Callable[[bytes], bool], FileKind]] = (
    (
        _begins(b"version https://git-lfs", b"version https://hawser"),
        FileKind("a Git LFS pointer, not the file itself", "Fetch the file with `git lfs pull`, or download it."),
    ),
    (lambda head: not any(head), _ZEROS),
    (_begins(b"PK\x03\x04", b"PK\x05\x06"), TORCH_ZIP),
    (lambda head: head[:1] == b"\x80" and _LEGACY_MAGIC in head[:40], TORCH_LEGACY),
    (_begins(b"\x89PNG\r\n\x1a\n"), PNG),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", WEBP),
    (_begins(b"\xff\x0a", b"\0\0\0\x0cJXL "), JXL),
    (_has_at(4, b"ftypavif", b"ftypavis"), AVIF),
    (_begins(b"\xff\xd8\xff"), FileKind("a JPEG picture", _PICTURE)),
    (_begins(b"GIF87a", b"GIF89a"), FileKind("a GIF picture", _PICTURE)),
    (lambda head: head.startswith(b"BM") and head[6:10] == bytes(4), FileKind("a BMP picture", _PICTURE)),
    (_has_at(4, b"ftyp"), FileKind("a video, or a picture of another format", _ITSELF)),
    (_begins(b"GGUF"), _GGUF),
    (_begins(b"ggml", b"lmgg", b"tjgg", b"ggjt", b"fmgg"), FileKind("a GGML file, not a model for pictures", _CONVERT)),
    (_begins(b"7z\xbc\xaf\x27\x1c"), FileKind(_ARCHIVE.format("a 7z"), _UNPACK)),
    (_begins(b"Rar!\x1a\x07"), FileKind(_ARCHIVE.format("a RAR"), _UNPACK)),
    (_begins(b"\x1f\x8b"), FileKind(_ARCHIVE.format("a gzip"), _UNPACK)),
    (_begins(b"\xfd7zXZ\0"), FileKind(_ARCHIVE.format("an xz"), _UNPACK)),
    (_begins(b"BZh"), FileKind(_ARCHIVE.format("a bzip2"), _UNPACK)),
    (_begins(b"\x28\xb5\x2f\xfd"), FileKind(_ARCHIVE.format("a zstd"), _UNPACK)),
    (_has_at(257, b"ustar"), FileKind(_ARCHIVE.format("a tar"), _UNPACK)),
    (_begins(b"\x89HDF\r\n\x1a\n"), FileKind("an HDF5 file of Keras or TensorFlow", _CONVERT)),
    (_begins(b"\x93NUMPY"), FileKind("a NumPy array, which does not say what it contains", _CONVERT)),
    (lambda head: head[0] == 0x80 and head[1:2] <= b"\x05", PICKLE),
    (_begins(b"%PDF-"), FileKind("a PDF, not a model", _ITSELF)),
    (_begins(b"MZ\x90", b"\x7fELF", b"\xcf\xfa\xed\xfe"), FileKind("a program", "Delete it. It may be harmful.")),
)  # fmt: skip
"""(test of the first bytes, kind); the first test that holds decides."""


def read_file_start(path: Path) -> FileStart:
    """The kind and size of a file. StorageError if it is missing, not a regular file, or cannot be read."""
    with open_regular(path) as file:
        try:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(_SAFETENSORS_HEAD)
            if not _is_safetensors(head, size):
                head += file.read(_HEAD - len(head))
        except OSError as error:
            raise StorageError(f"{quote(path.name)} cannot be read: {describe_disk_fault(error)}.") from error
    return FileStart(find_kind(head, size), size)


def find_kind(head: bytes, size: int) -> FileKind:
    """The kind of a file.

    head: its first 512 bytes, or all of a shorter file.  size: of the whole file, in bytes.
    """
    if size < _SMALLEST:
        return _TINY if head else _EMPTY
    if _is_safetensors(head, size):
        return SAFETENSORS
    marked = next((kind for is_it, kind in _MARKS if is_it(head)), None)
    return marked or _kind_of_text(head)


def _kind_of_text(head: bytes) -> FileKind:
    """The kind of a file that has no mark: a page, a text, an old pickle, or unknown."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return _PAGE
    if _OLD_PICKLE.match(head):
        return PICKLE
    if not _is_text(head):
        return UNKNOWN
    return _JSON if text.startswith((b"{", b"[")) else _TEXT


def make_unreadable_error(path: Path, start: FileStart) -> StorageError:
    """The error for a file of a kind that its reader does not read."""
    return StorageError(f"{quote(path.name)} is {start.kind.title}.", hint=start.kind.hint)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file starts with a possible header length and then JSON, even if it is cut off inside its header."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or not 2 <= length <= MAX_HEADER:
        return False
    return head[8:9] == b"{" or (8 + length <= size and head[8:].lstrip()[:1] == b"{")


def _is_text(head: bytes) -> bool:
    for encoding in ("utf-8", "utf-16"):
        if encoding == "utf-16" and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        text = head.decode(encoding, errors="ignore")
        # `head` may end in the middle of a character.
        if len(text.encode(encoding)) >= len(head) - 3 and all(c.isprintable() or c in "\t\r\n\f" for c in text):
            return True
    return False
