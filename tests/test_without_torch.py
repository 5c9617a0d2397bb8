"""The commands and the library where torch is not installed, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import StandardModels

ROOT = Path(__file__).parent.parent

_RUN = """
import contextlib, io, json, sys
sys.modules["torch"] = None  # importing it raises ModuleNotFoundError
from lib_embedmerge.cli import main
results = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    results.append([code, out.getvalue(), err.getvalue()])
assert not any(name.partition(".")[0] in ("transformers", "gradio") for name in sys.modules)
json.dump(results, sys.stdout)
"""


def run(commands: list[list[str]], python: str = sys.executable) -> list[tuple[int, str, str]]:
    """(exit code, output, messages) of some commands, which run one after the other in one process without torch.

    python: the Python that runs them.
    """
    done = subprocess.run(
        [python, "-c", _RUN],
        check=False,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.mark.process
def test_commands(standard: StandardModels, tmp_path: Path) -> None:
    check_commands(standard, tmp_path, sys.executable)


def check_commands(standard: StandardModels, tmp_path: Path, python: str) -> None:
    """Run the commands that need no torch in a Python."""
    checkpoint, other = str(standard.base), str(standard.other_cat)
    made, found = str(tmp_path / "c-1.safetensors"), str(tmp_path / "bare" / "b-1.safetensors")
    commands = [
        ["build", "'cat'+'dog'*0.5", "--checkpoint", checkpoint, "--name", "c-1", "--output", str(tmp_path), "--json"],
        ["show", made, "--checkpoint", other, "--json"],
        ["list", "--embeddings", str(tmp_path), "--checkpoint", other, "--json"],
        ["rebuild", made, "--checkpoint", other, "--json"],
        ["convert", made, "--output", str(tmp_path / "bare"), "--name", "b-1", "--json"],
        ["recover", found, "--checkpoint", checkpoint, "--json"],
        ["info", checkpoint, "--json"],
        ["parse", "a <'cat'> b", "--json"],
        ["compare", checkpoint, other, "--json"],
    ]
    results = run(commands, python)
    assert [(code, err) for code, _, err in results] == [(0, "")] * len(commands)
    answers: list[Any] = [json.loads(out) for _, out, _ in results]
    assert answers[1]["fit"]["status"] == "differs"
    assert answers[3][0]["status"] == "written"
    assert answers[5]["expression"] == "'cat' + 'dog'*0.5"
    assert answers[8][0]["token_table"]["clip_l"]["rows_differing"] > 0


@pytest.mark.process
def test_what_needs_it_says_so(standard: StandardModels, tmp_path: Path) -> None:
    checkpoint = str(standard.base)
    torch.save({"emb_params": torch.ones(1, 768)}, tmp_path / "old.pt")
    commands = [
        ["show", str(tmp_path / "old.pt")],
        ["build", "'cat'", "--checkpoint", checkpoint, "--name", "x-1", "--device", "cuda", "--output", str(tmp_path)],
        ["compare", checkpoint, checkpoint, "--source", "'cat'"],
    ]
    results = run(commands)
    assert [code for code, _, _ in results] == [1, 1, 1]
    says = ["'old.pt' was saved by PyTorch.", "The device cuda is only possible", "Comparing the outputs"]
    for (_, _, err), sentence in zip(results, says, strict=True):
        assert sentence in err and 'pip install "embedmerge[torch]"' in err and "Traceback" not in err
