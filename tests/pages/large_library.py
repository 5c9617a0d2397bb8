"""How quickly the page Library shows 20,000 embeddings in Chromium, and how smoothly it scrolls.

    python -m tests.pages.large_library [FOLDER]

Prints milliseconds: from the click on Library to the first entries that are drawn whole, when their headers are in the
cache, for a page that was just opened and one that was opened before; then the frames of scrolling. FOLDER is kept for
further runs. Run nothing else at the same time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.headers import fill
from lib_embedmerge.demo import make_demo_checkpoint
from pages.drive import Tab, opened
from pages.own_page import served_page

TIMES = 5

_FIRST = "#embedmerge_cards .embedmerge-entry .embedmerge-entry-buttons"
_SCROLL = """
() => new Promise((done) => {
    const times = [];
    let left = 180;
    const step = (now) => {
        times.push(now);
        window.scrollBy(0, 60);
        if (left-- > 0) {
            requestAnimationFrame(step);
        } else {
            done(times.slice(1).map((time, index) => time - times[index]));
        }
    };
    requestAnimationFrame(step);
})
"""


def main(folder: Path) -> None:
    """Print the figures. folder: for 20,000 embeddings, the checkpoint and the cache; what is there is used again."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    checkpoint = models / "model-a.safetensors"
    shutil.copyfile(make_demo_checkpoint(), checkpoint)
    if not (folder / "many").exists():
        fill(folder / "many", checkpoint)
    os.environ["EMBEDMERGE_CACHE"] = str(folder / "cache")
    shown = []
    with served_page(models, folder / "many") as (browser, url):
        for _ in range(TIMES + 1):  # the first fills the cache
            with opened(browser, url) as tab:
                shown.append(_show(tab))
                frames = tab.evaluate(_SCROLL)
    first, *others = (f"{one:.0f}" for one in shown)
    sys.stdout.write(f"First screen: {first} ms for the first page, then {', '.join(others)} ms.\n")
    late = quantiles(frames, n=20)[-1]
    sys.stdout.write(f"A frame while scrolling: {median(frames):.1f} ms, 95 of 100 within {late:.1f} ms.\n")


def _show(tab: Tab) -> float:
    """Milliseconds from the click to the first entries."""
    tab.page.wait_for_timeout(1500)  # until all that a page asks for when it is opened is there
    begun = time.perf_counter()
    tab.go("Library")
    # `expect` looks at longer and longer intervals, this at each frame.
    tab.page.wait_for_function("first => document.querySelector(first)?.offsetParent", arg=_FIRST, timeout=60_000)
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="embedmerge-library-") as made:
            main(Path(made))
