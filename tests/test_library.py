"""A folder of embeddings: what is found in it, by which tokens, and when files are read."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file

from lib_embedmerge.core.ports import EmbeddingNames, Tokenizer
from lib_embedmerge.embeddings import library as library_module
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError
from lib_embedmerge.tokenizer import clip_tokenizer


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path: Path, value: float = 1.0, count: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"clip_l": torch.full((count, 768), value), "clip_g": torch.full((count, 1280), value)}, path)


class Counting:
    """The tokenizer, counting the texts it is asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.texts.append(text)
        return clip_tokenizer().encode(text)


def found(folder: EmbeddingFolder, text: str) -> list[str]:
    """What a web UI would see in a text, from left to right."""
    ids, position, names = clip_tokenizer().encode(text), 0, []
    while position < len(ids):
        match = folder.find(ids, position)
        if match:
            names.append(match[0])
        position += match[1] if match else 1
    return names


def test_the_folder_and_its_subfolders_are_looked_through(tmp_path: Path) -> None:
    touch(tmp_path, "a.safetensors", "sub/b.PT", "sub/deep/c.bin", "d.png", "e.txt", "f.preview.png", "g.ckpt")
    touch(tmp_path, ".git/h.pt", ".i.safetensors", "k.preview.safetensors", ".embedmerge-01.tmp", "._a.safetensors")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    names: EmbeddingNames = folder
    assert names.find([], 0) is None
    assert folder.names() == ("a", "b", "c")
    assert folder.warnings == ()
    assert folder.path("c") == tmp_path / "sub" / "deep" / "c.bin"


def test_nothing_is_looked_at_before_the_first_question(tmp_path: Path) -> None:
    counting = Counting()
    touch(tmp_path, "a.pt", "b.pt")
    folder = EmbeddingFolder(tmp_path, cast(Tokenizer, counting))
    assert counting.texts == []
    for _ in range(3):
        folder.find([5, 6], 0)
        folder.names()
    assert counting.texts == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("neg", ["neg"]),
        ("a NEG, b", ["neg"]),
        ("neg_v2", ["neg_v2"]),
        ("neg_v3", ["neg"]),
        ("neg neg_v2 neg", ["neg", "neg_v2", "neg"]),
        ("negative", []),
        ("my   Style", ["my style"]),
        ("my_style", []),
        ("style10", ["style1"]),
        ("Мир!", ["Мир"]),
        ("Миру", []),
        ("Мир", ["Мир"]),
        ("", []),
    ],
)
def test_the_longest_name_in_tokens_is_found(tmp_path: Path, text: str, expected: list[str]) -> None:
    touch(tmp_path, "neg.pt", "neg_v2.pt", "my style.pt", "style1.pt", "Мир.pt")
    assert found(EmbeddingFolder(tmp_path, clip_tokenizer()), text) == expected


