"""The other ways to a picture inside a real web UI, at its encoders' inputs: interrupted and skipped jobs, jobs of many
prompts, "Generate forever", img2img, inpainting, and two browsers at once. Run as test_real_host.py is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from contract.generations import TEMPORARY
from playwright.sync_api import expect

from webui.test_real_axes import plot
from webui.test_real_extensions import _judged as judged_texts
from webui.test_real_generation import _generate, _picture
from webui.test_real_host import DIRECTORY, URL, ask
from webui.test_real_page import _show as show

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

LONG = 300_000
"""Milliseconds for a few pictures."""

_USUAL = {"steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
_MANY = 40
"""Steps of a job that does not end before it is interrupted."""


@pytest.fixture(scope="module", autouse=True)
def _prepared(titles: dict[str, str]) -> None:
    """The model is in memory, and the web UI encodes no empty prompt for it any more."""
    ask("/sdapi/v1/options", {"live_previews_enable": False})
    _generate({**_USUAL, "prompt": "warm"})
    assert titles["current"]


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    """The next picture encodes all that it needs. Nothing of ours is left afterwards."""
    ask("/embedmerge-probe/forget-conditionings")
    ask("/embedmerge-probe/watch")
    yield
    assert ask("/embedmerge-probe/traces", post=False)["names"] == []


def _judge(*texts: str) -> None:
    """These texts were encoded, and nothing else; the empty one may have been."""
    wrong = judged_texts([*texts, ""])
    assert [fault for fault in wrong if not fault.endswith("not encoded: ''")] == []


def _stop_during(request: dict[str, Any], path: str) -> list[str]:
    """The infotexts of a job during whose sampling a route of the web UI was called."""
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(_generate, {**_USUAL, "steps": _MANY, **request})
        _wait_until(lambda: _sampling_step() >= 1)
        ask(path)
        return job.result(timeout=600)


def _sampling_step() -> int:
    return int(ask("/sdapi/v1/progress?skip_current_image=true", post=False)["state"]["sampling_step"])


def _wait_until(is_so: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_interrupted() -> None:
    prompt = "a <'cat'+'dog'>"
    infotexts = _stop_during({"prompt": prompt, "negative_prompt": "<'bad'*2>", "n_iter": 3}, "/sdapi/v1/interrupt")
    assert len(infotexts) < 3
    assert all(infotext.startswith(f"{prompt}\n") for infotext in infotexts)
    _judge("a «'cat'+'dog'»", "«'bad'*2»")
    ask("/embedmerge-probe/watch")
    (infotext,) = _generate({**_USUAL, "prompt": "b <'dog'*2>"})
    assert infotext.startswith("b <'dog'*2>\n")
    _judge("b «'dog'*2»")


def test_skipped() -> None:
    prompt = "a <'cat'*2>"
    infotexts = _stop_during({"prompt": prompt, "n_iter": 2}, "/sdapi/v1/skip")
    assert len(infotexts) == 2
    assert all(infotext.startswith(f"{prompt}\n") for infotext in infotexts)
    _judge("a «'cat'*2»")


def test_prompts_from_a_file() -> None:
    lines = "a <'cat'*2>\n--prompt \"b <'dog'+'cat'>\" --negative_prompt \"x <'bad'*2>\"\nno expression"
    script = {"script_name": "prompts from file or textbox", "script_args": [False, False, "start", lines]}
    infotexts = _generate({**_USUAL, "prompt": "", **script})
    assert [infotext.partition("\nSteps: ")[0] for infotext in infotexts] == [
        "a <'cat'*2>",
        "b <'dog'+'cat'>\nNegative prompt: x <'bad'*2>",
        "no expression",
    ]
    assert ["EmbedMerge: " in infotext for infotext in infotexts] == [True, True, False]
    _judge("a «'cat'*2»", "b «'dog'+'cat'»", "x «'bad'*2»", "no expression")


def test_a_word_of_an_expression_is_replaced_by_x_y_z_plot() -> None:
    plot("a <'cat'*2>", "Prompt S/R", ["cat", "bird"])
    _judge("a «'cat'*2»", "a «'bird'*2»")


def test_expressions_are_replaced_by_x_y_z_plot() -> None:
    plot("a <'cat'*2>, b", "Prompt S/R", ["<'cat'*2>", "<'dog'+'cat'>", "plain"])
    _judge("a «'cat'*2», b", "a «'dog'+'cat'», b", "a plain, b")


def test_from_a_picture() -> None:
    prompt = "a <'cat'+'dog'> b"
    request = {"prompt": prompt, "negative_prompt": "x <'bad'*2>", "denoising_strength": 1}
    (infotext,) = _generate({**_USUAL, **request}, image=True)
    assert infotext.startswith(f"{prompt}\nNegative prompt: x <'bad'*2>\n")
    assert "EmbedMerge: " in infotext
    _judge("a «'cat'+'dog'» b", "x «'bad'*2»")


def test_inpainted() -> None:
    prompt = "a <'cat'*2>"
    masked = {"mask": _picture(), "denoising_strength": 1, "inpainting_fill": 1}
    (infotext,) = _generate({**_USUAL, "prompt": prompt, "negative_prompt": "<'bad'*2>", **masked}, image=True)
    assert infotext.startswith(f"{prompt}\nNegative prompt: <'bad'*2>\n")
    assert "EmbedMerge: " in infotext
    _judge("a «'cat'*2»", "«'bad'*2»")


def test_generated_for_ever(page: Page) -> None:
    """The prompt is changed meanwhile."""
    _fill(page, "a <'cat'*3>")
    _choose_in_menu(page, "Generate forever")
    try:
        _expect_picture_of(page, "a <'cat'*3>")
        page.fill("#txt2img_prompt textarea", "b <'dog'*3>")
        _expect_picture_of(page, "b <'dog'*3>")
    finally:
        _choose_in_menu(page, "Cancel generate forever")
    _wait_until(lambda: not ask("/sdapi/v1/progress?skip_current_image=true", post=False)["state"]["job"])
    _judge("a «'cat'*3»", "b «'dog'*3»")


def test_two_browsers_at_once(page: Page) -> None:
    """Each has its own answer, and its own picture."""
    browser = page.context.browser
    assert browser is not None
    second = browser.new_page(viewport={"width": 1280, "height": 1100})
    second.set_default_timeout(60_000)
    second.goto(URL)
    pages = {page: ("a <'cat'+'dog'>", "'cat'+'dog'", "1/75"), second: ("b <'bird','cat'>", "'bird','cat'", "2/75")}
    for one, (_, source, _) in pages.items():
        _show_ours(one)
        one.fill("#embedmerge_source textarea", source)
    for one, (_, _, count) in pages.items():
        expect(one.locator("#embedmerge_answer .embedmerge-count")).to_have_text(count, timeout=LONG)
    ask("/embedmerge-probe/watch")
    for one, (prompt, *_) in pages.items():
        _fill(one, prompt)
    for one in pages:
        one.click("#txt2img_generate")
    for one, (prompt, *_) in pages.items():
        _expect_picture_of(one, prompt)
    second.close()
    _judge("a «'cat'+'dog'»", "b «'bird','cat'»")


def _choose_in_menu(page: Page, title: str) -> None:
    """In the menu that a right click on the button Generate opens, which lies below Interrupt at times."""
    page.dispatch_event("#txt2img_generate", "contextmenu")
    page.get_by_text(title, exact=True).dispatch_event("click")


def _fill(page: Page, prompt: str) -> None:
    show(page, "txt2img")
    page.fill("#txt2img_prompt textarea", prompt)
    for name, value in (("width", 64), ("height", 64), ("steps", 2)):
        page.fill(f"#txt2img_{name} input[type=number]", str(value))


def _show_ours(page: Page) -> None:
    page.locator("#tabs > .tab-nav > button", has_text="EmbedMerge").first.click()
    page.wait_for_selector("#embedmerge_status .embedmerge-status")


def _expect_picture_of(page: Page, prompt: str) -> None:
    told = page.locator("#html_info_txt2img").first
    expect(told).to_contain_text(prompt, timeout=LONG)
    expect(told).to_contain_text("EmbedMerge: ")
    assert not TEMPORARY.search(re.sub(r"\s", "", told.inner_text()))
