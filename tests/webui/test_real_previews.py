"""Preview pictures inside a real web UI, in a browser: its txt2img makes them, at the encoders' inputs, in its queue.

Run as test_real_host.py is. Screenshots go to artifacts/.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import torch
from pages.drive import ARTIFACTS, Tab
from pages.test_library import choose_layout, find, row, tick
from PIL import Image, ImageChops
from playwright.sync_api import expect
from safetensors.torch import save_file

from webui.test_real_extensions import _judged
from webui.test_real_host import DIRECTORY, URL, ask, embeddings_folder, refresh_embeddings

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

LONG = 300_000
"""Milliseconds in which a slow machine makes pictures."""

SOURCES = {"empic_a": "'cat'+'dog'*0.5", "empic_b": "a red car"}

OURS = "task(embedmerge"
"""How the names of our jobs begin."""

TAB = {"steps": "2", "width": "64", "height": "128", "cfg_scale": "5.5"}


@pytest.fixture(scope="module")
def shelf(titles: dict[str, str], page: Page) -> Iterator[Tab]:
    """The page Library over SOURCES and an embedding for SD 1, after settings were made in the tab txt2img."""
    _clear()
    assert titles["current"]
    for name, source in SOURCES.items():
        ask(f"/embedmerge-probe/save/{name}?source={quote(source)}")
    save_file({"emb_params": torch.ones(2, 768)}, embeddings_folder() / "empic_sd1.safetensors")
    refresh_embeddings()
    _go(page, "txt2img")
    page.fill("#txt2img_prompt textarea", "a house, empic_a, in a garden")
    page.fill("#txt2img_neg_prompt textarea", "blurry")
    for name, value in TAB.items():
        box = page.locator(f"#txt2img_{name} input[type=number]").first
        box.fill(value)
        box.press("Tab")
    _go(page, "EmbedMerge")
    tab = Tab(page, [])
    tab.go("Library")
    choose_layout(tab, "Cards")
    find(tab, "empic")
    yield tab
    _go(page, "EmbedMerge")
    find(tab, "")
    _clear()


def _go(page: Page, title: str) -> None:
    page.locator("#tabs > .tab-nav > button, #tabs > .tab-wrapper button[role=tab]", has_text=title).first.click()


def _clear() -> None:
    for file in embeddings_folder().rglob("empic_*"):
        file.unlink()
    refresh_embeddings()


def _shoot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-{Path(DIRECTORY).name}.png", full_page=True)


def _box(tab: Tab, name: str) -> Any:
    return tab.page.locator(f"#embedmerge_preview_{name}").locator("textarea, input").first


def _read(name: str) -> tuple[Image.Image, str]:
    with Image.open(embeddings_folder() / f"{name}.preview.png") as picture:
        return picture.convert("RGB"), picture.info["parameters"]


def test_pictures_are_made_with_the_vectors_and_kept_when_agreed(shelf: Tab) -> None:
    tick(shelf, "empic_a", "empic_b", "empic_sd1")
    shelf.press(shelf.part("cards"), "Make preview pictures…")
    expect(_box(shelf, "prompt")).to_have_value("a house, empic_a, in a garden")
    expect(_box(shelf, "negative")).to_have_value("blurry")
    for name, value in TAB.items():
        expect(_box(shelf, name.replace("cfg_scale", "guidance"))).to_have_value(value)
    assert _box(shelf, "sampler").input_value()
    _box(shelf, "seed").fill("77")
    ask("/embedmerge-probe/forget-conditionings")
    ask("/embedmerge-probe/watch")
    shelf.part("make_previews").click()
    job = shelf.part("previewed")
    expect(job).to_contain_text("Done: 2 pictures with an embedding; none saved.", timeout=LONG)
    expect(job).to_contain_text("empic_sd1: It was made for Stable Diffusion 1; this model is SDXL.")
    expect(job.locator("img")).to_have_count(4)
    _shoot(shelf.page, "previews")
    texts = [f"a house, {inside}in a garden" for inside in ("", "«'empic_a'», ", "«'empic_b'», ")]
    assert [fault for fault in _judged([*texts, "blurry", ""]) if not fault.endswith("not encoded: ''")] == []
    assert list(embeddings_folder().glob("empic_*.png")) == []
    shelf.press(job, "Use the ticked pictures as previews")
    expect(job).to_contain_text("2 embeddings have their picture now.")
    (one, of_one), (other, of_other) = _read("empic_a"), _read("empic_b")
    assert one.size == other.size == (64, 128)
    for name, infotext in (("empic_a", of_one), ("empic_b", of_other)):
        assert infotext.startswith(f"a house, {name}, in a garden\nNegative prompt: blurry\nSteps: 2, Sampler: ")
        assert "Seed: 77, Size: 64x128" in infotext
        expect(row(shelf, name).locator(".embedmerge-picture img")).to_have_count(1)
    _shoot(shelf.page, "previews-kept")


def test_they_wait_for_another_generation_and_are_the_same_again(shelf: Tab) -> None:
    before, _ = _read("empic_a")
    asked = {"prompt": "long", "steps": 60, "width": 256, "height": 256, "sampler_name": "Euler"}
    other = threading.Thread(target=ask, args=("/sdapi/v1/txt2img", asked))
    other.start()
    try:
        _wait_for_job(shelf, "scripts_txt2img")
        tick(shelf, "empic_a")
        shelf.part("make_previews").click()
        job = shelf.part("previewed")
        expect(job).to_contain_text("The web UI makes other pictures first")
    finally:
        other.join(LONG / 1000)
    expect(job).to_contain_text("Done: 1 picture with an embedding", timeout=LONG)
    job.get_by_role("checkbox", name="empic_a").check()
    shelf.press(job, "Use the ticked pictures as previews")
    expect(job).to_contain_text("1 old picture went to the trash.")
    assert ImageChops.difference(before, _read("empic_a")[0]).getbbox() is None


def test_cancelling_interrupts_the_generation(shelf: Tab) -> None:
    _box(shelf, "steps").fill("150")
    _box(shelf, "width").fill("512")
    tick(shelf, "empic_a", "empic_b")
    shelf.part("make_previews").click()
    _wait_for_job(shelf, OURS)
    job = shelf.part("previewed")
    shelf.press(job, "Cancel")
    expect(job).to_contain_text("Cancelled", timeout=60_000)
    assert _find_job() == ""
    shelf.part("make_previews").click()
    _wait_for_job(shelf, OURS)
    expect(job).not_to_contain_text("Cancelled")  # which the last job said
    ask("/sdapi/v1/interrupt")  # as the web UI's own button does
    expect(job).to_contain_text("Cancelled", timeout=60_000)
    _box(shelf, "steps").fill("1")
    _box(shelf, "width").fill("64")
    shelf.part("make_previews").click()
    expect(job).to_contain_text("Done: 2 pictures with an embedding", timeout=LONG)


def test_a_mistake_in_the_prompt_is_a_sentence(shelf: Tab) -> None:
    _box(shelf, "prompt").fill("a <'cat'+>")
    shelf.part("make_previews").click()
    expect(shelf.part("previewed")).to_contain_text("Correct the prompt.", timeout=LONG)
    _shoot(shelf.page, "previews-mistake")


def test_three_clicks_to_a_grid(shelf: Tab, titles: dict[str, str]) -> None:
    page = shelf.page
    tick(shelf, "empic_a")
    shelf.press(shelf.part("cards"), "Set up X/Y/Z plot")
    expect(page.locator("#txt2img_script_container #script_list input").first).to_have_value("X/Y/Z plot")
    for axis, label in (("x", "[EmbedMerge] Embedding"), ("y", "Checkpoint name")):
        expect(page.locator(f"#script_txt2img_xyz_plot_{axis}_type input").first).to_have_value(label)
    expect(page.locator("#script_txt2img_xyz_plot_y_type")).to_be_visible()
    expect(page.locator("#txt2img_script_container").first).to_contain_text(_name(titles["other"]))
    expect(page.locator("#txt2img_prompt textarea")).to_have_value("a house, empic_a, in a garden")
    expect(page.locator("#txt2img_steps input[type=number]").first).to_have_value(TAB["steps"])
    expect(page.locator("#txt2img_override_settings")).to_be_hidden()  # no option is overridden
    _shoot(page, "grid-set-up")
    ask("/embedmerge-probe/forget-conditionings")
    ask("/embedmerge-probe/watch")
    page.click("#txt2img_generate")
    expect(page.locator("#txt2img_gallery img").first).to_be_visible(timeout=LONG)
    _shoot(page, "grid")
    ask("/sdapi/v1/options", {"sd_model_checkpoint": titles["current"]})
    for key, seen in ask("/embedmerge-probe/seen/empic_a").items():
        assert len({call for call, _, _ in seen["found"]}) == 2, key  # once on each checkpoint
    _go(page, "EmbedMerge")


def _name(title: str) -> str:
    """A title without the hash, which it gets when the web UI has read the whole file."""
    return title.partition(" [")[0]


def _find_job() -> str:
    """The generation that is running in the web UI."""
    found: str = ask("/sdapi/v1/progress?skip_current_image=true", post=False)["state"]["job"]
    return found


def _wait_for_job(tab: Tab, name: str) -> None:
    """Wait until a generation has begun whose job has a name that begins so."""
    for _ in range(LONG // 100):
        if _find_job().startswith(name):
            return
        tab.page.wait_for_timeout(100)
    pytest.fail(f"no {name} has begun")
