"""After hires fix and the refiner a real web UI has another checkpoint in memory: what is made is for the selected one.

Run as test_real_host.py is, with two checkpoints of one architecture; a refiner's too for the tests with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lib_embedmerge.embeddings.embedding import load_embedding
from webui.test_real_host import DIRECTORY, URL, ask, embeddings_folder, for_this_web_ui, refresh_embeddings

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

NAME, SOURCE = "emselected1", "'cat'+'dog'*0.5"

_USUAL = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1, "sampler_name": "Euler"}
_HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hires": ("other", _HIRES | {"hr_checkpoint_name": "other"}),
    "refiner of the same architecture": ("other", {"refiner_checkpoint": "other", "refiner_switch_at": 0.5}),
    "refiner": ("refiner", {"refiner_checkpoint": "refiner", "refiner_switch_at": 0.5}),
    "override_settings": ("other", {"override_settings": {"sd_model_checkpoint": "other"}}),
}
"""The checkpoint that is in memory at the end, and the request."""


@pytest.fixture(params=REQUESTS)
def left(request: pytest.FixtureRequest, titles: dict[str, str]) -> Iterator[str]:
    """Title of the checkpoint that a generation left in memory."""
    which, asked = REQUESTS[request.param]
    title = titles[which]
    if title is None:
        pytest.skip("the web UI has no refiner")
    settings = {"live_previews_enable": False, **asked.get("override_settings", {})}
    if "sd_model_checkpoint" in settings:
        settings["sd_model_checkpoint"] = title
    named = {key: title if value == which else value for key, value in asked.items()}
    ask("/sdapi/v1/txt2img", {**_USUAL, **named, **for_this_web_ui(), "override_settings": settings})
    yield title
    for file in embeddings_folder().glob(f"{NAME}*"):
        file.unlink()
    ask("/sdapi/v1/txt2img", {**_USUAL, "override_settings": {"live_previews_enable": False}})
    refresh_embeddings()


def _file(title: str) -> str:
    return Path(title.split(" [", maxsplit=1)[0]).name


def test_the_selected_checkpoint_is_the_active_model(left: str, titles: dict[str, str]) -> None:
    model = ask("/embedmerge-probe/model", post=False)
    assert model["in_memory"] == _file(left)
    assert model["file"] == _file(titles["current"])
    assert model["architecture"] == "sdxl"
    assert model["vectors_from"] == "the checkpoint file; another model is loaded"
    (note,) = (note for note in model["notes"] if " is still loaded." in note)
    assert note == f"{Path(_file(titles['current'])).stem} is selected, but {Path(_file(left)).stem} is still loaded."


@pytest.mark.usefixtures("left")
def test_what_is_built_is_for_it_and_the_next_prompt_has_it(titles: dict[str, str]) -> None:
    built = ask("/embedmerge/v1/build", {"source": SOURCE, "name": NAME})
    assert set(built["encoders"]) == {"clip_l", "clip_g"}
    assert built["tag"]["ss_sd_model_name"] == _file(titles["current"])
    listed = ask("/embedmerge/v1/list?fit=true", post=False)
    (entry,) = (one for one in listed if one["name"] == NAME)
    assert entry["fit"]["status"] == "made for this model"
    ask("/embedmerge-probe/watch")
    ask("/sdapi/v1/txt2img", {**_USUAL, "prompt": f"a photo of {NAME}, in a park"})
    seen = ask(f"/embedmerge-probe/seen/{NAME}")
    assert set(seen) == set(load_embedding(embeddings_folder() / f"{NAME}.safetensors").vectors)
    for key, places in seen.items():
        assert len(places["found"]) == 1, (key, places)
    model = ask("/embedmerge-probe/model", post=False)
    assert model["in_memory"] == model["file"] == _file(titles["current"])
    assert model["vectors_from"].startswith("the loaded model")
    assert not any(" is still loaded." in note for note in model["notes"])


@pytest.mark.usefixtures("left")
def test_prompts_are_counted_as_on_it() -> None:
    answer = ask("/embedmerge/v1/parse", {"source": "a <'cat'*2L/3G>"})
    assert answer["vectors"] == 2, answer


def test_a_library_keeps_its_fits(left: str) -> None:
    """The embeddings made on the selected one, measured while another one is in memory."""
    ask(f"/embedmerge-probe/save/{NAME}?source={quote(SOURCE)}")
    first = ask(f"/embedmerge/v1/show?embedding={NAME}", post=False)
    assert first["fit"]["status"] == "made for this model", (left, first["fit"])
