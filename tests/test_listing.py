"""A library as a list, from headers alone, and `embedmerge list`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from models import StandardModels, encoders
from safetensors.torch import save_file

from lib_embedmerge import open_checkpoint
from lib_embedmerge.cli import main
from lib_embedmerge.cli.commands import list_embeddings as list_command
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.files import safetensors_file
from lib_embedmerge.recipes.build import BuildOptions, build_embedding
from lib_embedmerge.recipes.listing import Entry, list_embeddings
from lib_embedmerge.tokenizer import clip_tokenizer

BASE = encoders()


@pytest.fixture(scope="module")
def checkpoints(standard: StandardModels) -> tuple[Path, Path]:
    """A model, and another one with other rows for `cat`."""
    return standard.base, standard.other_cat


@pytest.fixture
def library(tmp_path: Path, checkpoints: tuple[Path, Path]) -> Path:
    """Two with tags, one of SD1 as .pt, a damaged one, a picture, and two that texts do not find."""
    model = open_checkpoint(checkpoints[0])
    build_embedding(model, "'cat'+'dog'", "Mixed1", BuildOptions(notes="soft")).save(tmp_path)
    build_embedding(model, "a photo", "plain1").save(tmp_path / "sub")
    torch.save({"emb_params": torch.ones(2, 768)}, tmp_path / "old1.pt")
    (tmp_path / "damaged1.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not json       ")
    (tmp_path / "picture1.png").write_bytes(b"x")
    vectors = {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}
    save_file(vectors, tmp_path / "sub" / "old1.safetensors")
    save_file(vectors, tmp_path / "sub" / "MIXED1.safetensors")
    return tmp_path


def entries(folder: Path) -> dict[str, Entry]:
    found = list_embeddings(EmbeddingFolder(folder, clip_tokenizer()))
    return {str(entry.path.relative_to(folder).as_posix()): entry for entry in found}


def test_all_files_are_listed_by_name(library: Path) -> None:
    assert list(entries(library)) == [
        "damaged1.safetensors", "sub/MIXED1.safetensors", "Mixed1.safetensors", "old1.pt", "sub/old1.safetensors",
        "sub/plain1.safetensors",
    ]  # fmt: skip


def test_what_is_known_of_each(library: Path) -> None:
    found = entries(library)
    mixed = found["Mixed1.safetensors"]
    assert (mixed.name, mixed.count, mixed.reason) == ("Mixed1", 1, None)
    assert mixed.architecture is not None and mixed.architecture.name == "sdxl"
    assert mixed.tag is not None
    assert (mixed.tag.recipe, mixed.tag.made_for, mixed.tag.notes) == ("'cat'+'dog'", "base", "soft")
    assert mixed.date == mixed.tag.date
    old = found["old1.pt"]
    assert (old.count, old.tag, old.reason) == (2, None, None)
    assert old.architecture is not None and old.architecture.name == "sd1"
    assert found["sub/plain1.safetensors"].count == 2


@pytest.mark.parametrize(
    ("file", "usable", "reason"),
    [
        ("damaged1.safetensors", False, "damaged1.safetensors"),
        ("sub/old1.safetensors", True, "'sub/old1.safetensors' is ignored: 'old1' is the name of 'old1.pt'."),
        (
            "sub/MIXED1.safetensors",
            True,
            "'sub/MIXED1.safetensors' does not work in a prompt: 'MIXED1' is read the same as 'Mixed1.safetensors'.",
        ),
    ],
)
def test_why_a_file_is_not_used(library: Path, file: str, usable: bool, reason: str) -> None:
    entry = entries(library)[file]
    assert entry.is_usable == usable
    assert entry.reason is not None and reason in entry.reason


def test_only_headers_are_read(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("vectors were read")

    monkeypatch.setattr(safetensors_file, "read_tensor", read)
    monkeypatch.setattr("lib_embedmerge.embeddings.embedding_file.read_tensor", read)
    assert entries(library)["Mixed1.safetensors"].count == 1


def test_a_file_without_a_tag_is_dated_by_the_disk(library: Path) -> None:
    os.utime(library / "old1.pt", (86_400, 86_400))
    assert entries(library)["old1.pt"].date.startswith("1970-01-0")


def test_a_file_that_is_gone_meanwhile(library: Path) -> None:
    folder = EmbeddingFolder(library, clip_tokenizer())
    assert folder.files()
    (library / "Mixed1.safetensors").unlink()
    gone = next(entry for entry in list_embeddings(folder) if entry.name == "Mixed1")
    assert (gone.is_usable, gone.date) == (False, "")
    assert gone.reason


def test_an_empty_folder(tmp_path: Path) -> None:
    assert entries(tmp_path) == {}


def listed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main(["list", *map(str, arguments), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_the_command(
    library: Path, checkpoints: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = listed(capsys, "--embeddings", library)
    assert [entry["fit"] for entry in found] == [None] * 6
    assert set(found[0]) == {
        "name", "file", "vectors", "architecture", "made_for", "recipe", "notes", "notes_by_model", "sidecar",
        "date", "fit", "reason",
    }  # fmt: skip
    monkeypatch.chdir(library)
    assert [entry["name"] for entry in listed(capsys)] == [entry["name"] for entry in found]
    for checkpoint, mixed, plain in (
        (checkpoints[0], "made for this model", "made for this model"),
        (checkpoints[1], "differs", "same vectors"),
    ):
        status = {
            entry["name"]: entry["fit"]["status"]
            for entry in listed(capsys, "--embeddings", library, "--checkpoint", checkpoint)
            if entry["fit"]
        }
        assert (status["Mixed1"], status["plain1"]) == (mixed, plain)


def test_damage_that_a_header_does_not_show(library: Path, checkpoints: tuple[Path, Path]) -> None:
    file = library / "sub" / "plain1.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    options = argparse.Namespace(
        embeddings=str(library), checkpoint=str(checkpoints[0]), text_encoder=[], device="cpu", json=True
    )
    (entry,) = (entry for entry in list_command(options) if entry["name"] == "plain1")
    assert entry["fit"] is None
    assert "plain1.safetensors" in (entry["reason"] or "")


def test_the_table(library: Path, checkpoints: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--embeddings", str(library), "--checkpoint", str(checkpoints[0])]) == 0
    shown = capsys.readouterr().out
    for text in ("6 embeddings", "Mixed1", "'cat'+'dog'", "warning: ", "damaged1.safetensors"):
        assert text in shown


def test_files_of_one_name_are_told_by_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("one/same1.pt", "two/same1.pt", "two/deep/same1.bin", "own1.pt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"emb_params": torch.ones(2, 768), "step": 5, "sd_checkpoint_name": "v1-5"}, tmp_path / place)
    for place in ("one/bad1.pt", "two/bad1.pt"):
        (tmp_path / place).write_bytes(b"<html>" * 10)
    reasons = {place: entry.reason for place, entry in entries(tmp_path).items()}
    assert reasons == {
        "one/bad1.pt": "'one/bad1.pt' is a web page, not a model.",
        "two/bad1.pt": "'two/bad1.pt' is a web page, not a model.",
        "own1.pt": None,
        "one/same1.pt": None,
        "two/same1.pt": "'two/same1.pt' is ignored: 'same1' is the name of 'one/same1.pt'.",
        "two/deep/same1.bin": "'two/deep/same1.bin' is ignored: 'same1' is the name of 'one/same1.pt'.",
    }
    assert main(["list", "--embeddings", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    rows = shown.partition("warning")[0]
    assert all(place in rows for place in ("one/same1.pt", "two/same1.pt", "two/deep/same1.bin", "two/bad1.pt"))
    assert " own1 " in rows and "own1.pt" not in rows
    assert "step" not in shown and "v1-5" not in shown


def test_facts_are_no_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"string_to_param": {"*": torch.ones(2, 768)}, "step": 500, "sd_checkpoint_name": "v1-5", "name": "x"}
    torch.save(content, tmp_path / "x1.pt")
    assert main(["show", str(tmp_path / "x1.pt")]) == 0
    shown = capsys.readouterr().out
    assert "warning" not in shown
    assert all(word in shown for word in ("step", "500", "sd_checkpoint_name", "v1-5"))
    assert main(["show", str(tmp_path / "x1.pt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["notes"], found["facts"]) == ([], {"name": "x", "step": "500", "sd_checkpoint_name": "v1-5"})
