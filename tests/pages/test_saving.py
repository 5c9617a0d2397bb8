"""Saving on the page: names, what is written, files that exist, the keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from safetensors import safe_open

from lib_embedmerge import load_embedding
from pages.conftest import Served
from pages.drive import Tab


def test_names_are_checked_as_they_are_typed(tab: Tab) -> None:
    tab.named.fill("cat")
    tab.has(tab.naming, "is an ordinary word", "cat_em")
    tab.press(tab.naming, "Use this name")
    expect(tab.named).to_have_value("cat_em")
    tab.has(tab.naming, "This name can be used.")
    tab.named.fill("a/b")
    tab.has(tab.naming, "A file name cannot contain '/'.")
    tab.named.fill("<img src=x onerror=alert(1)>")
    tab.has(tab.naming, "A file name cannot contain '<'.")
    tab.named.fill("")
    expect(tab.naming.locator(".embedmerge-note")).to_have_count(0)


def test_save_and_save_again(tab: Tab, served: Served) -> None:
    path = served.embeddings / "catdog_mix.safetensors"
    tab.save("catdog_mix", "'cat'+'dog'*0.5")
    tab.has(tab.saved, "Saved catdog_mix", "1 vector", str(path), "Metadata: ")
    made = load_embedding(path)
    assert made.recipe == "'cat'+'dog'*0.5"
    assert (made.architecture.title, made.tag and made.tag.made_for) == ("SDXL", "demo")
    tab.has(tab.naming, "catdog_mix.safetensors already exists. Saving will ask before replacing it.")
    # Names may be used at once.
    tab.write("a catdog_mix and a cat")
    tab.has(tab.answer, "embedding")
    tab.counts(5)

    tab.save("catdog_mix", "'horse and dog'")
    tab.has(tab.saved, "catdog_mix.safetensors already exists. Nothing was saved.")
    assert load_embedding(path).recipe == made.recipe
    tab.press(tab.saved, "Replace it")
    tab.has(tab.saved, "Saved catdog_mix", "3 vectors")
    assert load_embedding(path).count == 3


def test_only_what_was_agreed_to_is_replaced(tab: Tab, served: Served) -> None:
    for name in ("agreed_to", "another_one"):
        tab.save(name, "'cat'")
        tab.has(tab.saved, f"Saved {name}")
    tab.save("agreed_to", "'horse and dog'")
    tab.has(tab.saved, "agreed_to.safetensors already exists.")
    tab.named.fill("another_one")
    # What is said of the name moves what is below it, and a button that moves under the mouse is not clicked.
    tab.has(tab.naming, "another_one.safetensors already exists.")
    tab.press(tab.saved, "Replace it")
    tab.has(tab.saved, "another_one.safetensors already exists. Nothing was saved.")
    assert [
        load_embedding(served.embeddings / f"{name}.safetensors").count for name in ("agreed_to", "another_one")
    ] == [1, 1]
    tab.press(tab.saved, "Replace it")
    tab.has(tab.saved, "Saved another_one")
    assert load_embedding(served.embeddings / "another_one.safetensors").count == 3


def test_what_can_be_wished_for(tab: Tab, served: Served) -> None:
    more = tab.part("more")
    notes = tab.part("notes").locator("textarea")
    if not notes.is_visible():
        more.get_by_text("More", exact=True).click()
    hostile = "<img src=x onerror=alert(1)> \u202e of mine"
    notes.fill(hostile)
    for name in ("negative", "half", "split"):
        tab.part(name).locator("input").check()
    tab.save("long_one", ", ".join(["cat dog"] * 30))
    tab.has(tab.saved, "Saved long_one-1", "Saved long_one-2", "Names")
    tab.shoot(f"{served.gradio}-split")
    counts = []
    for name in ("long_one-1", "long_one-2"):
        path = served.embeddings / f"{name}.safetensors"
        made = load_embedding(path)
        assert made.tag is not None
        assert (made.tag.notes, made.tag.negative) == (hostile, True)
        counts.append(made.count)
        with safe_open(path, "pt") as file:
            assert {str(file.get_tensor(key).dtype) for key in made.vectors} == {"torch.float16"}
    assert sum(counts) == 89
    notes.fill("")
    for name in ("negative", "half", "split"):
        tab.part(name).locator("input").uncheck()


def test_what_is_typed_at_once_stays(tab: Tab, served: Served) -> None:
    """gradio 6 would draw a page or a section when it is opened, and then set its fields to their first values: after
    the next frame, which comes late here."""
    tab.page.reload()
    tab.page.wait_for_selector("#embedmerge_answer .embedmerge-count")
    tab.evaluate("window.requestAnimationFrame = (draw) => setTimeout(draw, 1500)")
    fields = {"notes": ("Make", "more"), "newnotes": ("Library", "editing"), "compared_by": ("Library", "comparing")}
    for name, (page, section) in fields.items():
        tab.go(page)
        tab.part(section).locator(".label-wrap").first.click()
        tab.part(name).locator("textarea").fill(f"typed into {name}")
    tab.go("Make")
    tab.part("negative").locator("input").check()
    tab.page.wait_for_timeout(2000)
    assert {name: tab.part(name).locator("textarea").input_value() for name in fields} == {
        name: f"typed into {name}" for name in fields
    }
    tab.save("at_once1", "'cat'")
    tab.has(tab.saved, "Saved at_once1")
    tag = load_embedding(served.embeddings / "at_once1.safetensors").tag
    assert tag is not None
    assert (tag.notes, tag.negative) == ("typed into notes", True)
    tab.page.reload()
    tab.page.wait_for_selector("#embedmerge_answer .embedmerge-count")


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("a/b", "'cat'", ("A file name cannot contain '/'.", "This name works:")),
        ("", "'cat'", ("The embedding needs a name.", "Enter one")),
        ("my_one", "'cat'+", ("Nothing follows +.", "Remove the +")),
        ("my_one", "'cat':76", ("This makes 76 vectors; one embedding holds at most 75.", ":75")),
        ("my_one", "", ("This makes no vectors",)),  # its own answer, before the next test saves
    ],
)
def test_what_cannot_be_saved(tab: Tab, served: Served, name: str, source: str, said: tuple[str, ...]) -> None:
    before = set(served.embeddings.iterdir())
    tab.save(name, source)
    expect(tab.saved.locator(".embedmerge-error-box")).to_be_visible()
    tab.has(tab.saved, *said)
    assert set(served.embeddings.iterdir()) == before


def test_the_copy_buttons(tab: Tab) -> None:
    tab.save("to_be_copied", "'cat' + 'dog'*0.25")
    tab.has(tab.saved, "Saved to_be_copied")
    copies = tab.saved.locator("[data-embedmerge-action=copy]")
    for button, text in zip(copies.all(), ("to_be_copied", "<'cat' + 'dog'*0.25>"), strict=True):
        button.click()
        button.click()
        expect(button).to_have_text("Copied")
        assert tab.evaluate("navigator.clipboard.readText()") == text
    expect(copies).to_have_text(["Copy", "Copy"])
    assert tab.saved.locator("[data-embedmerge-action=insert]").count() == 0  # there are no prompts on this page


def test_ctrl_enter_saves_or_parses_and_nothing_else(tab: Tab, served: Served) -> None:
    tab.evaluate("window.seen = 0; document.addEventListener('keydown', (e) => (window.seen += e.key === 'Enter'))")
    before = set(served.embeddings.iterdir())
    tab.named.fill("")
    tab.write("a photo of a dog")
    tab.source.press("Control+Enter")
    tab.counts(5)
    expect(tab.source).to_have_value("a photo of a dog")
    assert set(served.embeddings.iterdir()) == before
    tab.named.fill("by_keyboard")
    tab.named.press("Control+Enter")
    tab.has(tab.saved, "Saved by_keyboard")
    assert {path.stem for path in set(served.embeddings.iterdir()) - before} == {"by_keyboard"}
    tab.write("'cat'")
    tab.source.press("Control+Enter")
    tab.has(tab.saved, "by_keyboard.safetensors already exists.")
    assert tab.evaluate("window.seen") == 0
    tab.named.fill("from_elsewhere")
    tab.go("Inspect")
    tab.part("names").locator("input").first.press("Control+Enter")
    tab.go("Make")
    tab.page.wait_for_timeout(500)
    assert not (served.embeddings / "from_elsewhere.safetensors").exists()


def test_what_was_saved_is_inspected_with_one_click(tab: Tab) -> None:
    tab.save("looked_at_1", "'cat'+'dog'")
    tab.has(tab.saved, "Saved looked_at_1")
    tab.press(tab.saved, "Inspect")
    tab.has(tab.inspection, "looked_at_1.safetensors", "Made for this model")
