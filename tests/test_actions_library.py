"""The library as a whole: its list, how its files fit, and what is done with some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from action_hosts import ROWS, NoModelHost, write
from memory_model import random_model

from lib_embedmerge.actions import managing
from lib_embedmerge.actions.managing import (
    FitCache,
    LibraryLister,
    delete,
    edit_notes,
    find_paths,
    rename,
    restore_deleted,
    save_recovered_text,
)
from lib_embedmerge.core.fit_status import FitStatus
from lib_embedmerge.core.ports import Model
from lib_embedmerge.embeddings import metadata
from lib_embedmerge.embeddings.embedding import load_embedding
from lib_embedmerge.errors import EmbedMergeError, HostError, StorageError
from lib_embedmerge.hosts.memory_host import MemoryHost
from lib_embedmerge.hosts.port import ActiveModel
from lib_embedmerge.recipes.build import build_embedding
from lib_embedmerge.recipes.listing import FileFit
from lib_embedmerge.recipes.rebuild import rebuild

BASE, OTHER = random_model(ROWS, seed=1), random_model(ROWS, seed=2)


@pytest.fixture
def host(tmp_path: Path) -> MemoryHost:
    """BASE over a library of one made on it, one made on another, one without a tag, and one that is none."""
    folder = tmp_path / "embeddings"
    build_embedding(BASE, "'cat'+'dog'", "mine1").save(folder)
    build_embedding(OTHER, "'bird'*2", "other1").save(folder / "sub")
    write(folder / "plain1.safetensors")
    (folder / "torn1.safetensors").write_bytes(b"torn")
    (folder / "sub" / "other1.png").write_bytes(b"x")
    return MemoryHost(BASE, folder)


class Following(MemoryHost):
    recipes_follow = True


class Switching(MemoryHost):
    """BASE is active, or OTHER."""

    switched = False

    def active(self) -> ActiveModel:
        return ActiveModel(replace(OTHER if self.switched else BASE, embeddings=self.library()), "memory")


def statuses(host: MemoryHost, fits: FitCache | None = None) -> dict[str, str]:
    found = (fits or FitCache()).measure(host, list(LibraryLister().list_entries(host).entries))
    return {place: fitting.fit.status if fitting.fit else "" for place, fitting in found.items()}


def test_every_file_is_on_the_shelf(host: MemoryHost) -> None:
    found = LibraryLister().list_entries(host)
    assert list(found.entries) == ["mine1.safetensors", "sub/other1.safetensors", "plain1.safetensors",
                                   "torn1.safetensors"]  # fmt: skip
    assert found.folder == host.embeddings_folder
    assert not found.entries["torn1.safetensors"].is_usable


def test_a_library_that_has_not_changed_is_not_listed_again(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    lister, folder = LibraryLister(), host.embeddings_folder
    assert lister.list_entries(host).entries is not lister.list_entries(host).entries  # written in the last seconds
    monkeypatch.setattr("lib_embedmerge.files.stamps._CLOCK_STEP", -(10**12))  # what was written just now counts as old
    first = lister.list_entries(host)
    assert lister.list_entries(host).entries is first.entries == LibraryLister().list_entries(host).entries
    (folder / "mine1.civitai.info").write_text('{"trainedWords": ["word"]}', encoding="utf-8")
    with_words = lister.list_entries(host).entries
    assert with_words["mine1.safetensors"].sidecar is not None
    (folder / "torn1.safetensors").unlink()
    assert list(lister.list_entries(host).entries) == [place for place in with_words if place != "torn1.safetensors"]


def test_how_they_fit(host: MemoryHost) -> None:
    assert statuses(host) == {
        "mine1.safetensors": FitStatus.MADE_FOR_THIS_MODEL,
        "sub/other1.safetensors": FitStatus.DIFFERS,
        "plain1.safetensors": FitStatus.UNKNOWN_ORIGIN,
        "torn1.safetensors": "",
    }
    found = FitCache().measure(host, ["torn1.safetensors", "gone1.safetensors", "../x", "sub/other1.png"])
    assert list(found) == ["torn1.safetensors"]
    assert "torn1" in found["torn1.safetensors"].error


def test_each_is_measured_once_for_each_state(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    real = managing.measure_fits

    def noted(paths: Sequence[Path], model: Model) -> Iterator[FileFit]:
        measured.extend(path.name for path in paths)
        return real(paths, model)

    monkeypatch.setattr(managing, "measure_fits", noted)
    monkeypatch.setattr(host.library(), "refresh_if_changed", lambda: None)  # a fresh folder is never sure to be seen
    fits = FitCache()
    statuses(host, fits)
    assert len(measured) == 4
    statuses(host, fits)
    assert len(measured) == 4
    edit_notes(host, ["mine1.safetensors"], "x")
    assert statuses(host, fits)["mine1.safetensors"] == FitStatus.MADE_FOR_THIS_MODEL
    assert len(measured) == 8  # another state of the library is another model to recipes
    other = MemoryHost(OTHER, host.embeddings_folder)
    assert statuses(other, fits)["sub/other1.safetensors"] == FitStatus.MADE_FOR_THIS_MODEL


def test_a_switch_of_the_model_is_seen_whole(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread that asks at any moment of the switch gets no fit of the old model for the new one."""
    switching = Switching(BASE, host.embeddings_folder)
    monkeypatch.setattr(switching.library(), "refresh_if_changed", lambda: None)  # a fresh folder is never sure
    seen: list[dict[str, str]] = []
    asking: list[bool] = []

    class Watched(FitCache):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if switching.switched and not asking:
                asking.append(True)
                seen.append(statuses(switching, self))
                asking.clear()

    fits = Watched()
    before = statuses(switching, fits)
    switching.switched = True
    after = statuses(switching, fits)
    assert before["mine1.safetensors"] == after["sub/other1.safetensors"] == FitStatus.MADE_FOR_THIS_MODEL
    assert seen
    assert all(one == after for one in seen)


