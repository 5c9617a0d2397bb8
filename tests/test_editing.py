"""Embedding files edited, renamed, deleted and brought back: vectors and others' texts stay, nothing is half done."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from lib_embedmerge.embeddings import metadata
from lib_embedmerge.embeddings.editing import (
    TRASH,
    delete_embeddings,
    edit_metadata,
    edit_notes,
    list_deletions,
    rename_embedding,
    restore_deleted,
)
from lib_embedmerge.embeddings.library import EmbeddingFolder
from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import atomic_file, moving, safetensors_file
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
@given(notes=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200))
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
    ("notes", "fault"),
    [
        ("\ud800", "broken character"),
        ("a\0b", "broken character"),
        ("x" * 1_200_000, "take 1.3 MB"),
    ],
    ids=["half a pair", "NUL", "too long"],
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


def test_the_same_notes_again_write_nothing(tmp_path: Path) -> None:
    path = embedding(tmp_path / "mine1.safetensors", **{"embedmerge.notes": "soft"})
    before = path.stat()
    edit_notes(path, " soft ")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_formats_hold_no_texts(tmp_path: Path) -> None:
    torch.save({"emb_params": torch.ones(1, 768)}, tmp_path / "old1.pt")
    with pytest.raises(StorageError, match="cannot store notes or recipes"):
        edit_notes(tmp_path / "old1.pt", "x")
    (tmp_path / "torn1.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(StorageError):
        edit_notes(tmp_path / "torn1.safetensors", "x")


def vectors(count: int = 2) -> dict[str, torch.Tensor]:
    return {"clip_l": torch.ones(count, 768), "clip_g": torch.ones(count, 1280)}


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"model.diffusion_model.x": torch.ones(4), "first_stage_model.x": torch.ones(4)}, "It is a checkpoint"),
        ({f"bundle_emb.in1.{key}": rows for key, rows in vectors().items()}, "is part of a LoRA"),
        ({f"bundle_emb.{name}.clip_l": torch.ones(1, 768) for name in ("in1", "in2")}, "bundles 2 embeddings"),
    ],
    ids=["checkpoint", "bundled", "bundled ones"],
)
def test_what_is_no_embedding_of_its_own_gets_no_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, torch.Tensor], fault: str
) -> None:
    path = tmp_path / "big1.safetensors"
    save_file(tensors, path, metadata={"modelspec.title": "big1"})
    before = path.read_bytes()

    def refuse(*_: object) -> bytes:
        raise AssertionError("all of a file of gigabytes was read")

    monkeypatch.setattr(safetensors_file, "read_payload", refuse)
    with pytest.raises(StorageError, match=fault) as caught:
        edit_notes(path, "x")
    assert "big1.safetensors" in caught.value.message
    (new,) = rename_embedding(path, "huge1")  # which leaves it as it is, too
    assert new.read_bytes() == before


def test_the_file_behind_a_link_is_edited(tmp_path: Path) -> None:
    real = embedding(tmp_path / "far" / "mine1.safetensors")
    link = tmp_path / "mine1.safetensors"
    link.symlink_to(real)
    edit_notes(link, "soft")
    assert link.is_symlink()
    assert texts(real)["embedmerge.notes"] == "soft"
    assert files(real.parent) == {"mine1.safetensors"}


def test_sidecars_move_along(tmp_path: Path) -> None:
    path = embedding(tmp_path / "sub" / "mine1.safetensors", **{"modelspec.trigger_phrase": "its own"})
    for name in ("mine1.preview.png", "mine1.png", "mine1.txt", "mine1.civitai.info", "mine1.v2.png", "mine12.png"):
        (path.parent / name).write_bytes(name.encode())
    before = payload(path)
    (new,) = rename_embedding(path, "yours1")
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
    rename_embedding(tmp_path / "mine1.pt", "old1")
    assert files(tmp_path) == {"old1.pt", "mine1.safetensors", "mine1.png"}


@pytest.mark.parametrize("name", ["", "a/b", "..", "con", "x\0", "yours1", "YOURS2"], ids=ascii)
def test_a_name_that_cannot_be(tmp_path: Path, name: str) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    (tmp_path / "mine1.png").write_bytes(b"x")
    (tmp_path / "yours1.safetensors").write_bytes(b"y")
    (tmp_path / "YOURS2.png").write_bytes(b"y")  # in the way of a sidecar
    before = files(tmp_path)
    with pytest.raises(StorageError):
        rename_embedding(path, name)
    assert files(tmp_path) == before


def test_other_capitals(tmp_path: Path) -> None:
    assert rename_embedding(embedding(tmp_path / "mine1.safetensors"), "Mine1")[0].name == "Mine1.safetensors"
    assert rename_embedding(tmp_path / "Mine1.safetensors", "Mine1")[0].is_file()


def test_variants_move_along(tmp_path: Path) -> None:
    variant_of = {"modelspec.trigger_phrase": "mine1-pony", "embedmerge.variant_of": "mine1"}
    path = embedding(tmp_path / "mine1.safetensors")
    variant = embedding(tmp_path / "ponies" / "mine1-pony.safetensors", **variant_of)
    (variant.parent / "mine1-pony.png").write_bytes(b"x")
    before = payload(variant)
    _, new = rename_embedding(path, "yours1", [variant])
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
        rename_embedding(path, "yours1", [variant])
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


@pytest.mark.parametrize("length", [92, 100])
def test_a_name_that_leaves_no_room_for_variants(tmp_path: Path, length: int) -> None:
    variant_of = {"embedmerge.variant_of": "mine1"}
    path = embedding(tmp_path / "mine1.safetensors")
    variants = [
        embedding(tmp_path / f"mine1-ponyDiffusionV{number}.safetensors", **variant_of, number=str(number))
        for number in (5, 6)
    ]
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="mine1-ponyDiffusionV5") as caught:
        rename_embedding(path, "n" * length, variants)
    assert "too long" in caught.value.message
    assert contents(tmp_path) == before
    rename_embedding(path, "n" * 82, variants)
    assert files(tmp_path) == {"n" * 82 + end + ".safetensors" for end in ("", "-ponyDiffusionV5", "-ponyDiffusionV6")}


def appears(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file of that name is there right after a look for it has found none."""
    real: Callable[..., bool] = os.path.lexists

    def look(path: os.PathLike[str]) -> bool:
        found = real(path)
        if not found and Path(path).name == name:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(b"theirs")
        return found

    monkeypatch.setattr(os.path, "lexists", look)


