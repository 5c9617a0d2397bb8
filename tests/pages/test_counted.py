"""How little it takes: fields and clicks from a fresh page to a saved embedding, and from "differs" to a rebuilt one.

Those to an X/Y/Z grid are counted in test_previews.py, and with its pictures in tests/webui/test_real_previews.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from models import encoders, write_sdxl
from playwright.sync_api import Browser, expect

from lib_embedmerge import load_embedding, open_checkpoint
from pages.conftest import Served
from pages.drive import Tab, opened
from pages.test_library import find, row

COUNT = """
() => {
    window.counted = { fields: [], clicks: 0 };
    addEventListener("click", (event) => (counted.clicks += event.isTrusted), true);
    addEventListener("input", ({ isTrusted, target }) => {
        const name = target.closest("[id^=embedmerge_]")?.id;
        if (isTrusted && name && !counted.fields.includes(name)) counted.fields.push(name);
    }, true);
}
"""


@pytest.fixture
def fresh(browser: Browser, served: Served) -> Iterator[Tab]:
    """A page that was just opened, which counts what its user does."""
    with opened(browser, served.url) as tab:
        tab.evaluate(COUNT)
        yield tab


def counted(tab: Tab) -> dict[str, object]:
    return dict(tab.evaluate("counted"))


def test_two_fields_and_a_click_to_a_saved_embedding(fresh: Tab, served: Served) -> None:
    fresh.source.press_sequentially("'cat' + 'dog'*0.5")
    fresh.named.press_sequentially("counted1")
    fresh.has(fresh.naming, "This name can be used.")
    fresh.part("save").click()
    fresh.has(fresh.saved, "Saved counted1")
    assert counted(fresh) == {"fields": ["embedmerge_source", "embedmerge_name"], "clicks": 1}
    assert load_embedding(served.embeddings / "counted1.safetensors").recipe == "'cat' + 'dog'*0.5"


def test_a_click_from_differs_to_rebuilt(fresh: Tab, served: Served) -> None:
    other = write_sdxl(served.models / "counted-other.safetensors", encoders())
    for name in ("counted2", "counted3"):
        open_checkpoint(other).build("'cat'*2", name=name).save(served.embeddings)
    other.unlink()
    fresh.go("Library")
    find(fresh, "counted2")
    expect(row(fresh, "counted2")).to_contain_text("differs")
    fresh.evaluate("counted.clicks = 0")
    fresh.press(row(fresh, "counted2"), "Make for this model")
    fresh.has(fresh.part("done"), "Made 1 version for this model: counted2-demo.")
    assert counted(fresh)["clicks"] == 1
    fresh.go("Inspect")
    fresh.choose("names", "counted3")
    fresh.has(fresh.inspection, "Differs")
    fresh.evaluate("counted.clicks = 0")
    fresh.press(fresh.inspection, "Make for this model")
    fresh.has(fresh.part("fixed"), "Made 1 version for this model: counted3-demo.")
    assert counted(fresh)["clicks"] == 1
    for name in ("counted2", "counted3"):
        assert load_embedding(served.embeddings / f"{name}-demo.safetensors").recipe == "'cat'*2"
