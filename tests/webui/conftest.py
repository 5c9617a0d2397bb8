"""How the real web UI was started, its two checkpoints, and a browser on it with our tab in front."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from webui.test_real_host import URL, ask

if TYPE_CHECKING:
    from playwright.sync_api import Page

_START = 400_000
"""Milliseconds until a web UI's page is there: SD.Next's is ten megabytes."""
OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="module")
def started() -> dict[str, bool]:
    """Whether the web UI was started with its `api`, and with `logins` for that."""
    found: dict[str, bool] = ask("/embedmerge-probe/started", post=False)
    return found


@pytest.fixture(scope="module")
def titles(started: dict[str, bool]) -> dict[str, str]:
    """Titles of the checkpoints `current` and `other`, after a generation: Forge loads its model at the first one."""
    if not started["api"]:
        pytest.skip("the web UI was started without --api")
    ask("/sdapi/v1/txt2img", {"prompt": "warm", "steps": 1, "width": 64, "height": 64, "sampler_name": "Euler"})
    found: dict[str, str] = ask("/embedmerge-probe/checkpoints", post=False)
    if found["other"] is None:
        pytest.skip(found["lacks"])
    return found


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The web UI with our tab in front. No test may leave a fault of ours in the browser's console."""
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        program = os.environ.get("EMBEDMERGE_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        opened = browser.new_page(viewport={"width": 1280, "height": 1100})
        opened.set_default_timeout(60_000)
        opened.on("pageerror", lambda fault: faults.append(str(fault.stack)))
        opened.on("dialog", lambda dialog: faults.append(dialog.message))
        opened.goto(URL, timeout=_START)
        opened.get_by_role("tab", name="EmbedMerge").or_(
            opened.locator("#tabs > .tab-nav > button", has_text="EmbedMerge")
        ).first.click(timeout=_START)
        opened.wait_for_selector("#embedmerge_status .embedmerge-status", timeout=_START)
        # SD.Next's notice in a corner takes the clicks for what is below it.
        opened.add_style_tag(content="#legacy-notice { pointer-events: none; }")
        yield opened
        browser.close()
    assert [fault for fault in faults if "embedmerge" in fault.lower()] == []
