"""The page as its users handle it, for all versions of gradio, and how a browser is held to account meanwhile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, FilePayload, Locator, Page, Request

expect.set_options(timeout=30_000)

ARTIFACTS = Path(__file__).parents[2] / "artifacts"

_FETCHES_CAN_BE_SLOW = """
    window.slowness = 0;
    const quick = window.fetch;
    window.fetch = async (...what) => {
        const response = await quick(...what);
        if (window.slowness) await new Promise((done) => setTimeout(done, window.slowness));
        return response;
    };
"""


@contextmanager
def opened(browser: Browser, url: str, *, width: int = 1280, theme: str = "light") -> Iterator[Tab]:
    """The page with its tab drawn. A fault of the script, a dialog, or a request to others fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 1000})
    context.set_default_timeout(30_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.add_init_script(_FETCHES_CAN_BE_SLOW)
    context.route(lambda asked: urlsplit(asked).netloc != urlsplit(url).netloc, lambda route: route.abort())
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(f"error: {fault}"))

    def dismiss(dialog: Dialog) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def judge(request: Request) -> None:
        if _is_foreign(request.url, url):
            faults.append(f"request: {request.url}")

    page.on("dialog", dismiss)
    page.on("request", judge)
    page.goto(f"{url}?__theme={theme}")
    page.wait_for_selector("#embedmerge_status .embedmerge-status")
    page.wait_for_selector("#embedmerge_answer .embedmerge-count")
    yield Tab(page, faults)
    context.close()
    assert faults == []


def _is_foreign(asked: str, own: str) -> bool:
    parts = urlsplit(asked)
    return parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(own).netloc


class Tab:
    """The tab in an open page. faults: what the page did that no page of ours may."""

    def __init__(self, page: Page, faults: list[str]) -> None:
        self.page = page
        self.faults = faults
        self.status = self.part("status")
        self.answer = self.part("answer")
        self.vectors = self.part("vectors")
        self.naming = self.part("naming")
        self.saved = self.part("saved")
        self.inspection = self.part("inspection")
        self.source = self.part("source").locator("textarea")
        self.named = page.locator("#embedmerge_name textarea, #embedmerge_name input")
        self.counter = self.answer.locator(".embedmerge-count")

    def part(self, name: str) -> Locator:
        """One of the tab's elements; gradio 3 gives its id to two, one in the other."""
        return self.page.locator(f"#embedmerge_{name}").first

    def write(self, text: str) -> None:
        self.source.fill(text)

    def has(self, part: Locator, *texts: str) -> None:
        """Wait until a part shows all these texts."""
        for text in texts:
            expect(part).to_contain_text(text)

    def counts(self, count: int) -> None:
        expect(self.counter).to_have_text(f"{count}/75")

    def group(self, by: str) -> None:
        self.part("by").locator(f"input[value={by}]").check()

    def read_attention(self, way: str) -> None:
        self.part("attention").locator(f"input[value='{way}']").check()

    def go(self, title: str) -> None:
        """To one of the tab's pages: Make, Inspect or Help."""
        tabs = (
            "#embedmerge_pages > .tab-nav > button, #embedmerge_pages > .tab-wrapper button[role=tab]"  # until gradio 4
        )
        self.page.locator(tabs, has_text=title).click()

    def choose(self, dropdown: str, option: str) -> None:
        """Open a dropdown, click an option, and leave the dropdown.

        gradio closes the list if the answer with the options arrives just then. The dropdown changes its height when it
        is left, which must not happen in the middle of the next click.
        """
        box = self.part(dropdown).locator("input").first
        wanted = self.part(dropdown).locator(f"li[aria-label='{option}']")
        for _ in range(5):
            box.click()
            with suppress(PlaywrightTimeoutError):
                wanted.click(timeout=6_000)
                box.blur()
                return
            box.blur()
        raise AssertionError(f"{dropdown} does not offer {option}")

    def save(self, name: str, source: str | None = None) -> None:
        """Press the button, by the keyboard: the answer to what is typed moves it about."""
        if source is not None:
            self.write(source)
        self.named.fill(name)
        self.part("save").press("Enter")

    def press(self, part: Locator, label: str) -> None:
        part.get_by_role("button", name=label, exact=True).first.click()

    def drop(self, file: str | FilePayload) -> None:
        """Choose a file in Inspect, in place of the one that is there."""
        self.part("file").locator("input[type=file]").set_input_files(file)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def shoot(self, name: str) -> None:
        """A screenshot among the artefacts, where EMBEDMERGE_SCREENSHOTS=1 asks for them."""
        if os.environ.get("EMBEDMERGE_SCREENSHOTS"):
            self.take_screenshot(name)

    def take_screenshot(self, name: str) -> None:
        """A screenshot of the whole page among the artefacts."""
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-')}.png", full_page=True)
