"""The page of its own in a browser, for programs that are no tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright
from processes import Program

from pages.conftest import _CHROMIUM_OPTIONS, _free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def served_page(models: Path, embeddings: Path) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of a page over these folders. What it prints goes to `log.txt` beside `models`."""
    arguments = ["serve", "--json", "--models", str(models), "--embeddings", str(embeddings)]
    with Program([*arguments, "--port", str(_free_port())], models.parent / "log.txt") as program:
        url = str(json.loads(program.printed_until("}\n"))["url"])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=list(_CHROMIUM_OPTIONS)
            )
            yield browser, url
            browser.close()
