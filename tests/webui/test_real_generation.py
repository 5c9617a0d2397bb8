"""Inline expressions inside a real web UI: the conformance table at its encoders' inputs, mistakes, what is left.

Run as test_real_host.py is; the web UI needs two checkpoints of one architecture for the cases with another one.
"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from contract.generations import (
    CASES,
    MISTAKES,
    NAMED,
    NAMED_SOURCE,
    OTHER,
    TEMPORARY,
    Case,
    judge_infotexts,
    judge_parameters,
)
from PIL import Image

from webui.test_real_host import DIRECTORY, URL, ask, for_this_web_ui, headers

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

_USUAL = {"steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> Iterator[None]:
    for _ in range(2):  # Forge forgets its conditionings once more after it has loaded a model
        _generate({**_USUAL, "prompt": "warm"})
    ask(f"/embedmerge-probe/save/{NAMED}?source={quote(NAMED_SOURCE)}")
    yield
    ask(f"/embedmerge-probe/forget/{NAMED}")


@pytest.fixture(scope="module")
def other() -> str:
    found = ask("/embedmerge-probe/checkpoints", post=False)
    if found["other"] is None:
        pytest.skip(found["lacks"])
    return str(found["other"])


def _generate(request: Mapping[str, Any], *, image: bool = False, settings: Mapping[str, Any] = {}) -> list[str]:
    """The infotexts of the pictures, grids left out."""
    settings = {"live_previews_enable": False, **request.get("override_settings", {}), **settings}
    asked = {**request, **for_this_web_ui(), "override_settings": settings}
    if image:
        asked["init_images"] = [_picture()]
    answer = ask(f"/sdapi/v1/{'img2img' if image else 'txt2img'}", asked)
    info = json.loads(answer["info"])
    assert judge_parameters(info["extra_generation_params"]) == []
    infotexts: list[str] = info["infotexts"][info["index_of_first_image"] :]
    return infotexts


def _refused(request: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    asked = {**_USUAL, **request, **for_this_web_ui(), "override_settings": {"live_previews_enable": False}}
    data = json.dumps(asked).encode()
    wanted = urllib.request.Request(f"{URL}/sdapi/v1/txt2img", data, headers())
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(wanted, timeout=580)
    return error.value.code, json.load(error.value)


def _picture() -> str:
    content = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def _with_other(case: Case, other: str) -> dict[str, Any]:
    return {key: other if value == OTHER else value for key, value in case.request.items()}


def _run(name: str, request: Mapping[str, Any]) -> None:
    case = CASES[name]
    ask("/embedmerge-probe/forget-conditionings")
    ask("/embedmerge-probe/watch")
    infotexts = _generate(request, image=case.image)
    judged = ask(f"/embedmerge-probe/judge/{quote(name)}")
    assert judged["wrong"] == []
    assert judged["calls"], "nothing was encoded"
    assert judge_infotexts(case, infotexts) == []
    assert ask("/embedmerge-probe/traces", post=False)["names"] == []


def _is_encoded(request: Mapping[str, Any], *, image: bool) -> bool:
    """Whether the web UI encodes any prompt of a request, because it has not kept what it made before."""
    ask("/embedmerge-probe/watch")
    _generate(request, image=image)
    calls: dict[str, int] = ask("/embedmerge-probe/judge-text?text=x")["calls"]
    return bool(calls)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.by_other])
def test_case(name: str) -> None:
    request, image = CASES[name].request, CASES[name].image
    if image:
        _generate(_USUAL)
    _run(name, request)
    # Hires conditionings are made again each time, expressions or not.
    if not request.get("enable_hr") and _is_encoded(request, image=image):
        # So are those of img2img in Forge Neo after another kind of generation: its VAE draws random numbers for the
        # picture that go on where that ended.
        plain = {**request, "prompt": "plain", "negative_prompt": ""}
        _generate(_USUAL)
        _generate(plain, image=image)
        assert _is_encoded(plain, image=image), "encoded again"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.by_other])
def test_case_with_another_checkpoint(name: str, other: str) -> None:
    _run(name, _with_other(CASES[name], other))


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name: str) -> None:
    mistake = MISTAKES[name]
    ask("/embedmerge-probe/forget-conditionings")
    code, answer = _refused(mistake.request)
    assert code == 422, answer
    assert answer.get("error", "EmbedMerge") == "EmbedMerge", answer  # Forge's answer is the detail alone
    detail = answer["detail"]
    assert detail["field"] == mistake.field
    assert detail["source"] == mistake.request[mistake.field]
    assert detail["source"][detail["start"] : detail["end"]] == mistake.marked
    assert "Traceback" not in json.dumps(answer)
    # The next one is none the worse for it.
    (infotext,) = _generate({**_USUAL, "prompt": "a <'cat'*3>"})
    assert "EmbedMerge: " in infotext
    assert ask("/embedmerge-probe/traces", post=False)["names"] == []


def test_a_mistake_is_used_as_text_where_so_set() -> None:
    settings = {"embedmerge_mistakes": "Use the text as it stands, with a warning"}
    request = {**_USUAL, "prompt": "a <'cat'+> <'cat'*2>"}
    (infotext,) = _generate(request, settings=settings)
    assert infotext.startswith("a <'cat'+> <'cat'*2>\n")


def test_switched_off_nothing_happens() -> None:
    (infotext,) = _generate({**_USUAL, "prompt": "a <'cat'*2> x"}, settings={"embedmerge_inline": False})
    assert infotext.startswith("a <'cat'*2> x\n")
    assert "EmbedMerge" not in infotext


def test_pages_and_api_do_not_show_temporary_embeddings() -> None:
    _generate({**_USUAL, "prompt": "a <'cat'*4>"})
    assert not TEMPORARY.search(json.dumps(ask("/sdapi/v1/embeddings", post=False)))


def test_prompts_of_a_matrix() -> None:
    """The web UI's own script, which writes a prompt of its own for each picture."""
    request = {
        **_USUAL,
        "prompt": "photo|<'cat'+'dog'>",
        "script_name": "prompt matrix",
        "script_args": [False, False, "positive", "comma", 0],
    }
    infotexts = _generate(request)
    assert ["EmbedMerge: " in infotext for infotext in infotexts] == [False, True], infotexts
    assert "photo, <'cat'+'dog'>" in infotexts[1]
