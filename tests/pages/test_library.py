"""The page Library in a browser: its rows, how they are found and ticked, and what is done with those that are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

from pages.conftest import Served
from pages.drive import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Locator

IMAGE = "<img src=x onerror=alert(1)>"
ROWS = "#embedmerge_shelf tbody tr"


@pytest.fixture(scope="module")
def shelf(tab: Tab, served: Served) -> Iterator[Tab]:
    """The page Library, over two that were made here, one without a tag, and one that is torn."""
    for name, source in (("shelved_a", "'cat'+'dog'*0.5"), ("shelved_b", "a red car")):
        tab.save(name, source)
        tab.has(tab.saved, f"Saved {name}")
    vectors = {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}
    save_file(vectors, served.embeddings / "untagged1.safetensors", {"embedmerge.notes": IMAGE})
    (served.embeddings / "torn1.safetensors").write_bytes(b"torn")
    tab.go("Library")
    expect(row(tab, "shelved_a")).to_have_attribute("data-embedmerge-status", "made for this model")
    yield tab


def row(tab: Tab, name: str) -> Locator:
    return tab.page.locator(f"{ROWS}[data-embedmerge-name='{name}']")


def shown(tab: Tab) -> list[str]:
    return list(
        tab.evaluate(
            f"[...document.querySelectorAll({ROWS!r})].filter((r) => !r.hidden).map((r) => r.dataset.embedmergeName)"
        )
    )


def tick(tab: Tab, *names: str) -> None:
    for box in tab.page.locator(f"{ROWS} .embedmerge-chosen:checked").all():
        box.uncheck()
    for name in names:
        tab.page.locator(f"{ROWS}[data-embedmerge-name='{name}'] .embedmerge-chosen").check()


def find(tab: Tab, words: str) -> None:
    tab.page.fill("#embedmerge_filter textarea, #embedmerge_filter input", words)


def opened(tab: Tab, accordion: str) -> None:
    button = tab.part(accordion).locator(".label-wrap").first
    if "open" not in (button.get_attribute("class") or ""):
        button.click()


def test_every_file_with_its_fit(shelf: Tab, served: Served) -> None:
    expect(row(shelf, "untagged1")).to_contain_text("unknown origin")
    expect(row(shelf, "untagged1")).to_contain_text(IMAGE)
    expect(row(shelf, "torn1")).to_contain_text("cannot be used")
    shelf.shoot(f"{served.gradio}-library")


def test_filtered_and_sorted(shelf: Tab) -> None:
    find(shelf, "red CAR")
    expect(row(shelf, "shelved_a")).to_be_hidden()
    assert shown(shelf) == ["shelved_b"]
    find(shelf, "")
    before = shown(shelf)
    assert {"shelved_a", "shelved_b", "untagged1", "torn1"} <= set(before)
    heading = shelf.part("shelf").locator("thead button", has_text="name")
    heading.click()
    heading.click()
    assert shown(shelf) == sorted(before, key=str.casefold, reverse=True)
    heading.click()


def test_by_fit(shelf: Tab) -> None:
    shelf.choose("fitting", "cannot be used")
    expect(row(shelf, "shelved_a")).to_be_hidden()
    assert shown(shelf) == ["torn1"]
    shelf.choose("fitting", "all")
    expect(row(shelf, "shelved_a")).to_be_visible()


def test_a_recipe_in_the_editor(shelf: Tab) -> None:
    row(shelf, "shelved_a").locator(".embedmerge-open").click()
    shelf.counts(1)
    assert shelf.source.input_value() == "'cat'+'dog'*0.5"
    shelf.go("Library")


def test_edited(shelf: Tab, served: Served) -> None:
    opened(shelf, "editing")
    tick(shelf, "shelved_b")
    expect(shelf.page.locator("#embedmerge_newname textarea, #embedmerge_newname input")).to_have_value("shelved_b")
    shelf.page.fill("#embedmerge_newname textarea, #embedmerge_newname input", "shelved_c")
    shelf.part("rename").click()
    shelf.has(shelf.part("done"), "It is called shelved_c now.")
    expect(row(shelf, "shelved_c")).to_have_count(1)
    assert (served.embeddings / "shelved_c.safetensors").exists()
    tick(shelf, "shelved_c")
    shelf.page.fill("#embedmerge_newnotes textarea", "of a car")
    shelf.part("note").click()
    shelf.has(shelf.part("done"), "The notes are saved.")
    expect(row(shelf, "shelved_c")).to_contain_text("of a car")


def test_deleted_and_brought_back(shelf: Tab, served: Served) -> None:
    opened(shelf, "editing")
    tick(shelf, "untagged1", "torn1")
    shelf.part("delete").click()
    shelf.has(shelf.part("done"), "Deleted 2 files.")
    expect(row(shelf, "torn1")).to_have_count(0)
    assert not (served.embeddings / "torn1.safetensors").exists()
    shelf.press(shelf.part("done"), "Undo")
    shelf.has(shelf.part("done"), "Brought back 2 files.")
    expect(row(shelf, "torn1")).to_have_count(1)
    assert (served.embeddings / "torn1.safetensors").exists()


def test_nothing_is_ticked(shelf: Tab) -> None:
    opened(shelf, "editing")
    tick(shelf)
    shelf.part("delete").click()
    shelf.has(shelf.part("done"), "No embedding is selected")


def test_rebuilt(shelf: Tab, served: Served) -> None:
    opened(shelf, "rebuilding")
    shelf.choose("rebuild_for", "demo.safetensors")
    shelf.choose("rebuild_for", "small-sd1.safetensors")
    shelf.page.keyboard.press("Escape")
    tick(shelf, "shelved_a")
    shelf.part("rebuild").click()
    shelf.has(shelf.part("done"), "Rebuilt: 1 same vectors, 1 skipped.", "It was made for SDXL")
    shelf.shoot(f"{served.gradio}-rebuilt")


def test_its_text_is_found(shelf: Tab, served: Served) -> None:
    vectors = load_file(served.embeddings / "shelved_a.safetensors")
    save_file(vectors, served.embeddings / "bare1.safetensors")
    shelf.go("Make")
    shelf.go("Library")
    expect(row(shelf, "bare1")).to_have_count(1)
    opened(shelf, "recovering")
    tick(shelf, "bare1")
    shelf.part("recover").click()
    shelf.has(shelf.part("done"), "The expression gives", "'cat' + 'dog'*0.5")
    shelf.press(shelf.part("done"), "Keep as its recipe")
    shelf.has(shelf.part("done"), "bare1.safetensors has it as its recipe now.")
    expect(row(shelf, "bare1")).to_contain_text("made for this model")


def test_checkpoints_compared(shelf: Tab, served: Served) -> None:
    opened(shelf, "comparing")
    shelf.choose("compared", "demo.safetensors")
    shelf.choose("compared", "small-sd1.safetensors")
    shelf.page.keyboard.press("Escape")
    shelf.part("compare").click()
    shelf.has(shelf.part("comparison"), "CLIP-L", "small-sd1")
    shelf.shoot(f"{served.gradio}-compared")
