"""Preview pictures in the browser: settings of the web UI's tab, progress, cancel, side by side, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from lib_embedmerge import open_checkpoint
from pages.conftest import INTERPRETERS, Served, serve
from pages.drive import Tab
from pages.drive import opened as opened_page
from pages.test_counted import COUNT, counted
from pages.test_library import opened, row, tick
from pages.test_looks import check_looks

NAMES = ("soft_cat", "soft_dog", "soft_sky")

TXT2IMG = """
(settings) => {
    const box = document.createElement("div");
    box.innerHTML = `
        <div id="txt2img_tools"><button id="paste"></button></div>
        <div id="txt2img_prompt"><textarea>a house, soft_cat</textarea></div>
        <div id="txt2img_neg_prompt"><textarea>blurry</textarea></div>
        <div id="txt2img_sampling"><input value="DPM++ 2M"></div>
        <div id="txt2img_scheduler"><input value="Unheard of"></div>
        <div id="txt2img_steps"><input type="number" value="12"><input type="range" value="12"></div>
        <div id="txt2img_width"><input type="number" value="512"></div>
        <div id="txt2img_height"><input type="number" value="768"></div>
        <div id="txt2img_cfg_scale"><input type="number" value="4.5"></div>
        <div id="txt2img_seed"><input type="number" value="-1"></div>`;
    box.style.display = "none";
    document.body.append(box);
    window.pasted = [];
    document.querySelector("#paste").addEventListener("click", () => {
        const read = (name) => document.querySelector(`#txt2img_${name} textarea`).value;
        window.pasted.push([read("prompt"), read("neg_prompt")]);
    });
}
"""
"""What a web UI's page has, as far as the script reads it."""