def test_what_stands_in_where_recipes_follow(host: MemoryHost) -> None:
    following = Following(BASE, host.embeddings_folder)
    places = list(LibraryLister().list_entries(host).entries)
    stand_ins = {place: one.stand_in for place, one in FitCache().measure(following, places).items()}
    assert stand_ins == {**dict.fromkeys(places, ""), "sub/other1.safetensors": "its recipe"}
    (variant,) = rebuild([host.embeddings_folder / "sub" / "other1.safetensors"], following.active().model)
    assert variant.file is not None
    following.library().refresh()
    found = FitCache().measure(following, places)
    assert found["sub/other1.safetensors"].stand_in == variant.file.stem
    # One that was made of an older recipe stands for nothing.
    build_embedding(OTHER, "'bird'*3", "other1").save(host.embeddings_folder / "sub", overwrite=True)
    following.library().refresh()
    assert FitCache().measure(following, places)["sub/other1.safetensors"].stand_in == "its recipe"


def test_a_variant_stands_in_under_another_name_too(host: MemoryHost) -> None:
    following = Following(BASE, host.embeddings_folder)
    base = host.embeddings_folder / "sub" / "other1.safetensors"
    (variant,) = rebuild([base], following.active().model)
    assert variant.file is not None
    beside = write(base.with_name("other1-mine.safetensors"))  # begins alike, and is no variant
    following.library().refresh()
    renamed = rename(following, ["sub/other1.safetensors"], "bird1").files
    assert {path.name for path in renamed} == {"bird1.safetensors", variant.file.name.replace("other1", "bird1")}
    assert set(renamed) <= set(following.saved)
    assert beside.exists()
    assert not variant.file.exists()
    assert FitCache().measure(following, ["sub/bird1.safetensors"])["sub/bird1.safetensors"].stand_in == renamed[1].stem


def test_no_model_no_fits(host: MemoryHost) -> None:
    with pytest.raises(HostError):
        FitCache().measure(NoModelHost(host.embeddings_folder), ["mine1.safetensors"])


def test_notes(host: MemoryHost) -> None:
    edit_notes(host, ["mine1.safetensors", "plain1.safetensors"], "soft")
    entries = LibraryLister().list_entries(host).entries
    assert [tag.notes for place in ("mine1.safetensors", "plain1.safetensors") if (tag := entries[place].tag)] == [
        "soft", "soft",
    ]  # fmt: skip
    assert [path.name for path in host.saved] == ["mine1.safetensors", "plain1.safetensors"]


@pytest.mark.parametrize(
    ("last", "notes", "fault"),
    [("old1.pt", "soft", "cannot store notes or recipes"), ("zz1.safetensors", "a\0b", "broken character")],
)
def test_notes_that_one_cannot_have_are_given_to_none(host: MemoryHost, last: str, notes: str, fault: str) -> None:
    write(host.embeddings_folder / "zz1.safetensors")
    torch.save({"emb_params": torch.ones(1, 768)}, host.embeddings_folder / "old1.pt")
    host.library().refresh()
    with pytest.raises(StorageError, match=fault):
        edit_notes(host, ["mine1.safetensors", "plain1.safetensors", last], notes)
    entries = LibraryLister().list_entries(host).entries
    tags = (entries[place].tag for place in ("mine1.safetensors", "plain1.safetensors"))
    assert not any(tag.notes for tag in tags if tag)
    assert host.saved == []