@pytest.mark.parametrize("name", ["yours1.safetensors", "yours1.png"])
def test_what_appears_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = embedding(tmp_path / "mine1.safetensors")
    (tmp_path / "mine1.png").write_bytes(b"x")
    before = contents(tmp_path)
    appears(monkeypatch, name)
    with pytest.raises(StorageError, match=f"{name} already exists"):
        rename_embedding(path, "yours1")
    assert contents(tmp_path) == {**before, name: b"theirs"}


def test_what_appears_while_it_is_brought_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = delete_embeddings(
        tmp_path, [embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "mine2.safetensors")]
    )
    appears(monkeypatch, "mine2.safetensors")
    with pytest.raises(StorageError, match=r"mine2\.safetensors already exists"):
        restore_deleted(tmp_path, deleted.id)
    assert not (tmp_path / "mine1.safetensors").exists()
    assert (tmp_path / "mine2.safetensors").read_bytes() == b"theirs"
    assert list_deletions(tmp_path) == [deleted]


def test_links_in_the_way(tmp_path: Path) -> None:
    """One that leads nowhere, one that leads to the file itself, and the file that the one to be renamed leads to."""
    path = embedding(tmp_path / "mine1.safetensors")
    (tmp_path / "nowhere1.safetensors").symlink_to(tmp_path / "gone")
    (tmp_path / "itself1.safetensors").symlink_to(path)
    before = contents(tmp_path)
    for name in ("nowhere1", "itself1"):
        with pytest.raises(StorageError, match=f"{name}.safetensors already exists"):
            rename_embedding(path, name)
    with pytest.raises(StorageError, match=r"mine1\.safetensors already exists"):
        rename_embedding(tmp_path / "itself1.safetensors", "mine1")
    assert contents(tmp_path) == before


