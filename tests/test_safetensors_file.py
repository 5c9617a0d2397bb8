"""The safetensors format: reading with suspicion, writing byte for byte, and what the safetensors library says."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from arrays import as_tensor, equal, store_tensors
from checkpoint_files import record_reads
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save, save_file

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import atomic_file, safetensors_file
from lib_embedmerge.files.atomic_file import write_atomically
from lib_embedmerge.files.safetensors_file import (
    encode_safetensors,
    hash_payload,
    read_bytes,
    read_header,
    read_rows,
    read_tensor,
)
from lib_embedmerge.files.stored_values import StoredValues, store

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64,
)  # fmt: skip


def some(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Any bits of a dtype, NaN included; never other bits than 0 and 1 for bool."""
    size = torch.empty((), dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (int(torch.tensor(shape).prod()) * size,))
    return raw.to(torch.uint8).view(dtype).reshape(shape)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    def bits(tensor: torch.Tensor) -> bytes:
        return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())

    return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)


def file_of(header: object, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def encode(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file of these tensors in one piece."""
    return b"".join(encode_safetensors(store_tensors(tensors), metadata))


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a": some(dtype, 3, 4), "scalar": some(dtype, 1).reshape(()), "empty": some(dtype, 0, 5)}
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {"format": "pt", "ключ": "знач"})
    header = read_header(path)
    assert header.metadata == {"format": "pt", "ключ": "знач"}
    assert header.file_size == path.stat().st_size == max(info.end for info in header.tensors.values())
    for name, tensor in tensors.items():
        assert same_bits(as_tensor(read_tensor(path, header.tensors[name])), tensor)
    assert same_bits(as_tensor(read_rows(path, header.tensors["a"], [2, 0, 2])), tensors["a"][[2, 0, 2]])
    assert same_bits(load(encode(tensors, {"a": "b"}))["a"], tensors["a"])


def test_payload_is_in_the_order_of_the_library() -> None:
    tensors = {f"{name}.{str(dtype)[6:]}": some(dtype, 2, 3) for dtype in DTYPES for name in ("b", "a", "é", "Z")}
    ours, theirs = encode(tensors, {}), save(tensors)

    def payload(data: bytes) -> bytes:
        return data[8 + int.from_bytes(data[:8], "little") :]

    assert payload(ours) == payload(theirs)
    assert hash_payload(store_tensors(tensors)) == hashlib.sha256(payload(theirs)).hexdigest()


def test_the_same_input_gives_the_same_bytes_and_a_header_that_web_uis_recognise() -> None:
    tensors = {"clip_l": torch.ones(2, 3), "clip_g": torch.zeros(2, 4)}
    metadata = {"b": "2", "a": 'quote " and ключ', "ünï": "\0"}
    data = encode(tensors, metadata)
    assert data == encode(dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode("utf-8")
    assert length % 8 == 0 and text.startswith('{"__metadata__":{"a":"quote')
    assert "ключ" in text and json.loads(text)["__metadata__"] == metadata
    assert data[8 + length :] == bytes(32) + torch.ones(2, 3).numpy().tobytes()


def test_tensors_need_not_be_contiguous_or_plain() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    assert equal(load(encode({"x": tensor.T}, {}))["x"], tensor.T)


@pytest.mark.parametrize(
    ("tensors", "metadata", "says"),
    [
        ({}, {"a": "\ud83d"}, "broken character"),
        ({"\udc00": torch.ones(1)}, {}, "broken character"),
        ({}, {"a": "x" * 100_000_001}, "too long"),
    ],
    ids=["half a pair", "half a pair in a name", "length"],
)
def test_what_no_file_can_hold_is_refused(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], says: str
) -> None:
    with pytest.raises(StorageError, match=says):
        encode(tensors, metadata)


HOSTILE = {
    "nothing": (b"", "is empty"),
    "three bytes": (b"abc", "too small"),
    "only a length": ((16).to_bytes(8, "little"), "too small"),
    "zeros": (bytes(4000), "only with zeros"),
    "web page": (b"<!DOCTYPE html><html>" + b" " * 100, "web page"),
    "page after blanks": (b"\r\n  <html>" + b" " * 100, "web page"),
    "gguf": (b"GGUF\x03\0\0\0\xff\xff" + b"x" * 100, "is too small|GGUF|cut off"),
    "zip": (b"PK\x03\x04\x14\0\0\x08xxxxxxxxxxxx", "zip archive"),
    "pickle": (b"\x80\x02}q\0(X\x05\0\0\0", "pickle"),
    "json": (b'{"error": "not found"}', "JSON file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "other": (b"\xff" * 100, "not a safetensors file"),
    "length of one": ((1).to_bytes(8, "little") + b"{}" + b" " * 50, "not a safetensors file"),
    "header over the limit": ((100_000_001).to_bytes(8, "little") + b"{" + b" " * 50, "not a safetensors file"),
    "header cut": ((5000).to_bytes(8, "little") + b'{"a":' + b" " * 50, "cut off inside its header"),
    "no brace": (file_of(b'["a", 1]'), "begin with a brace"),
    "not utf-8": (file_of(b'{"\xff\xfe": 1}'), "JSON"),
    "not json": (file_of(b'{"a": }    '), "JSON"),
    "nan": (file_of(b'{"a": NaN}'), "NaN"),
    "deep": (file_of(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "nested too deep"),
    "endless number": (file_of(b'{"a":' + b"1" * 10_000 + b"}"), "damaged"),
    "name twice": (file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}'), "twice"),
    "metadata no object": (file_of({"__metadata__": []}), "not an object"),
    "metadata value null": (file_of({"__metadata__": {"a": None}}), "not a text"),
    "metadata number": (file_of({"__metadata__": {"a": 1}}), "not a text"),
    "metadata half pair": (file_of(b'{"__metadata__":{"a":"\\ud800"}}'), "broken character"),
    "tensor no object": (file_of({"a": 3}), "not an object"),
    "no dtype": (file_of({"a": {"shape": [], "data_offsets": [0, 4]}}, bytes(4)), "unknown dtype"),
    "unknown dtype": (file_of({"a": entry("Q4_0")}, bytes(8)), "unknown dtype"),
    "dtype a list": (file_of({"a": entry(["F32"])}, bytes(8)), "unknown dtype"),  # type: ignore[arg-type] # hostile
    "negative dimension": (file_of({"a": entry(shape=[-2])}, bytes(8)), "shape"),
    "true dimension": (file_of({"a": entry(shape=[True], offsets=[0, 4])}, bytes(4)), "shape"),
    "fraction": (file_of({"a": entry(shape=[2.0])}, bytes(8)), "shape"),
    "shape a text": (file_of({"a": entry(shape="2")}, bytes(8)), "shape"),
    "hundred dimensions": (file_of({"a": entry(shape=[1] * 100, offsets=[0, 4])}, bytes(4)), "shape"),
    "overflow": (file_of({"a": entry(shape=[0, 2**62, 2**62], offsets=[0, 0])}), "shape"),
    "offsets reversed": (file_of({"a": entry(offsets=[8, 0])}, bytes(8)), "data_offsets"),
    "offsets negative": (file_of({"a": entry(offsets=[-8, 0])}, bytes(8)), "data_offsets"),
    "three offsets": (file_of({"a": entry(offsets=[0, 8, 8])}, bytes(8)), "data_offsets"),
    "size and shape": (file_of({"a": entry(shape=[3])}, bytes(8)), "shape and dtype"),
    "overlap": (file_of({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
    "gap": (file_of({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)), "gap"),
    "cut payload": (file_of({"a": entry()}, bytes(5)), "3 bytes are missing"),
    "more after it": (file_of({"a": entry()}, bytes(10)), "2 bytes after"),
}


STRICTER = {"hundred dimensions", "overflow"}
"""What the library opens and torch then fails on."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    data, says = HOSTILE[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(StorageError, match=says) as caught:
        read_header(path)
    assert "model.safetensors" in caught.value.message and "Traceback" not in caught.value.render()
    if name not in STRICTER:
        with pytest.raises(SafetensorError):  # no file that others read is refused here
            safe_open(path, "pt").__enter__()


def test_no_metadata_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    headers: tuple[dict[str, object], ...] = ({}, {"__metadata__": None}, {"__metadata__": {}})
    for header in headers:
        path.write_bytes(file_of(header))
        assert read_header(path).metadata == {} == read_header(path).tensors


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E4M3FNUZ"])
def test_a_dtype_that_torch_lacks_is_refused_only_when_read(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.safetensors"
    size = {"F4": 2, "F6_E2M3": 3, "F8_E4M3FNUZ": 4}[dtype]
    path.write_bytes(file_of({"a": entry(dtype, [4], [0, size])}, bytes(size)))
    info = read_header(path).tensors["a"]
    with pytest.raises(StorageError, match=f"stored as {dtype}"):
        read_tensor(path, info)


def test_a_file_cut_anywhere_says_so(tmp_path: Path) -> None:
    whole = encode({"clip_l": torch.ones(2, 3), "clip_g": torch.ones(2, 4)}, {"a": "b"})
    path = tmp_path / "x.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(StorageError, match=r"missing|too small|is empty"):
            read_header(path)
    missing = len(whole) - 100
    path.write_bytes(whole[:100])
    with pytest.raises(StorageError) as caught:
        read_header(path)
    assert f"{missing:,} bytes" in caught.value.message or "header" in caught.value.message


def test_a_file_that_shrinks_after_its_header_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode({"a": torch.ones(4, 4)}, {}))
    info = read_header(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StorageError, match="cut off: 10 bytes"):
        read_tensor(path, info)


def test_a_disk_that_gives_a_few_bytes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowFile(FileIO):
        def readinto(self, buffer: Any, /) -> int:
            return super().readinto(memoryview(buffer)[:7])

    path, tensor = tmp_path / "x.safetensors", torch.arange(40.0).reshape(8, 5)
    path.write_bytes(encode({"a": tensor}, {}))
    monkeypatch.setattr(safetensors_file, "open_regular", SlowFile)
    info = read_header(path).tensors["a"]
    assert equal(as_tensor(read_tensor(path, info)), tensor)
    assert equal(as_tensor(read_rows(path, info, [6, 2, 3, 0, 6])), tensor[[6, 2, 3, 0, 6]])


def test_writing_copies_no_values(tmp_path: Path) -> None:
    values = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    header, part = encode_safetensors({"a": store(values)}, {})
    assert isinstance(header, bytes) and numpy.shares_memory(numpy.frombuffer(part, numpy.float32), values)
    path = tmp_path / "x.safetensors"
    write_atomically(path, [header, part], overwrite=False)
    assert path.read_bytes() == header + values.tobytes()


def test_missing_files_folders_and_bad_names(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(StorageError, match="is a folder, not a file"):
        read_header(tmp_path)
    with pytest.raises(StorageError, match="cannot be opened"):
        read_header(tmp_path / "a\0b")


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def seek(self, *_: int) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(safetensors_file, "open_regular", lambda _: Broken())
    for read in (read_header, lambda path: read_bytes(path, 0, 4)):
        with pytest.raises(StorageError, match="cannot be read"):
            read(tmp_path / "x.safetensors")


def test_every_half_is_the_float32_of_numpy() -> None:
    halves = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.float16).reshape(256, 256)
    for values in (halves, halves[:, ::2], halves.T, halves[:3], halves[:0]):
        wide = values.astype(numpy.float32)
        assert same_bits(as_tensor(StoredValues("F16", values).to_float32()), as_tensor(wide))


def test_float32_is_copied() -> None:
    values = numpy.ones((2, 3), numpy.float32)
    StoredValues("F32", values).to_float32()[:] = 0
    assert values.all()


@pytest.mark.parametrize("ids", [[], [0], [9, 9, 9], [3, 4, 5, 0], [9, 8, 7], [5, 0, 5, 9, 6]], ids=str)
def test_rows(tmp_path: Path, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.randn(10, 6).to(torch.float16)
    path = tmp_path / "x.safetensors"
    save_file({"t": table, "other": torch.ones(100)}, path)
    info = read_header(path).tensors["t"]
    reads = record_reads(monkeypatch)
    assert same_bits(as_tensor(read_rows(path, info, ids)), table[ids])
    assert sum(size for _, size in reads) == len(set(ids)) * 12  # these rows, each once, and nothing else
    runs = sum(row - 1 not in ids for row in set(ids))
    assert len(reads) == runs  # neighbours in one read


def test_rows_outside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"t": torch.ones(10, 2), "flat": torch.ones(4)}, path)
    header = read_header(path)
    for row in (10, -1):
        with pytest.raises(StorageError, match=f"row {row} does not exist"):
            read_rows(path, header.tensors["t"], [3, row])
    with pytest.raises(StorageError, match="1 dimensions"):
        read_rows(path, header.tensors["flat"], [0])


@given(st.data())
def test_any_change_of_a_header_gives_a_sentence_or_what_the_library_reads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(encode({"clip_l": torch.ones(2, 3), "b": torch.ones(2, 4)}, {"a": "b"}))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        kind = data.draw(st.sampled_from(["set", "digit", "cut", "insert"]))
        value = data.draw(st.sampled_from(list(b'0123456789{}[]:,"-. \\uFIB')) | st.integers(0, 255))
        if kind == "set":
            whole[at] = value
        elif kind == "digit":
            digits = [place for place, byte in enumerate(whole) if 48 <= byte <= 57]
            whole[digits[at % len(digits)]] = 48 + value % 10
        elif kind == "cut" and len(whole) > 20:
            del whole[at : at + 1 + value % 9]
        else:
            whole.insert(at, value)
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(whole)
    try:
        header = read_header(path)
    except StorageError:
        return
    theirs = load_file(path)
    assert theirs.keys() == header.tensors.keys()
    for name, info in header.tensors.items():
        assert same_bits(as_tensor(read_tensor(path, info)), theirs[name])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)
    with pytest.raises(StorageError):
        read_header(path)
    path.write_bytes(file_of(data))
    with pytest.raises(StorageError):
        read_header(path)


