"""Recipes that follow the model inside a real web UI whose checkpoint is switched, at its encoders' inputs.

Run as test_real_host.py is, with two checkpoints of one architecture. Hires passes with another checkpoint are among
contract/generations.py's cases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from contract.generations import NAMED, NAMED_SOURCE

from webui.test_real_host import DIRECTORY, URL, ask

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

PROMPT = f"a {NAMED}, <'x {NAMED}'*0.5>"
FILE = f"a «'{NAMED}'», «'x {NAMED}'*0.5»"
RECIPE = f"a «{NAMED_SOURCE}», «cat(('x'),({NAMED_SOURCE}))*0.5»"
"""What must stand at the inputs, by the checkpoint's file: the embedding's file, or what its recipe gives there."""

STEPS = [
    ("current", True, FILE),
    ("other", True, RECIPE),
    ("current", True, FILE),
    ("other", False, FILE),
    ("other", True, RECIPE),
    ("other", False, FILE),
    ("current", False, FILE),
]
"""For each generation: the checkpoint, whether recipes follow the model, and how the prompt must be encoded.

The embedding was made for the checkpoint `current`.
"""


@pytest.fixture
def made(titles: dict[str, str]) -> Iterator[None]:
    """The embedding, made on the current checkpoint; all is as it was afterwards."""
    ask(f"/embedmerge-probe/save/{NAMED}?source={quote(NAMED_SOURCE)}")
    yield
    ask("/sdapi/v1/options", {"embedmerge_follow": False, "sd_model_checkpoint": titles["current"]})
    _generate("warm")
    ask(f"/embedmerge-probe/forget/{NAMED}")


@pytest.mark.usefixtures("made")
def test_the_same_prompt_on_another_checkpoint(titles: dict[str, str]) -> None:
    told = []
    for number, (checkpoint, follows, text) in enumerate(STEPS):
        step = f"step {number}: {checkpoint}, {'followed' if follows else 'as it is'}"
        ask("/sdapi/v1/options", {"sd_model_checkpoint": titles[checkpoint], "embedmerge_follow": follows})
        current = ask("/embedmerge-probe/checkpoints", post=False)["current"]
        assert _name(current) == _name(titles[checkpoint]), step
        ask("/embedmerge-probe/watch")
        info = _generate(PROMPT)
        judged = _judged(text)
        assert judged["calls"], f"{step}: nothing was encoded"
        assert judged["wrong"] == [], step
        if checkpoint == "other":
            assert _judged(RECIPE if text == FILE else FILE)["wrong"], f"{step}: the two are the same"
        told += re.findall(r'TI(?: hashes)?: ("[^"]*"|[^,\n]*)', info)
        assert ask("/embedmerge-probe/traces", post=False)["names"] == [], step
    # The file's each time, whatever stood for it; with its hash but on Forge, which tells names alone.
    assert told == [told[0]] * len(STEPS)
    assert NAMED in told[0]


def _name(title: str) -> str:
    """A title without the hash, which it gets when the web UI has read the whole file."""
    return title.partition(" [")[0]


def _judged(text: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(f"/embedmerge-probe/judge-text?text={quote(text)}")
    return found


def _generate(prompt: str) -> str:
    """The picture's infotext."""
    asked = {"prompt": prompt, "steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
    answer = ask("/sdapi/v1/txt2img", asked | {"override_settings": {"live_previews_enable": False}})
    (infotext,) = json.loads(answer["info"])["infotexts"]
    return str(infotext)
