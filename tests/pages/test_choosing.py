"""The chooser of checkpoints: what changes with the model, and what stays where a file is no model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from pages.conftest import Served
from pages.drive import Tab, opened


@pytest.fixture(autouse=True)
def _as_it_was(tab: Tab) -> Iterator[None]:
    """The server is not these tests' alone."""
    yield
    if tab.part("checkpoint").locator("input").first.input_value() != "demo.safetensors":
        tab.choose("checkpoint", "demo.safetensors")
        tab.has(tab.status, "SDXL")


def test_another_checkpoint_changes_everything(tab: Tab, browser: Browser, served: Served) -> None:
    tab.write("'cat'*9")
    tab.has(tab.vectors, "CLIP-G")
    tab.choose("checkpoint", "small-sd1.safetensors")
    tab.has(tab.status, "Stable Diffusion 1", "CLIP-L 768")
    expect(tab.status).not_to_contain_text("CLIP-G")
    expect(tab.vectors.locator(".embedmerge-encoder")).to_have_count(1)
    tab.write("'cat'*2L")
    tab.has(tab.answer, "L needs a model with two text encoders")
    with opened(browser, served.url) as other:  # shows what is active, not what it began with
        expect(other.part("checkpoint").locator("input").first).to_have_value("small-sd1.safetensors")
    tab.choose("checkpoint", "demo.safetensors")
    tab.has(tab.status, "SDXL")
    tab.counts(1)


def test_a_file_that_is_no_checkpoint(tab: Tab) -> None:
    tab.write("'cat'")
    tab.choose("checkpoint", "torn.safetensors")
    trouble = tab.part("trouble").locator(".embedmerge-error-box")
    tab.has(trouble, "torn.safetensors")
    expect(tab.part("checkpoint").locator("input").first).to_have_value("demo.safetensors")
    tab.page.wait_for_timeout(4500)  # the status is asked for again; the sentence stays
    tab.has(trouble, "torn.safetensors")
    tab.has(tab.status, "demo", "SDXL")
    tab.write("'cat dog'")
    tab.counts(2)


def test_a_checkpoint_that_was_added_meanwhile(tab: Tab, served: Served) -> None:
    shutil.copyfile(served.models / "small-sd1.safetensors", served.models / "added.safetensors")
    tab.go("Help")
    tab.go("Make")
    tab.page.wait_for_timeout(500)
    tab.choose("checkpoint", "added.safetensors")
    tab.has(tab.status, "Stable Diffusion 1")
    expect(tab.part("trouble").locator(".embedmerge-error-box")).to_have_count(0)
    tab.choose("checkpoint", "demo.safetensors")
    tab.has(tab.status, "SDXL")