# Writing.


def test_write_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_atomically(path, b"one", overwrite=False)
    assert path.read_bytes() == b"one"
    with pytest.raises(StorageError, match=r"x\.safetensors already exists"):
        write_atomically(path, b"two", overwrite=False)
    assert path.read_bytes() == b"one"
    write_atomically(path, b"three", overwrite=True)
    assert path.read_bytes() == b"three"
    assert [child.name for child in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 243 + ".safetensors"), b"x", overwrite=True)
    with pytest.raises(StorageError, match="too long"):
        write_atomically(tmp_path / ("n" * 300), b"x", overwrite=True)


def test_write_faults_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "none" / "x": "folder does not exist",
        tmp_path / "file" / "x": "is a file, not a folder",
        tmp_path / "folder": "a folder has that name",
        tmp_path / "a\0b": "characters that this disk does not allow",
    }
    for path, says in cases.items():
        with pytest.raises(StorageError, match=says):
            write_atomically(path, b"x", overwrite=True)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "access is denied"),
        (errno.EIO, "could not be read or written"),
        (errno.EPROTO, "the system says: protocol error"),
    ],
    ids=["full", "read-only", "permission", "broken", "other"],
)
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=says):
        write_atomically(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_many_writers_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    path, outcomes = tmp_path / "x", []

    def write(number: int) -> None:
        try:
            write_atomically(path, bytes([number]) * 5000, overwrite=False)
            outcomes.append(number)
        except StorageError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 1
    assert path.read_bytes() == bytes(outcomes) * 5000
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_that_fails_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="disk is full"):
        write_atomically(tmp_path / "x", b"new", overwrite=False)
    monkeypatch.setattr(atomic_file, "_NO_LINKS", {errno.ENOSPC})
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="disk is full"):
        write_atomically(tmp_path / "x", b"new", overwrite=False)
    assert list(tmp_path.iterdir()) == []  # the reserved name is given back


