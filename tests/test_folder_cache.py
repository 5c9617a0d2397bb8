"""The cache of headers: it is right after any change of a file, and after any damage of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lib_embedmerge.core.architecture import SDXL, find_architecture
from lib_embedmerge.embeddings import tag_keys as keys
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.embeddings.tag import read_tag
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import folder_cache
from lib_embedmerge.files.folder_cache import FolderCache, Value
from lib_embedmerge.files.stamps import State, is_settled, read_state
from lib_embedmerge.recipes import header_cache
from lib_embedmerge.recipes.header_cache import FoundHeader, HeaderCache
from lib_embedmerge.recipes.listing import Entry, list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer

HOUR = 3600 * 10**9
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows tells no time of a change that programs cannot set")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own."""
    monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an hour later than the files say, so that nothing has changed just now."""
    clock = SimpleNamespace(time_ns=lambda: time.time_ns() + HOUR, time=time.time)
    monkeypatch.setattr(folder_cache, "time", clock)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened since."""
    names: list[str] = []
    real = header_cache.open_embedding
    monkeypatch.setattr(header_cache, "open_embedding", lambda path: (names.append(path.name), real(path))[1])
    return names


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "embeddings"
    write(folder / "one1.safetensors", "one")
    write(folder / "sub" / "two2.safetensors", "two", vectors=2)
    save_file({"emb_params": torch.ones(3, 768)}, folder / "plain3.safetensors")
    torch.save({"emb_params": torch.ones(2, 768)}, folder / "old4.pt")
    return folder


def write(path: Path, notes: str, vectors: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"clip_l": torch.ones(vectors, 768), "clip_g": torch.ones(vectors, 1280)}
    save_file(tensors, path, {"embedmerge.schema": "1", "embedmerge.notes": notes, "embedmerge.recipe": f"'{notes}'"})


def listed(folder: Path) -> list[Entry]:
    return list_embeddings(EmbeddingFolder(folder, clip_tokenizer()))


def notes(folder: Path) -> dict[str, str]:
    return {entry.name: entry.notes for entry in listed(folder)}


def cache_file(cache: Path) -> Path:
    (found,) = (cache / "folders").glob("folder-*.cache")
    return found


def test_an_unchanged_file_is_opened_once(library: Path, cache: Path, later: None, opened: list[str]) -> None:
    first = listed(library)
    assert sorted(opened) == ["old4.pt", "one1.safetensors", "plain3.safetensors", "two2.safetensors"]
    opened.clear()
    assert listed(library) == first
    assert opened == []
    shutil.rmtree(cache)
    assert listed(library) == first
    assert len(opened) == 4


def in_place(path: Path, other: bytes) -> None:
    path.write_bytes(other)


def by_rename(path: Path, other: bytes) -> None:
    path.with_suffix(".new").write_bytes(other)
    path.with_suffix(".new").replace(path)


def made_again(path: Path, other: bytes) -> None:
    path.unlink()
    path.write_bytes(other)


def by_link(path: Path, other: bytes) -> None:
    path.with_suffix(".new").write_bytes(other)
    path.unlink()
    path.symlink_to(path.with_suffix(".new"))


def by_bytes(path: Path, other: bytes) -> None:
    with path.open("r+b") as file:
        file.write(other)


@pytest.mark.parametrize("keeps_time", [False, pytest.param(True, marks=POSIX)], ids=["new time", "old time"])
@pytest.mark.parametrize("change", [in_place, by_rename, made_again, pytest.param(by_link, marks=POSIX), by_bytes])
def test_a_changed_file_of_the_same_size_is_read_again(
    library: Path, cache: Path, later: None, change: Callable[[Path, bytes], None], keeps_time: bool
) -> None:
    path = library / "one1.safetensors"
    before, content = path.stat(), path.read_bytes()
    assert notes(library)["one1"] == "one"
    other = content.replace(b'"one"', b'"two"')
    assert other != content and len(other) == len(content)
    time.sleep(0.02)  # more than the step of this disk's clock, as hours are in `later`
    change(path, other)
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert notes(library)["one1"] == "two"
    assert notes(library)["one1"] == "two"


