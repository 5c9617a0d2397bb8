"""What needs no PyTorch, in the other versions of Python: PyTorch has no small build for each of them everywhere.

dev.py makes their environments, each with another numpy, for the versions that are on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from models import StandardModels
from test_without_torch import check_commands

import dev
from benchmarks.sources import Sources

pytestmark = pytest.mark.process

FILES = (
    "disk_faults", "grouped_writes", "infotext", "language", "lookalikes", "moving", "names", "patching",
    "table_groups", "tag", "tokenizer", "typed",
)  # fmt: skip
"""The tests that import no torch, with that prefix."""

_BUILD = """
import hashlib, json, sys
from lib_embedmerge import open_checkpoint
checkpoint, sources = json.load(sys.stdin)
model = open_checkpoint(checkpoint)
for source in sources:
    vectors = model.build(source, name="built-1").vectors
    print(*(hashlib.sha256(rows.tobytes()).hexdigest() for rows in vectors.values()))
"""


@pytest.fixture(params=dev.PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """The Python of another version, in its environment. Skips versions that are not on the machine."""
    environment = Path(os.environ.get("EMBEDMERGE_PYTHONS") or dev.ROOT) / dev.PYTHONS[request.param].name
    found = dev.python_of(environment)
    if not found.exists() and dev.find_python(request.param) is None:
        # A machine need not have every version, because pip cannot install a Python.
        pytest.skip(f"There is no Python {request.param} on this machine.")
    assert found.exists(), f"{environment} is missing: run `python dev.py test`, or set EMBEDMERGE_PYTHONS"
    return str(found)


def test_its_tests_pass(python: str, tmp_path: Path) -> None:
    environment = os.environ | {"EMBEDMERGE_CACHE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    options = (
        "-q",
        "--noconftest",
        "-p",
        "hypothesis_profile",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "t"),
    )
    files = (f"tests/test_{name}.py" for name in FILES)
    done = subprocess.run(
        [python, "-m", "pytest", *options, *files],
        check=False, cwd=dev.ROOT, env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


def test_commands(python: str, standard: StandardModels, tmp_path: Path) -> None:
    check_commands(standard, tmp_path, python)


def test_vectors_are_the_same_to_the_bit(python: str, standard: StandardModels) -> None:
    sources = list(islice(Sources(seed=8, among=1000), 300))  # of words that the model has
    given = json.dumps([str(standard.base), sources])
    assert _build(python, given) == _build(sys.executable, given)


def _build(python: str, given: str) -> list[str]:
    """A line with the hashes of its vectors for each source. given: JSON, the checkpoint and the sources."""
    done = subprocess.run(
        [python, "-c", _BUILD],
        check=False, cwd=dev.ROOT, input=given, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
