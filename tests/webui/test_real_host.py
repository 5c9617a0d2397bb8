"""The contract inside a real web UI, and a saved embedding at the input of its text encoders during a generation.

python -m tests.webui.install DIR        # then start the web UI with --api
EMBEDMERGE_WEBUI_URL=http://127.0.0.1:7860 EMBEDMERGE_WEBUI_DIR=DIR pytest tests/webui

Where it is started with --api-auth too, EMBEDMERGE_WEBUI_LOGIN=user:password.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from contract.checks import CHECKS

from webui.install import stale_files

URL = os.environ.get("EMBEDMERGE_WEBUI_URL", "").rstrip("/")
DIRECTORY = os.environ.get("EMBEDMERGE_WEBUI_DIR", "")
LOGIN = os.environ.get("EMBEDMERGE_WEBUI_LOGIN", "")

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

NAME = "emrealhost1"
SOURCE = "'cat'+'dog'*0.5,'photo'*1.25"
OTHER_SOURCE = "'dog'-'cat'*0.5,'photo','cat'"


def headers(login: str = LOGIN) -> dict[str, str]:
    """Those of a request with JSON. login: user:password, or none."""
    named = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    return {"Content-Type": "application/json", **named}


def ask(path: str, content: dict[str, Any] | None = None, *, post: bool = True) -> Any:
    """The web UI's answer. Whatever it answers instead of 200 is the test's failure, with its text."""
    data = json.dumps(content or {}).encode() if post else None
    request = urllib.request.Request(URL + path, data, headers())
    try:
        with urllib.request.urlopen(request, timeout=580) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        pytest.fail(f"{path}: {error.code} {error.read()[:2000]!r}")


@functools.cache
def embeddings_folder() -> Path:
    """The folder in which the web UI has its embeddings: Forge Neo's and Classic's is models/embeddings."""
    return Path(DIRECTORY, ask("/embedmerge-probe/started", post=False)["embeddings"])


def refresh_embeddings() -> None:
    """Let the web UI read that folder again."""
    ask(ask("/embedmerge-probe/started", post=False)["refreshes"])


@functools.cache
def for_this_web_ui() -> dict[str, Any]:
    """What requests for hires fix need: on Forge's API the first, and the second to encode a negative hires prompt;
    Forge Neo has no latent upscaler.
    """
    upscalers = [one["name"] for one in ask("/sdapi/v1/latent-upscale-modes", post=False)]
    upscaler = {} if "Latent" in upscalers else {"hr_upscaler": "None"}
    return {"hr_additional_modules": ["Use same choices"], "hr_cfg": 7, **upscaler}


def test_the_installed_copy_is_this_tree() -> None:
    assert stale_files(Path(DIRECTORY)) == []
    assert ask("/embedmerge-probe/checks", post=False)["checks"] == sorted(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: str) -> None:
    """As the web UI is found: on Forge without a model in memory, until something has been generated."""
    answer = ask(f"/embedmerge-probe/run/{check}")
    assert answer["ok"], answer["error"]
    if answer["lacks"]:
        pytest.skip(answer["lacks"])


@pytest.fixture
def saved() -> Iterator[None]:
    _save(SOURCE)
    yield
    ask(f"/embedmerge-probe/forget/{NAME}")


def _save(source: str) -> None:
    ask(f"/embedmerge-probe/save/{NAME}?source={quote(source)}")


def _generate(prompt: str, negative: str = "") -> dict[str, Any]:
    """One step at 64x64; where the embedding's vectors stood meanwhile at the input of each text encoder."""
    ask("/embedmerge-probe/watch")
    settings = {"live_previews_enable": False}
    wanted = {"prompt": prompt, "negative_prompt": negative, "steps": 1, "width": 64, "height": 64, "seed": 1}
    answer = ask("/sdapi/v1/txt2img", wanted | {"sampler_name": "Euler", "override_settings": settings})
    assert len(answer["images"]) == 1
    seen: dict[str, Any] = ask(f"/embedmerge-probe/seen/{NAME}")
    return seen


def _assert_found(seen: dict[str, Any], position: int | None) -> None:
    assert seen
    for key, places in seen.items():
        assert places["dtypes"] == ["torch.float32"], (key, places)
        assert len(places["found"]) == 1, (key, places)
        if position is not None:
            assert places["found"][0][2] == position, (key, places)


@pytest.mark.usefixtures("saved")
def test_a_generation_sees_the_saved_vectors() -> None:
    _assert_found(_generate(f"a photo of {NAME}, in a park"), 4)


@pytest.mark.usefixtures("saved")
def test_a_negative_prompt_and_attention_see_them() -> None:
    _assert_found(_generate("a photo", f"blurry ({NAME}:1.3)"), None)


@pytest.mark.usefixtures("saved")
def test_the_same_prompt_sees_new_vectors_after_overwriting() -> None:
    prompt = f"a park with {NAME}"
    _assert_found(_generate(prompt), 4)
    _save(OTHER_SOURCE)
    _assert_found(_generate(prompt), 4)


@pytest.mark.parametrize("check", CHECKS)
def test_contract_after_a_generation(check: str) -> None:
    """With a model in memory on every web UI."""
    assert ask("/embedmerge-probe/checks", post=False)["loaded"]
    test_contract(check)