def test_what_cannot_leave_its_place_is_not_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_bytes(b"x")
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.name == "old":
            raise PermissionError(errno.EACCES, "in use")
        real(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(PermissionError):
        atomic_file.move_to_free_name(tmp_path / "old", tmp_path / "new")
    assert [child.name for child in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_moved_and_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"x")
    for move in (atomic_file.move_to_free_name, atomic_file.copy_to_free_name):
        new.write_bytes(b"theirs")
        with pytest.raises(FileExistsError):
            move(old, new)
        assert (old.read_bytes(), new.read_bytes()) == (b"x", b"theirs")
        new.unlink()
    atomic_file.copy_to_free_name(old, new)
    assert (old.read_bytes(), new.read_bytes()) == (b"x", b"x")
    new.unlink()
    atomic_file.move_to_free_name(old, new)
    assert {child.name: child.read_bytes() for child in tmp_path.iterdir()} == {"new": b"x"}


def test_a_link_is_copied_itself(tmp_path: Path) -> None:
    (tmp_path / "old").symlink_to(tmp_path / "gone")
    atomic_file.copy_to_free_name(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").readlink() == tmp_path / "gone"
    assert len(list(tmp_path.iterdir())) == 2


def test_windows_tries_again_while_a_scanner_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_file, "_WINDOWS", True)
    monkeypatch.setattr(atomic_file.time, "sleep", lambda _: None)
    original, held = Path.replace, [True, True]

    def replace(self: Path, target: Path) -> Path:
        if held and held.pop():
            raise PermissionError(errno.EACCES, "in use")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "x", b"1", overwrite=True)
    assert (tmp_path / "x").read_bytes() == b"1" and not held
    held += [True] * 9
    with pytest.raises(StorageError, match="another program has the file open"):
        write_atomically(tmp_path / "x", b"2", overwrite=True)
    assert (tmp_path / "x").read_bytes() == b"1"
    write_atomically(tmp_path / "y", b"3", overwrite=False)  # a rename, which on Windows never overwrites
    assert (tmp_path / "y").read_bytes() == b"3"
