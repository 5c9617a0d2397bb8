"""What is typed on the page is read as a web UI reads it, and asked about where it looks like something else."""

from __future__ import annotations

from playwright.sync_api import expect

from lib_embedmerge import load_embedding
from pages.conftest import Served
from pages.drive import Tab


def test_a_prompt_is_read_as_a_web_ui_reads_it(tab: Tab) -> None:
    tab.write(r"(masterpiece:1.2), cat \(animal\)")
    tab.has(tab.answer, "Read as", "masterpiece, cat (animal)", "Attention brackets and weights were removed")
    tab.counts(6)
    tab.read_attention("write as multiplication")
    tab.has(tab.answer, "<'masterpiece'*1.2>, cat (animal)", "The effect differs")
    tab.read_attention("keep as characters")
    expect(tab.answer).not_to_contain_text("Read as")
    tab.has(tab.answer, "attention brackets are plain characters")
    tab.read_attention("remove brackets")
    tab.has(tab.answer, "Read as")


def test_the_choice_is_saved_with_it(tab: Tab, served: Served) -> None:
    tab.read_attention("write as multiplication")
    tab.save("typed_scaled1", "(cat:1.5) dog")
    tab.has(tab.saved, "Saved typed_scaled1", "The effect differs", "In other programs")
    assert load_embedding(served.embeddings / "typed_scaled1.safetensors").recipe == "<'cat'*1.5> dog"
    tab.read_attention("remove brackets")


def test_what_was_meant_is_one_click_away(tab: Tab) -> None:
    tab.write("cat+dog*0.5")
    tab.has(tab.answer, "This looks like an expression", "Did you mean this?", "'cat'+'dog'*0.5")
    tab.press(tab.answer, "Use it")
    expect(tab.source).to_have_value("'cat'+'dog'*0.5")
    tab.counts(1)
    expect(tab.answer).not_to_contain_text("Did you mean this?")


def test_a_lookalike_is_saved_only_where_the_user_insists(tab: Tab, served: Served) -> None:
    tab.save("typed_plain1", "cat+dog*0.5")
    tab.has(tab.saved, "Did you mean 'cat'+'dog'*0.5 ?")
    assert not (served.embeddings / "typed_plain1.safetensors").exists()
    # What is said of the name moves what is below it, and a button that moves under the mouse is not clicked.
    tab.has(tab.naming, "This name can be used.")
    insist = tab.saved.get_by_role("button", name="Save it as a prompt")
    assert insist.evaluate("(button) => getComputedStyle(button).borderTopWidth") == "1px"  # it looks like a button
    insist.click()
    tab.has(tab.saved, "Saved typed_plain1")
    assert load_embedding(served.embeddings / "typed_plain1.safetensors").recipe == "cat+dog*0.5"


def test_a_recipe_opens_as_what_reads_so_again(tab: Tab, served: Served) -> None:
    tab.save("typed_escaped1", r"saber \(fate\)")
    tab.has(tab.saved, "Saved typed_escaped1")
    assert load_embedding(served.embeddings / "typed_escaped1.safetensors").recipe == "saber (fate)"
    tab.go("Inspect")
    tab.choose("names", "typed_escaped1")
    tab.has(tab.inspection, "saber (fate)")
    tab.press(tab.inspection, "Open in the text box")
    expect(tab.source).to_have_value(r"saber \(fate\)")
    tab.counts(4)
