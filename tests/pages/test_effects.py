"""Effects in the browser: of embeddings and texts, and what is made by them.

Where PyTorch is not installed, as in some of the environments, the page says so in place of these sections.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from effect_models import write_model
from playwright.sync_api import Locator, expect

from lib_embedmerge import open_checkpoint
from pages.conftest import Served, find_python
from pages.drive import Tab
from pages.test_library import choose_filter, choose_layout, chosen, find, opened, row, shown, tick

ACTIVE, OTHER, DEMO = "metered-a.safetensors", "metered-b.safetensors", "demo.safetensors"


@pytest.fixture(scope="module")
def metered(tab: Tab, served: Served) -> Iterator[Tab]:
    """The page on a model with a U-Net, with another one beside it and two embeddings for both."""
    first = write_model(served.models / ACTIVE)
    write_model(served.models / OTHER, unet_share=0.05)
    for name, source in (("metered_dress", "'red dress'"), ("metered_cat", "'cat'")):
        open_checkpoint(first).build(source, name=name).save(served.embeddings)
    activate(tab, ACTIVE)
    yield tab
    activate(tab, DEMO)
    for name in (ACTIVE, OTHER):
        (served.models / name).unlink()
    for name in ("metered_dress", "metered_cat"):
        (served.embeddings / f"{name}.safetensors").unlink()


def wait_for(part: Locator, *texts: str) -> None:
    """Wait until a job has ended and its element shows all these texts. It takes minutes on a busy machine."""
    for text in texts:
        expect(part).to_contain_text(text, timeout=300_000)


def activate(tab: Tab, checkpoint: str) -> None:
    """Make a checkpoint the active model."""
    tab.go("Make")
    tab.page.wait_for_timeout(1000)  # the choices are updated, which closes the list
    tab.choose("checkpoint", checkpoint)
    tab.has(tab.status, checkpoint.removesuffix(".safetensors"))


@pytest.fixture
def measuring(metered: Tab, served: Served) -> Tab:
    """The same, where something can be measured."""
    if not has_torch(served):
        pytest.skip("the environment of this version of gradio has no PyTorch, and effects need it")
    return metered


def has_torch(served: Served) -> bool:
    """Whether the server's environment has PyTorch."""
    done = subprocess.run(
        [find_python(served.gradio), "-c", "import torch"], capture_output=True, check=False, timeout=60
    )
    return done.returncode == 0


def test_without_torch_a_sentence_is_in_place_of_the_section(metered: Tab, served: Served) -> None:
    metered.go("Library")
    opened(metered, "effects")
    if has_torch(served):
        expect(metered.part("measure_library")).to_be_visible()
    else:
        metered.has(metered.part("effects_fault"), "only possible with the Python package torch")
        expect(metered.part("measure_library")).to_be_hidden()


def test_what_embeddings_do_on_another_model(measuring: Tab, served: Served) -> None:
    measuring.go("Library")
    choose_layout(measuring, "Rows")
    find(measuring, "metered_")
    tick(measuring, "metered_dress")
    opened(measuring, "effects")
    measuring.part("measure_library").click()
    measured = measuring.part("measured")
    measuring.has(measured, "No other checkpoint is chosen")
    measuring.choose("measure_on", OTHER)
    measuring.part("measure_library").click()
    wait_for(measured, "1 embedding measured", "metered_dress", "It does not say what a picture will look like.")
    shares = measured.locator(".embedmerge-effects tbody td")
    expect(shares).to_have_count(1)
    badge = row(measuring, "metered_dress").locator(".embedmerge-of-effect")
    expect(badge).to_contain_text("metered-b:")
    assert shares.inner_text().split()[-1] in badge.inner_text()
    expect(row(measuring, "metered_cat").locator(".embedmerge-of-effect")).to_have_count(0)
    measuring.shoot(f"{served.gradio}-effects-library")
    choose_filter(measuring, "sort", "effect")
    assert shown(measuring) == ["metered_dress", "metered_cat"]
    choose_filter(measuring, "sort", "name")
    choose_filter(measuring, "effect", shares.inner_text().split()[0])
    assert shown(measuring) == ["metered_dress"]
    choose_filter(measuring, "effect", "not measured")
    assert shown(measuring) == ["metered_cat"]
    choose_filter(measuring, "effect", "")
    find(measuring, "")