def test_a_link_is_renamed_itself(tmp_path: Path) -> None:
    path = embedding(tmp_path / "far" / "mine1.safetensors")
    (tmp_path / "link1.safetensors").symlink_to(path)
    (new,) = rename_embedding(tmp_path / "link1.safetensors", "link2")
    assert new.is_symlink()
    assert not (tmp_path / "link1.safetensors").is_symlink()
    restore_deleted(tmp_path, delete_embeddings(tmp_path, [new]).id)
    assert new.is_symlink()
    assert path.is_file()


def test_texts_that_cannot_be_written_take_the_name_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"modelspec.trigger_phrase": "mine1", "modelspec.title": "mine1"}
    path = embedding(tmp_path / "mine1.safetensors", **named)
    variant = embedding(tmp_path / "mine1-pony.safetensors", **{"embedmerge.variant_of": "mine1"})
    before = contents(tmp_path)
    real = metadata.write_atomically

    def full(path: Path, data: bytes, **options: Any) -> None:
        if path.name == "yours1-pony.safetensors":
            raise StorageError("The disk is full.")
        real(path, data, **options)

    monkeypatch.setattr(metadata, "write_atomically", full)
    with pytest.raises(StorageError, match="disk is full"):
        rename_embedding(path, "yours1", [variant])
    assert files(tmp_path) == set(before)
    assert texts(path)["modelspec.title"] == "mine1"
    assert payload(path) == before[path.name][-len(payload(path)) :]


def test_deleted_and_brought_back(tmp_path: Path) -> None:
    paths = [embedding(tmp_path / name) for name in ("mine1.safetensors", "sub/mine2.safetensors", "stay1.safetensors")]
    (tmp_path / "sub" / "mine2.preview.png").write_bytes(b"x")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    deleted = delete_embeddings(tmp_path, paths[:2])
    assert deleted.files == ("mine1.safetensors", "sub/mine2.safetensors", "sub/mine2.preview.png")
    assert EmbeddingFolder(tmp_path, clip_tokenizer()).names() == ("stay1",)
    # Web UIs look into every folder, hidden ones too, for files that end so.
    assert not [name for name in files(tmp_path / TRASH) if not name.endswith(".trash")]
    again = delete_embeddings(tmp_path, paths[2:])
    assert [one.id for one in list_deletions(tmp_path)] == [again.id, deleted.id]
    assert list_deletions(tmp_path)[1].files == tuple(sorted(deleted.files))
    assert restore_deleted(tmp_path, deleted.id) == tuple(tmp_path / file for file in sorted(deleted.files))
    restore_deleted(tmp_path, again.id)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert list_deletions(tmp_path) == []


def test_sidecars_of_two_that_are_deleted_go_with_them(tmp_path: Path) -> None:
    both = [embedding(tmp_path / "mine1.safetensors"), tmp_path / "mine1.pt"]
    torch.save({"emb_params": torch.ones(1, 768)}, both[1])
    (tmp_path / "mine1.png").write_bytes(b"x")
    before = contents(tmp_path)
    deleted = delete_embeddings(tmp_path, both)
    assert sorted(deleted.files) == ["mine1.png", "mine1.pt", "mine1.safetensors"]
    restore_deleted(tmp_path, deleted.id)
    assert contents(tmp_path) == before


def test_two_that_differ_in_capitals_are_deleted_together(tmp_path: Path) -> None:
    both = [embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "Mine1.safetensors")]
    if len(files(tmp_path)) < 2:
        pytest.skip("this disk makes no difference")
    before = contents(tmp_path)
    restore_deleted(tmp_path, delete_embeddings(tmp_path, both).id)
    assert contents(tmp_path) == before


