"""What the page says while someone types: the status, the answer, the vectors, the help."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from lib_embedmerge.version import __version__
from pages.conftest import Served
from pages.drive import Tab, opened

BROKEN = (
    # source, message, what to do about it
    ("'cat", "This quote is never closed.", "Write ' after the text."),
    ("'don't'", "An operator is missing before t.", "'don''t'"),
    ("'cat'+dog", "dog has no quotes around it.", "Put texts in quotes"),
    ("'cat'+\"dog\"", 'The character " has no meaning here.', "Did you mean '"),
    ("'cat' 'dog'", "An operator is missing before 'dog'.", "Join two texts with +"),
    ("'cat'+", "Nothing follows +.", "Remove the +"),
    ("-'cat'", "An expression cannot begin with -.", "'cat'*-1"),
    ("2*'cat'", "An expression cannot begin with 2.", "'cat'*2"),
    ("'cat'*'dog'", "No number follows *.", "'cat'+'dog'*0.5"),
    ("'cat'×2", "The character × has no meaning here.", "Did you mean *"),
    ("'cat',('dog')", "This comma needs a text or a token id after it.", "cat(a, b)"),
    ("'cat':1.2", "Only a whole number works here.", "write *1.2"),
    ("'cat'*1e-3", "Numbers cannot have an exponent.", "0.001"),
    ("'cat'/0", "Division by zero.", "write *0"),
    ("('cat'+'dog'", "This parenthesis is never closed.", "Close it with )"),
    ("sler('cat','dog',0.5)", "There is no function sler.", "Did you mean slerp"),
    ("lerp('cat','dog')", "This function needs two expressions and a number.", "lerp(a, b, t)"),
    ("'cat',49408", "Token 49408 is not in the vocabulary.", "0 to 49407"),
    ("a <'cat' in the garden", "This < starts an expression that is never closed.", "'don''t'"),
    ("a <'cat':76> in the garden", "This expression makes 76 vectors", ":75"),
)

INFO = (
    "a photo of <'EM_1'>, masterpiece\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, "
    "EmbeddingMerge: \"<'EM_1'>=<'cat'+'dog'>\", Version: v1.10.1"
)


def test_the_status_line(tab: Tab) -> None:
    tab.has(tab.status, "demo", "SDXL", "prediction epsilon", "CLIP-L 768, CLIP-G 1280", "the checkpoint file")
    tab.counts(0)
    tab.has(tab.answer, "no text yet")


def test_expressions_and_prompts_are_answered_as_one_types(tab: Tab) -> None:
    tab.source.press_sequentially("'cat'+'dog'*0.5")
    tab.counts(1)
    tab.has(tab.answer, "expression")
    tab.write("a photo of a <'cat'+'dog'> in the garden")
    tab.counts(8)
    expect(tab.answer.locator(".embedmerge-chip")).to_have_count(3)
    tab.has(tab.answer, "320 1125 539 320", "530 518 2756")
    tab.write("")
    tab.has(tab.answer, "no text yet")


def test_mistakes_are_shown_with_their_place_and_what_to_do(tab: Tab) -> None:
    for source, message, advice in BROKEN:
        tab.write(source)
        tab.has(tab.answer.locator(".embedmerge-message"), message)
        tab.has(tab.answer, advice)
        # In one call, because the answer may be drawn again between two.
        carets, *lefts = tab.answer.evaluate(
            "answer => { const parts = ['carets', 'wrong'].map(name => answer.querySelector(`.embedmerge-${name}`));"
            " return [parts[0].innerText, ...parts.map(part => part.getBoundingClientRect().left)]; }"
        )
        assert set(carets) == {"^"}
        assert lefts[0] == pytest.approx(lefts[1], abs=1)  # it stands below what is wrong
        assert "Traceback" not in tab.page.content()
    tab.counts(4)  # what can be read of the prompt around the mistake
    expect(tab.vectors.locator(".embedmerge-encoder")).to_have_count(0)


def test_the_last_state_wins(tab: Tab) -> None:
    """Answers that come late, to questions asked again and again."""
    tab.write("")
    tab.has(tab.answer, "no text yet")
    tab.evaluate("window.slowness = 900")
    for text in ("one", "one two", "one two three"):
        tab.write(text)
        tab.page.wait_for_timeout(300)
    tab.named.fill("cat")
    tab.page.wait_for_timeout(300)
    tab.named.fill("two_of_them")
    tab.group("tokens")
    tab.counts(3)
    expect(tab.answer.locator(".embedmerge-chip")).to_have_count(3)
    tab.has(tab.naming, "This name can be used.")
    tab.has(tab.vectors, "CLIP-G")
    tab.group("parts")
    tab.write("'four'*2")
    tab.page.wait_for_timeout(1900)  # its vectors are being looked at
    tab.write("'five'*3")
    tab.page.wait_for_timeout(300)
    tab.evaluate("window.slowness = 0")
    tab.has(tab.vectors, "'five'*3")
    expect(tab.answer.locator(".embedmerge-chip-text")).to_have_text(["'five'*3"])
    tab.named.fill("")


@pytest.mark.parametrize(
    ("by", "chips"),
    [
        ("none", ["artstation , a photo of a 'cat' + 'dog'*0.5"]),
        ("comma", ["artstation", "a photo of a", "'cat' + 'dog'*0.5"]),
        ("parts", ["artstation , a photo of a", "'cat' + 'dog'*0.5"]),
        ("words", ["artstation", ",", "a", "photo", "of", "a", "'cat' + 'dog'*0.5"]),
        ("tokens", ["art", "station", ",", "a", "photo", "of", "a", "'cat' + 'dog'*0.5"]),
        ("vectors", ["art", "station", ",", "a", "photo", "of", "a", "'cat' + 'dog'*0.5"]),
    ],
)
def test_groupings(tab: Tab, by: str, chips: list[str]) -> None:
    tab.write("artstation, a photo of a <'cat'+'dog'*0.5>")
    tab.group(by)
    expect(tab.answer.locator(".embedmerge-chip-text")).to_have_text(chips)
    tab.counts(8)


SELECTED = "(() => { const b = document.activeElement; return b.value.slice(b.selectionStart, b.selectionEnd); })()"


@pytest.mark.parametrize(
    ("by", "count", "number", "text"),
    [
        ("none", 1, 0, "A  Cat, a photo of a CAT, <'cat' + 'dog'*0.5>"),
        ("comma", 3, 1, "a photo of a CAT"),
        ("words", 10, 1, "Cat"),
        ("words", 10, 7, "CAT"),
        ("comma", 3, 2, "'cat' + 'dog'*0.5"),
    ],
)
def test_a_click_on_a_part_selects_its_text(tab: Tab, by: str, count: int, number: int, text: str) -> None:
    tab.write("A  Cat, a photo of a CAT, <'cat' + 'dog'*0.5>")
    tab.group(by)
    chips = tab.answer.locator(".embedmerge-chip")
    expect(chips).to_have_count(count)
    chips.nth(number).click()
    assert tab.evaluate(SELECTED) == text


def test_75_vectors_and_more(tab: Tab) -> None:
    tab.group("parts")
    tab.write(", ".join(["cat dog"] * 25))
    tab.counts(74)
    tab.write(", ".join(["cat dog"] * 25) + ",")
    tab.counts(75)
    expect(tab.answer.locator(".embedmerge-over, .embedmerge-note")).to_have_count(0)
    tab.has(tab.vectors, "CLIP-G")
    expect(tab.vectors.locator(".embedmerge-strip")).to_have_count(150)
    tab.write(", ".join(["cat dog"] * 30))
    tab.counts(89)
    tab.has(tab.answer, "14 vectors too many for one embedding", "Split it into 2 embeddings when saving")


def test_the_vectors(tab: Tab) -> None:
    tab.write("a photo of <'cat'*9>")
    encoders = tab.vectors.locator(".embedmerge-encoder")
    tab.has(tab.vectors, "'cat'*9")
    expect(encoders).to_have_count(2)
    for encoder, title in zip(encoders.all(), ("CLIP-L", "CLIP-G"), strict=True):
        tab.has(encoder, title, "Longer than usual: ", "cat 1.00")
        expect(encoder.locator(".embedmerge-plot .embedmerge-mark")).to_have_count(4)
        expect(encoder.locator(".embedmerge-each tbody tr")).to_have_count(4)
        assert encoder.locator(".embedmerge-each tbody tr").nth(3).locator(".embedmerge-badge").text_content() == "long"
        columns = encoder.locator(".embedmerge-parts thead th").all_text_contents()
        assert columns == ["#", "text", "tokens", "vectors", "min", "max", "sum", "abs", "len", "std"]
        for strip in encoder.locator(".embedmerge-strip").all():
            assert strip.evaluate("picture => picture.complete && picture.naturalWidth") == 64


def test_what_it_is_stands_beside_the_text_and_details_stay_open(tab: Tab) -> None:
    tab.write("'cat'+'dog'*0.5")
    for encoder in ("CLIP-L", "CLIP-G"):
        tab.has(tab.vectors.locator(f"[aria-label='{encoder}']"), "Mostly cat (0.", "some dog (0.", "a usual word.")
    expect(tab.vectors.locator(".embedmerge-ring, .embedmerge-badge")).to_have_count(0)  # a blend is no fault
    figures = tab.vectors.locator(".embedmerge-figures table")
    expect(figures.first).to_be_hidden()
    tab.vectors.locator("summary").first.click()
    expect(figures).to_have_count(4)
    for table in figures.all():
        expect(table).to_be_visible()
    tab.write("'cat'+'dog'*0.6")
    tab.has(tab.vectors, "'dog'*0.6")
    expect(figures.last).to_be_visible()
    tab.vectors.locator("summary").last.click()
    expect(figures.first).to_be_hidden()


def test_an_unusual_strength_has_its_remedy_beside_it(tab: Tab) -> None:
    tab.write("'cat'*9")
    tab.has(tab.vectors, "much stronger than a usual word")
    tab.press(tab.vectors, "Give it the usual strength: norm()")
    expect(tab.source).to_have_value("norm('cat'*9)")
    tab.has(tab.vectors, "as strong as a usual word")


def test_a_long_text_is_split_by_the_button_beside_the_warning(tab: Tab) -> None:
    tab.write(", ".join(["cat dog"] * 30))
    tab.press(tab.answer, "Split into 2")
    expect(tab.part("split").locator("input")).to_be_checked()
    expect(tab.named).to_be_focused()
    tab.part("split").locator("input").evaluate("box => box.click()")


def test_why_it_was_not_saved_goes_when_the_text_changes(tab: Tab) -> None:
    tab.save("refused1", "'cat'+")
    refusal = tab.saved.locator(".embedmerge-error-box")
    expect(refusal).to_be_visible()
    tab.write("'cat'+'dog'")
    expect(refusal).to_be_hidden()
    tab.named.fill("")


def test_all_of_making_is_in_the_first_900_pixels(tab: Tab) -> None:
    tab.write("")
    tab.save("in_sight1", "'cat'+'dog'*0.5")
    tab.has(tab.saved, "Saved in_sight1")
    tab.has(tab.vectors, "Mostly cat")
    for part in ("intro", "source", "answer", "name", "save", "saved", "vectors"):
        box = tab.part(part).bounding_box()
        assert box is not None and box["y"] + box["height"] < 900, part
    tab.named.fill("")


def test_the_help_and_the_examples_fill_the_box(tab: Tab) -> None:
    tab.go("Help")
    syntax = tab.part("syntax")
    tab.has(syntax, "Merge expressions", "Coming from Embedding Merge", "The full grammar")
    expect(syntax.locator("table")).not_to_have_count(0)
    tab.part("help_head").get_by_label("Search the help").fill("'")  # opens the chapters that have one
    syntax.locator(".language-embedmerge").first.click()
    expect(tab.source).to_have_value("a photo of a <'cat'+'dog'> in the garden")
    expect(tab.source).to_be_focused()
    tab.counts(8)
    tab.go("Help")
    syntax.locator("td code", has_text="<'red>green'>").first.click()
    expect(tab.source).to_have_value("<'red>green'>")
    tab.go("Help")
    syntax.locator("pre", has_text="embedmerge build").click()  # not for the box
    expect(tab.source).not_to_be_visible()
    tab.go("Make")
    expect(tab.source).to_have_value("<'red>green'>")
    tab.page.get_by_text("Examples", exact=True).click()
    tab.page.locator("#embedmerge_examples .embedmerge-example", has_text="lerp(").first.click()
    expect(tab.source).to_have_value("lerp('cat', 'dog', 0.3)")
    tab.counts(1)


def test_the_help_gives_what_a_bug_report_needs(tab: Tab) -> None:
    tab.go("Help")
    tab.page.get_by_text("Something went wrong?").click()
    tab.press(tab.part("reporting"), "Show what a bug report needs")
    tab.has(tab.part("reported"), f"EmbedMerge: {__version__}", "runs in: a page of its own", "model: SDXL")
    tab.press(tab.part("reported"), "Copy")
    expect(tab.part("reported").get_by_role("button", name="Copied")).to_be_visible()
    tab.go("Make")


def test_generation_info_gives_its_prompt(tab: Tab) -> None:
    tab.write(INFO)
    tab.has(tab.answer, "These are the generation parameters of a picture.", "a photo of <'cat'+'dog'>, masterpiece")
    tab.press(tab.answer, "Use the prompt")
    expect(tab.source).to_have_value("a photo of <'cat'+'dog'>, masterpiece")
    tab.counts(6)


def test_two_browsers_do_not_disturb_each_other(tab: Tab, browser: Browser, served: Served) -> None:
    with opened(browser, served.url) as other:
        tab.write("'cat' here")
        other.write("'cat'+'dog'*7")
        other.counts(1)
        tab.has(tab.answer, "An operator is missing")
        other.has(other.vectors, "'cat'+'dog'*7")
        tab.write("a photo of a cat")
        tab.counts(5)
        expect(other.source).to_have_value("'cat'+'dog'*7")
        other.counts(1)


def test_the_page_offers_nothing_that_is_not_served(tab: Tab) -> None:
    expect(tab.page.locator("footer")).to_contain_text("Gradio")
    expect(tab.page.locator("footer")).not_to_contain_text("Use via API")