def test_a_match_is_told_with_its_number_of_tokens(tmp_path: Path) -> None:
    touch(tmp_path, "neg_v2.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    ids = clip_tokenizer().encode("x neg_v2")
    assert folder.find(ids, 1) == ("neg_v2", len(ids) - 1)
    assert folder.find(tuple(ids), 1) == ("neg_v2", len(ids) - 1)
    assert [folder.find(ids, place) for place in (0, 2, len(ids), -1)] == [None] * 4
    assert folder.find(ids[:-1], 1) is None
    touch(tmp_path, "neg.pt")
    folder.refresh()
    short = clip_tokenizer().encode("neg")
    assert folder.find(ids[: 1 + len(short)], 1) == ("neg", len(short))


def test_of_two_files_of_one_name_the_first_in_order_is_meant(tmp_path: Path) -> None:
    touch(tmp_path, "a/same.safetensors", "b/same.safetensors", "same.bin", "same.pt", "other.pt", "Other.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    assert folder.path("same") == tmp_path / "same.pt"
    assert len(folder.warnings) == 4
    assert [note for note in folder.warnings if "same.bin" in note and "is ignored" in note]
    assert [note for note in folder.warnings if "is read the same as 'Other.pt'" in note]
    assert folder.path("other").name == "other.pt", "a name as it is written comes before one that reads the same"
    assert found(folder, "other") == ["Other"]


def test_safetensors_come_before_pickles_of_the_same_name(tmp_path: Path) -> None:
    touch(tmp_path, "x1.bin", "x1.pt", "x1.safetensors")
    assert EmbeddingFolder(tmp_path, clip_tokenizer()).path("x1").suffix == ".safetensors"


def test_a_name_without_tokens_is_skipped_with_a_note(tmp_path: Path) -> None:
    touch(tmp_path, " .pt", "x.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    assert folder.names() == ("x",)
    assert "does not work in a prompt" in folder.warnings[0]


def test_a_name_is_loaded_as_a_prompt_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "Neg XL.safetensors")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    assert folder.load("Neg XL") is folder.load("neg  xl")
    assert folder.load("Neg XL").name == "Neg XL"


def test_an_unknown_name_is_said_with_its_neighbours(tmp_path: Path) -> None:
    touch(tmp_path, "negative_hand.pt", "other.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    with pytest.raises(StorageError, match="no embedding 'negative_hands'") as caught:
        folder.load("negative_hands")
    assert caught.value.hint == "Did you mean negative_hand?"
    with pytest.raises(StorageError) as caught:
        folder.load("")
    assert str(tmp_path) in (caught.value.hint or "")


def test_a_file_is_read_once_for_each_of_its_states(tmp_path: Path) -> None:
    path = tmp_path / "catdog.safetensors"
    write(path, 1.0)
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    first = folder.load("catdog")
    assert folder.load("catdog") is first
    write(path, 2.0)
    os.utime(path, (1, 1))
    second = folder.load("catdog")
    assert second is not first
    assert second.vectors["clip_l"][0, 0] == 2.0
    assert folder.load("catdog") is second
    path.unlink()
    with pytest.raises(StorageError, match=r"'catdog\.safetensors' can no longer be read"):
        folder.load("catdog")


def test_a_file_that_is_no_embedding_says_so_when_it_is_loaded(tmp_path: Path) -> None:
    touch(tmp_path, "empty.safetensors", "empty2.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    for name in folder.names():
        with pytest.raises(StorageError, match="is empty"):
            folder.load(name)


def test_the_folder_is_looked_through_again_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "old1.safetensors")
    write(tmp_path / "gone1.safetensors")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    kept = folder.load("old1")
    folder.load("gone1")
    write(tmp_path / "new1.safetensors")
    (tmp_path / "gone1.safetensors").unlink()
    assert folder.names() == ("gone1", "old1")
    folder.refresh()
    assert folder.names() == ("new1", "old1")
    assert folder.load("old1") is kept
    assert found(folder, "gone1 new1") == ["new1"]


def settled(*folders: Path) -> None:
    """Make folders look as if they had not been touched for a minute."""
    for folder in folders:
        os.utime(folder, (time.time() - 60, time.time() - 60))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: touch(root, "new1.pt"),
        lambda root: touch(root, "sub/new1.pt"),
        lambda root: (root / "sub" / "old2.pt").unlink(),
        lambda root: (root / "sub" / "old2.pt").rename(root / "sub" / "new2.pt"),
        lambda root: (root / "empty").rename(root / "full"),
        lambda root: (root / "empty").rmdir(),
    ],
    ids=["new", "new below", "gone", "renamed", "folder renamed", "folder gone"],
)
def test_the_folder_is_looked_through_again_where_it_has_changed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    counting = Counting()
    touch(tmp_path, "old1.pt", "sub/old2.pt")
    (tmp_path / "empty").mkdir()
    settled(tmp_path, tmp_path / "sub", tmp_path / "empty")
    folder = EmbeddingFolder(tmp_path, cast(Tokenizer, counting))
    folder.refresh_if_changed()
    assert counting.texts == [], "nothing was looked at yet"
    assert folder.names() == ("old1", "old2")
    scan = folder.state
    for _ in range(3):
        folder.refresh_if_changed()
        assert folder.state is scan
    change(tmp_path)
    folder.refresh_if_changed()
    assert folder.state is not scan
    assert set(folder.names()) == {path.stem for path in tmp_path.rglob("*.pt")}
    assert sorted(set(counting.texts)) == sorted(counting.texts), "a name was tokenized again"


def test_a_change_within_the_same_tick_of_the_disk_is_seen(tmp_path: Path) -> None:
    touch(tmp_path, "old1.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    folder.names()
    stat = tmp_path.stat()
    touch(tmp_path, "new1.pt")
    os.utime(tmp_path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    folder.refresh_if_changed()
    assert folder.names() == ("new1", "old1")


def test_a_folder_that_is_gone_is_said_where_it_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "embeddings"
    touch(path, "old1.pt")
    settled(path)
    folder = EmbeddingFolder(path, clip_tokenizer())
    folder.names()
    (path / "old1.pt").unlink()
    path.rmdir()
    with pytest.raises(StorageError, match="embeddings folder does not exist"):
        folder.refresh_if_changed()


def test_several_threads_ask_load_and_refresh(tmp_path: Path) -> None:
    names = [f"style{letter}x" for letter in "abcdefgh"]
    for name in names:
        write(tmp_path / f"{name}.safetensors")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    ids = {name: clip_tokenizer().encode(name) for name in names}
    faults: list[object] = []

    def ask(number: int) -> None:
        for turn in range(40):
            name = names[(number + turn) % len(names)]
            try:
                if turn % 5 == number % 5:
                    folder.refresh()
                if folder.find(ids[name], 0) != (name, len(ids[name])) or folder.load(name).name != name:
                    faults.append(name)
                if len(folder.names()) != len(names) or folder.warnings:
                    faults.append(folder.warnings)
            except Exception as error:  # noqa: BLE001 -- a thread's error is told by the test
                faults.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []


def test_two_threads_that_load_at_once_go_on_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "stylex1.safetensors")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    together = threading.Barrier(2, timeout=20)
    original = library_module.load_embedding

    def slow(path: Path) -> object:
        together.wait(60)
        return original(path)

    monkeypatch.setattr(library_module, "load_embedding", slow)
    loaded: list[object] = []
    threads = [threading.Thread(target=lambda: loaded.append(folder.load("stylex1"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(loaded) == 2
    assert loaded[0] is loaded[1]


def test_a_refresh_during_a_scan_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "old1.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    listed, written = threading.Event(), threading.Event()
    original = EmbeddingFolder._scan

    def slow(self: EmbeddingFolder) -> object:
        index = original(self)
        listed.set()
        assert written.wait(20)
        return index

    monkeypatch.setattr(EmbeddingFolder, "_scan", slow)
    scanning = threading.Thread(target=folder.names)
    scanning.start()
    assert listed.wait(20)
    touch(tmp_path, "new1.pt")
    refreshing = threading.Thread(target=folder.refresh)
    refreshing.start()
    written.set()
    scanning.join(60)
    refreshing.join(60)
    assert folder.names() == ("new1", "old1")


@pytest.mark.parametrize("kind", ["missing", "file", "nul", "long"])
def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path, kind: str) -> None:
    path = {"missing": tmp_path / "x", "file": tmp_path / "f", "nul": Path("a\0b"), "long": tmp_path / ("x" * 5000)}[
        kind
    ]
    if kind == "file":
        path.touch()
    with pytest.raises(StorageError, match="embeddings folder does not exist") as caught:
        EmbeddingFolder(path, clip_tokenizer())
    assert caught.value.hint


def test_a_folder_that_vanishes_is_said_when_refreshed(tmp_path: Path) -> None:
    path = tmp_path / "embeddings"
    path.mkdir()
    folder = EmbeddingFolder(str(path), clip_tokenizer())
    path.rmdir()
    with pytest.raises(StorageError, match="embeddings folder does not exist"):
        folder.refresh()


def test_a_folder_that_vanishes_before_the_first_look_is_empty_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "embeddings"
    path.mkdir()
    folder = EmbeddingFolder(path, clip_tokenizer())
    path.rmdir()
    assert folder.names() == ()
    assert "cannot be read" in folder.warnings[0]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.pt", "outside/b.pt")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    folder = EmbeddingFolder(tmp_path / "real", clip_tokenizer())
    assert folder.names() == ("a", "b")
    assert folder.warnings == ()


@pytest.mark.skipif(os.name == "nt", reason="only where names are bytes")
def test_a_name_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"bad\xff.pt"), "fine1.pt")
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    assert "fine1" in folder.names()
    with pytest.raises(StorageError):
        folder.load(os.fsdecode(b"bad\xff"))


def test_two_thousand_files(tmp_path: Path) -> None:
    for number in range(20):
        touch(tmp_path, *(f"sub{number}/style{number}_{place}.safetensors" for place in range(100)))
    folder = EmbeddingFolder(tmp_path, clip_tokenizer())
    ids = clip_tokenizer().encode("x, style7_42, y")
    assert folder.find(ids, 2) == ("style7_42", len(ids) - 4)
    assert len(folder.names()) == 2000
