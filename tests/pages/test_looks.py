"""How the page looks: both themes, 1920 pixels to a phone's 390, nothing beyond its edge, texts that can be read, and
nothing that axe-core finds a fault with."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from pages.conftest import Served
from pages.drive import Tab, opened
from pages.test_library import find, row
from pages.test_library import opened as opened_section

LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for texts of usual size."""

SECTIONS = ("rebuilding", "restoring", "recovering", "editing", "comparing")

BEYOND = """
() => [...document.querySelectorAll("#embedmerge_library button, #embedmerge_library input")].filter((one) => {
    const { right, width } = one.getBoundingClientRect();
    const section = one.closest(".embedmerge-view, .tabitem").getBoundingClientRect();
    return width && right > section.right + 1;
}).map((one) => one.id || one.textContent || one.outerHTML)
"""
"""Buttons and boxes that are wider than the part of the page that they are in, which cuts them."""

NAMES = {"label", "button-name", "link-name", "input-button-name", "select-name"}
"""Rules of axe-core for the names of elements that a screen reader tells."""

CONTRASTS = """
() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const over = (colour, below) => {
        canvas.fillStyle = `rgb(${below.join(" ")})`;
        canvas.fillRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const grounds = new Map([[null, [255, 255, 255]]]);
    const ground = (element) => {
        if (!grounds.has(element)) {
            const colour = getComputedStyle(element).backgroundColor;
            const below = ground(element.parentElement);
            grounds.set(element, colour === "rgba(0, 0, 0, 0)" ? below : over(colour, below));
        }
        return grounds.get(element);
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const found = {};
    const ofGradio = "#embedmerge .tab-nav > button, #embedmerge [data-testid=block-info] + div";
    for (const element of document.querySelectorAll(`#embedmerge .embedmerge-view *, ${ofGradio}`)) {
        const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!words || !element.checkVisibility({ visibilityProperty: true })) continue;
        const below = ground(element);
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const [one, other] = [light(over(colour, below)), light(below)];
        const where = element.closest("[class]").getAttribute("class");
        const contrast = Math.max(one, other) / Math.min(one, other);
        found[where] = Math.min(found[where] ?? 21, contrast);
    }
    return found;
}
"""


@pytest.mark.parametrize(
    ("theme", "width"), [("light", 800), ("dark", 1280), ("dark", 800), ("light", 390), ("light", 1920)]
)
def test_looks(browser: Browser, served: Served, theme: str, width: int) -> None:
    name = f"{served.gradio}-{theme}-{width}"
    with opened(browser, served.url, width=width, theme=theme) as tab:
        tab.save(f"looks_{theme}_{width}", "a photo of a <'cat'+'dog'*2> in the garden, masterpiece, <'sky'*9>")
        tab.has(tab.saved, "Metadata")
        tab.has(tab.vectors, "CLIP-G")
        tab.has(tab.naming, "exists")
        check_looks(tab, f"{name}-make")
        button = tab.part("save").bounding_box()
        assert button is not None
        assert button["height"] < 60
        tab.write("'cat'+")
        tab.named.fill("cat")
        tab.has(tab.answer, "Nothing follows +.")
        tab.has(tab.naming, "Better")
        check_looks(tab, f"{name}-mistake")
        tab.go("Help")
        tab.page.get_by_text("Something went wrong?").click()
        tab.press(tab.part("reporting"), "Show what a bug report needs")
        tab.has(tab.part("reported"), "model: SDXL")
        check_looks(tab, f"{name}-help")
        tab.go("Library")
        find(tab, f"looks_{theme}_{width}")  # only entries in sight are drawn, and others of the session may come first
        expect(row(tab, f"looks_{theme}_{width}")).to_contain_text("made for this model")
        for section in SECTIONS:
            opened_section(tab, section)
        assert tab.evaluate(BEYOND) == []
        check_looks(tab, f"{name}-library")
        tab.go("Inspect")
        tab.choose("names", f"looks_{theme}_{width}")
        tab.has(tab.inspection, "CLIP-G")
        check_looks(tab, f"{name}-inspect")
        expect(tab.part("inspection").locator(".embedmerge-plot").first).to_be_visible()


def check_looks(tab: Tab, name: str) -> None:
    """No part is cut off or faint, and axe-core finds no fault. name: of the screenshot."""
    tab.shoot(name)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    contrasts = tab.evaluate(CONTRASTS)
    assert {where: contrast for where, contrast in contrasts.items() if contrast < LEAST_CONTRAST} == {}, name
    assert _find_faults(tab) == [], name


def _find_faults(tab: Tab) -> list[tuple[str, str]]:
    """(rule, markup) of each fault that axe-core finds in the tab. gradio's own elements only need names."""
    found = Axe().run(tab.page, context="#embedmerge").response["violations"]
    faults = [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]]
    return [(rule, html) for rule, html in faults if "svelte-" not in html or rule in NAMES]
