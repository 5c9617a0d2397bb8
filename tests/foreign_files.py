"""Files that are no models: their bytes, each with what is to be said of it. And pickles that are made to do harm."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch


def torch_bytes(content: object, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zip_bytes(entries: dict[str, bytes]) -> bytes:
    """An archive as torch writes them: nothing compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_program(program: bytes) -> bytes:
    """A file of torch whose pickle is this program."""
    return zip_bytes({"archive/data.pkl": program, "archive/version": b"3\n", "archive/byteorder": b"little"})


_PLAIN = {"a": torch.ones(2, 768)}
_LEGACY = {"_use_new_zipfile_serialization": False}
_NOISE = bytes(range(256))[::-1] * 4

KINDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "five bytes": (b"hello", "is too small to be a model or an embedding"),
    "zeros": (bytes(2000), "is filled only with zeros"),
    "noise": (_NOISE, "neither a safetensors file nor a pickle of PyTorch|not a safetensors file"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a Git LFS pointer"),
    "web page": (b"\r\n <!DOCTYPE html><html><body>Log in</body></html>", "is a web page"),
    "error of a store": (b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "json": (b'{"error": "Repository not found"}', "is a JSON file"),
    "json list": (b'[{"error": "Repository not found"}]', "is a JSON file"),
    "text": ("Schöne Grüße\n".encode() * 60, "is a text"),
    "text in utf-16": (b"\xff\xfe" + "not found\n".encode("utf-16-le") * 60, "is a text"),
    "png": (b"\x89PNG\r\n\x1a\n" + _NOISE, "is a PNG picture|is a picture that is cut off"),
    "jpeg": (b"\xff\xd8\xff\xe0" + _NOISE, "is a JPEG picture"),
    "gif": (b"GIF89a" + _NOISE, "is a GIF picture"),
    "video": (b"\0\0\0\x20ftypisom" + _NOISE, "is a video"),
    "gguf": (b"GGUF\x03\0\0\0" + _NOISE, "is a GGUF file"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + _NOISE, "is a 7z archive"),
    "rar": (b"Rar!\x1a\x07\x01\0" + _NOISE, "is a RAR archive"),
    "gzip": (b"\x1f\x8b\x08" + _NOISE, "is a gzip archive"),
    "xz": (b"\xfd7zXZ\0" + _NOISE, "is an xz archive"),
    "bzip2": (b"BZh9" + _NOISE, "is a bzip2 archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + _NOISE, "is a zstd archive"),
    "tar": (b"model.safetensors".ljust(257, b"\0") + b"ustar\0" + bytes(300), "is a tar archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + _NOISE, "is an HDF5 file"),
    "numpy": (b"\x93NUMPY\x01\0" + _NOISE, "is a NumPy array"),
    "pdf": (b"%PDF-1.7\n" + _NOISE, "is a PDF"),
    "program": (b"MZ\x90\0\x03\0" + _NOISE, "is a program"),
    "zip": (zip_bytes({"model.safetensors": b"x"}), "is a zip archive, not a model"),
    "empty zip": (zip_bytes({}), "is a zip archive, not a model"),
    "numpy zip": (zip_bytes({"arr_0.npy": b"\x93NUMPY"}), "is a NumPy archive"),
    "cut zip": (torch_bytes(_PLAIN)[:900], "is cut off or damaged"),
    "cut old form": (torch_bytes(_PLAIN, **_LEGACY)[:90], "is damaged, or its download did not finish"),
    "cut numbers of the old form": (torch_bytes(_PLAIN, **_LEGACY)[:-90], "is damaged, or its download did not finish"),
    "torchscript": (
        zip_bytes({"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b"\x80\x02).", "a/code/x": b""}),
        "TorchScript",
    ),
    "pickle 0": (pickle.dumps({"a": 1, "b": [1, 2]}, 0), "is a pickle that PyTorch did not write"),
    "pickle 2": (pickle.dumps({"a": 1, "b": [1, 2]}, 2), "is a pickle that PyTorch did not write"),
    "pickle 4": (pickle.dumps({"a": 1, "b": [1, 2]}, 4), "is a pickle that PyTorch did not write"),
    "pickle 5": (pickle.dumps({"a": 1, "b": [1, 2]}, 5), "is a pickle that PyTorch did not write"),
    "torch with 4": (torch_bytes(_PLAIN, pickle_protocol=4), "written with pickle protocol 4"),
    "torch with 5": (torch_bytes(_PLAIN, pickle_protocol=5), "written with pickle protocol 5"),
    "old torch with 4": (torch_bytes(_PLAIN, pickle_protocol=4, **_LEGACY), "written with pickle protocol 4"),
    "module": (torch_bytes(torch.nn.Linear(2, 3)), "such as 'torch.nn.modules.linear.Linear'"),
    "module in the old form": (
        torch_bytes(torch.nn.Linear(2, 3), **_LEGACY),
        "such as 'torch.nn.modules.linear.Linear'",
    ),
    "header cut": ((5000).to_bytes(8, "little") + b'{"a":' + b" " * 50, "is cut off inside its header"),
}
"""What a file holds, and what is said of it whatever its name ends in."""


def nested(depth: int, times: int) -> dict[str, object]:
    """A dict that holds the next one under many keys, and so on: `times ** depth` entries in a few kilobytes."""
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {f"k{number}": found for number in range(times)}
    return found


def _pairs(depth: int) -> bytes:
    """The program of a tuple of twice the same tuple, and so on; hashing it takes 2 ** depth steps."""
    return b"X\x01\0\0\0a" + b"".join(b"q\x01h\x01\x86" for _ in range(depth))


_LARGE = b"](" + b"K\x01" * 100_000 + b"eq\x05"
_LIST: list[object] = [0] * 100_000
_LOOP: dict[str, object] = {"a": {}}
_LOOP["loop"] = [_LOOP]
_LOOP["self"] = _LOOP

BOMBS = {
    "dicts": torch_bytes(nested(6, 100)),
    "dicts in the old form": torch_bytes(nested(6, 100), **_LEGACY),
    "dicts in a wrapper": torch_bytes({"state_dict": {"model": nested(6, 100)}}),
    "dicts as parameters": torch_bytes({"string_to_param": nested(6, 100)}),
    "lists": torch_bytes([_LIST, [_LIST] * 4097]),
    "list of one dict": torch_bytes([{str(number): number for number in range(20_000)}] * 4097),
    "itself": torch_bytes(_LOOP),
    "tuple as a key": with_program(b"\x80\x02}" + _pairs(60) + b"K\x01s."),
    "tuple as a value": with_program(b"\x80\x02}X\x01\0\0\0b" + _pairs(60) + b"s."),
    "tuple in a set": with_program(b"\x80\x02cbuiltins\nset\n(](" + _pairs(60) + b"etR."),
    "tuple that is called": with_program(b"\x80\x02" + _pairs(25) + b")R."),
    "sets of a large list": with_program(b"\x80\x02" + _LARGE + b"cbuiltins\nset\nh\x05\x85R" * 4000 + b"."),
    "copies of a large state": with_program(
        b"\x80\x02" + _LARGE + b"".join(b"ccollections\nOrderedDict\n)Rh\x05b" for _ in range(4000)) + b"."
    ),
    "endless tuple": with_program(b"\x80\x02(" * 10 + b"."),
    "number for a name": with_program(b"\x80\x02K\x01K\x01\x93."),
}
"""Small files whose values are shared so often that whoever walks, hashes or copies them is busy for years."""
