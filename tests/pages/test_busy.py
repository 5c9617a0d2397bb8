"""A web UI that is busy or does not answer: the last answers stay readable, and nobody is bothered with messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Route, expect

from pages.drive import Tab
from pages.test_library import row

OPACITY = """(name) => {
    let opacity = 1;
    for (let e = document.querySelector(name); e; e = e.parentElement) opacity *= getComputedStyle(e).opacity;
    return opacity;
}"""
"""How opaque an element is drawn."""
SILENT = "The web UI does not answer at the moment"
TOASTS = ".toast-body"


@contextmanager
def _nothing_answers(tab: Tab) -> Iterator[None]:
    """All events of the page fail on the way, as where a web UI accepts no connection."""

    def abort(route: Route) -> None:
        route.abort("connectionrefused")

    addresses = ("**/run/*", "**/queue/*", "**/api/predict*")
    for address in addresses:
        tab.page.route(address, abort)
    try:
        yield
    finally:
        for address in addresses:
            tab.page.unroute(address)


def _said_below_the_status(tab: Tab) -> str:
    return str(tab.evaluate("getComputedStyle(document.querySelector('#embedmerge_status'), '::after').content"))


@pytest.mark.parametrize("part", ["answer .embedmerge-count", "status .embedmerge-status"])
def test_the_last_answer_stays_opaque_while_the_next_is_under_way(tab: Tab, part: str) -> None:
    tab.write("a cat")
    tab.counts(2)
    tab.evaluate("window.slowness = 3000")
    tab.write("a cat and a dog")
    for _ in range(10):
        tab.page.wait_for_timeout(200)
        assert tab.evaluate(OPACITY, f"#embedmerge_{part}") == 1
    tab.evaluate("window.slowness = 0")
    tab.counts(5)


def test_questions_that_nobody_clicked_for_fail_quietly(tab: Tab) -> None:
    tab.write("a cat")
    tab.counts(2)
    tab.page.wait_for_timeout(10_500)  # after a click, messages stay for ten seconds
    with _nothing_answers(tab):
        tab.write("a cat and a dog")
        expect(tab.page.locator("#embedmerge[data-embedmerge-silent]")).to_have_count(1)
        assert SILENT in _said_below_the_status(tab)
        tab.page.wait_for_timeout(6_000)  # the next requests for the status line
        assert tab.page.locator(TOASTS).count() == 0
        tab.counts(2)
    tab.counts(5)
    expect(tab.page.locator("#embedmerge[data-embedmerge-silent]")).to_have_count(0)
    assert SILENT not in _said_below_the_status(tab)


def test_a_click_that_fails_is_told(tab: Tab) -> None:
    with _nothing_answers(tab):
        tab.save("busy1", "a cat")
        expect(tab.page.locator(TOASTS).first).to_be_visible()
    tab.page.locator(f"{TOASTS} .toast-close").first.click()
    tab.has(tab.answer, "2/75")


def test_a_fit_says_that_it_is_being_checked(tab: Tab) -> None:
    tab.save("busy2", "a cat")
    tab.has(tab.saved, "busy2")
    tab.go("Library")
    expect(row(tab, "busy2")).to_contain_text("made for this model")
    tab.evaluate("window.slowness = 2000")
    tab.choose("checkpoint", "small-sd1.safetensors")
    expect(row(tab, "busy2")).to_contain_text("checking…")
    tab.evaluate("window.slowness = 0")
    expect(row(tab, "busy2")).to_contain_text("other architecture")
    expect(row(tab, "busy2")).not_to_contain_text("checking…")
    tab.choose("checkpoint", "demo.safetensors")
    expect(row(tab, "busy2")).to_contain_text("made for this model")


def test_a_slow_server_fills_in_the_fits(tab: Tab) -> None:
    """Each answer takes longer than the time between two checks of the page."""
    tab.go("Make")
    tab.save("busy3", "a cat")
    tab.has(tab.saved, "busy3")
    tab.evaluate("window.slowness = 1000")
    tab.go("Library")
    expect(row(tab, "busy3")).to_contain_text("made for this model")
    tab.evaluate("window.slowness = 0")