def test_notes_that_a_disk_refuses_midway(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.write_atomically

    def full(path: Path, data: bytes, **options: Any) -> None:
        if path.name == "plain1.safetensors":
            raise StorageError("The disk is full.", hint="Free some space.")
        real(path, data, **options)

    monkeypatch.setattr(metadata, "write_atomically", full)
    with pytest.raises(StorageError) as caught:
        edit_notes(host, ["mine1.safetensors", "plain1.safetensors", "sub/other1.safetensors"], "soft")
    assert caught.value.message == "The disk is full. 1 of 3 embeddings have the notes; the others are unchanged."
    assert caught.value.hint == "Free some space."
    assert [path.name for path in host.saved] == ["mine1.safetensors"]
    with pytest.raises(StorageError) as caught:
        edit_notes(host, ["plain1.safetensors"], "soft")
    assert caught.value.message == "The disk is full."


def test_what_cannot_be_kept_says_what_to_do_here(host: MemoryHost) -> None:
    """There is no --force on a page."""
    build_embedding(BASE, "norm('cat'+'dog')", "merged1").save(host.embeddings_folder)
    host.library().refresh()
    for name, reason in (("plain1", "gives vectors that differ"), ("merged1", "already has the recipe")):
        with pytest.raises(StorageError, match=reason) as caught:
            save_recovered_text(host, [f"{name}.safetensors"])
        assert caught.value.hint == "Open the text in the text box and save it under another name."


def test_rename(host: MemoryHost) -> None:
    host.saved.append(host.embeddings_folder / "sub" / "other1.safetensors")
    renamed = rename(host, ["sub/other1.safetensors"], " bird1 ")
    (new,) = renamed.files
    assert renamed.warnings == ()
    assert new == host.embeddings_folder / "sub" / "bird1.safetensors"
    assert (new.parent / "bird1.png").exists()
    assert host.saved == [new]
    assert "bird1" in host.library().names()


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("mine12", None),  # its own old name, and its variant's, are no others
        (
            "cat",
            "'cat' is an ordinary word, so it would change every prompt with that word; 'cat_em' is safe.",
        ),
        ("my style", "'my style' has a space, where ComfyUI ends a name; 'my_style' is safe."),
        ("plain12", None),
    ],
)
def test_a_name_that_prompts_may_not_find_is_warned_of(host: MemoryHost, name: str, warning: str | None) -> None:
    base = host.embeddings_folder / "mine1.safetensors"
    list(rebuild([base], OTHER))
    host.library().refresh()
    renamed = rename(host, ["mine1.safetensors"], name)
    assert [path.stem for path in renamed.files] == [name, f"{name}-memory"]
    assert renamed.warnings == ((warning,) if warning else ())


def test_a_name_that_cannot_be_has_a_better_one(host: MemoryHost) -> None:
    with pytest.raises(StorageError, match="begin with a dot") as caught:
        rename(host, ["mine1.safetensors"], ".mine2")
    assert caught.value.hint == "This name works: mine2."
    assert "mine1" in host.library().names()


@pytest.mark.parametrize(
    ("places", "name", "fault"),
    [
        ([], "x1", "No embedding is chosen"),
        (["mine1.safetensors", "plain1.safetensors"], "x1", "Only one"),
        (["mine1.safetensors"], "OTHER1", "An embedding called 'other1' already exists"),
        (["mine1.safetensors"], "a/b", "/"),
        (["gone1.safetensors"], "x1", "no longer exists"),
        (["../outside.safetensors"], "x1", "no longer exists"),
        (["sub/other1.png"], "x1", "no longer exists"),
    ],
)
def test_what_cannot_be_renamed(host: MemoryHost, places: list[str], name: str, fault: str) -> None:
    write(host.embeddings_folder.parent / "outside.safetensors")
    with pytest.raises(EmbedMergeError, match=fault):
        rename(host, places, name)
    assert next(iter(LibraryLister().list_entries(host).entries)) == "mine1.safetensors"


def test_deleted_and_brought_back(host: MemoryHost) -> None:
    host.saved += find_paths(host, ["mine1.safetensors"])
    deleted = delete(host, ["mine1.safetensors", "sub/other1.safetensors", "torn1.safetensors"])
    assert deleted.files == ("mine1.safetensors", "sub/other1.safetensors", "sub/other1.png", "torn1.safetensors")
    assert host.saved == []
    assert host.library().names() == ("plain1",)
    assert LibraryLister().list_entries(host).deletions[0].id == deleted.id
    restore_deleted(host, deleted.id)
    # What no program could load none is told of.
    assert sorted(path.name for path in host.saved) == ["mine1.safetensors", "other1.safetensors"]
    assert host.library().names() == ("mine1", "other1", "plain1", "torn1")
    with pytest.raises(StorageError):
        restore_deleted(host, deleted.id)


def test_one_that_was_hidden_by_the_deleted_one_is_found(host: MemoryHost) -> None:
    folder = host.embeddings_folder
    hidden = replace(load_embedding(folder / "plain1.safetensors"), name="mine1").save(folder / "sub")
    host.library().refresh()
    delete(host, ["mine1.safetensors"])
    assert host.library().path("mine1") == hidden
    assert host.saved == [hidden]