def test_checkpoints_are_grouped_and_rebuilt_for_their_groups(measuring: Tab, served: Served) -> None:
    measuring.go("Library")
    find(measuring, "metered_")
    tick(measuring, "metered_dress")
    opened(measuring, "comparing")
    grouped = measuring.part("grouped")
    measuring.part("group").click()
    measuring.has(grouped, "Comparing needs two checkpoints.")
    for checkpoint in (ACTIVE, OTHER):
        measuring.choose("compared", checkpoint)
    measuring.part("group").click()
    wait_for(grouped, "2 groups. The models of a group read these embeddings alike", "make the file for")
    expect(grouped.locator(".embedmerge-heat tbody td")).to_have_count(4)
    measuring.shoot(f"{served.gradio}-effects-compared")
    measuring.part("grouped_by").locator("input").nth(1).check()
    measuring.part("group").click()
    wait_for(grouped, "1 group. The models of a group can share a file")
    grouped.get_by_text("Picture", exact=True).click()
    assert grouped.locator("img").evaluate("image => image.naturalWidth") > 100
    with measuring.page.expect_download() as download:
        measuring.press(grouped, "Save the picture")
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("<svg")
    measuring.press(grouped, "Rebuild for these groups: 1 version of 1 embedding")
    wait_for(measuring.part("job"), "Rebuilt: 1", "metered_dress")
    assert not (served.embeddings / "metered_dress-metered-b.safetensors").exists()
    find(measuring, "")


LONG = ", ".join(f"{word} {thing}" for word in ("red", "blue", "old", "tall", "soft", "wet") for thing in (
    "dress", "robot", "castle", "garden in the rain", "photo of a cat", "masterpiece"
))  # fmt: skip
"""A prompt that is too long for one embedding."""


def test_what_matters_is_drawn_under_the_text(measuring: Tab, served: Served) -> None:
    measuring.go("Make")
    measuring.write("a red dress")
    measuring.counts(3)
    measuring.source.blur()  # hides the completion of "dress", which may lie over the button
    beside = measuring.answer.locator(".embedmerge-beside").first
    height, least = beside.evaluate("line => [line.offsetHeight, line.querySelector('button').offsetHeight]")
    assert height <= least + 1  # it is beside the counter, so nothing moves down
    measuring.press(measuring.answer, "What matters")
    weighed = measuring.part("weighed")
    wait_for(weighed, "What matters in", "a red dress", "over 75%", "It does not say what a picture will look like.")
    chips = weighed.locator(".embedmerge-weights .embedmerge-chip")
    assert [text.split()[0] for text in chips.all_inner_texts()] == ["a", "red", "dress"]
    assert all(text.endswith("%") for text in chips.all_inner_texts())
    measuring.shoot(f"{served.gradio}-effects-weighed")


def test_a_long_text_is_shortened_and_put_back(measuring: Tab, served: Served) -> None:
    measuring.write(LONG)
    measuring.press(measuring.answer, "Shorten to 75")
    weighed = measuring.part("weighed")
    wait_for(weighed, "Shortened from", "Of cutting the text off", "Left out")
    measuring.shoot(f"{served.gradio}-effects-shortened")
    measuring.press(weighed, "Use the shortened text")
    shortened = measuring.source.input_value()
    assert shortened != LONG
    assert set(shortened.split(", ")) < set(LONG.split(", "))
    expect(measuring.counter).to_have_text(re.compile(r"^(\d|[1-6]\d|7[0-5])/75$"))
    measuring.press(weighed, "Put the whole text back")
    assert measuring.source.input_value() == LONG
    measuring.write("")


def test_a_text_is_compressed_and_a_repair_cancelled(measuring: Tab, served: Served) -> None:
    measuring.go("Library")
    find(measuring, "metered_")
    tick(measuring, "metered_dress")
    measuring.press(measuring.part("cards"), "Compress, port, repair…")
    optimised = measuring.part("optimised")
    measuring.part("repair").click()
    measuring.press(optimised, "Cancel")
    wait_for(optimised, "Cancelled. Nothing was written.")
    measuring.part("port").click()
    measuring.has(optimised, "Choose the one that the embedding was made for.")
    measuring.part("compressed_text").locator("input, textarea").fill("red dress")
    measuring.part("compress_to").locator("input, textarea").fill("1")
    measuring.part("compress").click()
    measuring.has(optimised, "The new embedding needs a name.")
    measuring.part("optimised_name").locator("input, textarea").fill("metered_short")
    measuring.part("compress").click()
    wait_for(optimised, "Saved metered_short.safetensors with 1 vector")
    measuring.has(optimised, "this file", "pruned", "averaged")
    expect(row(measuring, "metered_short")).to_have_count(1)
    measuring.shoot(f"{served.gradio}-effects-optimised")
    (served.embeddings / "metered_short.safetensors").unlink()
    find(measuring, "")


def test_inspect_leads_to_what_improves_an_embedding(measuring: Tab) -> None:
    measuring.go("Inspect")
    measuring.choose("names", "metered_cat")
    measuring.press(measuring.inspection, "Compress, port, repair…")
    expect(measuring.part("repair")).to_be_visible()
    assert chosen(measuring) == ["metered_cat"]


def test_a_model_without_a_unet_says_so_in_place_of_the_section(measuring: Tab) -> None:
    activate(measuring, DEMO)
    measuring.go("Library")
    opened(measuring, "effects")
    measuring.has(measuring.part("effects_fault"), "contains no U-Net with cross-attentions.")
    expect(measuring.part("measure_library")).to_be_hidden()
    activate(measuring, ACTIVE)
    measuring.go("Library")
    expect(measuring.part("measure_library")).to_be_visible()
