"""Our axes in the real script X/Y/Z plot, at the encoders' inputs. Run as test_real_host.py is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from contract.generations import NAMED, NAMED_SOURCE

from webui.test_real_extensions import _judged as judged_texts
from webui.test_real_following import DIRECTORY, FILE, PROMPT, RECIPE, URL, _judged
from webui.test_real_host import ask

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]


@pytest.fixture
def made(titles: dict[str, str]) -> Iterator[None]:
    """The embedding, made on the current checkpoint; that is the current one again afterwards."""
    ask(f"/embedmerge-probe/save/{NAMED}?source={quote(NAMED_SOURCE)}")
    yield
    ask("/sdapi/v1/options", {"sd_model_checkpoint": titles["current"]})
    ask("/sdapi/v1/txt2img", {"prompt": "warm", "steps": 1, "width": 64, "height": 64, "sampler_name": "Euler"})
    ask(f"/embedmerge-probe/forget/{NAMED}")


@pytest.mark.usefixtures("made")
def test_an_embedding_by_its_axis() -> None:
    named = f"a cat, «'{NAMED}'»"
    for prompt in ("a cat", f"a cat, {NAMED}"):
        ask("/embedmerge-probe/watch")
        plot(prompt, "[EmbedMerge] Embedding", ["none", NAMED])
        # The web UI may have the empty negative prompt in its cache.
        assert [fault for fault in judged_texts(["a cat", named, ""]) if not fault.endswith("not encoded: ''")] == []


@pytest.mark.usefixtures("made")
def test_recipes_by_their_axis_on_another_checkpoint(titles: dict[str, str]) -> None:
    ask("/sdapi/v1/options", {"sd_model_checkpoint": titles["other"]})
    for switch, text in (("on", RECIPE), ("off", FILE)):
        ask("/embedmerge-probe/watch")
        plot(PROMPT, "[EmbedMerge] Recipes follow the model", [switch])
        judged = _judged(text)
        assert judged["calls"]
        assert judged["wrong"] == []


def plot(prompt: str, axis: str, chosen: list[str]) -> None:
    """Make a plot. axis: label of the X axis.  chosen: its values."""
    (script,) = (
        info
        for info in ask("/sdapi/v1/script-info", post=False)
        if info["name"] == "x/y/z plot" and not info["is_img2img"]
    )
    # The script wants the places of labels, of which this route tells the labels.
    values = [
        argument["choices"].index(argument["value"]) if argument["label"].endswith(" type") else argument["value"]
        for argument in script["args"]
    ]
    labels = [argument["label"] for argument in script["args"]]
    place = labels.index("X type")
    values[place] = script["args"][place]["choices"].index(axis)
    values[place + 1], values[place + 2] = ",".join(chosen), chosen
    asked = {"prompt": prompt, "steps": 1, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
    ask("/sdapi/v1/txt2img", asked | {"script_name": "x/y/z plot", "script_args": values})
