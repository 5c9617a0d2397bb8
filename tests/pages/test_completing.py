"""Completion in the text box: the list, the keys, and what is inserted."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from lib_embedmerge import open_checkpoint
from pages.conftest import Served
from pages.drive import Tab


@pytest.fixture
def box(tab: Tab, served: Served) -> Locator:
    """The empty text box, with the focus; the library has some embeddings."""
    if not (served.embeddings / "soft_light.safetensors").exists():
        model = open_checkpoint(served.models / "demo.safetensors")
        for name in ("soft_light", "soft_paint"):
            model.build("'cat'", name=name).save(served.embeddings)
    tab.go("Make")
    box = tab.page.locator("#embedmerge_source textarea")
    box.fill("")
    box.focus()
    return box


def options(tab: Tab) -> Locator:
    return tab.page.locator(".embedmerge-completions.embedmerge-is-shown .embedmerge-completion")


def test_an_embedding_by_the_keyboard_alone(tab: Tab, served: Served, box: Locator) -> None:
    box.press_sequentially("'a cat, so")
    expect(options(tab)).to_have_count(2)
    expect(options(tab).first).to_contain_text("soft_light")
    expect(options(tab).first).to_contain_text("1 vector, SDXL, made for demo")
    tab.shoot(f"{served.gradio}-completing")
    box.press("ArrowDown")
    box.press("ArrowDown")
    expect(options(tab).nth(1)).to_have_attribute("aria-selected", "true")
    box.press("Enter")
    expect(box).to_have_value("'a cat, soft_paint")
    expect(options(tab)).to_have_count(0)
    box.press_sequentially("'")
    tab.has(tab.answer, "soft_paint")


def test_an_embedding_has_its_picture(tab: Tab, served: Served, box: Locator) -> None:
    picture = served.embeddings / "soft_light.preview.png"
    (served.embeddings / "soft_paint.png").write_bytes(b"no picture")
    widths = []
    for size in ((512, 768), (64, 96)):  # another one is shown at once
        Image.new("RGB", size, "red").save(picture)
        box.fill("")
        box.press_sequentially("'so")
        shown = options(tab).first.locator("img")
        expect(shown).to_have_attribute("src", re.compile("^data:image/jpeg;base64,"))
        tab.page.wait_for_timeout(500)
        widths.append(shown.evaluate("(image) => image.naturalWidth"))
    assert widths == [256, 64]
    tab.shoot(f"{served.gradio}-completing-pictures")
    expect(options(tab)).to_have_count(2)
    expect(options(tab).nth(1).locator("img")).to_have_count(0)
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("'soft_light")
    for name in ("soft_light.preview.png", "soft_paint.png"):
        (served.embeddings / name).unlink()
    box.fill("")
    box.press_sequentially("'so")
    expect(options(tab)).to_have_count(2)
    expect(options(tab).locator("img")).to_have_count(0)


def test_a_function_with_the_cursor_inside(tab: Tab, box: Locator) -> None:
    box.press_sequentially("ler")
    expect(options(tab)).to_have_count(1)
    box.press("Tab")
    box.press_sequentially("'cat', 'dog', 0.3")
    expect(box).to_have_value("lerp('cat', 'dog', 0.3)")


def test_by_a_click(tab: Tab, box: Locator) -> None:
    box.press_sequentially("'soft_l")
    options(tab).first.click()
    expect(box).to_have_value("'soft_light")
    expect(box).to_be_focused()


def test_keys_do_what_they_do_without_a_choice(tab: Tab, box: Locator) -> None:
    box.press_sequentially("'so")
    expect(options(tab)).to_have_count(2)
    box.press("Enter")
    expect(box).to_have_value("'so\n")
    box.fill("")
    box.press_sequentially("'so")
    expect(options(tab)).to_have_count(2)
    box.press("Escape")
    expect(options(tab)).to_have_count(0)
    expect(box).to_have_value("'so")


def test_the_list_of_another_extension_has_the_place(tab: Tab, box: Locator) -> None:
    tab.evaluate("""() => document.body.insertAdjacentHTML(
        "beforeend", "<div class='autocompleteParent' style='position: absolute'>tags</div>")""")
    box.press_sequentially("'so")
    expect(tab.page.locator("#embedmerge_completions .embedmerge-completion")).to_have_count(2)
    expect(options(tab)).to_have_count(0)
    tab.evaluate("document.querySelector('.autocompleteParent').remove()")
