"""The tab inside a real web UI, in a real browser: opened, asked, saved from, and its embedding used at once.

As test_real_host.py is run; a screenshot goes to artifacts/.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from contract.texts import BROKEN_SOURCES
from playwright.sync_api import expect

from webui.test_real_api import ROUTES, api_routes
from webui.test_real_host import DIRECTORY, URL, ask
from webui.test_real_sdnext import URL as SDNEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, WebSocket

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
NAME = "emrealpage1"
SOURCE = "'cat'+'dog'*0.5"
COUNTS = {
    "a photo of <'cat'+'dog'>": 4,
    "a <'cat','dog':5> b": 7,
    "a <'cat'+> b": 2,
    "a [<'cat'>:<'dog','cat'>:0.5]": 3,
    "it <'don''t'> a": 4,
}
"""Prompt -> what its counter shows; Forge counts words until it has loaded a model."""
if SDNEXT:
    del COUNTS["a [<'cat'>:<'dog','cat'>:0.5]"]  # SD.Next counts brackets and numbers too
_ASKED_AGAIN = re.compile(r"/internal/ping$|/heartbeat/")
"""What a page asks again and again while its web UI is away."""
CALLBACKS = [
    "app_started", "before_token_counter", "before_ui", "infotext_pasted", "script_unloaded", "ui_settings", "ui_tabs",
]  # fmt: skip
if SDNEXT:
    CALLBACKS.remove("before_token_counter")  # its counter is wrapped


def _type(page: Page, source: str) -> str:
    """The answer to a source, as text, once it stays as it is."""
    answer = page.locator("#embedmerge_answer [data-embedmerge-asked]")
    before = answer.get_attribute("data-embedmerge-asked") if answer.count() else None
    page.fill("#embedmerge_source textarea", "")
    page.fill("#embedmerge_source textarea", source)
    while True:
        page.wait_for_timeout(400)
        now = answer.get_attribute("data-embedmerge-asked") if answer.count() else None
        if now == before or now is None:
            continue
        page.wait_for_timeout(400)
        if answer.get_attribute("data-embedmerge-asked") == now:
            return answer.inner_text()


def test_the_status_line(page: Page) -> None:
    line = page.locator("#embedmerge_status").first.inner_text()
    assert "SDXL" in line
    assert "CLIP-L 768" in line and "CLIP-G 1280" in line
    assert re.search("the loaded model|the checkpoint file", line)


def test_an_expression(page: Page) -> None:
    assert "1/75" in _type(page, SOURCE)
    page.wait_for_selector("#embedmerge_vectors svg")
    assert "cat" in page.locator("#embedmerge_vectors").first.inner_text()


def test_a_prompt_of_75_tokens(page: Page) -> None:
    assert "75/75" in _type(page, " ".join(["cat", "dog", "house"] * 25))


@pytest.mark.parametrize("source", BROKEN_SOURCES)
def test_a_broken_source(page: Page, source: str) -> None:
    answer = _type(page, source)
    # More than fit is no mistake yet, for it can be split.
    assert page.locator("#embedmerge_answer").locator(".embedmerge-error, .embedmerge-over").count() > 0
    assert "Traceback" not in answer and "Something went wrong" not in answer


def test_a_saved_embedding_is_used_by_the_next_generation(page: Page) -> None:
    _type(page, SOURCE)
    page.fill("#embedmerge_name textarea, #embedmerge_name input", NAME)
    page.click("#embedmerge_save")
    page.wait_for_selector("#embedmerge_saved .embedmerge-saved", timeout=300_000)
    ARTIFACTS.mkdir(exist_ok=True)
    page.wait_for_selector("#embedmerge_vectors svg")
    page.screenshot(path=ARTIFACTS / f"tab-{Path(DIRECTORY).name}.png", full_page=True)
    try:
        seen = _generate(f"a photo of {NAME}, in a park")
        assert set(seen) == {"clip_l", "clip_g"}
        for key, places in seen.items():
            found = [place[2] for place in places["found"]]
            if SDNEXT:  # which encodes it more than once, for CLIP-G
                found = sorted(set(found))
            assert found == [4], (key, places)
    finally:
        ask(f"/embedmerge-probe/forget/{NAME}")


def test_a_text_goes_to_the_prompt(page: Page) -> None:
    saved = page.locator("#embedmerge_saved").first
    saved.get_by_role("button", name="Send to txt2img prompt").first.click()
    prompt = page.locator("#txt2img_prompt textarea")
    assert NAME in prompt.input_value()
    assert prompt.is_visible()


@pytest.mark.parametrize("prompt_of", ["prompt", "neg_prompt"])
def test_the_token_counters_count_vectors(page: Page, prompt_of: str) -> None:
    _show(page, "txt2img")
    counter = page.locator(f"#txt2img_{'negative_' if prompt_of == 'neg_prompt' else ''}token_counter").first
    for prompt, count in COUNTS.items():
        page.fill(f"#txt2img_{prompt_of} textarea", prompt)
        expect(counter).to_contain_text(f"{count}/75", timeout=30_000)
    page.fill(f"#txt2img_{prompt_of} textarea", "")


def test_a_mistake_is_told_where_the_web_ui_tells_faults(page: Page) -> None:
    _show(page, "txt2img")
    page.fill("#txt2img_prompt textarea", "a <'cat'+> & <b>bold</b>")
    page.click("#txt2img_generate")
    told = page.locator("#html_log_txt2img .error").first
    whose = "" if SDNEXT else "EmbedMerge: "  # SD.Next leaves out the kind of an error
    expect(told).to_contain_text(f"{whose}Nothing follows +.", timeout=120_000)
    expect(told).to_contain_text("At character 9 of the prompt, in <'cat'+>.")
    expect(told).not_to_contain_text("Traceback")
    assert page.locator("#txt2img_prompt textarea").input_value() == "a <'cat'+> & <b>bold</b>"
    page.screenshot(path=ARTIFACTS / f"mistake-{Path(DIRECTORY).name}.png")


def test_a_generation_from_the_page(page: Page) -> None:
    ask("/sdapi/v1/options", {"live_previews_enable": False})
    _show(page, "txt2img")
    page.fill("#txt2img_prompt textarea", "a photo of a <'cat'+'dog'>")
    for name, value in (("width", 64), ("height", 64), ("steps", 2)):
        page.fill(f"#txt2img_{name} input[type=number]", str(value))
    page.click("#txt2img_generate")
    told = page.locator("#html_info_txt2img").first
    expect(told).to_contain_text("a photo of a <'cat'+'dog'>", timeout=300_000)
    expect(told).to_contain_text("EmbedMerge: ")
    page.screenshot(path=ARTIFACTS / f"generated-{Path(DIRECTORY).name}.png")


def test_the_settings_are_there(page: Page) -> None:
    for name in ("inline", "mistakes", "follow", "precision"):
        assert page.locator(f"#setting_embedmerge_{name}").count() == 1


def test_all_is_registered_once(page: Page) -> None:
    assert _registered() == CALLBACKS
    assert api_routes() == ROUTES


@pytest.mark.skipif(bool(SDNEXT), reason="SD.Next has no Reload UI")
def test_reloading_the_ui_registers_nothing_twice(page: Page) -> None:
    """Twice as it is, once without the extension, once with it again."""
    for disabled in ([], [], ["embedmerge"], []):
        ask("/sdapi/v1/options", {"disabled_extensions": disabled})
        _reload(page)
        assert _registered() == ([] if disabled else CALLBACKS)
        assert api_routes() == ([] if disabled else ROUTES)
        assert page.locator("#embedmerge_source").count() == (0 if disabled else 1)


def _show(page: Page, tab: str) -> None:
    title = "Text" if SDNEXT else tab
    tabs = page.locator("#tabs > .tab-nav > button", has_text=re.compile(rf"^\s*{title}\s*$", re.IGNORECASE))
    tabs.first.click()


def _registered() -> list[str]:
    found: list[str] = ask("/embedmerge-probe/registered", post=False)
    return found


def _reload(page: Page) -> None:
    """The button of the settings, and the page again once the web UI has started again.

    AUTOMATIC1111 ends if it is asked for anything while it starts again ("Cannot add middleware after an application
    has started"). So the probe tells by a file that the start has ended, and the old page may not ask meanwhile.

    It does not come back either if something is in gradio's queue when it is restarted. There is a socket for each of
    these, so all of the new page's must be closed.
    """
    started = Path(DIRECTORY, "extensions", "embedmerge_probe", "started")
    before = started.stat().st_mtime_ns
    page.route(_ASKED_AGAIN, lambda route: route.abort())
    page.locator("#tabs > .tab-nav > button", has_text="Settings").click()
    page.click("#settings_restart_gradio")
    _wait_until(page, lambda: started.stat().st_mtime_ns != before)
    page.unroute(_ASKED_AGAIN)
    page.goto("about:blank")  # playwright never tells that a socket is closed whose page was left
    sockets: list[WebSocket] = []

    def note(socket: WebSocket) -> None:
        sockets.append(socket)

    page.on("websocket", note)
    page.goto(URL)
    page.wait_for_selector("#txt2img_prompt textarea")
    page.wait_for_timeout(5_000)
    _wait_until(page, lambda: all(socket.is_closed() for socket in sockets))
    page.remove_listener("websocket", note)


def _wait_until(page: Page, is_so: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        page.wait_for_timeout(500)


def _generate(prompt: str) -> dict[str, Any]:
    ask("/embedmerge-probe/watch")
    wanted = {"prompt": prompt, "steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
    answer = ask("/sdapi/v1/txt2img", wanted)
    assert len(answer["images"]) == 1
    seen: dict[str, Any] = ask(f"/embedmerge-probe/seen/{NAME}")
    return seen
