"""The page Library inside a real web UI, in a browser: what is done there is what prompts then find.

Run as test_real_host.py is, with two checkpoints of one architecture. Screenshots go to artifacts/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import torch
from pages.drive import ARTIFACTS, Tab
from pages.test_library import choose_filter, choose_layout, delete, find, opened, row, shown, tick
from PIL import Image
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

from lib_embedmerge import open_checkpoint
from lib_embedmerge.recipes.build import build_embedding
from webui.test_real_host import DIRECTORY, URL, ask, embeddings_folder, refresh_embeddings

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

LONG = 300_000
"""Milliseconds for what reads whole checkpoints."""

FITS = {
    "emshelf_a": "made for this model",
    "emshelf_b": "made for this model",
    "emshelf_other": "differs",
    "emshelf_bare": "unknown origin",
    "emshelf_sd1": "other architecture",
    "emshelf_odd": "cannot be used",
}
"""The files that are there, and what is said of them."""


@pytest.fixture(scope="module")
def shelf(titles: dict[str, str], page: Page) -> Iterator[Tab]:
    """The page Library over the files of FITS, and whatever else there is."""
    _clear()
    for name, source in (("emshelf_a", "'cat'+'dog'*0.5"), ("emshelf_b", "a red car")):
        ask(f"/embedmerge-probe/save/{name}?source={quote(source)}")
    Image.new("RGB", (64, 64), "green").save(embeddings_folder() / "emshelf_b.preview.png")
    (other,) = (one for one in ask("/sdapi/v1/sd-models", post=False) if one["title"] == titles["other"])
    build_embedding(open_checkpoint(Path(DIRECTORY, other["filename"])), "'cat'+'bird'", "emshelf_other").save(
        embeddings_folder()
    )
    copied = load_file(embeddings_folder() / "emshelf_a.safetensors")
    save_file(copied, embeddings_folder() / "emshelf_bare.safetensors")
    save_file({"emb_params": torch.ones(2, 768)}, embeddings_folder() / "emshelf_sd1.safetensors")
    # No torn file: Forge moves those away.
    save_file({"weights": torch.ones(3)}, embeddings_folder() / "emshelf_odd.safetensors")
    refresh_embeddings()
    tab = Tab(page, [])
    tab.go("Library")
    choose_layout(tab, "Files")
    yield tab
    _clear()


def _clear() -> None:
    for file in embeddings_folder().rglob("emshelf_*"):
        file.unlink()
    ask("/sdapi/v1/options", {"embedmerge_follow": False})
    refresh_embeddings()


def _found(*names: str) -> list[bool]:
    """Whether prompts find embeddings of these names."""
    return [ask(f"/embedmerge-probe/finds/{quote(name)}", post=False)["found"] for name in names]


def _listed() -> set[str]:
    """The names that the web UI has after it has read its folder again."""
    refresh_embeddings()
    return set(ask("/sdapi/v1/embeddings", post=False)["loaded"])


def _shoot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-{Path(DIRECTORY).name}.png", full_page=True)


def test_every_file_with_its_fit(shelf: Tab) -> None:
    for name, status in FITS.items():
        expect(row(shelf, name)).to_contain_text(status, timeout=LONG)
    assert set(FITS) <= set(shown(shelf))
    _shoot(shelf.page, "library")


def test_filtered(shelf: Tab) -> None:
    find(shelf, "emshelf RED car")
    expect(row(shelf, "emshelf_a")).to_have_count(0)
    assert shown(shelf) == ["emshelf_b"]
    find(shelf, "emshelf")
    choose_filter(shelf, "fit", "differs")
    expect(row(shelf, "emshelf_a")).to_have_count(0)
    assert shown(shelf) == ["emshelf_other"]
    choose_filter(shelf, "fit", "")
    expect(row(shelf, "emshelf_a")).to_be_visible()
    assert set(shown(shelf)) == set(FITS)  # the others stay out of the way from now on


def test_renamed(shelf: Tab) -> None:
    opened(shelf, "editing")
    tick(shelf, "emshelf_b")
    box = shelf.page.locator("#embedmerge_newname textarea, #embedmerge_newname input")
    expect(box).to_have_value("emshelf_b")
    box.fill("emshelf_c")
    shelf.part("rename").click()
    shelf.has(shelf.part("done"), "Renamed to emshelf_c.")
    expect(row(shelf, "emshelf_c")).to_contain_text("made for this model")
    expect(row(shelf, "emshelf_b")).to_have_count(0)
    assert _found("emshelf_b", "emshelf_c") == [False, True]
    assert (embeddings_folder() / "emshelf_c.preview.png").is_file()
    assert not (embeddings_folder() / "emshelf_b.preview.png").exists()
    assert {"emshelf_b", "emshelf_c"} & _listed() == {"emshelf_c"}


def test_deleted_and_brought_back(shelf: Tab) -> None:
    tick(shelf, "emshelf_c", "emshelf_odd")
    delete(shelf)
    shelf.has(shelf.part("done"), "Deleted 3 files.")
    expect(row(shelf, "emshelf_c")).to_have_count(0)
    assert _found("emshelf_a", "emshelf_c") == [True, False]
    assert "emshelf_c" not in _listed()
    assert _found("emshelf_c") == [False]  # also now that the folder, with our trash in it, was read again
    _shoot(shelf.page, "library-deleted")
    shelf.press(shelf.part("done"), "Undo")
    shelf.has(shelf.part("done"), "Restored 3 files.")
    expect(row(shelf, "emshelf_c")).to_have_count(1)
    assert _found("emshelf_c") == [True]
    assert (embeddings_folder() / "emshelf_c.preview.png").is_file()
    assert set(load_file(embeddings_folder() / "emshelf_odd.safetensors")) == {"weights"}


def test_rebuilt_for_the_active_model(shelf: Tab, titles: dict[str, str]) -> None:
    opened(shelf, "rebuilding")
    for title in (titles["current"], titles["other"]):
        shelf.choose("rebuild_for", title)
    shelf.page.keyboard.press("Escape")
    tick(shelf, "emshelf_other", "emshelf_bare")
    shelf.part("rebuild").click()
    expect(shelf.part("job")).to_contain_text("Rebuilt: ", timeout=LONG)
    shelf.has(shelf.part("job"), "1 written", "2 skipped", "1 same vectors", "It has no recipe.")
    (variant,) = embeddings_folder().glob("emshelf_other-*.safetensors")
    expect(row(shelf, variant.stem)).to_contain_text("made for this model")
    assert _found(variant.stem) == [True]
    _shoot(shelf.page, "library-rebuilt")


def test_a_text_is_found_and_kept(shelf: Tab) -> None:
    opened(shelf, "recovering")
    tick(shelf, "emshelf_bare")
    shelf.part("recover").click()
    expect(shelf.part("done")).to_contain_text("'cat' + 'dog'*0.5", timeout=LONG)
    _shoot(shelf.page, "library-recovered")
    shelf.press(shelf.part("done"), "Save as its recipe")
    shelf.has(shelf.part("done"), "The text was saved as the recipe of emshelf_bare.safetensors.")
    expect(row(shelf, "emshelf_bare")).to_contain_text("made for this model")
    assert _found("emshelf_bare") == [True]


def test_where_recipes_follow_it_is_said(shelf: Tab) -> None:
    ask("/sdapi/v1/options", {"embedmerge_follow": True})
    shelf.go("Make")
    shelf.go("Library")
    expect(row(shelf, "emshelf_other").locator(".embedmerge-badge")).to_have_text("follows")
    expect(row(shelf, "emshelf_a").locator(".embedmerge-badge")).to_have_count(0)


def test_checkpoints_compared(shelf: Tab, titles: dict[str, str]) -> None:
    opened(shelf, "comparing")
    compared = [titles["current"], titles["other"]]
    for title in compared:
        shelf.choose("compared", title)
    shelf.page.keyboard.press("Escape")
    shelf.page.fill("#embedmerge_compared_by textarea", "a photo of a cat")
    shelf.part("compare").click()
    expect(shelf.part("comparison").locator(".embedmerge-outputs")).to_have_count(1, timeout=LONG)
    shelf.has(shelf.part("comparison"), "CLIP-L", "CLIP-G", *(Path(title.split(" [")[0]).stem for title in compared))
    _shoot(shelf.page, "library-compared")
