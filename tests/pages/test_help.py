"""The page Help: a quick start first, then the chapters, which are listed, folded and searched."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from pages.drive import Tab

FIRST, LATER = "Your first embedding", "Treat CLIP-L and CLIP-G apart"


def chapter(tab: Tab, title: str) -> Locator:
    return tab.page.locator("details.embedmerge-chapter", has=tab.page.get_by_role("heading", name=title, exact=True))


def test_the_quick_start_is_open_and_the_chapters_are_folded(tab: Tab) -> None:
    tab.go("Help")
    expect(chapter(tab, FIRST)).to_have_attribute("open", "")
    expect(chapter(tab, FIRST)).to_contain_text("Save embedding")
    expect(chapter(tab, LATER)).not_to_have_attribute("open", "")
    expect(chapter(tab, LATER).locator("table").first).to_be_hidden()
    assert tab.evaluate("document.querySelector('#embedmerge_help').offsetHeight") < 3000


def test_a_title_among_the_contents_opens_its_chapter(tab: Tab) -> None:
    tab.press(tab.part("help_head"), LATER)
    expect(chapter(tab, LATER).locator("table").first).to_be_in_viewport()
    expect(chapter(tab, LATER).locator("summary")).to_be_focused()


def test_only_chapters_with_the_words_are_shown(tab: Tab) -> None:
    search = tab.part("help_head").get_by_label("Search the help")
    search.fill("full GRAMMAR")
    tab.has(tab.part("help_head"), "1 chapter has these words.")
    expect(chapter(tab, "The full grammar")).to_have_attribute("open", "")
    expect(chapter(tab, FIRST)).to_be_hidden()
    search.fill("wolpertinger")
    tab.has(tab.part("help_head"), "No chapters have this word.")
    search.fill("")
    expect(chapter(tab, FIRST)).to_be_visible()
    expect(chapter(tab, LATER)).not_to_have_attribute("open", "")


UNEXPLAINED = """
() => [...document.querySelectorAll("#embedmerge input, #embedmerge textarea, #embedmerge select")].flatMap((field) => {
    const block = field.closest(".block") ?? field.closest("label") ?? field;
    const label = block.querySelector("[data-testid=block-info], label span")?.textContent.trim() ?? "";
    const isChoice = ["radio", "checkbox"].includes(field.type);
    const choices = field.type === "radio" ? [...block.querySelectorAll("label")] : [];
    const withoutLabel = block.textContent.replace(label, "");
    const rest = choices.reduce((text, choice) => text.replace(choice.textContent.trim(), ""), withoutLabel).trim();
    const isSaid = field.title || block.title || (!isChoice && field.placeholder) || rest.replace(/[0-9/.%s|]/g, "");
    return isSaid || getComputedStyle(block).display === "none" ? [] : [label || field.outerHTML];
})
"""
"""Labels of the fields beside which nothing else is said: no sentence, no placeholder, no tooltip."""

CLEAR = {
    "Checkpoint",
    "Notes, saved in the file",
    "Replace an existing file of that name",
    "Skip embeddings in which some words are not certain",
    "Number of vectors",
    "The checkpoint that the ticked embedding was made for",
    "tick all that are shown",
    "or drop a file here, or choose one",
}
"""Labels that need no more words."""


def test_fields_say_what_they_are_for(tab: Tab) -> None:
    for page in ("Make", "Inspect", "Library"):
        tab.go(page)
    assert set(tab.evaluate(UNEXPLAINED)) <= CLEAR