def test_a_file_that_is_gone_renamed_or_swapped(library: Path, cache: Path, later: None) -> None:
    listed(library)
    one, two = library / "one1.safetensors", library / "sub" / "two2.safetensors"
    one.rename(library / "three3.safetensors")
    assert notes(library) == {"three3": "one", "two2": "two", "plain3": "", "old4": ""}
    two.rename(one)
    assert notes(library) == {"one1": "two", "three3": "one", "plain3": "", "old4": ""}
    assert "three3" in cache_file(cache).read_text(encoding="ascii")
    (library / "three3.safetensors").unlink()
    assert notes(library) == {"one1": "two", "plain3": "", "old4": ""}
    assert "three3" not in cache_file(cache).read_text(encoding="ascii"), "files that are gone stay in the cache"
    assert "sub" not in cache_file(cache).read_text(encoding="ascii")
    one.write_bytes(b"damaged")
    assert not next(entry for entry in listed(library) if entry.name == "one1").is_usable
    for path in library.rglob("*.*"):
        path.unlink()
    assert listed(library) == []
    assert "plain3" not in cache_file(cache).read_text(encoding="ascii")


def test_a_file_that_was_changed_just_now_is_not_trusted(library: Path, cache: Path, opened: list[str]) -> None:
    """The clock of a disk makes steps: within one, a second change of the same size gives the file the same time."""
    listed(library)
    opened.clear()
    listed(library)
    assert len(opened) == 4
    assert not (cache / "folders").exists(), "there was nothing to keep"