def other_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, refused: str = "") -> None:
    """Have a folder lie on another disk, where a file that is `refused` cannot be removed."""
    link, unlink = os.link, Path.unlink
    renames = {name: getattr(Path, name) for name in ("rename", "replace")}

    def check(old: os.PathLike[str], new: os.PathLike[str]) -> None:
        if (folder in Path(old).parents) != (folder in Path(new).parents):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def link_or_refuse(old: os.PathLike[str], new: os.PathLike[str], **options: bool) -> None:
        check(old, new)
        link(old, new, **options)

    def unlink_or_refuse(self: Path, missing_ok: bool = False) -> None:
        if self == folder / refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, missing_ok=missing_ok)

    def refusing(name: str) -> Callable[[Path, Path], Path]:
        def rename_or_refuse(self: Path, target: Path) -> Path:
            check(self, target)
            return Path(renames[name](self, target))

        return rename_or_refuse

    monkeypatch.setattr(os, "link", link_or_refuse)
    monkeypatch.setattr(Path, "unlink", unlink_or_refuse)
    for name in renames:
        monkeypatch.setattr(Path, name, refusing(name))


@pytest.fixture
def across(tmp_path: Path) -> list[Path]:
    """An embedding on each side, the second one in `far`, its picture with it."""
    paths = [embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "far" / "mine2.safetensors")]
    (tmp_path / "far" / "mine2.png").write_bytes(b"x")
    os.utime(paths[1], (1_600_000_000, 1_600_000_000))
    return paths


def test_deleted_from_another_disk_and_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, across: list[Path]
) -> None:
    before = contents(tmp_path)
    other_disk(monkeypatch, tmp_path / "far")
    deleted = delete_embeddings(tmp_path, across)
    assert [name for name in files(tmp_path) if not name.startswith(TRASH)] == []
    assert len(files(tmp_path)) == 3
    restore_deleted(tmp_path, deleted.id)
    assert contents(tmp_path) == before
    assert across[1].stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("refused", ["mine2.safetensors", "mine2.png"])
def test_what_another_disk_does_not_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, across: list[Path], refused: str
) -> None:
    before = contents(tmp_path)
    other_disk(monkeypatch, tmp_path / "far", refused)
    with pytest.raises(StorageError, match=f"{refused}' cannot be moved"):
        delete_embeddings(tmp_path, across)
    assert contents(tmp_path) == before


def test_a_disk_that_is_full_takes_no_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, across: list[Path]
) -> None:
    before = contents(tmp_path)
    other_disk(monkeypatch, tmp_path / "far")

    def full(_: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_file, "_flush", full)
    with pytest.raises(StorageError, match=r"mine2\.safetensors' cannot be moved: the disk is full"):
        delete_embeddings(tmp_path, across)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("deletion", ["", "..", "20261123-101112-000001", "../../x"])
def test_what_is_not_in_the_trash(tmp_path: Path, deletion: str) -> None:
    delete_embeddings(tmp_path, [embedding(tmp_path / "mine1.safetensors")])
    with pytest.raises(StorageError, match="no longer in the trash"):
        restore_deleted(tmp_path, deletion)


def test_a_place_that_was_taken_meanwhile(tmp_path: Path) -> None:
    deleted = delete_embeddings(
        tmp_path, [embedding(tmp_path / "mine1.safetensors"), embedding(tmp_path / "mine2.safetensors")]
    )
    embedding(tmp_path / "mine2.safetensors")
    with pytest.raises(StorageError, match=r"mine2\.safetensors already exists"):
        restore_deleted(tmp_path, deleted.id)
    assert not (tmp_path / "mine1.safetensors").exists()
    assert len(list_deletions(tmp_path)[0].files) == 2


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_disk_that_refuses_moves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    paths = [embedding(tmp_path / f"mine{number}.safetensors") for number in range(3)]
    before = files(tmp_path)
    real, calls = moving.move_to_free_name, []

    def move_or_refuse(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) == refused + 1:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(old, new)

    monkeypatch.setattr(moving, "move_to_free_name", move_or_refuse)
    with pytest.raises(StorageError, match=rf"mine{refused}\.safetensors' cannot be moved"):
        delete_embeddings(tmp_path, paths)
    assert files(tmp_path) == before


def test_a_trash_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / TRASH / "20261123-101112-000001").mkdir(parents=True)
    (tmp_path / TRASH / "20261123-101112-000001" / "notes.txt").write_text(json.dumps({}), encoding="utf-8")
    (tmp_path / TRASH / "else").mkdir()
    (tmp_path / TRASH / "99999999-999999-999999").mkdir()
    assert list_deletions(tmp_path) == []
