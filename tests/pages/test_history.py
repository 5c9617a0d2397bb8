"""The last texts, kept by the browser: remembered when valid, searched, written into the box again, cleared."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from pages.drive import Tab


def earlier(tab: Tab) -> Locator:
    return tab.part("history").locator(".embedmerge-earlier:visible")


def test_texts_are_remembered_and_found_again(tab: Tab) -> None:
    tab.part("history").locator("summary").click()
    expect(tab.part("history")).to_contain_text("Texts that you try appear here.")
    image = "'<img src=x onerror=alert(1)>'"
    for text in ("'cat'+'dog'", image, "a photo of a garden"):
        tab.write(text)
        expect(earlier(tab).first).to_have_text(text)
    tab.write("'cat'+")
    tab.has(tab.answer, "Nothing follows +")
    tab.page.wait_for_timeout(3000)
    expect(earlier(tab)).to_have_text(["a photo of a garden", image, "'cat'+'dog'"])
    tab.part("history").get_by_role("searchbox").fill("DOG")
    expect(earlier(tab)).to_have_text(["'cat'+'dog'"])
    earlier(tab).first.click()
    expect(tab.page.locator("#embedmerge_source textarea")).to_have_value("'cat'+'dog'")
    tab.part("history").get_by_role("searchbox").fill("")
    expect(earlier(tab)).to_have_text(["'cat'+'dog'", "a photo of a garden", image])
    tab.shoot("history")
    tab.press(tab.part("history"), "Clear the history")
    expect(earlier(tab)).to_have_count(0)
    assert tab.evaluate("localStorage.getItem('embedmerge-history')") == "[]"
