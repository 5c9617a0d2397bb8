"""Restoring a library in the browser: texts are found, looked through, and only what is ticked is written."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from lib_embedmerge import load_embedding, open_checkpoint
from lib_embedmerge.embeddings.embedding import Embedding
from pages.conftest import Served
from pages.drive import Tab
from pages.test_library import find, opened, row


def lose_text(served: Served, name: str, source: str) -> Path:
    """An embedding made on the demo's checkpoint by a program that does not keep the text."""
    made = open_checkpoint(served.models / "demo.safetensors").build(source, name=name)
    return Embedding(name, made.vectors).save(served.embeddings)


def test_texts_are_found_and_only_the_ticked_ones_are_written(tab: Tab, served: Served) -> None:
    wanted, other = lose_text(served, "lost_cat", "'a cat'"), lose_text(served, "lost_dog", "'a dog'")
    before = other.read_bytes()
    tab.go("Library")
    opened(tab, "restoring")
    tab.part("restore").click()
    tab.has(tab.part("job"), "No checkpoint is chosen")
    tab.choose("restore_for", "demo.safetensors")
    tab.part("restore").click()
    job = tab.part("job")
    tab.has(job, "Nothing is written yet.", "files can be restored:", "'a dog'")
    tab.shoot(f"{served.gradio}-restoring")
    with tab.page.expect_download() as download:
        tab.press(job, "Save this report")
    assert "&#x27;a dog&#x27;" in Path(download.value.path()).read_text(encoding="utf-8")
    for ticked in job.get_by_role("checkbox").all():  # the library has files of other tests too
        ticked.uncheck()
    job.get_by_label("Save lost_cat.safetensors").check()
    tab.press(job, "Save the ticked files")
    tab.has(job, "1 file: 1 exact; 1 written.")
    expect(job.get_by_role("checkbox")).to_have_count(0)
    assert load_embedding(wanted).recipe == "'a cat'"
    assert other.read_bytes() == before
    find(tab, "lost_cat")  # only entries in sight are drawn
    expect(row(tab, "lost_cat")).to_contain_text("'a cat'")
