"""Embeddings looked at on the page: those of the library, and files that are dropped in, hostile ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from playwright.sync_api import expect
from safetensors.torch import save

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
