"""EmbedMerge in ComfyUI: the checks of contract/comfyui_checks.py, over the double of its CLIP."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.comfyui_checks import CHECKS, ComfyTools
from doubles.comfyui import install, make_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyTools]:
    folder = tmp_path_factory.mktemp("comfyui")
    folders = {"embeddings": [folder / "embeddings", folder / "more"], "checkpoints": [], "text_encoders": []}
    for path in folders["embeddings"]:
        path.mkdir()

    @cache
    def make(kind: str, dtype: torch.dtype) -> Any:
        return make_clip(kind, folders["embeddings"], dtype)

    with pytest.MonkeyPatch.context() as patch:
        install(patch, folders)
        yield ComfyTools(folder / "embeddings", Path(__file__).parent / "data", make)


@pytest.mark.parametrize("name", CHECKS)
def test_the_double(name: str, tools: ComfyTools) -> None:
    CHECKS[name](tools)
    assert list(tools.embeddings.glob("*.safetensors")) == []
