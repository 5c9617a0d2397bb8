"""Embeddings looked at on the page: those of the library, and files that are dropped in, hostile ones too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from models import encoders, write_sdxl
from playwright.sync_api import expect
from safetensors.torch import load_file, save

from lib_embedmerge import open_checkpoint
from lib_embedmerge.files.safetensors_file import read_header
from pages.conftest import Served
from pages.drive import Tab

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload

IMAGE = "<img src=x onerror=alert(1)>"


def _file(name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": save(tensors, metadata)}


def _sdxl(scale: float = 0.01) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "clip_l": torch.randn(2, 768, generator=generator) * scale,
        "clip_g": torch.randn(2, 1280, generator=generator) * scale,
    }


def test_an_embedding_of_the_library(tab: Tab, served: Served) -> None:
    tab.save("to_look_at", "'cat'+'dog'*0.5, 'garden'")
    tab.has(tab.saved, "Saved to_look_at")
    tab.go("Inspect")
    tab.choose("names", "to_look_at")
    tab.has(tab.inspection, "2 vectors", "Made for", "demo", "Made for this model", "Recipe", "CLIP-G")
    tab.shoot(f"{served.gradio}-inspect")
    tab.press(tab.inspection, "Open in the text box")
    tab.counts(2)
    assert "'garden'" in tab.source.input_value()


def test_a_copy_without_flaws(tab: Tab, served: Served) -> None:
    tab.go("Inspect")
    tab.drop(_file("drowning.safetensors", _sdxl(scale=5)))
    tab.has(tab.inspection, "drown out the rest")
    fixed = tab.part("fixed")
    tab.press(tab.inspection, "Save a copy without this as drowning-fixed")
    tab.has(fixed, "Saved drowning-fixed", "2 vectors")
    tab.press(tab.inspection, "Save a copy without this as drowning-fixed")
    tab.has(fixed, "already exists. Nothing was saved.")
    tab.press(fixed, "Replace it")
    tab.has(fixed, "Saved drowning-fixed")
    tab.shoot(f"{served.gradio}-fixed")
    tab.drop(str(served.embeddings / "drowning-fixed.safetensors"))
    tab.has(tab.inspection, "drowning-fixed.safetensors")
    expect(tab.inspection).not_to_contain_text("drown out the rest")
    expect(fixed).not_to_contain_text("Saved")


def test_a_name_that_is_not_there(tab: Tab) -> None:
    tab.go("Inspect")
    box = tab.part("names").locator("input").first
    box.fill("no_such_thing")
    box.press("Enter")
    box.press("Tab")
    tab.has(tab.inspection.locator(".embedmerge-error-box"), "no_such_thing")


def test_a_hostile_file(tab: Tab) -> None:
    metadata = {
        "name": IMAGE,
        IMAGE: "\u202egnp.exe",
        "long": "x" * 1_000_000,
        "modelspec.title": IMAGE,
        "embedmerge.recipe": f"'{IMAGE}'",
        "embedmerge.notes": IMAGE,
    }
    tensors = _sdxl()
    tensors["clip_l"][0, 0], tensors["clip_g"][1, 3] = float("nan"), float("inf")
    tab.go("Inspect")
    tab.drop(_file(f"{IMAGE}.safetensors", tensors, metadata))
    tab.has(tab.inspection, "2 vectors", "NaN", "infinite", "CLIP-G")
    tab.inspection.locator("summary", has_text="Metadata").click()
    tab.has(tab.inspection, f"{IMAGE}", "\\u202egnp.exe", "(1,000,000 characters)")
    assert tab.page.locator("img[onerror], img[src=x]").count() == 0
    assert "\u202e" not in tab.inspection.inner_text()
    assert len(tab.inspection.inner_html()) < 100_000


def test_a_damaged_file_and_one_of_another_family(tab: Tab) -> None:
    tab.go("Inspect")
    tab.drop({"name": "torn.safetensors", "mimeType": "application/octet-stream", "buffer": b"\xff" * 40})
    tab.has(tab.inspection.locator(".embedmerge-error-box"), "torn.safetensors")
    tab.drop(_file("old-style.safetensors", {"emb_params": torch.ones(2, 768) * 0.01}))
    tab.has(tab.inspection, "old-style", "Stable Diffusion 1", "Other architecture")
    tab.drop(_file("plain.safetensors", _sdxl()))
    tab.has(tab.inspection, "plain.safetensors", "Unknown origin", "Tag", "none")
    expect(tab.inspection.locator(".embedmerge-each tbody tr")).to_have_count(4)


def test_it_follows_the_active_model(tab: Tab, served: Served) -> None:
    other = write_sdxl(served.models / "followed.safetensors", encoders())
    made = open_checkpoint(other).build("'dog'", name="followed1").save(served.embeddings)
    tab.go("Inspect")
    inspect_name(tab, "followed1")
    tab.has(tab.inspection, "Differs", "Rebuild it for this model.", "On demo")
    tab.choose("checkpoint", "followed.safetensors")
    tab.has(tab.inspection, "Made for this model", "On followed")
    tab.choose("checkpoint", "demo.safetensors")
    tab.has(tab.inspection, "Differs", "On demo")
    tab.drop(str(made))
    tab.has(tab.inspection, "followed1.safetensors", "Differs")
    expect(tab.inspection.locator(".embedmerge-noting")).to_have_count(0)
    tab.choose("checkpoint", "followed.safetensors")
    tab.has(tab.inspection, "Made for this model")
    tab.choose("checkpoint", "demo.safetensors")
    tab.has(tab.inspection, "Differs")
    other.unlink()


def test_it_follows_though_a_click_is_dropped_and_an_answer_is_late(tab: Tab) -> None:
    """gradio drops a click on a button whose last event has not quite ended; a slow answer is about an older model."""
    tab.go("Inspect")
    inspect_name(tab, "to_look_at")
    inspect_name(tab, "followed1")
    tab.has(tab.inspection, "Differs", "On demo")
    tab.evaluate("window.dropped = 0")
    tab.evaluate(
        "document.querySelector('#embedmerge_look_again').parentElement.addEventListener('click',"
        " (event) => { window.dropped += 1; event.stopImmediatePropagation(); }, { capture: true, once: true })"
    )
    tab.evaluate(
        """() => {
            const late = document.querySelector('#embedmerge_inspection .embedmerge-view').cloneNode(true);
            late.dataset.embedmergeModel = 'followed';
            late.querySelector('[role=status]').textContent = 'about another model';
            document.querySelector('#embedmerge_inspection .embedmerge-view').replaceWith(late);
        }"""
    )
    tab.has(tab.inspection, "Differs", "On demo")
    expect(tab.inspection).not_to_contain_text("about another model")
    assert tab.evaluate("window.dropped") == 1


def test_each_verdict_has_its_button(tab: Tab, served: Served) -> None:
    tab.go("Inspect")
    inspect_name(tab, "to_look_at")
    inspect_name(tab, "followed1")
    tab.press(tab.inspection, "Make for this model")
    tab.has(tab.part("fixed"), "Made 1 version for this model: followed1-demo.")
    inspect_name(tab, "followed1-demo")
    tab.has(tab.inspection, "Made for this model")
    tab.press(tab.inspection, "Use in prompt")
    tab.has(tab.inspection, "Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == "followed1-demo"
    vectors = load_file(served.embeddings / "followed1-demo.safetensors")
    (served.embeddings / "nameless1.safetensors").write_bytes(save(vectors))
    inspect_name(tab, "nameless1")
    tab.has(tab.inspection, "From token rows of this model")
    tab.press(tab.inspection, "Find its text")
    tab.has(tab.part("fixed"), "dog")
    tab.press(tab.part("fixed"), "Save as its recipe")
    tab.has(tab.part("fixed"), "The text was saved as the recipe of nameless1.safetensors.")
    tab.has(tab.inspection, "Made for this model")


def test_noted_about_the_active_model(tab: Tab, served: Served) -> None:
    tab.go("Inspect")
    inspect_name(tab, "to_look_at")
    inspect_name(tab, "nameless1")
    tab.press(tab.inspection, "5 of 5")
    tab.has(tab.part("fixed"), "Rated 5 of 5 on demo.")
    expect(tab.inspection.locator(".embedmerge-star[aria-pressed=true]")).to_have_attribute("aria-label", "5 of 5")
    tab.inspection.locator("[data-embedmerge-noted=weight]").fill("much")
    tab.press(tab.inspection, "Save the note")
    tab.has(tab.part("fixed"), "'much' is not a weight.")
    expect(tab.inspection.locator("[data-embedmerge-noted=weight]")).to_have_value("much")
    tab.inspection.locator("[data-embedmerge-noted=weight]").fill("0.8")
    tab.inspection.locator("[data-embedmerge-noted=text]").fill(IMAGE)
    tab.press(tab.inspection, "Save the note")
    tab.has(tab.part("fixed"), "The notes about demo were saved.")
    expect(tab.inspection.locator("[data-embedmerge-noted=text]")).to_have_value(IMAGE)
    metadata = read_header(served.embeddings / "nameless1.safetensors").metadata
    (note,) = json.loads(metadata["embedmerge.notes_by_model"]).values()
    assert (note["rating"], note["weight"], note["text"]) == (5, 0.8, IMAGE)
    tab.shoot(f"{served.gradio}-noted")


def inspect_name(tab: Tab, name: str) -> None:
    box = tab.part("names").locator("input").first
    box.fill(name)
    box.press("Enter")
    box.blur()  # without a key: gradio 6 may open the list again after Tab
    tab.has(tab.inspection, f"{name}.safetensors")
