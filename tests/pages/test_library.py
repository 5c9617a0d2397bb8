"""The page Library in a browser: its rows, how they are found and ticked, and what is done with those that are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
import torch
from models import encoders, write_sdxl
from PIL import Image
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

from lib_embedmerge import open_checkpoint
from lib_embedmerge.files.safetensors_file import read_header
from pages.conftest import Served
from pages.drive import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Locator

IMAGE = "<img src=x onerror=alert(1)>"
ENTRIES = "#embedmerge_cards .embedmerge-entry"


@pytest.fixture(scope="module")
def shelf(tab: Tab, served: Served) -> Iterator[Tab]:
    """The page Library, over two that were made here, one without a tag, and one that is torn."""
    for left in served.embeddings.iterdir():  # by other tests
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    for name, source in (("shelved_a", "'cat'+'dog'*0.5"), ("shelved_b", "a red car")):
        tab.save(name, source)
        tab.has(tab.saved, f"Saved {name}")
    save_embedding(served, "untagged1", {"embedmerge.notes": IMAGE})
    (served.embeddings / "torn1.safetensors").write_bytes(b"torn")
    tab.go("Library")
    choose_layout(tab, "Rows")
    expect(row(tab, "shelved_a")).to_have_attribute("data-embedmerge-status", "made for this model")
    yield tab


def row(tab: Tab, name: str) -> Locator:
    return tab.page.locator(f"{ENTRIES}[data-embedmerge-name='{name}']")


def shown(tab: Tab) -> list[str]:
    """The names in the list, also of those that are not in sight."""
    return list(tab.evaluate("embedMergeLibrary.listShownNames()"))


def tick(tab: Tab, *names: str) -> None:
    if chosen(tab):
        tab.press(tab.part("cards"), "Untick all")
    for name in names:
        row(tab, name).locator(".embedmerge-chosen").check()


def find(tab: Tab, words: str) -> None:
    tab.page.fill("#embedmerge_finding input[type=search]", words)


def choose_filter(tab: Tab, name: str, value: str) -> None:
    tab.page.select_option(f"#embedmerge_finding [data-embedmerge-filter={name}]", value)


def choose_layout(tab: Tab, label: str) -> None:
    tab.press(tab.part("finding"), label)


def save_embedding(served: Served, name: str, metadata: dict[str, str]) -> Path:
    """A file that another program wrote."""
    file = served.embeddings / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, file, metadata)
    return file


def relist(tab: Tab) -> None:
    """Have the page list its files again."""
    tab.go("Make")
    tab.go("Library")


def chosen(tab: Tab) -> list[str]:
    """What the buttons are about."""
    return [PurePosixPath(place).stem for place in json.loads(tab.evaluate("embedMergeLibrary.tickedFiles"))]


def ticked_line(tab: Tab) -> Locator:
    return tab.part("cards").locator(".embedmerge-ticked")


def notes_box(tab: Tab) -> Locator:
    return tab.page.locator("#embedmerge_newnotes textarea")


@contextmanager
def held_down(tab: Tab, target: Locator) -> Iterator[None]:
    """The mouse is pressed on `target` meanwhile, and then released."""
    target.scroll_into_view_if_needed()
    target.hover()
    tab.page.mouse.down()
    yield
    tab.page.mouse.up()


def delete(tab: Tab) -> None:
    tab.press(tab.part("cards"), "Delete…")
    tab.press(tab.part("cards"), "Move to the trash")


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
    expect(row(shelf, "shelved_a")).to_have_count(0)
    assert shown(shelf) == ["shelved_b"]
    find(shelf, "")
    before = shown(shelf)
    assert {"shelved_a", "shelved_b", "untagged1", "torn1"} <= set(before)
    shelf.press(shelf.part("finding"), "Reverse the order")
    assert shown(shelf) == sorted(before, key=str.casefold, reverse=True)
    shelf.press(shelf.part("finding"), "Reverse the order")


def test_it_looks_right_where_it_is_narrow(shelf: Tab, served: Served) -> None:
    height = shelf.evaluate("window.innerHeight")
    for width in (800, 390):
        shelf.page.set_viewport_size({"width": width, "height": height})
        for label in ("Cards", "Rows"):
            choose_layout(shelf, label)
            expect(row(shelf, "shelved_a")).to_contain_text("Open recipe")
            wide = "[...document.querySelectorAll('#embedmerge_cards .embedmerge-entry-body')]"
            cut = f"{wide}.filter((body) => body.scrollHeight > body.clientHeight + 1).map((body) => body.innerText)"
            assert shelf.evaluate(cut) == [], (width, label)
            assert shelf.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (width, label)
            shelf.shoot(f"{served.gradio}-library-{width}-{label}")
    shelf.page.set_viewport_size({"width": 1280, "height": height})


def test_found_by_all_that_was_written(shelf: Tab, served: Served) -> None:
    save_embedding(served, "deeper/found1", {"embedmerge.notes": "word " * 60 + "Zebra"})
    relist(shelf)
    expect(row(shelf, "found1")).to_contain_text("(305 characters)")
    for words in ("zebra", "ZEBRA found", "deeper"):
        find(shelf, words)
        assert shown(shelf) == ["found1"], words
    find(shelf, "305 characters")
    assert shown(shelf) == []
    find(shelf, "")
    shutil.rmtree(served.embeddings / "deeper")
    relist(shelf)
    expect(row(shelf, "found1")).to_have_count(0)


def test_sorted_to_the_second(shelf: Tab, served: Served) -> None:
    dates = {
        "dated_a": "2020-05-05T10:00:00Z",
        "dated_b": "2020-05-05T11:30:00+02:00",
        "dated_c": "2020-05-05",
        "dated_d": "2020-05-05T09:59:59",
        "dated_e": "some day",
        "dated_f": "0001-01-01T00:00:00+01:00",
    }
    for name, date in dates.items():
        save_embedding(served, name, {"modelspec.date": date})
    relist(shelf)
    find(shelf, "dated")
    expect(row(shelf, "dated_c")).to_be_visible()
    choose_filter(shelf, "sort", "date")
    assert shown(shelf) == ["dated_f", "dated_c", "dated_b", "dated_d", "dated_a", "dated_e"]
    shelf.press(shelf.part("finding"), "Reverse the order")
    assert shown(shelf) == ["dated_e", "dated_a", "dated_d", "dated_b", "dated_c", "dated_f"]
    shelf.press(shelf.part("finding"), "Reverse the order")
    for name in dates:
        (served.embeddings / f"{name}.safetensors").unlink()
    find(shelf, "")
    choose_filter(shelf, "sort", "name")
    relist(shelf)
    expect(row(shelf, "dated_a")).to_have_count(0)


def test_by_fit_model_and_recipe(shelf: Tab) -> None:
    choose_filter(shelf, "fit", "cannot be used")
    expect(row(shelf, "shelved_a")).to_have_count(0)
    assert shown(shelf) == ["torn1"]
    choose_filter(shelf, "fit", "")
    choose_filter(shelf, "model", "demo")
    assert shown(shelf) == ["shelved_a", "shelved_b"]
    choose_filter(shelf, "model", "")
    choose_filter(shelf, "recipe", "no")
    assert shown(shelf) == ["torn1", "untagged1"]
    choose_filter(shelf, "recipe", "")
    choose_filter(shelf, "family", "SDXL")
    assert shown(shelf) == ["shelved_a", "shelved_b", "untagged1"]
    choose_filter(shelf, "family", "")
    expect(row(shelf, "shelved_a")).to_be_visible()


def test_a_recipe_in_the_editor(shelf: Tab) -> None:
    shelf.press(row(shelf, "shelved_a"), "Open recipe")
    shelf.counts(1)
    assert shelf.source.input_value() == "'cat'+'dog'*0.5"
    shelf.go("Library")


def test_looked_at_and_used(shelf: Tab) -> None:
    shelf.press(row(shelf, "shelved_b"), "Use in prompt")
    expect(row(shelf, "shelved_b")).to_contain_text("Copied")
    assert shelf.evaluate("navigator.clipboard.readText()") == "shelved_b"
    shelf.press(row(shelf, "shelved_b"), "Inspect")
    shelf.has(shelf.inspection, "shelved_b.safetensors", "3 vectors", "Made for this model")
    shelf.go("Library")
    shelf.press(row(shelf, "untagged1"), "untagged1")
    shelf.has(shelf.inspection, "untagged1.safetensors", "Unknown origin")
    shelf.go("Library")


def test_cards_have_the_pictures_of_the_web_ui(shelf: Tab, served: Served) -> None:
    Image.new("RGB", (512, 768), "red").save(served.embeddings / "shelved_a.preview.png")
    (served.embeddings / "shelved_b.png").write_bytes(b"no picture")
    relist(shelf)
    choose_layout(shelf, "Cards")
    picture = row(shelf, "shelved_a").locator(".embedmerge-picture img")
    expect(picture).to_have_attribute("src", re.compile("^data:image/jpeg;base64,"))
    assert picture.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [256, 384]
    expect(row(shelf, "shelved_b").locator("img")).to_have_count(0)
    shelf.shoot(f"{served.gradio}-cards")
    shelf.page.reload()
    shelf.go("Library")
    expect(picture).to_have_count(1)  # the choice of cards is remembered
    choose_layout(shelf, "Rows")
    for name in ("shelved_a.preview.png", "shelved_b.png"):
        (served.embeddings / name).unlink()


def test_rated_on_the_active_model(shelf: Tab, served: Served) -> None:
    entry = row(shelf, "shelved_a")
    shelf.press(entry, "4 of 5")
    shelf.has(shelf.part("done"), "Rated 4 of 5 on demo.")
    expect(entry.locator(".embedmerge-star[aria-pressed=true]")).to_have_attribute("aria-label", "4 of 5")
    file = served.embeddings / "shelved_a.safetensors"
    (note,) = json.loads(read_header(file).metadata["embedmerge.notes_by_model"]).values()
    assert note["rating"] == 4
    choose_filter(shelf, "rating", "4")
    expect(entry).to_have_count(1)
    assert shown(shelf) == ["shelved_a"]
    choose_filter(shelf, "rating", "5")
    assert shown(shelf) == []
    choose_filter(shelf, "rating", "")
    choose_filter(shelf, "sort", "rating")
    assert shown(shelf)[0] == "shelved_a"
    choose_filter(shelf, "sort", "name")
    shelf.press(entry, "4 of 5")
    expect(entry.locator(".embedmerge-star[aria-pressed=true]")).to_have_count(0)
    assert "rating" not in read_header(file).metadata.get("embedmerge.notes_by_model", "")


def test_what_other_tools_say(shelf: Tab, served: Served) -> None:
    facts = {"baseModel": "Pony V6", "trainedWords": ["foxgirl"], "modelId": 7, "description": IMAGE}
    sidecar = served.embeddings / "untagged1.civitai.info"
    sidecar.write_text(json.dumps(facts), encoding="utf-8")
    relist(shelf)
    entry = row(shelf, "untagged1")
    expect(entry).to_contain_text("words: foxgirl")
    expect(entry.locator(".embedmerge-model")).to_have_text(["Pony V6"])
    link = entry.get_by_role("link")
    expect(link).to_have_attribute("href", "https://civitai.com/models/7")
    find(shelf, "foxgirl")
    assert shown(shelf) == ["untagged1"]
    find(shelf, "")
    choose_filter(shelf, "model", "Pony V6")
    assert shown(shelf) == ["untagged1"]
    shelf.shoot(f"{served.gradio}-sidecar")
    sidecar.unlink()
    relist(shelf)
    expect(entry).not_to_contain_text("foxgirl")
    choose_filter(shelf, "model", "")


def test_a_concept_is_one_entry(shelf: Tab, served: Served) -> None:
    other = write_sdxl(served.models / "pony-like.safetensors", encoders())
    made = open_checkpoint(other).build("'cat'*2", name="twofold1").save(served.embeddings)
    relist(shelf)
    expect(row(shelf, "twofold1")).to_have_attribute("data-embedmerge-status", "differs")
    chips = row(shelf, "twofold1").locator(".embedmerge-model")
    expect(chips).to_have_text(["pony-like"])
    expect(chips).to_have_attribute("data-embedmerge-tone", "warning")
    shelf.press(row(shelf, "twofold1"), "Make for this model")
    shelf.has(shelf.part("done"), "Made 1 version for this model: twofold1-demo.")
    expect(row(shelf, "twofold1")).to_have_attribute("data-embedmerge-status", "made for this model")
    expect(chips).to_have_text(["pony-like", "demo"])
    expect(row(shelf, "twofold1").get_by_role("button", name="Make for this model")).to_be_hidden()
    shelf.press(row(shelf, "twofold1"), "Use in prompt")
    expect(row(shelf, "twofold1")).to_contain_text("Copied")
    assert shelf.evaluate("navigator.clipboard.readText()") == "twofold1-demo"
    choose_layout(shelf, "Files")
    expect(row(shelf, "twofold1-demo")).to_have_count(1)
    choose_layout(shelf, "Rows")
    expect(row(shelf, "twofold1-demo")).to_have_count(0)
    tick(shelf, "twofold1")
    shelf.press(shelf.part("cards"), "Delete…")
    shelf.has(
        shelf.part("cards").locator(".embedmerge-question"), "Delete 1 embedding with 1 version for other models?"
    )
    shelf.press(shelf.part("cards"), "Keep")
    assert made.exists()
    delete(shelf)
    shelf.has(shelf.part("done"), "Deleted 2 files.")
    expect(row(shelf, "twofold1")).to_have_count(0)
    other.unlink()


def test_edited(shelf: Tab, served: Served) -> None:
    opened(shelf, "editing")
    tick(shelf, "shelved_b")
    expect(shelf.page.locator("#embedmerge_newname textarea, #embedmerge_newname input")).to_have_value("shelved_b")
    shelf.page.fill("#embedmerge_newname textarea, #embedmerge_newname input", "shelved_c")
    shelf.part("rename").click()
    shelf.has(shelf.part("done"), "Renamed to shelved_c.")
    expect(row(shelf, "shelved_c")).to_have_count(1)
    assert (served.embeddings / "shelved_c.safetensors").exists()
    tick(shelf, "shelved_c")
    shelf.page.fill("#embedmerge_newnotes textarea", "of a car")
    shelf.part("note").click()
    shelf.has(shelf.part("done"), "The notes were saved.")
    expect(row(shelf, "shelved_c")).to_contain_text("of a car")


def test_deleted_and_brought_back(shelf: Tab, served: Served) -> None:
    opened(shelf, "editing")
    tick(shelf, "untagged1", "torn1")
    delete(shelf)
    shelf.has(shelf.part("done"), "Deleted 2 files.")
    expect(row(shelf, "torn1")).to_have_count(0)
    assert not (served.embeddings / "torn1.safetensors").exists()
    shelf.press(shelf.part("done"), "Undo")
    shelf.has(shelf.part("done"), "Restored 2 files.")
    expect(row(shelf, "torn1")).to_have_count(1)
    assert (served.embeddings / "torn1.safetensors").exists()


def test_a_row_that_is_drawn_again_under_the_mouse_is_ticked_and_used(shelf: Tab, served: Served) -> None:
    """Between pressing and releasing the mouse, another answer of the server may come."""
    tick(shelf)
    save_embedding(served, "pressed1", {"embedmerge.notes": "older"})
    relist(shelf)
    expect(row(shelf, "pressed1")).to_contain_text("older")
    with held_down(shelf, row(shelf, "pressed1").locator(".embedmerge-chosen")):
        save_embedding(served, "pressed1", {"embedmerge.notes": "newer"})
        shelf.evaluate("embedMergeLibrary.listAgain()")
        expect(row(shelf, "pressed1")).to_contain_text("newer")
    assert chosen(shelf) == ["pressed1"]
    with held_down(shelf, row(shelf, "pressed1").get_by_text("Use in prompt")):
        save_embedding(served, "pressed2", {})  # "pressed1" is drawn again as it was
        shelf.evaluate("embedMergeLibrary.listAgain()")
        expect(row(shelf, "pressed2")).to_contain_text("unknown origin")
    expect(row(shelf, "pressed1")).to_contain_text("Copied")
    tick(shelf)
    for name in ("pressed1", "pressed2"):
        (served.embeddings / f"{name}.safetensors").unlink()
    relist(shelf)
    expect(row(shelf, "pressed2")).to_have_count(0)


def test_what_the_filter_hides_stays_ticked_and_is_named(shelf: Tab, served: Served) -> None:
    opened(shelf, "editing")
    tick(shelf, "untagged1", "torn1")
    expect(ticked_line(shelf)).to_have_text("2 ticked: torn1, untagged1")
    for button in ("rename", "recover"):
        expect(shelf.part(button)).to_be_disabled()
    find(shelf, "untagged")
    expect(ticked_line(shelf)).to_have_text("2 ticked: torn1 (not shown), untagged1 (1 not shown)")
    assert chosen(shelf) == ["torn1", "untagged1"]
    delete(shelf)
    shelf.has(shelf.part("done"), "Deleted 2 files.")
    expect(row(shelf, "untagged1")).to_have_count(0)
    expect(ticked_line(shelf)).to_be_hidden()
    find(shelf, "")
    shelf.press(shelf.part("done"), "Undo")
    expect(row(shelf, "untagged1")).to_have_count(1)
    tick(shelf, "untagged1")
    expect(shelf.part("rename")).to_be_enabled()
    choose_filter(shelf, "fit", "cannot be used")
    expect(ticked_line(shelf)).to_have_text("1 ticked: untagged1 (not shown)")
    relist(shelf)
    choose_filter(shelf, "fit", "")
    expect(ticked_line(shelf)).to_have_text("1 ticked: untagged1")
    tick(shelf)
    expect(ticked_line(shelf)).to_be_hidden()


def test_notes_are_not_lost(shelf: Tab, served: Served) -> None:
    def written(name: str) -> str:
        return read_header(served.embeddings / f"{name}.safetensors").metadata.get("embedmerge.notes", "")

    opened(shelf, "editing")
    box = notes_box(shelf)
    tick(shelf, "shelved_c")
    expect(box).to_have_value("of a car")
    tick(shelf, "shelved_c", "untagged1")
    expect(box).to_have_value("")
    expect(box).to_have_attribute("placeholder", "different notes")
    shelf.part("note").click()
    shelf.has(
        shelf.part("done"), "Nothing was saved yet. 2 of the ticked embeddings (shelved_c, untagged1) have other notes"
    )
    assert (written("shelved_c"), written("untagged1")) == ("of a car", IMAGE)
    box.fill("of both")
    shelf.shoot(f"{served.gradio}-notes-asked")
    shelf.press(shelf.part("done"), "Replace them")
    shelf.has(shelf.part("done"), "The notes were saved.")
    expect(row(shelf, "shelved_c")).to_contain_text("of both")
    assert (written("shelved_c"), written("untagged1")) == ("of both", "of both")
    assert sorted(chosen(shelf)) == ["shelved_c", "untagged1"]
    tick(shelf, "untagged1")
    expect(box).to_have_value("of both")
    box.fill("not saved yet")
    tick(shelf, "shelved_a")
    expect(box).to_have_value("not saved yet")
    shelf.part("note").click()
    shelf.has(shelf.part("done"), "The notes were saved.")
    expect(row(shelf, "shelved_a")).to_contain_text("not saved yet")
    assert (written("shelved_a"), written("untagged1")) == ("not saved yet", "of both")
    tick(shelf, "untagged1")
    expect(box).to_have_value("of both")
    box.fill("")
    shelf.part("note").click()
    expect(row(shelf, "untagged1")).not_to_contain_text("of both")
    assert written("untagged1") == ""


def test_notes_that_are_too_long_to_be_shown(shelf: Tab, served: Served) -> None:
    file = save_embedding(served, "long1", {"embedmerge.notes": "long " * 1000})
    relist(shelf)
    expect(row(shelf, "long1")).to_have_count(1)
    opened(shelf, "editing")
    tick(shelf, "long1")
    expect(notes_box(shelf)).to_have_attribute("placeholder", "too long to show here")
    expect(notes_box(shelf)).to_have_value("")
    shelf.part("note").click()
    shelf.has(shelf.part("done"), "Nothing was saved yet. long1 has other notes")
    assert read_header(file).metadata["embedmerge.notes"] == "long " * 1000
    file.unlink()
    relist(shelf)
    expect(row(shelf, "long1")).to_have_count(0)


def test_nothing_is_ticked(shelf: Tab) -> None:
    opened(shelf, "editing")
    tick(shelf)
    shelf.part("rename").click()
    shelf.has(shelf.part("done"), "No embedding is chosen")


def test_rebuilt(shelf: Tab, served: Served) -> None:
    opened(shelf, "rebuilding")
    shelf.choose("rebuild_for", "demo.safetensors")
    shelf.choose("rebuild_for", "small-sd1.safetensors")
    tick(shelf, "shelved_a")
    shelf.part("rebuild").click()
    shelf.has(shelf.part("job"), "Rebuilt: 1 same vectors, 1 skipped.", "It was made for SDXL")
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
    shelf.press(shelf.part("done"), "Save as its recipe")
    shelf.has(shelf.part("done"), "The text was saved as the recipe of bare1.safetensors.")
    expect(row(shelf, "bare1")).to_contain_text("made for this model")


def test_checkpoints_compared(shelf: Tab, served: Served) -> None:
    opened(shelf, "comparing")
    shelf.choose("compared", "demo.safetensors")
    shelf.choose("compared", "small-sd1.safetensors")
    shelf.part("compare").click()
    shelf.has(shelf.part("comparison"), "CLIP-L", "small-sd1")
    shelf.shoot(f"{served.gradio}-compared")


HEIGHTS = """
(names) => new Promise((done) => {
    const seen = Object.fromEntries(names.map((name) => [name, new Set()]));
    const part = (name) => document.querySelector(`#embedmerge_${name}`);
    const look = () => names.forEach((name) => seen[name].add(part(name).offsetHeight));
    const timer = setInterval(look, 10);
    setTimeout(() => {
        clearInterval(timer);
        done(Object.fromEntries(names.map((name) => [name, seen[name].size])));
    }, 4500);
})
"""
"""How many heights parts of the page have within 4.5 s: the status is asked for every 4 s, a rebuild every second."""


def test_a_rebuild_stays_in_sight(shelf: Tab, served: Served) -> None:
    many = served.embeddings / "many"
    many.mkdir()
    for number in range(1_500):  # so that it is under way for long; it is cancelled in the end
        shutil.copyfile(served.embeddings / "shelved_a.safetensors", many / f"many{number}.safetensors")
    others = [write_sdxl(served.models / "other0.safetensors", encoders())]
    for number in range(1, 6):
        others.append(served.models / f"other{number}.safetensors")
        shutil.copyfile(others[0], others[-1])
    shelf.page.reload()  # no checkpoint is chosen, no row ticked
    shelf.go("Library")
    shelf.has(shelf.part("cards").locator(".embedmerge-total"), "1,50")
    find(shelf, "many")
    shelf.has(shelf.part("cards").locator(".embedmerge-total"), "1,500 of ")
    shelf.part("cards").locator(".embedmerge-every").check()
    shelf.has(ticked_line(shelf), "1,500 ticked: many0, ")
    opened(shelf, "rebuilding")
    for other in others:
        shelf.choose("rebuild_for", other.name)
    shelf.part("rebuild").click()
    shelf.has(shelf.part("job"), "of 9,000")
    assert shelf.evaluate(HEIGHTS, ["job", "status"]) == {"job": 1, "status": 1}
    opened(shelf, "editing")
    tick(shelf)
    shelf.part("rename").click()
    shelf.has(shelf.part("done"), "No embedding is chosen")
    expect(shelf.part("job").locator("[data-embedmerge-job]")).to_have_count(1)
    shelf.part("rebuild").click()
    shelf.has(shelf.part("job"), "No embedding is chosen", "of 9,000")
    shelf.shoot(f"{served.gradio}-rebuilding")
    shelf.page.reload()
    shelf.go("Library")
    shelf.has(shelf.part("job"), "of 9,000")
    shelf.press(shelf.part("job"), "Cancel")
    shelf.has(shelf.part("job"), "Cancelled: ")
    find(shelf, "many0-other0")
    expect(row(shelf, "many0").locator(".embedmerge-model")).to_have_text(["demo", "other0"])
    relist(shelf)
    shelf.has(shelf.part("job"), "Cancelled: ")
    shutil.rmtree(many)
    for other in others:
        other.unlink()
    relist(shelf)
    expect(row(shelf, "many0")).to_have_count(0)


def test_fits_stay_where_the_model_does(shelf: Tab) -> None:
    """The active model is asked for every few seconds, and gradio 4 writes beside an answer how long it takes."""
    shelf.page.reload()  # no answer to what the tests before have asked for reaches the new page
    shelf.go("Library")
    shelf.has(shelf.part("status"), "demo")  # the model is known, and what was measured before it is measured again
    shelf.page.wait_for_timeout(1000)
    expect(row(shelf, "shelved_a")).to_have_attribute("data-embedmerge-status", "made for this model")
    expect(shelf.page.locator(f"{ENTRIES}[data-embedmerge-status='not measured']")).to_have_count(0)
    shelf.evaluate("window.slowness = 700")
    lost = shelf.evaluate(
        """() => new Promise((done) => {
            let lost = 0;
            const watch = new MutationObserver((changes) => {
                lost += changes.filter((one) => one.target.dataset.embedmergeStatus === "not measured").length;
            });
            const wanted = { subtree: true, attributeFilter: ["data-embedmerge-status"] };
            watch.observe(document.querySelector("#embedmerge_cards"), wanted);
            setTimeout(() => done(lost), 9000);
        })"""
    )
    shelf.evaluate("window.slowness = 0")
    assert lost == 0


def test_fits_are_asked_again_when_the_page_is_shown_again(shelf: Tab) -> None:
    """A setting may have changed them, and gradio 4 draws no list again that is as it was."""
    expect(row(shelf, "shelved_a")).to_have_attribute("data-embedmerge-status", "made for this model")
    answered = "document.querySelector('#embedmerge_fits [data-embedmerge-asked]').dataset.embedmergeAsked"
    before = shelf.evaluate(answered)
    shelf.go("Make")
    shelf.go("Library")
    shelf.page.wait_for_function(f"Number({answered}) > {before}")
    expect(row(shelf, "shelved_a")).to_have_attribute("data-embedmerge-status", "made for this model")
