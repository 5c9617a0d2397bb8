"""Several files moved at once: all or none, on disks that tell capitals apart and on those that do not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lib_embedmerge.errors import StorageError
from lib_embedmerge.files import moving
from lib_embedmerge.files.moving import move_all


def contents(folder: Path) -> dict[str, str]:
    return {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir()}


def filled(folder: Path, *names: str) -> list[Path]:
    """Files, each of which holds its name."""
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    return [folder / name for name in names]


@pytest.mark.parametrize("names", [("x", "x"), ("x", "X"), ("straße", "STRASSE")], ids=ascii)
def test_two_for_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]) -> None:
    one, other = filled(tmp_path, "a", "b")
    moved: list[Path] = []
    monkeypatch.setattr(moving, "move_to_free_name", lambda old, _: moved.append(old))
    with pytest.raises(StorageError, match="'a' and 'b' would both be"):
        move_all([(one, tmp_path / names[0]), (other, tmp_path / names[1])])
    assert moved == []


def test_what_is_gone(tmp_path: Path) -> None:
    (one,) = filled(tmp_path, "a")
    with pytest.raises(StorageError, match="'gone' no longer exists"):
        move_all([(one, tmp_path / "x"), (tmp_path / "gone", tmp_path / "y")])
    assert contents(tmp_path) == {"a": "a"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    one, other = filled(tmp_path, "a", "b")
    with pytest.raises(StorageError, match="cannot be created"):
        move_all([(one, tmp_path / "x"), (other, other / "y")])
    assert contents(tmp_path) == {"a": "a", "b": "b"}


def test_what_cannot_be_put_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = filled(tmp_path, "a", "b")
    real = moving.move_to_free_name

    def once(old: Path, new: Path) -> None:
        if old != one:
            raise OSError(errno.EIO, "a broken disk")
        real(old, new)

    monkeypatch.setattr(moving, "move_to_free_name", once)
    with pytest.raises(StorageError, match="the disk could not be read or written") as caught:
        move_all([(one, tmp_path / "x"), (other, tmp_path / "y")])
    assert f"could be put back: {tmp_path / 'x'}." in caught.value.message


@pytest.fixture
def without_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are looked up as on Windows and macOS: a folder lists a name as it was given, and finds it in any form."""
    lstat, link = Path.lstat, os.link

    def entry(path: os.PathLike[str]) -> Path:
        path = Path(path)
        same = (one for one in path.parent.iterdir() if one.name.casefold() == path.name.casefold())
        return next(same, path)

    def link_to_free(old: Path, new: Path, **options: bool) -> None:
        if entry(new) in new.parent.iterdir():
            raise FileExistsError(errno.EEXIST, "exists")
        link(old, new, **options)

    monkeypatch.setattr(Path, "lstat", lambda path: lstat(entry(path)))
    monkeypatch.setattr(os.path, "lexists", lambda path: entry(path) in Path(path).parent.iterdir())
    monkeypatch.setattr(os, "link", link_to_free)


@pytest.mark.usefixtures("without_capitals")
def test_other_capitals_of_one_file(tmp_path: Path) -> None:
    one, other = filled(tmp_path, "a", "b")
    move_all([(one, tmp_path / "A")])
    assert contents(tmp_path) == {"A": "a", "b": "b"}
    with pytest.raises(StorageError, match="a already exists"):
        move_all([(other, tmp_path / "a")])
    with pytest.raises(StorageError, match="B already exists"):
        move_all([(tmp_path / "A", tmp_path / "B")])
    assert contents(tmp_path) == {"A": "a", "b": "b"}


def test_another_name_of_one_file(tmp_path: Path) -> None:
    """A hard link is a name by itself, even where only capitals tell the two apart."""
    one, other = filled(tmp_path, "a", "b")
    (tmp_path / "x").hardlink_to(one)
    with pytest.raises(StorageError, match="x already exists"):
        move_all([(other, tmp_path / "y"), (one, tmp_path / "x")])
    assert contents(tmp_path) == {"a": "a", "x": "a", "b": "b"}
