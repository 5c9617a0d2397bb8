"""The checks over the double of ComfyUI, in a real ComfyUI: EMBEDMERGE_COMFYUI_DIR and EMBEDMERGE_COMFYUI_PYTHON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from contract.comfyui_checks import CHECKS

FOLDER, PYTHON = os.environ.get("EMBEDMERGE_COMFYUI_DIR"), os.environ.get("EMBEDMERGE_COMFYUI_PYTHON")

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not FOLDER or not PYTHON, reason="needs EMBEDMERGE_COMFYUI_DIR and EMBEDMERGE_COMFYUI_PYTHON"),
]


@pytest.fixture(scope="module")
def results() -> dict[str, str | None]:
    """Name of a check -> its traceback, or None if it holds."""
    done = subprocess.run(
        [str(PYTHON), "-m", "comfyui.inside", str(FOLDER)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_the_real_comfyui(name: str, results: dict[str, str | None]) -> None:
    assert results[name] is None, results[name]
