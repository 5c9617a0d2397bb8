"""The contract and whole generations inside a real SD.Next: EMBEDMERGE_SDNEXT_URL, the address of a running one.

Installed there with `python -m tests.webui.install SDNEXT_FOLDER --sdnext`. It needs two SDXL checkpoints.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from contract.checks import CHECKS
from contract.generations import NAMED, TEMPORARY
from contract.sdnext_generations import CASES

URL = os.environ.get("EMBEDMERGE_SDNEXT_URL", "").rstrip("/")

pytestmark = [pytest.mark.webui, pytest.mark.skipif(not URL, reason="needs EMBEDMERGE_SDNEXT_URL")]

_USUAL = {"steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}


def ask(path: str, body: Any = None, *, post: bool = True) -> Any:
    """The JSON that SD.Next answers, also with an error."""
    data = json.dumps(body or {}).encode() if post else None
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(URL + path, data, headers, method="POST" if post else "GET")
    try:
        with urllib.request.urlopen(request, timeout=580) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


@pytest.fixture(scope="module", autouse=True)
def named() -> Iterator[None]:
    """The embedding that cases name."""
    ask("/embedmerge-probe/save-named")
    yield
    ask(f"/embedmerge-probe/remove/{NAMED}")


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: str) -> None:
    answer = ask(f"/embedmerge-probe/run/{check}")
    assert answer["ok"], answer["error"]


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    ask("/embedmerge-probe/forget-prompts")
    ask("/embedmerge-probe/watch")
    answer = ask("/sdapi/v1/txt2img", case.request)
    assert ask(f"/embedmerge-probe/judge/{quote(name)}")["wrong"] == []
    assert len(answer["images"]) == case.pictures
    for infotext in json.loads(answer["info"])["infotexts"]:
        assert ("EmbedMerge: " in infotext) == case.expressions
        assert not TEMPORARY.search(infotext)
    traces = ask("/embedmerge-probe/traces", post=False)
    assert (traces["hooks"], traces["job_count"]) == ([0, 0], 0)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"prompt": "a b <'cat'+> c"}, "prompt"),
        ({"prompt": "x", "negative_prompt": "x <blur('a')>"}, "negative_prompt"),
        ({"prompt": "x", "enable_hr": True, "hr_force": True, "refiner_prompt": "fine <'a'*>"}, "refiner_prompt"),
    ],
)
def test_a_mistake_is_answered(fields: dict[str, Any], where: str) -> None:
    answer = ask("/sdapi/v1/txt2img", {**_USUAL, **fields})
    assert (answer["error"], answer["code"], answer["detail"]["field"]) == ("EmbedMerge", 422, where)
    traces = ask("/embedmerge-probe/traces", post=False)
    assert (traces["hooks"], traces["job_count"]) == ([0, 0], 0)


def test_a_removed_embedding_is_not_encoded() -> None:
    name = "emsdremove1"
    ask(f"/embedmerge-probe/save/{name}?source={quote(chr(39) + 'cat' + chr(39))}")
    assert ask(f"/embedmerge-probe/finds/{name}", post=False)["found"]
    ask(f"/embedmerge-probe/remove/{name}")
    assert not ask(f"/embedmerge-probe/finds/{name}", post=False)["found"]


FOLLOWED, FOLLOWED_SOURCE = "emsdfollow1", "'cat'-'dog'*0.5"
"""One vector, because CLIP-G's pooled vector takes the first one only, if the name is not followed."""
FILE, RECIPE = f"a «'{FOLLOWED}'», «'x {FOLLOWED}'»", f"a «{FOLLOWED_SOURCE}», «cat(('x'),({FOLLOWED_SOURCE}))»"
"""What must be encoded for the same prompt: the embedding's file, or what its recipe gives on the loaded model."""

SWITCHES = [("current", True, FILE), ("other", True, RECIPE), ("other", False, FILE), ("current", True, FILE)]
"""For each generation: the checkpoint, whether recipes follow the model, and how the prompt must be encoded.

The embedding was made for the checkpoint `current`.
"""


@pytest.fixture
def titles() -> Iterator[dict[str, str]]:
    """Those of two checkpoints. The first is selected, without a refiner, before and after."""
    found: dict[str, str] = ask("/embedmerge-probe/checkpoints", post=False)
    yield found
    settings = {"sd_model_checkpoint": found["current"], "sd_model_refiner": "None", "embedmerge_follow": False}
    ask("/sdapi/v1/options", settings)


def test_recipes_follow_a_switched_checkpoint(titles: dict[str, str]) -> None:
    ask(f"/embedmerge-probe/save/{FOLLOWED}?source={quote(FOLLOWED_SOURCE)}")
    for number, (checkpoint, follows, text) in enumerate(SWITCHES):
        step = f"step {number}: {checkpoint}, {'followed' if follows else 'as it is'}"
        ask("/sdapi/v1/options", {"sd_model_checkpoint": titles[checkpoint], "embedmerge_follow": follows})
        assert ask("/embedmerge-probe/checkpoints", post=False)["current"] == titles[checkpoint], step
        ask("/embedmerge-probe/watch")
        ask("/sdapi/v1/txt2img", {**_USUAL, "prompt": f"a {FOLLOWED}, <'x {FOLLOWED}'>"})
        judged = ask(f"/embedmerge-probe/judge-text?text={quote(text)}")
        assert judged["calls"], step
        assert judged["wrong"] == [], step
    ask(f"/embedmerge-probe/remove/{FOLLOWED}")


def test_a_refiner_pass(titles: dict[str, str]) -> None:
    """With another checkpoint, which encodes the prompt itself."""
    prompt = "a <'cat'+'dog'>, <'cat','dog'*2>"
    ask("/sdapi/v1/options", {"sd_model_refiner": titles["other"]})
    ask("/embedmerge-probe/forget-prompts")
    ask("/embedmerge-probe/watch")
    refined = {"enable_hr": True, "refiner_steps": 2, "refiner_start": 0.5, "denoising_strength": 0.5}
    answer = ask("/sdapi/v1/txt2img", {**_USUAL, "steps": 4, **refined, "prompt": prompt})
    (infotext,) = json.loads(answer["info"])["infotexts"]
    assert "Refiner: " in infotext
    assert "EmbedMerge: " in infotext
    judged = ask(f"/embedmerge-probe/judge-text?text={quote(prompt.replace('<', '«').replace('>', '»'))}&refined=true")
    assert judged["wrong"] == []
    traces = ask("/embedmerge-probe/traces", post=False)
    assert (traces["hooks"], traces["job_count"]) == ([0, 0], 0)