def test_a_change_in_the_same_step_of_the_clock_is_seen(
    library: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk whose clock shows one time for both changes, and which uses the place of the file again."""
    path, now = library / "one1.safetensors", time.time_ns()
    states: dict[str, State] = {}

    def coarse(one: str | os.PathLike[str]) -> State:
        return states.setdefault(str(one), (os.stat(one).st_size, now, 7, now))  # noqa: PTH116

    monkeypatch.setattr(folder_cache, "read_state", coarse)
    assert notes(library)["one1"] == "one"
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"two"'))
    assert notes(library)["one1"] == "two"


def test_a_change_while_the_file_is_read_is_seen(
    library: Path, cache: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = header_cache.open_embedding

    def read(path: Path) -> object:
        found = real(path)
        if path.name == "one1.safetensors":
            write(path, "two")
        return found

    monkeypatch.setattr(header_cache, "open_embedding", read)
    assert notes(library)["one1"] == "one"
    monkeypatch.setattr(header_cache, "open_embedding", real)
    assert notes(library)["one1"] == "two"


def test_a_file_that_was_replaced_while_it_was_read_and_put_back(
    library: Path, cache: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states before and after the reading differ, and later the first one is there again."""
    path = str(library / "one1.safetensors")
    states = iter([(1, 1, 1, 1), (1, 1, 2, 1), (1, 1, 1, 1)])
    reading = FolderCache(library, header_cache.list_makers())
    monkeypatch.setattr(folder_cache, "read_state", lambda one: next(states) if one == path else read_state(one))
    assert reading.get(path)[1] is None
    reading.put(path, Value("of the other file", ""))
    assert reading.get(path)[1] is None
    reading.save()
    assert not (cache / "folders").exists()


@pytest.mark.parametrize(
    ("modified", "changed", "settled"),
    [(-10, -10, True), (-3, -10, False), (0, 0, False), (3600, -10, False), (-7200, -10, True)],
)
def test_settled(modified: int, changed: int, settled: bool) -> None:
    now = time.time_ns()
    assert is_settled((1, now + modified * 10**9, 2, now + changed * 10**9), now) == settled


@POSIX
def test_a_time_that_a_program_set_does_not_settle_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    os.utime(path, (1, 1))
    state = read_state(path)
    assert state is not None and not is_settled(state, time.time_ns())


def damaged(content: bytes) -> Iterator[bytes]:
    """Damage of every kind: cut off, other bytes, bytes too many, another file."""
    yield b""
    yield b"\n"
    yield b"\0" * len(content)
    yield content + b"x"
    yield content[1:]
    yield content.replace(b"\n", b"\r\n")
    for place in range(0, len(content), 7):
        yield content[:place]
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def signed(content: bytes, body: bytes) -> bytes:
    """Another body with a checksum that is right."""
    head = content.partition(b"\n")[0].rpartition(b" ")[0]
    return head + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def nonsense(content: bytes) -> Iterator[bytes]:
    """Sound files that say nonsense."""
    body = content.partition(b"\n")[2]
    lines = body.split(b"\n")
    for number, line in enumerate(lines):
        others = [b"", b"null", b"[]", b"{}", b'[["clip_l"], {}]', b"999", b"-1", b"x" * 50, b"[" * 99_999, b"\xff"]
        pairs = ((b" 0 ", b" 9 "), (b" 0 ", b" -1 "), (b"[", b"{"), (b" ", b""))
        others += [line.replace(*pair) for pair in pairs]
        for other in others:
            yield b"\n".join([*lines[:number], other, *lines[number + 1 :]])
        yield b"\n".join(lines[:number])
        yield b"\n".join([*lines[:number], *lines[number + 1 :]])


def test_a_damaged_cache_is_an_empty_one(library: Path, cache: Path, later: None) -> None:
    right = listed(library)
    file = cache_file(cache)
    content = file.read_bytes()
    for broken in damaged(content):
        file.write_bytes(broken)
        found = FolderCache(library, header_cache.list_makers())
        assert all(found.get(str(entry.path))[1] is None for entry in right), broken
    assert listed(library) == right
    assert file.read_bytes() == content, "a damaged cache is not written again"


def test_a_cache_that_says_nonsense_is_not_believed(library: Path, cache: Path, later: None) -> None:
    right = listed(library)
    file = cache_file(cache)
    content = file.read_bytes()
    allowed = {entry.path.name: (entry.name, entry.count, entry.notes) for entry in right}
    for body in nonsense(content):
        file.write_bytes(signed(content, body))
        found = {entry.path.name: (entry.name, entry.count, entry.notes) for entry in listed(library)}
        assert found.keys() == allowed.keys()


@pytest.mark.parametrize("body", [b"0", b"", b"1", b"x", b"-5\na\nb", b"999999999999999999999999\n"])
def test_a_sound_cache_without_sense(library: Path, cache: Path, later: None, body: bytes) -> None:
    right = listed(library)
    cache_file(cache).write_bytes(signed(cache_file(cache).read_bytes(), body))
    assert listed(library) == right


@pytest.mark.parametrize("place", ["file/below", "a\0b", "n" * 300])
def test_a_cache_folder_that_cannot_be_made(
    library: Path, tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    right = listed(library)
    (tmp_path / "file").write_bytes(b"")
    if "\0" in place:
        monkeypatch.setattr(folder_cache, "cache_folder", lambda: tmp_path / place)
    else:
        monkeypatch.setenv("EMBEDMERGE_CACHE", str(tmp_path / place))
    assert listed(library) == right == listed(library)


def test_a_cache_that_cannot_be_written(
    library: Path, cache: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    right = listed(library)
    old = cache_file(cache).read_bytes()
    monkeypatch.setattr(folder_cache, "write_atomically", refuse)
    write(library / "new5.safetensors", "new")
    assert len(listed(library)) == len(right) + 1
    assert cache_file(cache).read_bytes() == old


def test_a_folder_in_the_place_of_the_cache(library: Path, cache: Path, later: None) -> None:
    right = listed(library)
    file = cache_file(cache)
    file.unlink()
    file.mkdir()
    assert listed(library) == right


@pytest.mark.usefixtures("cache", "later")
def test_another_version_of_the_program_reads_the_files_again(
    library: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    makers = [library.with_name("maker.py")]
    makers[0].write_bytes(b"1")
    monkeypatch.setattr(header_cache, "list_makers", lambda: makers)
    listed(library)
    opened.clear()
    listed(library)
    assert opened == []
    makers[0].write_bytes(b"22")
    listed(library)
    assert len(opened) == 4
    makers[0].unlink()  # as in a zip file, where modules are no files
    opened.clear()
    listed(library)
    listed(library)
    assert len(opened) == 8


def test_every_part_that_reads_files_is_a_maker() -> None:
    names = {path.name for path in header_cache.list_makers()}
    assert {"forms.py", "tag.py", "header_cache.py", "safetensors_header.py", "architecture.py"} <= names


def test_the_other_half_of_a_pair_comes_and_goes(tmp_path: Path, cache: Path, later: None) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    save_file({"<x>": torch.ones(1, 768)}, folder / "learned_embeds.safetensors")
    for _ in range(2):
        assert [entry.reason for entry in listed(folder)] == [None]
    save_file({"<x>": torch.ones(1, 1280)}, folder / "learned_embeds_2.safetensors")
    for _ in range(2):
        assert all("half of a pair" in (entry.reason or "") for entry in listed(folder))
    (folder / "learned_embeds_2.safetensors").unlink()
    assert [entry.reason for entry in listed(folder)] == [None]


def test_very_long_texts_are_read_from_the_file_each_time(
    library: Path, cache: Path, later: None, opened: list[str]
) -> None:
    write(library / "long5.safetensors", "x" * 400_000)
    listed(library)
    opened.clear()
    assert len(notes(library)["long5"]) == 400_000
    assert opened == ["long5.safetensors"]
    assert cache_file(cache).stat().st_size < 10_000


def test_few_changes_among_many_files_are_not_written_at_once(tmp_path: Path, cache: Path, later: None) -> None:
    folder = tmp_path / "many"
    for number in range(120):
        write(folder / f"style{number:03}.safetensors", "x")
    listed(folder)
    before = cache_file(cache).read_bytes()
    write(folder / "new1.safetensors", "new")
    assert notes(folder)["new1"] == "new"
    assert cache_file(cache).read_bytes() == before
    for number in range(2, 5):
        write(folder / f"new{number}.safetensors", "new")
    listed(folder)
    assert b"new4" in cache_file(cache).read_bytes()


def test_caches_that_nobody_uses_are_removed(library: Path, tmp_path: Path, cache: Path, later: None) -> None:
    listed(library)
    kept = cache_file(cache)
    os.utime(kept, (time.time() - 2 * 86_400,) * 2)
    listed(library)
    assert time.time() - kept.stat().st_mtime < 3600, "it was used, and is not marked so"
    old, left = kept.with_name("folder-old.cache"), kept.with_name(".embedmerge-locked-x.tmp")
    for path in (old, left):
        path.write_bytes(b"")
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    for number in range(60):
        kept.with_name(f"folder-{number}.cache").write_bytes(b"")
    write(library / "new5.safetensors", "new")
    listed(library)
    assert kept.exists() and not old.exists() and not left.exists()
    assert len(list(kept.parent.iterdir())) == 40


def test_several_threads_list_and_change(library: Path, cache: Path, later: None) -> None:
    faults: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                path = library / f"own{number}x.safetensors"
                write(path.with_suffix(".new"), f"{number}-{turn}")
                path.with_suffix(".new").replace(path)
                if (found := notes(library)[path.stem]) != f"{number}-{turn}":
                    faults.append((number, turn, found))
        except Exception as error:  # noqa: BLE001 -- it is reported below
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert faults == []


LISTER = """
import json, sys
from pathlib import Path
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer
from lib_embedmerge.files import folder_cache
folder_cache._SHARE_OF_CHANGES = 10**9
folder_cache.is_settled = lambda state, now: True
for _ in range(20):
    found = list_embeddings(EmbeddingFolder(Path(sys.argv[1]), clip_tokenizer()))
    assert {entry.name: entry.notes for entry in found} == json.loads(sys.argv[2])
print("right")
"""


@pytest.mark.crash
def test_several_programs_use_one_cache(library: Path, cache: Path, later: None) -> None:
    right = json.dumps(notes(library))
    command = [sys.executable, "-c", LISTER, str(library), right]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [program.communicate(timeout=120)[0].strip() for program in programs] == ["right"] * 4


metadata = st.dictionaries(
    st.sampled_from([value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)])
    | st.sampled_from(["embedmerge.token_table.clip_l", "embedmerge.text_encoder.clip_g", "ss_x", "ot_x"]),
    st.text(max_size=20)
    | st.sampled_from(["a" * 64, "0x" + "b" * 64, "true", "v", '["a","b"]', '{"x":{"hash":"' + "c" * 64 + '"}}', "{}"]),
)


@given(metadata, st.text(min_size=1), st.integers(1, 75), st.sampled_from([("clip_l",), ("clip_l", "clip_g", "t5")]))
def test_what_is_kept_is_what_was_read(texts: dict[str, str], name: str, count: int, encoders: tuple[str, ...]) -> None:
    architecture = find_architecture(encoders)
    assert architecture is not None
    found = FoundHeader(name, count, architecture, read_tag(texts), None, 5)
    value = header_cache._encode(found, texts)
    assert value.own.isascii() and value.common.isascii() and "\n" not in value.own + value.common
    assert header_cache._decode(value, 5) == found


def test_values_with_a_name_of_any_kind(tmp_path: Path, cache: Path, later: None) -> None:
    for name in ("a b.safetensors", 'quote".safetensors', "line\nbreak.safetensors", "é猫.safetensors"):
        path = tmp_path / "files" / name
        try:
            write(path, "x")
        except OSError:  # Windows does not allow the name
            continue
        found = FolderCache(path.parent, header_cache.list_makers())
        assert found.get(str(path))[1] is None
        found.put(str(path), Value("common part", f"own part {SDXL.name}"))
        found.save()
        again = FolderCache(path.parent, header_cache.list_makers()).get(str(path))
        assert again[1] == Value("common part", "own part sdxl")


def test_a_pickle_that_is_known_needs_no_torch(library: Path, cache: Path, later: None, opened: list[str]) -> None:
    listed(library)
    opened.clear()
    headers = HeaderCache(library)
    assert headers.find(library / "old4.pt").vectors == 2
    assert opened == []