@pytest.fixture(scope="module", params=list(INTERPRETERS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A page on a host that makes pictures."""
    with serve(request.param, tmp_path_factory.mktemp(request.param), "tests.pages.pictured_page") as served:
        model = open_checkpoint(served.models / "demo.safetensors")
        for name in NAMES:
            model.build(f"'{name[5:]}'", name=name).save(served.embeddings)
        yield served


def fields(tab: Tab) -> dict[str, str]:
    names = ("prompt", "negative", "sampler", "scheduler", "steps", "width", "height", "guidance", "seed")
    return {name: _field(tab, name).input_value() for name in names}


def _field(tab: Tab, name: str):  # type: ignore[no-untyped-def] # a Locator, which only type checkers may import
    return tab.page.locator(f"#embedmerge_preview_{name}").locator("textarea, input").first


def picture(served: Served, name: str) -> Path:
    return served.embeddings / f"{name}.preview.png"


def test_the_settings_are_those_of_the_web_ui(tab: Tab) -> None:
    tab.evaluate(TXT2IMG)
    tab.go("Library")
    tick(tab, "soft_cat", "soft_dog")
    tab.press(tab.part("cards"), "Make preview pictures…")
    expect(_field(tab, "prompt")).to_have_value("a house, soft_cat")
    assert fields(tab) == {
        "prompt": "a house, soft_cat", "negative": "blurry", "sampler": "DPM++ 2M", "scheduler": "Automatic",
        "steps": "12", "width": "512", "height": "768", "guidance": "4.5", "seed": "",
    }  # fmt: skip
    _field(tab, "steps").fill("3")
    tab.part("take_settings").click()
    expect(_field(tab, "steps")).to_have_value("12")


def test_pictures_side_by_side_and_only_ticked_ones_are_kept(tab: Tab, served: Served) -> None:
    picture(served, "soft_dog").write_bytes(b"old")
    job = tab.part("previewed")
    _field(tab, "width").fill("100")
    tab.part("make_previews").click()
    tab.has(job, "The width is not a multiple of 8.")
    _field(tab, "width").fill("128")
    _field(tab, "height").fill("192")
    tab.part("make_previews").click()
    tab.has(job, "of 3")
    tab.has(job, "Done: 2 pictures with an embedding; none saved.", "DPM++ 2M, Automatic, 12 steps, 128 × 192, CFG 4.5")
    expect(job).to_be_in_viewport()
    images = job.locator(".embedmerge-pictured img")
    expect(images).to_have_count(4)
    sources = [image.get_attribute("src") for image in images.all()]
    assert sources[0] == sources[2]  # without any embedding
    assert len(set(sources)) == 3
    tab.shoot(f"{served.gradio}-previews")
    assert not picture(served, "soft_cat").exists()
    cat, dog = (job.get_by_role("checkbox", name=name) for name in ("soft_cat", "soft_dog"))
    expect(cat).to_be_checked()
    expect(dog).not_to_be_checked()  # it has a picture
    tab.press(job, "Use the ticked pictures as previews")
    tab.has(job, "1 embedding has its picture now.", "1 of them saved")
    assert picture(served, "soft_cat").exists()
    assert picture(served, "soft_dog").read_bytes() == b"old"
    expect(row(tab, "soft_cat").locator(".embedmerge-picture img")).to_have_count(1)
    dog.check()
    tab.press(job, "Use the ticked pictures as previews")
    tab.has(job, "1 old picture went to the trash.", "all of them saved")
    expect(job.get_by_role("checkbox")).to_have_count(0)
    assert picture(served, "soft_dog").read_bytes() != b"old"
    tab.has(tab.part("shelf"), "soft_dog.preview.png")


def test_unsaved_pictures_are_shown_again(tab: Tab, served: Served, browser: Browser) -> None:
    tick(tab, "soft_cat", "soft_dog")
    tab.part("make_previews").click()
    tab.has(tab.part("previewed"), "Done: 2 pictures with an embedding; none saved.")
    tab.part("finding").scroll_into_view_if_needed()
    with opened_page(browser, served.url) as other:
        other.go("Library")
        job = other.part("previewed")
        other.has(job, "Done: 2 pictures with an embedding; none saved.")
        expect(job.get_by_role("checkbox", name="soft_dog")).not_to_be_checked()


def test_a_job_is_cancelled(tab: Tab) -> None:
    job = tab.part("previewed")
    tick(tab, *NAMES)
    tab.part("make_previews").click()
    tab.press(job, "Cancel")
    tab.has(job, "Cancelled")
    expect(job.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


def test_a_grid_is_pasted_into_txt2img(tab: Tab) -> None:
    tick(tab, "soft_cat", "soft_sky")
    for count in (1, 2):
        tab.press(tab.part("cards"), "Set up X/Y/Z plot")
        tab.page.wait_for_function(f"pasted.length === {count}")
    first, second = tab.evaluate("pasted")
    checkpoints = "demo.safetensors, small-sd1.safetensors, torn.safetensors"
    assert first == [f"a house, soft_cat\nX: soft_cat, soft_sky, Y: {checkpoints}", ""]
    assert second[0].startswith(first[0])
    tab.evaluate("(() => { const box = document.querySelector('#embedmerge_grid'); box.innerHTML = box.innerHTML; })()")
    tab.page.wait_for_timeout(1000)  # three looks of the script at the same answer
    assert tab.evaluate("pasted.length") == 2


def test_three_clicks_to_a_grid(browser: Browser, served: Served) -> None:
    """From the library with two checkpoints or more; the third click is on the web UI's own button."""
    with opened_page(browser, served.url) as tab:
        tab.evaluate(TXT2IMG)
        tab.go("Library")
        expect(row(tab, "soft_cat")).to_be_visible()
        tab.evaluate(COUNT)
        row(tab, "soft_cat").locator(".embedmerge-chosen").click()
        tab.press(tab.part("cards"), "Set up X/Y/Z plot")
        tab.page.wait_for_function("pasted.length === 1")
        assert "X: soft_cat, Y: demo.safetensors, small-sd1.safetensors" in tab.evaluate("pasted[0][0]")
        assert counted(tab)["clicks"] == 2


def test_a_card_without_a_picture_asks_for_one(tab: Tab) -> None:
    tick(tab, "soft_cat")
    tab.press(row(tab, "soft_sky"), "Make a picture…")
    tab.has(tab.part("cards").locator(".embedmerge-ticked"), "1 ticked: soft_sky")
    expect(tab.part("make_previews")).to_be_in_viewport()
    expect(row(tab, "soft_cat").get_by_role("button", name="Make a picture…")).to_have_count(0)


def test_nothing_is_ticked(tab: Tab) -> None:
    tab.press(tab.part("cards"), "Untick all")
    tab.part("make_previews").click()
    tab.has(tab.part("previewed"), "No embedding is chosen.")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390), ("light", 390), ("dark", 1280)])
def test_looks(browser: Browser, served: Served, theme: str, width: int) -> None:
    with opened_page(browser, served.url, width=width, theme=theme) as tab:
        tab.go("Library")
        tick(tab, *NAMES[:2])
        opened(tab, "previewing")
        expect(_field(tab, "width")).to_have_value("1024")
        _field(tab, "width").fill("128")
        _field(tab, "height").fill("192")
        tab.part("make_previews").click()
        tab.has(tab.part("previewed"), "Done: 2 pictures")
        check_looks(tab, f"{served.gradio}-previews-{theme}-{width}")
