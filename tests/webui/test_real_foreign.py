"""A model with other text encoders than CLIP in a real Forge or a fork of it: one sentence, no trace, saving works.

Run as test_real_host.py is. The models are planted by the probe, without weights.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from webui.test_real_host import DIRECTORY, URL, ask, headers

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

NAME = "emforeign1"
SENTENCE = "The loaded model has other text encoders than CLIP-L, CLIP-G or CLIP-H"
MODELS = (
    "Anima", "Chroma", "ErnieImage", "Flux", "Flux2", "Krea2", "Lumina2", "PiD", "QwenImage", "StableDiffusion3", "Wan",
    "ZImage",
)  # fmt: skip
"""The classes of Forge and Forge Neo."""


@pytest.fixture(scope="module")
def known(titles: dict[str, str]) -> list[str]:
    """The models of this web UI. After a generation, so that there is a model whose place they can take."""
    assert titles["current"]
    found: list[str] = ask("/embedmerge-probe/foreign", post=False)
    return found


@pytest.fixture(params=MODELS)
def planted(request: pytest.FixtureRequest, known: list[str]) -> Iterator[str]:
    """The name of a model that is in memory in place of the selected checkpoint's."""
    if request.param not in known:
        pytest.skip("this web UI has no such model")
    ask("/embedmerge-probe/logged")
    ask(f"/embedmerge-probe/plant/{request.param}")
    yield request.param
    ask("/embedmerge-probe/unplant")


def _refused(path: str, content: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(URL + path, json.dumps(content).encode(), headers())
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=300)
    return caught.value.code, caught.value.read().decode()


def test_every_model_is_tried(known: list[str]) -> None:
    assert set(known) <= set(MODELS)


@pytest.mark.usefixtures("planted")
def test_building_and_prompts_are_refused_in_a_sentence() -> None:
    for path, content, status in (
        ("/embedmerge/v1/build", {"source": "'cat'", "name": NAME}, 503),
        ("/sdapi/v1/txt2img", {"prompt": "a <'cat'>", "steps": 1, "width": 64, "height": 64}, 422),
    ):
        code, answer = _refused(path, content)
        assert code == status, answer
        assert SENTENCE in answer
        assert "Traceback" not in answer
    assert ask("/embedmerge-probe/logged") == []


@pytest.mark.usefixtures("planted")
def test_files_can_be_changed_for_the_selected_checkpoint(titles: dict[str, str]) -> None:
    """Another checkpoint is selected while the planted model is still in memory."""
    ask("/sdapi/v1/options", {"sd_model_checkpoint": titles["other"]})
    try:
        assert ask(f"/embedmerge-probe/change/{NAME}")["left"] == []
        assert ask("/embedmerge-probe/logged") == []
    finally:
        ask("/sdapi/v1/options", {"sd_model_checkpoint": titles["current"]})
