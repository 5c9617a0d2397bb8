"""Embedding files edited, renamed, deleted and brought back: vectors and others' texts stay, nothing is half done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from lib_embedmerge.errors import StorageError
from lib_embedmerge.storage import editing
from lib_embedmerge.storage.editing import TRASH, delete, deletions, edit_metadata, edit_notes, rename, undelete
from lib_embedmerge.storage.library import EmbeddingFolder
from lib_embedmerge.tokenizer import clip_tokenizer

FOREIGN = {"ss_tag_frequency": '{"a":1}', "author": "somebody", "modelspec.title": "mine1"}


def embedding(path: Path, **metadata: str) -> Path:
    """In bfloat16 and with its tensors the other way around: nothing that this program would write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vectors = {"clip_g": torch.randn(2, 1280).bfloat16(), "clip_l": torch.randn(2, 768).bfloat16()}
    save_file(vectors, path, metadata={**FOREIGN, **metadata})
    return path


def payload(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def texts(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def files(folder: Path) -> set[str]:
    return {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(notes=st.text(max_size=200))
def test_notes_are_all_that_changes(tmp_path: Path, notes: str) -> None:
    path = embedding(tmp_path / "mine1.safetensors", **{"embedmerge.notes": "old"})
    before = payload(path)
    edit_notes(path, notes)
    wanted = {"embedmerge.notes": notes.strip()} if notes.strip() else {}
    assert texts(path) == {**FOREIGN, **wanted}
    assert payload(path) == before
    with safe_open(path, "pt") as file:
        assert {name: file.get_tensor(name).dtype for name in file.keys()} == dict.fromkeys(  # noqa: SIM118 -- no dict
            ["clip_g", "clip_l"], torch.bfloat16
        )


@pytest.mark.parametrize(
    ("notes", "fault"), [("\ud800", "surrogate"), ("x" * 1_200_000, "bytes")], ids=["half a pair", "too long"]
)
def test_what_cannot_be_stored_leaves_the_file(tmp_path: Path, notes: str, fault: str) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=fault):
        edit_notes(path, notes)
    assert path.read_bytes() == before


def test_the_last_text_taken_out_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "bare1.safetensors"
    save_file({"clip_l": torch.ones(1, 768)}, path)
    edit_metadata(path, {"embedmerge.notes": "x"})
    assert texts(path) == {"embedmerge.notes": "x"}
    edit_notes(path, " \n")
    assert texts(path) == {}


def test_other_formats_hold_no_texts(tmp_path: Path) -> None:
    torch.save({"emb_params": torch.ones(1, 768)}, tmp_path / "old1.pt")
    with pytest.raises(StorageError, match="no room for texts"):
        edit_notes(tmp_path / "old1.pt", "x")
    (tmp_path / "torn1.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(StorageError):
        edit_notes(tmp_path / "torn1.safetensors", "x")


def test_sidecars_move_along(tmp_path: Path) -> None:
    path = embedding(tmp_path / "sub" / "mine1.safetensors", **{"modelspec.trigger_phrase": "its own"})
    for name in ("mine1.preview.png", "mine1.png", "mine1.txt", "mine1.civitai.info", "mine1.v2.png", "mine12.png"):
        (path.parent / name).write_bytes(name.encode())
    before = payload(path)
    (new,) = rename(path, "yours1")
    assert new == path.with_name("yours1.safetensors")
    assert files(tmp_path / "sub") == {
        "yours1.safetensors", "yours1.preview.png", "yours1.png", "yours1.txt", "yours1.civitai.info",
        "mine1.v2.png", "mine12.png",
    }  # fmt: skip
    assert payload(new) == before
    assert texts(new) == {**FOREIGN, "modelspec.title": "yours1", "modelspec.trigger_phrase": "its own"}
    assert (new.parent / "yours1.txt").read_bytes() == b"mine1.txt"


def test_sidecars_of_two_stay(tmp_path: Path) -> None:
    torch.save({"emb_params": torch.ones(1, 768)}, tmp_path / "mine1.pt")
    embedding(tmp_path / "mine1.safetensors")
    (tmp_path / "mine1.png").write_bytes(b"x")
    rename(tmp_path / "mine1.pt", "old1")
    assert files(tmp_path) == {"old1.pt", "mine1.safetensors", "mine1.png"}


@pytest.mark.parametrize("name", ["", "a/b", "..", "con", "x\0", "yours1", "YOURS2"], ids=ascii)
def test_a_name_that_cannot_be(tmp_path: Path, name: str) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    (tmp_path / "mine1.png").write_bytes(b"x")
    (tmp_path / "yours1.safetensors").write_bytes(b"y")
    (tmp_path / "YOURS2.png").write_bytes(b"y")  # in the way of a sidecar
    before = files(tmp_path)
    with pytest.raises(StorageError):
        rename(path, name)
    assert files(tmp_path) == before


def test_other_capitals(tmp_path: Path) -> None:
    assert rename(embedding(tmp_path / "mine1.safetensors"), "Mine1")[0].name == "Mine1.safetensors"
    assert rename(tmp_path / "Mine1.safetensors", "Mine1")[0].is_file()


def test_variants_move_along(tmp_path: Path) -> None:
    variant_of = {"modelspec.trigger_phrase": "mine1-pony", "embedmerge.variant_of": "mine1"}
    path = embedding(tmp_path / "mine1.safetensors")
    variant = embedding(tmp_path / "ponies" / "mine1-pony.safetensors", **variant_of)
    (variant.parent / "mine1-pony.png").write_bytes(b"x")
    before = payload(variant)
    _, new = rename(path, "yours1", [variant])
    assert files(tmp_path) == {
        "yours1.safetensors", "ponies/yours1-pony.safetensors", "ponies/yours1-pony.png",
    }  # fmt: skip
    assert payload(new) == before
    assert texts(new) == {
        **FOREIGN, "modelspec.trigger_phrase": "yours1-pony", "embedmerge.variant_of": "yours1",
    }  # fmt: skip


def test_nothing_moves_where_a_variant_cannot(tmp_path: Path) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    variant = embedding(tmp_path / "mine1-pony.safetensors", **{"embedmerge.variant_of": "mine1"})
    embedding(tmp_path / "yours1-pony.safetensors")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(StorageError, match="yours1-pony"):
        rename(path, "yours1", [variant])
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_deleted_and_brought_back(tmp_path: Path) -> None:
    paths = [embedding(tmp_path / name) for name in ("mine1.safetensors", "sub/mine2.safetensors", "stay1.safetensors")]
    (tmp_path / "sub" / "mine2.preview.png").write_bytes(b"x")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    deleted = delete(tmp_path, paths[:2])
    assert deleted.files == ("mine1.safetensors", "sub/mine2.safetensors", "sub/mine2.preview.png")
    assert EmbeddingFolder(tmp_path, clip_tokenizer()).names() == ("stay1",)
    # Web UIs look into every folder, hidden ones too, for files that end so.
    assert not [name for name in files(tmp_path / TRASH) if not name.endswith(".trash")]
    again = delete(tmp_path, paths[2:])
    assert [one.id for one in deletions(tmp_path)] == [again.id, deleted.id]
    assert deletions(tmp_path)[1].files == tuple(sorted(deleted.files))
    assert undelete(tmp_path, deleted.id) == tuple(tmp_path / file for file in sorted(deleted.files))
    undelete(tmp_path, again.id)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert deletions(tmp_path) == []


@pytest.mark.parametrize("deletion", ["", "..", "20261123-101112-000001", "../../x"])
def test_what_is_not_in_the_trash(tmp_path: Path, deletion: str) -> None:
    delete(tmp_path, [embedding(tmp_path / "mine1.safetensors")])
    with pytest.raises(StorageError, match="not in the trash"):
        undelete(tmp_path, deletion)


def test_a_place_that_was_taken_meanwhile(tmp_path: Path) -> None:
    deleted = delete(tmp_path, [embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "mine2.safetensors")])
    embedding(tmp_path / "mine2.safetensors")
    with pytest.raises(StorageError, match=r"mine2\.safetensors exists already"):
        undelete(tmp_path, deleted.id)
    assert not (tmp_path / "mine1.safetensors").exists()
    assert len(deletions(tmp_path)[0].files) == 2


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_disk_that_refuses_moves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    paths = [embedding(tmp_path / f"mine{number}.safetensors") for number in range(3)]
    before = files(tmp_path)
    real, calls = Path.rename, []

    def rename_or_refuse(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == refused + 1:
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(editing.Path, "rename", rename_or_refuse)
    with pytest.raises(StorageError, match=rf"mine{refused}\.safetensors' cannot be moved"):
        delete(tmp_path, paths)
    assert files(tmp_path) == before


def test_a_trash_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / TRASH / "20261123-101112-000001").mkdir(parents=True)
    (tmp_path / TRASH / "20261123-101112-000001" / "notes.txt").write_text(json.dumps({}), encoding="utf-8")
    (tmp_path / TRASH / "else").mkdir()
    (tmp_path / TRASH / "99999999-999999-999999").mkdir()
    assert deletions(tmp_path) == []
