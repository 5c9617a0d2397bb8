"""Make the moving picture of README, docs/tab.webp, from real clicks on the page in Chromium.

    python -m tests.pages.moving_picture

An embedding is made on one checkpoint, differs on another one, and is made for that with one click. The checkpoints are
the demo's and a copy of it with other vectors.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy
from PIL import Image
from playwright.sync_api import expect
from safetensors.numpy import load_file, save_file

from lib_embedmerge.demo import make_demo_checkpoint
from pages.drive import Tab, opened
from pages.own_page import served_page
from pages.test_library import row

if TYPE_CHECKING:
    from playwright.sync_api import Locator

TARGET = Path(__file__).parents[2] / "docs" / "tab.webp"
WIDTH, HEIGHT = 1280, 800
SIZE = (1040, 650)
"""Pixels of the picture."""

LIMIT = 1_500_000
"""Bytes of the picture."""

_POINTER = """
() => {
    const pointer = document.createElement("div");
    pointer.id = "pointer";
    pointer.style.cssText = "position:fixed;z-index:99;width:22px;height:22px;margin:-11px;border-radius:50%;"
        + "border:2px solid #c2410c;background:#f97316aa;pointer-events:none;left:500px;top:400px";
    document.body.append(pointer);
}
"""
_POINT = (
    "([left, top]) => Object.assign(document.getElementById('pointer').style, {left: left + 'px', top: top + 'px'})"
)


class Film:
    """The frames of a page: (picture, milliseconds)."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.frames: list[tuple[Image.Image, int]] = []
        tab.evaluate(_POINTER)

    def hold(self, milliseconds: int) -> None:
        """Show the page as it is for a while."""
        taken = Image.open(io.BytesIO(self.tab.page.screenshot())).convert("RGB")
        taken = taken.resize(SIZE, Image.Resampling.LANCZOS)
        self.frames.append((taken, milliseconds))

    def click(self, target: Locator) -> None:
        """Move the pointer to the middle of an element, then click it."""
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        self.tab.evaluate(_POINT, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
        self.hold(500)
        target.click()

    def type(self, box: Locator, text: str, step: int) -> None:
        """Type a text, with a frame after every few characters."""
        self.click(box)
        for first in range(0, len(text), step):
            box.press_sequentially(text[first : first + step], delay=20)
            self.hold(160)

    def save(self, path: Path) -> None:
        """Write all frames as one animated picture that starts again at its end."""
        first, *others = [picture for picture, _ in self.frames]
        durations = [milliseconds for _, milliseconds in self.frames]
        options = {"duration": durations, "loop": 0, "quality": 70, "method": 6, "minimize_size": True}
        first.save(path, "WEBP", save_all=True, append_images=others, **options)


def main() -> None:
    """Make the picture. SystemExit if it is too large."""
    with tempfile.TemporaryDirectory(prefix="webui-") as folder:
        for film in _play(Path(folder)):
            film.save(TARGET)
    size = TARGET.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{TARGET} has {size:,} bytes, more than {LIMIT:,}.")


def _play(folder: Path) -> Iterator[Film]:
    """The film, while the page is open. folder: for its checkpoints and embeddings."""
    models = folder / "models"
    models.mkdir()
    shutil.copyfile(make_demo_checkpoint(), models / "model-a.safetensors")
    _write_other(models / "model-a.safetensors", models / "model-b.safetensors")
    with served_page(models, folder / "embeddings") as (browser, url), opened(browser, url, width=WIDTH) as tab:
        tab.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        film = Film(tab)
        _act(film)
        yield film


def _act(film: Film) -> None:
    tab = film.tab
    film.hold(1000)
    film.type(tab.source, "'cat' + 'dog'*0.5", 3)
    tab.has(tab.vectors, "Mostly cat")
    film.hold(1800)
    film.type(tab.named, "catdog", 3)
    film.click(tab.part("save"))
    tab.has(tab.saved, "Saved")
    film.hold(1600)
    film.click(tab.part("checkpoint").locator("input").first)
    film.hold(400)
    film.click(tab.part("checkpoint").locator("li[aria-label='model-b.safetensors']"))
    tab.has(tab.status, "model-b")
    film.hold(800)
    film.click(tab.page.get_by_role("tab", name="Library").first)
    film.click(tab.page.get_by_role("button", name="Rows", exact=True))
    card = row(tab, "catdog")
    expect(card).to_contain_text("differs")
    film.hold(2000)
    film.click(card.get_by_role("button", name="Make for this model"))
    tab.has(tab.part("done"), "Made 1 version for this model")
    expect(card).to_contain_text("made for this model")
    film.hold(2600)


def _write_other(file: Path, other: Path) -> None:
    """A copy of a checkpoint whose token tables are a tenth apart."""
    tensors = load_file(file)
    generator = numpy.random.default_rng(1)
    for name, table in tensors.items():
        if name.endswith("token_embedding.weight"):
            tensors[name] = (table + generator.normal(0, 0.0014, table.shape)).astype(table.dtype)
    save_file(tensors, other)


if __name__ == "__main__":
    main()
