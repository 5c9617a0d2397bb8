"""Whatever a file holds, each reader answers at once and in a sentence of ours; and only regular files are opened."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from arrays import equal
from foreign_files import BOMBS, KINDS, torch_bytes
from models import encoders, write_sdxl
from safetensors.torch import save

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.embeddings.embedding import read_embedding_header
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import CheckpointError, EmbedMergeError, StorageError
from lib_embedmerge.files.file_kinds import SAFETENSORS, TORCH_LEGACY, TORCH_ZIP, read_file_start
from lib_embedmerge.files.opening import open_regular
from lib_embedmerge.files.pickle_file import load_tensors
from lib_embedmerge.files.safetensors_file import read_header
from lib_embedmerge.hosts.checkpoint_host import CheckpointHost
from lib_embedmerge.recipes.listing import list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer

READERS: dict[str, tuple[Callable[[Path], object], type[EmbedMergeError]]] = {
    "load_embedding": (load_embedding, StorageError),
    "read_embedding_header": (read_embedding_header, StorageError),
    "open_checkpoint": (open_checkpoint, CheckpointError),
    "load_tensors": (load_tensors, StorageError),
    "read_header": (read_header, StorageError),
}
ENDINGS = (".safetensors", ".pt", ".bin")


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails what takes longer, also where it never ends."""
    if not hasattr(signal, "SIGALRM"):
        started = time.monotonic()
        yield
        assert time.monotonic() - started < seconds
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("reader", ["load_embedding", "open_checkpoint"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_named_for_what_it_is_whatever_its_name_ends_in(tmp_path: Path, kind: str, reader: str) -> None:
    data, says = KINDS[kind]
    read, error = READERS[reader]
    for ending in ENDINGS:
        path = tmp_path / f"thing{ending}"
        path.write_bytes(data)
        with pytest.raises(error, match=says) as caught:
            read(path)
        assert caught.value.message.startswith(f"'{path.name}'")
        assert caught.value.hint


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_shared_values_keep_no_reader_busy(tmp_path: Path, bomb: str, reader: str) -> None:
    read, error = READERS[reader]
    path = tmp_path / "bomb.pt"
    path.write_bytes(BOMBS[bomb])
    with within(20), contextlib.suppress(error):
        read(path)


@pytest.mark.slow
def test_a_library_of_bombs_is_listed(tmp_path: Path) -> None:
    for number, data in enumerate(BOMBS.values()):
        (tmp_path / f"bomb{number}.bin").write_bytes(data)
    with within(60):
        entries = list_embeddings(EmbeddingFolder(tmp_path, clip_tokenizer()))
    assert len(entries) == len(BOMBS)
    assert not any(entry.is_usable for entry in entries)


def test_what_costs_too_much_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(BOMBS["tuple as a key"])
    with pytest.raises(StorageError, match="made to keep programs busy"):
        load_embedding(tmp_path / "x.pt")


def test_a_name_that_no_safe_loader_knows_is_told(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for options in ({}, {"_use_new_zipfile_serialization": False}):
        (tmp_path / "x.pt").write_bytes(torch_bytes({"clip_l": torch.ones(1, 768), "x": Runs()}, **options))
        with pytest.raises(StorageError, match=rf"such as '{os.mkdir.__module__}\.mkdir'"):
            load_embedding(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


# Forms under names that promise others.


def test_a_safetensors_file_is_one_under_any_name(tmp_path: Path) -> None:
    for name in ("x.pt", "x.bin", "x.sft", "x.pth"):
        (tmp_path / name).write_bytes(save({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, {"a": "b"}))
        embedding = load_embedding(tmp_path / name)
        assert (embedding.count, embedding.architecture.name, embedding.metadata["a"]) == (2, "sdxl", "b")
        assert "only if its name ends in .safetensors" in embedding.warnings[0]
        assert read_embedding_header(tmp_path / name).count == 2
        assert read_file_start(tmp_path / name).kind is SAFETENSORS


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old form"])
def test_a_pickle_is_one_under_any_name(tmp_path: Path, *, new: bool) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(torch_bytes({"emb_params": torch.ones(2, 768)}, _use_new_zipfile_serialization=new))
    assert read_file_start(path).kind is (TORCH_ZIP if new else TORCH_LEGACY)
    embedding = load_embedding(path)
    assert embedding.count == 2
    assert "PyTorch file" in embedding.warnings[0]


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old form"])
@pytest.mark.parametrize("name", ["x.safetensors", "x.sft", "x"])
def test_a_checkpoint_is_read_in_the_form_that_it_has(tmp_path: Path, name: str, *, new: bool) -> None:
    table = torch.ones(3, 768)
    content = {"state_dict": {"text_model.embeddings.token_embedding.weight": table}}
    (tmp_path / name).write_bytes(torch_bytes(content, _use_new_zipfile_serialization=new))
    assert equal(open_checkpoint(tmp_path / name).encoders[0].vectors([1]), table[:1])


def test_a_large_checkpoint_in_a_zip_is_read_under_the_name_of_another_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib_embedmerge.files.pickle_file._MAPPED_SIZE", 1000)
    table = torch.ones(3, 768)
    (tmp_path / "x.safetensors").write_bytes(torch_bytes({"text_model.embeddings.token_embedding.weight": table}))
    assert equal(open_checkpoint(tmp_path / "x.safetensors").encoders[0].vectors([1]), table[:1])


# What is no file.


@pytest.fixture
def no_files(tmp_path: Path) -> Iterator[Path]:
    """A folder in which each embedding and checkpoint is something else than a regular file."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such files")
    with contextlib.ExitStack() as stack:
        for ending in (".safetensors", ".pt", ".bin", ".ckpt", ".png"):
            os.mkfifo(tmp_path / f"pipe{ending}")
            (tmp_path / f"link{ending}").symlink_to(tmp_path / f"pipe{ending}")
            (tmp_path / f"device{ending}").symlink_to("/dev/zero")
            (tmp_path / f"gone{ending}").symlink_to(tmp_path / "nowhere")
            (tmp_path / f"folder{ending}").mkdir()
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        before = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket.pt")  # its whole path may be too long for one
        finally:
            os.chdir(before)
        yield tmp_path


SAID = {"pipe": "is a named pipe", "link": "is a named pipe", "device": "is a device", "gone": "does not exist",
        "folder": "is a folder|contains no model files", "socket": "is a socket"}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(no_files: Path, reader: str) -> None:
    read, error = READERS[reader]
    for path in sorted(no_files.iterdir()):
        if path.suffix in {".ckpt", ".png"} and reader in {"load_embedding", "read_embedding_header"}:
            continue
        with within(5), pytest.raises(error, match=SAID[path.stem]):
            read(path)


def test_a_library_of_what_is_no_file_is_listed(no_files: Path) -> None:
    with within(20):
        entries = list_embeddings(EmbeddingFolder(no_files, clip_tokenizer()))
    assert entries
    assert all(not entry.is_usable and entry.reason for entry in entries)


def test_what_takes_the_place_of_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such files")
    (tmp_path / "x.pt").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    original = os.open
    monkeypatch.setattr(os, "open", lambda _, flags, *rest: original(tmp_path / "pipe", flags, *rest))
    with within(5), pytest.raises(StorageError, match="is a named pipe"):
        open_regular(tmp_path / "x.pt")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pt").write_bytes(b"x")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"'x.pt' cannot be opened: access is denied"):
        load_embedding(tmp_path / "x.pt")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(torch_bytes({"emb_params": torch.ones(2, 768)}))
    try:
        (tmp_path / "x.pt").symlink_to(tmp_path / "real")
    except OSError:
        pytest.skip("this system takes no links")
    assert load_embedding(tmp_path / "x.pt").count == 2


# The page and its choices.


def _fill(folder: Path) -> None:
    for ending in (".safetensors", ".ckpt"):
        for name, (data, _) in KINDS.items():
            (folder / f"{name}{ending}").write_bytes(data)
        for name in ("dicts", "tuple as a key", "itself"):
            (folder / f"bomb {name}{ending}").write_bytes(BOMBS[name])


def test_the_choices_of_the_page_take_whatever_a_folder_holds(no_files: Path, tmp_path: Path) -> None:
    _fill(no_files)
    with within(60):
        host = CheckpointHost(tmp_path / "embeddings", models=no_files)
        host.choose_any()
        for title in host.checkpoints():
            with pytest.raises(CheckpointError):
                host.choose(title)
    write_sdxl(no_files / "zz.safetensors", encoders())
    host.choose_any()
    assert host.active().model.facts.title == "zz"


def test_show_and_list_answer_in_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fill(tmp_path)
    for path in sorted(tmp_path.glob("*.safetensors")):
        assert main(["show", str(path)]) == 1
        assert path.stem in capsys.readouterr().err
    assert main(["list", "--embeddings", str(tmp_path), "--json"]) == 0
